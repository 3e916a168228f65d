// CoPe (arXiv 2506.12109) as a sampler for any chain of llama.cpp's.
//
// Of the tokens that the user's model finds plausible, those at least `plausibility` times as probable as its likeliest,
// the sampler makes the score
//
//     score(y) = logit_user(y) - contrast * logit_base(y)
//
// and takes all others out; the samplers after it work on these scores. The user's model is whatever context the
// chain samples from: a model with a user's LoRA adapter. The base is a context of its own, of the same model
// without the adapter, which the host makes and the sampler drives.
//
//     struct llama_sampler * chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
//     llama_sampler_chain_add(chain, cope_sampler_init(base, 0, 0.1f, 0.1f));
//     llama_sampler_chain_add(chain, llama_sampler_init_greedy());
//
// Place it first, or after samplers that only take candidates out (a grammar, a logit bias): scores are contrasts of
// logits, so penalties, temperature, top-k, ... belong after it.
//
// Who feeds the base. The sampler does, with the tokens that it is told of by llama_sampler_accept: the host tells the
// chain of each token of the prompt once, and llama_sampler_sample tells it of each token that it chooses. A host may
// instead decode the prompt in the base context itself, with logits for the last token, and then must not tell the
// sampler of it.
//
// When it is decoded. When the base is first needed after that, in llama_sampler_apply or llama_sampler_sample: all
// pending tokens in one batch (or as many as n_batch asks for). It is not needed while only one token is plausible.
// Before the host changes the base's memory itself (a context shift, a copy of a sequence) it calls
// cope_sampler_flush, and then does to the base whatever it does to the user's context.
//
// Base and sampler must only be used by one thread at a time, and the base must outlive the sampler. The library
// links to the llama.cpp that the program has loaded, whose version must be the one that it was built with.

#ifndef COPE_SAMPLER_H
#define COPE_SAMPLER_H

#include <llama.h>

#ifdef __cplusplus
extern "C" {
#endif

// A sampler that contrasts with `base`, in whose memory the text is sequence `sequence`. `contrast` is at least 0,
// `plausibility` from 0 to 1. NULL if either is not, or `base` is NULL. The chain, or llama_sampler_free, frees it.
//
// llama_sampler_reset forgets what is pending and the sequence in the base's memory. A clone drives the same sequence of
// the same base, so only one of the two may be used from then on.
struct llama_sampler * cope_sampler_init(
        struct llama_context * base,
        llama_seq_id           sequence,
        float                  contrast,
        float                  plausibility);

// Lets the base read what is pending now. 0, or what llama_decode gave; -1 if the sampler is not CoPe's.
int cope_sampler_flush(struct llama_sampler * sampler);

// What llama_decode gave when the base's pass last failed, 0 if it never has. The sampler then leaves the user's logits
// as scores. -1 if the sampler is not CoPe's.
int cope_sampler_status(const struct llama_sampler * sampler);

#ifdef __cplusplus
}
#endif

#endif
