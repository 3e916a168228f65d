//! The forms of requests and responses that llama.cpp's own tests of its server check (`tools/server/tests/unit`), here on
//! SmolLM2. The texts differ, since llama.cpp's tests use other models.
//!
//! | their tests | here |
//! |---|---|
//! | `test_chat_completion`: `test_chat_completion`, `…_stream`, `…_cached_tokens`, `…_with_timings_per_token`, `test_completion_with_json_schema`, `…_with_response_format`, `…_with_grammar`, `test_logprobs`, `test_logprobs_stream`, `…_multiple_choices`, `…_token_count` | [`a_chat_has_openais_form`], [`a_chat_streams_in_openais_form`], [`an_answer_obeys_its_schema_or_grammar`], [`tokens_come_with_their_probabilities`], [`a_request_can_have_several_answers`] |
//! | `test_invalid_chat_completion_req`, `test_completion_with_invalid_grammar`, `test_context_size_exceeded`, `…_stream` | [`requests_that_llama_server_refuses_are_refused`] |
//! | `test_chat_template_assistant_prefill`, `…_continue_final_message_*`, `test_apply_chat_template` | [`a_prompt_ends_where_the_answer_begins`] |
//! | `test_completion`: `…_with_openai_library`, `…_stream_with_openai_library`, `…_stream_vs_non_stream`, `…_with_tokens_input`, `test_consistent_result_same_seed`, `test_different_result_different_seed`, `test_logit_bias` | [`a_completion_continues_texts_and_tokens`], [`a_seed_repeats_its_answer`], [`a_bias_bans_its_tokens`] |
//! | `test_ignore_eos`, `test_tokenize`, `test_lora` | [`a_bias_bans_its_tokens`], [`tokens_and_texts_convert_both_ways`], [`an_adapter_has_a_number_and_a_scale`] |
//! | `test_basic`: `/health`, `/models`; `test_metrics`: the format | [`a_server_lists_its_models_and_metrics`] |
//! | `test_compat_oai_responses`, `/props` of `test_basic` | on tiny models, in `responses` |
//! | `test_security`: keys, `X-Api-Key`, origins; `test_completion_parallel_slots`, `test_cancel_request` | on tiny models, in `access` and `load` |
//!
//! These are left out, since this server does not have them:
//!
//! - `/completion`, `/infill`, `/slots`, `n_probs`, `post_sampling_probs`, `response_fields`, `return_tokens`,
//!   `id_slot`: llama-server's own API, whose slots and settings
//!   describe one model, where an answer here comes from two.
//! - `/v1/messages`, embeddings, reranking, tools, reasoning, images, audio: other endpoints and
//!   other kinds of models. A request for tools or with an image is refused.
//! - `__verbose`, `prompt_progress`, `system_fingerprint` as llama.cpp's build: they debug llama-server itself.
//! - `POST /lora-adapters`: it would change the voice of other clients' requests. A request can have `lora` instead.
//! - `add_generation_prompt: false`: without a turn of the assistant's there is nothing to answer.
//! - Resumed streams, the router, sleeping, several addresses, saved slots, static files, `--no-ui`: features of the program
//!   around llama-server.
//! - The names of metrics: a text here has two models.
//! - Context shifts: an answer ends with `length` where the context is full.

use cope_convert::{Adapter, LoraTensor, Matrix};
use cope_llama::home::{Home, UserName};
use cope_llama::serve::ServeOptions;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{Reply, Running, events, merge};
use crate::default_model;

/// A server on SmolLM2 with one user, ann, whose adapter has random numbers.
struct OnSmolLm {
    running: Running,
    _folder: tempfile::TempDir,
}

impl OnSmolLm {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        let user = home.create_user(UserName::new("ann").unwrap()).unwrap();
        let base_sha256 = cope_convert::sha256(&default_model::path()).unwrap();
        random_adapter(base_sha256)
            .write_gguf(&user.adapter())
            .unwrap();
        let mut options: ServeOptions = super::options(&default_model::path());
        options.settings.context.n_ctx = 512;
        options.settings.context.n_threads = 2;
        Self {
            running: Running::start(&home, options),
            _folder: folder,
        }
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let reply = self.running.post(path, body, None);
        assert_eq!(reply.status, 200, "{path} {body}: {}", reply.text);
        reply.json()
    }

    fn chat_reply(&self, more: &Value) -> Reply {
        let mut body = json!({
            "max_tokens": 8,
            "messages": [
                { "role": "system", "content": "Book" },
                { "role": "user", "content": "What is the best book" },
            ],
        });
        merge(&mut body, more);
        self.running.post("/chat/completions", &body, None)
    }

    fn chat(&self, more: &Value) -> Value {
        let reply = self.chat_reply(more);
        assert_eq!(reply.status, 200, "{more}: {}", reply.text);
        reply.json()
    }

    fn said(&self, more: &Value) -> String {
        content(&self.chat(more))
    }

    fn completion(&self, prompt: &Value) -> Value {
        let body = json!({ "prompt": prompt, "max_tokens": 8 });
        self.post("/v1/completions", &body)
    }
}

fn content(whole: &Value) -> String {
    let content = &whole["choices"][0]["message"]["content"];
    content.as_str().unwrap().to_owned()
}

/// An adapter of SmolLM2-135M's query projections, strong enough to change answers.
fn random_adapter(base_sha256: String) -> Adapter {
    const N_EMBD: usize = 576;
    const RANK: usize = 4;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut matrix = |rows, cols| Matrix {
        rows,
        cols,
        data: (0..rows * cols)
            .map(|_| random.random_range(-0.05..0.05))
            .collect(),
    };
    let tensors = (10..20).map(|layer| LoraTensor {
        name: format!("blk.{layer}.attn_q.weight"),
        a: matrix(RANK, N_EMBD),
        b: matrix(N_EMBD, RANK),
    });
    Adapter {
        architecture: "llama".into(),
        lora_alpha: 64.0,
        base_sha256: Some(base_sha256),
        task_sha256: None,
        contrast: Some(0.1),
        plausibility: Some(0.1),
        rope_factors: None,
        name: None,
        tensors: tensors.collect(),
    }
}

#[test]
fn a_chat_has_openais_form() {
    let server = OnSmolLm::new();
    let whole = server.chat(&json!({}));
    assert!(whole["id"].as_str().unwrap().contains("cmpl"));
    assert!(whole["system_fingerprint"].is_string() && whole["created"].is_u64());
    let choice = &whole["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["finish_reason"], "length");
    let usage = &whole["usage"];
    let n_prompt = usage["prompt_tokens"].as_u64().unwrap();
    assert_eq!(usage["completion_tokens"], 8);
    assert_eq!(usage["total_tokens"], n_prompt + 8);
    let timings = &whole["timings"];
    assert_eq!(timings["prompt_n"], n_prompt);
    assert_eq!(timings["predicted_n"], 8);
    for (name, value) in timings.as_object().unwrap() {
        assert!(value.as_f64().unwrap() >= 0.0, "{name}: {value}");
    }
    // The parts of a message are joined.
    let parts = [
        json!({ "type": "text", "text": "What is" }),
        json!({ "type": "text", "text": " the best book" }),
    ];
    let messages =
        json!([{ "role": "system", "content": "Book" }, { "role": "user", "content": parts }]);
    assert_eq!(
        server.said(&json!({ "messages": messages })),
        content(&whole)
    );
}

#[test]
fn a_prompt_prefix_in_the_cache_is_not_recomputed() {
    let server = OnSmolLm::new();
    let of = |content: &str| {
        let system = "Test ".repeat(40);
        let messages = json!([{ "role": "system", "content": system }, { "role": "user", "content": content }]);
        server.chat(&json!({ "messages": messages }))
    };
    let n_cached = |whole: &Value| {
        let details = &whole["usage"]["prompt_tokens_details"];
        details["cached_tokens"].as_u64().unwrap()
    };
    let first = of("1 2 3 4 5 6");
    assert_eq!(n_cached(&first), 0);
    // The rest of the prompt is read once more, in the same pass as before.
    let again = of("1 2 3 4 5 6");
    let n_prompt = first["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(n_cached(&again), (n_prompt - 1) / 32 * 32);
    assert_eq!(content(&again), content(&first));
    // Another prompt reuses the prefix that both have in common.
    let other = of("9 9 9 4 5 6");
    assert!(n_cached(&other) >= 32 && n_cached(&other) <= n_cached(&again));
}

#[test]
fn a_chat_streams_in_openais_form() {
    let server = OnSmolLm::new();
    let stream = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let events = events(&server.chat_reply(&stream).text);
    let (last, chunks) = events.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 8);
    for name in ["prompt_per_second", "predicted_per_second", "predicted_n"] {
        assert!(last["timings"][name].is_number(), "{last}");
    }
    let mut text = String::new();
    for (number, chunk) in chunks.iter().enumerate() {
        assert_eq!(chunk["id"], last["id"]);
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert!(chunk.get("timings").is_none());
        let choice = &chunk["choices"][0];
        let delta = choice["delta"].as_object().unwrap();
        if number == 0 {
            assert_eq!(
                choice["delta"],
                json!({ "role": "assistant", "content": null })
            );
        } else if choice["finish_reason"].is_null() {
            assert!(!delta.contains_key("role"));
            text.push_str(delta["content"].as_str().unwrap());
        } else {
            assert_eq!(choice["finish_reason"], "length");
            assert_eq!(number, chunks.len() - 1);
            assert!(delta.is_empty());
        }
    }
    assert_eq!(text, server.said(&json!({})));
}

#[test]
fn a_request_can_have_several_answers() {
    let server = OnSmolLm::new();
    let more = json!({ "n": 2, "temperature": 1.0, "seed": 7 });
    let whole = server.chat(&more);
    let choices = whole["choices"].as_array().unwrap();
    let texts: Vec<_> = choices.iter().map(|it| &it["message"]["content"]).collect();
    let indices: Vec<_> = choices.iter().map(|it| &it["index"]).collect();
    assert_eq!(indices, [0, 1]);
    assert_ne!(texts[0], texts[1]);
    // The prompt counts once. The first answer is that of its seed, the second that of the next seed.
    let alone = |seed: u32| server.chat(&json!({ "temperature": 1.0, "seed": seed }));
    assert_eq!(*texts[0], content(&alone(7)));
    assert_eq!(*texts[1], content(&alone(8)));
    let usage = &whole["usage"];
    assert_eq!(usage["prompt_tokens"], alone(7)["usage"]["prompt_tokens"]);
    assert_eq!(usage["completion_tokens"], 16);

    let mut stream = more.clone();
    merge(&mut stream, &json!({ "stream": true }));
    let mut streamed = [String::new(), String::new()];
    let mut finishes = [0, 0];
    for chunk in events(&server.chat_reply(&stream).text) {
        let choice = &chunk["choices"][0];
        let index = choice["index"].as_u64().unwrap() as usize;
        streamed[index] += choice["delta"]["content"].as_str().unwrap_or_default();
        finishes[index] += usize::from(choice["finish_reason"].is_string());
    }
    assert_eq!(
        streamed.each_ref(),
        [texts[0], texts[1]].map(|it| it.as_str().unwrap())
    );
    assert_eq!(finishes, [1, 1]);
}

#[test]
fn a_prompt_ends_where_the_answer_begins() {
    let server = OnSmolLm::new();
    let user = json!({ "role": "user", "content": "What is the best book" });
    let body = |last: Value| json!({ "messages": [user, last] });
    let prompt = |body: &Value| {
        let prompt = server.post("/apply-template", body)["prompt"].clone();
        prompt.as_str().unwrap().to_owned()
    };
    let plain = prompt(&json!({ "messages": [user] }));
    assert!(plain.ends_with("What is the best book<|im_end|>\n<|im_start|>assistant\n"));
    // A last message of the assistant's is continued, whether the request says so or not.
    let prefilled = body(json!({ "role": "assistant", "content": "Whill" }));
    assert_eq!(prompt(&prefilled), format!("{plain}Whill"));
    let mut explicit = prefilled.clone();
    merge(
        &mut explicit,
        &json!({ "continue_final_message": true, "add_generation_prompt": false }),
    );
    assert_eq!(prompt(&explicit), format!("{plain}Whill"));
    assert_eq!(server.said(&prefilled), server.said(&explicit));
    let parts = json!([{ "type": "text", "text": "Wh" }, { "type": "text", "text": "ill" }]);
    let parts = body(json!({ "role": "assistant", "content": parts }));
    assert_eq!(prompt(&parts), format!("{plain}Whill"));
    // It is not continued if the request says so.
    let mut closed = prefilled.clone();
    merge(&mut closed, &json!({ "continue_final_message": false }));
    assert!(prompt(&closed).ends_with("Whill<|im_end|>\n<|im_start|>assistant\n"));

    let count = |path: &str, body: &Value| server.post(path, body)["input_tokens"].clone();
    let n = count("/v1/chat/completions/input_tokens", &prefilled);
    assert_eq!(n, count("/chat/completions/input_tokens", &explicit));
    assert_eq!(n, server.chat(&prefilled)["usage"]["prompt_tokens"]);
}

#[test]
fn requests_that_llama_server_refuses_are_refused() {
    let server = OnSmolLm::new();
    let user = |content: &str| json!({ "role": "user", "content": content });
    let answer = json!({ "role": "assistant", "content": "test" });
    let format = |format: Value| json!({ "response_format": format });
    let object = |schema: Value| format(json!({ "type": "json_object", "schema": schema }));
    let both = json!({ "add_generation_prompt": true, "continue_final_message": true, "messages": [user("Hi"), answer] });
    let refused = [
        json!({ "messages": null }),
        json!({ "messages": "string" }),
        json!({ "messages": [123] }),
        json!({ "messages": [{}] }),
        json!({ "messages": [{ "role": 123 }] }),
        json!({ "messages": [{ "role": "system", "content": 123 }] }),
        json!({ "messages": [{ "role": "system", "content": "test" }, {}] }),
        json!({ "messages": [user("test"), answer, answer] }),
        both,
        format(json!({ "type": "sound" })),
        object(json!(123)),
        object(json!({ "type": 123 })),
        object(json!({ "type": "hiccup" })),
        json!({ "grammar": "root ::= this is (not valid GBNF" }),
    ];
    for more in refused {
        let reply = server.chat_reply(&more);
        assert_eq!(reply.status, 400, "{more}: {}", reply.text);
        reply.error();
    }
    let long: Vec<Value> = (0..100).map(|_| user("What is the best book")).collect();
    for stream in [false, true] {
        let reply = server.chat_reply(&json!({ "messages": long, "stream": stream }));
        assert_eq!(reply.status, 400);
        assert!(reply.error().contains("exceeds the available context size"));
        let error = &reply.json()["error"];
        assert_eq!(error["type"], "exceed_context_size_error");
        assert!(error["n_prompt_tokens"].as_u64().unwrap() > 512);
        assert_eq!(error["n_ctx"], 512);
    }
}

#[test]
fn an_answer_obeys_its_schema_or_grammar() {
    let server = OnSmolLm::new();
    let cases = [
        (
            json!({ "response_format": { "type": "json_object", "schema": { "const": "42" } } }),
            "\"42\"",
        ),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": { "const": "foooooo" } } } }),
            "\"foooooo\"",
        ),
        (json!({ "json_schema": { "const": "42" } }), "\"42\""),
        (json!({ "grammar": "root ::= \"a\"{5,5}" }), "aaaaa"),
    ];
    for (mut more, expected) in cases {
        more["max_tokens"] = json!(12);
        assert_eq!(server.said(&more), expected, "{more}");
    }
    let items = json!({ "items": [{ "type": "integer" }] });
    let items =
        json!({ "max_tokens": 20, "response_format": { "type": "json_object", "schema": items } });
    assert!(server.said(&items).starts_with('['));
    let object = json!({ "max_tokens": 10, "response_format": { "type": "json_object" } });
    assert!(server.said(&object).starts_with('{'));
}

#[test]
fn tokens_come_with_their_probabilities() {
    let server = OnSmolLm::new();
    let more = json!({ "temperature": 0.0, "max_tokens": 5, "logprobs": true, "top_logprobs": 10 });
    let tokens = |choice: &Value| {
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        for token in tokens {
            assert!(token["logprob"].as_f64().unwrap() <= 0.0);
            assert!(token["bytes"].is_array());
            assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 10);
        }
        let text = tokens.iter().map(|it| it["token"].as_str().unwrap());
        text.collect::<String>()
    };
    let whole = server.chat(&more);
    assert_eq!(tokens(&whole["choices"][0]), content(&whole));

    let mut stream = more;
    merge(&mut stream, &json!({ "stream": true }));
    let mut told = String::new();
    for chunk in events(&server.chat_reply(&stream).text).iter().skip(1) {
        let choice = &chunk["choices"][0];
        if choice["finish_reason"].is_null() {
            told.push_str(&tokens(choice));
        }
    }
    assert_eq!(told, content(&whole));
}

#[test]
fn a_completion_continues_texts_and_tokens() {
    let server = OnSmolLm::new();
    let prompt = "I believe the meaning of life is";
    let texts = |whole: &Value| -> Vec<String> {
        let choices = whole["choices"].as_array().unwrap().iter();
        choices
            .map(|it| it["text"].as_str().unwrap().to_owned())
            .collect()
    };
    let whole = server.completion(&json!(prompt));
    assert_eq!(whole["object"], "text_completion");
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    let body = json!({ "prompt": prompt, "max_tokens": 8, "stream": true });
    let stream = server.running.post("/completions", &body, None);
    let chunks = events(&stream.text);
    let streamed = chunks.iter().flat_map(&texts);
    assert_eq!([streamed.collect::<String>()], *texts(&whole));

    // A prompt can be tokens, several prompts, or tokens and texts mixed.
    let body = json!({ "content": prompt, "add_special": true });
    let tokens = server.post("/tokenize", &body)["tokens"].clone();
    assert_eq!(texts(&server.completion(&tokens)), texts(&whole));
    let several = server.completion(&json!([tokens, prompt]));
    assert_eq!(texts(&several), [texts(&whole), texts(&whole)].concat());
    let n_prompt = &whole["usage"]["prompt_tokens"];
    assert_eq!(
        several["usage"]["prompt_tokens"],
        2 * n_prompt.as_u64().unwrap()
    );
    let mixed = json!([1, 2, 3, 4, 5, 6, prompt, 7, 8, 9, 10, prompt]);
    let mixed = server.completion(&mixed);
    assert_eq!(texts(&mixed).len(), 1);
    assert!(mixed["usage"]["prompt_tokens"].as_u64() > n_prompt.as_u64().map(|n| 2 * n));
}

#[test]
fn a_seed_repeats_its_answer() {
    let server = OnSmolLm::new();
    let said = |seed: u32, temperature: f64| {
        server.said(&json!({ "seed": seed, "temperature": temperature, "max_tokens": 16 }))
    };
    let greedy: Vec<_> = (0..4).map(|_| said(42, 0.0)).collect();
    assert!(greedy.iter().all(|text| *text == greedy[0]), "{greedy:?}");
    let drawn: Vec<_> = (0..4).map(|seed| said(seed, 1.0)).collect();
    assert!(
        drawn.windows(2).all(|texts| texts[0] != texts[1]),
        "{drawn:?}"
    );
    assert_eq!(said(3, 1.0), drawn[3]);
}

#[test]
fn a_bias_bans_its_tokens() {
    let server = OnSmolLm::new();
    let excluded = ["the", "The", "to", "a", "is", "of", "and", "book", "best"];
    let content = format!(" {} ", excluded.join(" "));
    let tokens = server.post("/tokenize", &json!({ "content": content }))["tokens"].clone();
    let tokens = tokens.as_array().unwrap();
    let map: Value = tokens
        .iter()
        .map(|it| (it.to_string(), json!(-100)))
        .collect();
    let pairs: Value = tokens.iter().map(|it| json!([it, -100])).collect();
    let texts: Value = excluded
        .iter()
        .map(|it| json!([format!(" {it}"), false]))
        .collect();
    let free = server.said(&json!({ "max_tokens": 24 }));
    assert!(
        excluded.iter().any(|it| free.contains(&format!(" {it} "))),
        "{free}"
    );
    for bias in [map, pairs, texts] {
        let said = server.said(&json!({ "max_tokens": 24, "logit_bias": bias }));
        for word in excluded {
            assert!(!said.contains(&format!(" {word} ")), "{word}: {said}");
        }
    }
    // `ignore_eos` keeps an answer from ending. A bias makes it end at once, since where it would end by itself depends on
    // the CPU's rounding.
    let end = server.post(
        "/tokenize",
        &json!({ "content": "<|im_end|>", "parse_special": true }),
    );
    let ends = json!({ "logit_bias": [[end["tokens"][0], 100]] });
    let mut goes_on = ends.clone();
    goes_on["ignore_eos"] = json!(true);
    assert_eq!(server.chat(&ends)["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        server.chat(&goes_on)["choices"][0]["finish_reason"],
        "length"
    );
}

#[test]
fn tokens_and_texts_convert_both_ways() {
    let server = OnSmolLm::new();
    let content = "What is the capital of France ?";
    let tokens = server.post("/tokenize", &json!({ "content": content }))["tokens"].clone();
    assert!(tokens.as_array().unwrap().len() > 5);
    let text = server.post("/detokenize", &json!({ "tokens": tokens }));
    assert_eq!(text["content"], content);
    let content = "This is a test string with unicode 媽 and emoji 🤗";
    let body = json!({ "content": content, "with_pieces": true });
    for token in server.post("/tokenize", &body)["tokens"]
        .as_array()
        .unwrap()
    {
        assert!(token["id"].as_i64().unwrap() > 0);
        let piece = &token["piece"];
        assert!(piece.as_str().is_some_and(|it| !it.is_empty()) || piece.is_array());
    }
}

#[test]
fn an_adapter_has_a_number_and_a_scale() {
    let server = OnSmolLm::new();
    // Two scales may give the same text, so the probabilities are compared too.
    let said = |more: Value| {
        let mut body = json!({ "max_tokens": 16, "logprobs": true });
        merge(&mut body, &more);
        let choice = server.chat(&body)["choices"][0].clone();
        let content = choice["message"]["content"].clone();
        let first = choice["logprobs"]["content"][0]["logprob"].clone();
        (content, first.as_f64().unwrap())
    };
    let of = |scale: f64| said(json!({ "lora": [{ "id": 0, "scale": scale }], "arm": "user" }));
    let base = said(json!({}));
    assert_eq!(said(json!({ "lora": [{ "id": 0, "scale": 0.0 }] })), base);
    let (little, whole, much) = (of(0.3), of(1.0), of(1.5));
    for other in [&base, &little, &much] {
        assert!((whole.1 - other.1).abs() > 0.01, "{whole:?} {other:?}");
    }
    assert_eq!(said(json!({ "model": "ann", "arm": "user" })), whole);
}

#[test]
fn a_server_lists_its_models_and_metrics() {
    let server = OnSmolLm::new();
    let get = |path: &str| server.running.get(path, None);
    // Loading SmolLM2 takes longer than the first request.
    assert!(server.running.was_loading);
    assert_eq!(get("/health").json()["status"], "ok");
    let models = get("/models").json();
    let ids: Vec<_> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["id"])
        .collect();
    assert_eq!(ids, ["base", "ann"]);
    server.chat(&json!({}));
    let metrics = get("/metrics").text;
    let names = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let mut n = 0;
    for name in names.map(|line| line.split_once(' ').unwrap().0) {
        assert!(metrics.contains(&format!("# HELP {name} ")), "{name}");
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name}");
        n += 1;
    }
    assert!(n >= 5);
    assert!(
        metrics.contains("cope_llama_completion_tokens_total 8"),
        "{metrics}"
    );
}
