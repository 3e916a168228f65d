// A program that uses llama.cpp and adds CoPe to its sampler chain.
//
//     cope MODEL ADAPTER PROMPT N_TOKENS
//
// Prints the numbers of the tokens that follow the prompt, separated by spaces.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cope_sampler.h"

static void quiet(enum ggml_log_level level, const char * text, void * data) {
    (void) data;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

static struct llama_context * new_context(struct llama_model * model) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = 512;
    params.n_threads = params.n_threads_batch = 1;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.type_k = params.type_v = GGML_TYPE_F32;
    return llama_init_from_model(model, params);
}

int main(int argc, char ** argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: cope MODEL ADAPTER PROMPT N_TOKENS\n");
        return 2;
    }
    llama_log_set(quiet, NULL);
    struct llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    struct llama_adapter_lora * adapter = model ? llama_adapter_lora_init(model, argv[2]) : NULL;
    if (!adapter) {
        return 1;
    }

    // The user's model is the model with the adapter; the base is the model alone.
    struct llama_context * user = new_context(model);
    struct llama_context * base = new_context(model);
    float scale = 1.0f;
    if (!user || !base || llama_set_adapters_lora(user, &adapter, 1, &scale) != 0) {
        return 1;
    }

    struct llama_sampler * chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    struct llama_sampler * cope = cope_sampler_init(base, 0, 0.5f, 0.1f);
    llama_sampler_chain_add(chain, cope);
    llama_sampler_chain_add(chain, llama_sampler_init_greedy());

    const struct llama_vocab * vocab = llama_model_get_vocab(model);
    llama_token tokens[512];
    int n_tokens = llama_tokenize(vocab, argv[3], (int) strlen(argv[3]), tokens, 256, true, true);
    if (n_tokens <= 0) {
        return 1;
    }
    // Pass the prompt to the sampler, which feeds the base...
    for (int i = 0; i < n_tokens; i++) {
        llama_sampler_accept(chain, tokens[i]);
    }
    // ...and decode it in the user's model, which then continues token by token.
    struct llama_batch batch = llama_batch_get_one(tokens, n_tokens);
    for (int i = 0; i < atoi(argv[4]) && llama_decode(user, batch) == 0; i++) {
        tokens[0] = llama_sampler_sample(chain, user, -1);
        if (llama_vocab_is_eog(vocab, tokens[0])) {
            break;
        }
        printf("%d ", tokens[0]);
        batch = llama_batch_get_one(tokens, 1);
    }
    printf("\n");
    int status = cope_sampler_status(cope);

    llama_sampler_free(chain);
    llama_free(user);
    llama_free(base);
    llama_model_free(model);
    return status == 0 ? 0 : 1;
}
