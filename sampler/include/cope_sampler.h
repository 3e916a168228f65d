// CoPe (arXiv 2506.12109) as a sampler for any chain of llama.cpp's.
//
// The plausible tokens are those at least `plausibility` times as probable as the likeliest one, by the user's model. The
// sampler gives each of them the score
//
//     score(y) = logit_user(y) - contrast * logit_base(y)
//
// and removes all others; the samplers after it work on these scores. The user's model is the context that the chain
// samples from: a model with a user's LoRA adapter. The base is a context of its own, of the same model without the
// adapter, which the host creates and the sampler drives.
//
//     struct llama_sampler * chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
//     llama_sampler_chain_add(chain, cope_sampler_init(base, 0, 0.1f, 0.1f));
//     llama_sampler_chain_add(chain, llama_sampler_init_greedy());
//
// Place it first, or after samplers that only remove candidates (a grammar, a logit bias). Scores are contrasts of
// logits, so penalties, temperature, top-k and the like belong after it.
//
// Feeding the base: the sampler does it, with the tokens that llama_sampler_accept passes to it. The host passes each
// token of the prompt to the chain once, and llama_sampler_sample passes each token that it chooses. A host may instead
// decode the prompt in the base context itself, with logits for the last token; it must then not pass the prompt to the
// sampler.
//
// Time of decoding: the base decodes all pending tokens, in one batch or as many as n_batch makes necessary, when its
// logits are first needed, in llama_sampler_apply or llama_sampler_sample. They are not needed while only one token is
// plausible. Before the host changes the base's memory itself (a context shift, a copy of a sequence), it calls
// cope_sampler_flush; it then makes the same change to the base as to the user's context.
//
// Base and sampler must only be used by one thread at a time, and the base must outlive the sampler. The library uses
// the llama.cpp that the program has loaded, which must be of the version that the library was built with.

#ifndef COPE_SAMPLER_H
#define COPE_SAMPLER_H

#include <llama.h>

#ifdef __cplusplus
extern "C" {
#endif

// Creates a sampler that contrasts with `base`, in whose memory the text is the sequence `sequence`. `contrast` is at
// least 0, `plausibility` is from 0 to 1. Returns NULL if either is out of its range or `base` is NULL. The chain, or
// llama_sampler_free, frees the sampler.
//
// llama_sampler_reset forgets the pending tokens, and removes the sequence from the base's memory. A clone drives the
// same sequence of the same base, so only one of the two may be used from then on.
struct llama_sampler * cope_sampler_init(
        struct llama_context * base,
        llama_seq_id           sequence,
        float                  contrast,
        float                  plausibility);

// Lets the base decode the pending tokens now. Returns 0, or the result of the llama_decode that failed; -1 if the
// sampler is not CoPe's.
int cope_sampler_flush(struct llama_sampler * sampler);

// Returns the result of llama_decode when the base's pass last failed; 0 if it never has. After a failure the sampler
// leaves the user's logits as scores. -1 if the sampler is not CoPe's.
int cope_sampler_status(const struct llama_sampler * sampler);

#ifdef __cplusplus
}
#endif

#endif
