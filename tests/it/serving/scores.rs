//! The log-probabilities of a prompt, by which lm-evaluation-harness scores texts.

use cope_llama::llama::{Boundary, Context, Rows, Special, Token};
use serde_json::{Value, json};

use super::{Server, ann, events};

const TEXT: &str = "dear alice, the wine is fine and the letter is long";

/// The natural logarithms of the softmax over `logits`.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|it| f64::from(it - max).exp()).sum();
    let of = |logit: &f32| f64::from(logit - max) - sum.ln();
    logits.iter().map(of).collect()
}

/// The log-probabilities of all tokens after each token of `prompt`, by passes over one token at a time.
fn one_by_one(context: &mut Context, prompt: &[Token]) -> Vec<Vec<f64>> {
    let after = |token: &Token| {
        context.extend(&[*token], 1, Rows::Full).unwrap();
        log_softmax(context.logits())
    };
    prompt.iter().map(after).collect()
}

fn tokens(server: &Server) -> Vec<Token> {
    let model = &server.fixture.model;
    model
        .tokenize(TEXT, Boundary::Add, Special::ByName)
        .unwrap()
}

/// The first choice of a completion with these fields.
fn complete(server: &Server, more: &Value) -> Value {
    let mut body = json!({ "prompt": TEXT, "max_tokens": 0, "logprobs": 1, "echo": true });
    super::merge(&mut body, more);
    let reply = server.post("/v1/completions", &body, None);
    assert_eq!(reply.status, 200, "{more}: {}", reply.text);
    reply.json()["choices"][0].clone()
}

fn numbers(list: &Value) -> Vec<f64> {
    let list = list.as_array().unwrap();
    list.iter().map(|it| it.as_f64().unwrap()).collect()
}

fn assert_close(one: f64, other: f64) {
    assert!((one - other).abs() < 1e-3, "{one} {other}");
}

#[test]
fn a_prompt_that_is_echoed_has_the_log_probabilities_of_the_model() {
    let server = Server::new();
    let prompt = tokens(&server);
    assert!(prompt.len() > 20, "more tokens than a pass has rows");
    let mut twin = server.fixture.twin(&ann(), 1.0);
    let by_user = one_by_one(&mut twin.user, &prompt);
    let by_base = one_by_one(&mut twin.base, &prompt);
    for (voice, scores, base_scores) in [
        (json!({ "model": "base" }), &by_base, None),
        (json!({ "model": "ann", "arm": "user" }), &by_user, None),
        // What is told of an answer by CoPe is the user model's probability too.
        (json!({ "model": "ann" }), &by_user, Some(&by_base)),
    ] {
        let choice = complete(&server, &voice);
        assert_eq!(choice["finish_reason"], "length");
        let logprobs = &choice["logprobs"];
        let told = logprobs["token_logprobs"].as_array().unwrap();
        let best = logprobs["top_logprobs"].as_array().unwrap();
        assert_eq!((told.len(), best.len()), (prompt.len(), prompt.len()));
        assert_eq!((&told[0], &best[0]), (&Value::Null, &Value::Null));
        for (number, &token) in prompt.iter().enumerate().skip(1) {
            let row = &scores[number - 1];
            let expected = row[token as usize];
            assert_close(told[number].as_f64().unwrap(), expected);
            let best = best[number].as_object().unwrap();
            assert_eq!(best.len(), 1);
            if base_scores.is_none() {
                let most = row.iter().copied().fold(f64::MIN, f64::max);
                assert_close(best.values().next().unwrap().as_f64().unwrap(), most);
            }
            let p_base = base_scores.map(|it| it[number - 1][token as usize].exp());
            match p_base {
                Some(p_base) => assert_close(logprobs["p_base"][number].as_f64().unwrap(), p_base),
                None => assert_eq!(logprobs["p_base"][number], Value::Null),
            }
        }
    }
}

#[test]
fn the_tokens_of_an_echo_are_its_text() {
    let server = Server::new();
    for more in [
        json!({}),
        json!({ "max_tokens": 6, "logprobs": 3, "grammar": "root ::= [a-zé ]+" }),
    ] {
        let choice = complete(&server, &more);
        let text = choice["text"].as_str().unwrap();
        let logprobs = &choice["logprobs"];
        let tokens = logprobs["tokens"].as_array().unwrap();
        let told: Vec<_> = tokens.iter().map(|it| it.as_str().unwrap()).collect();
        // The text begins as the client wrote it, and the tokens with BOS.
        assert!(told[0] == "<s>" && text.starts_with(TEXT), "{text}");
        assert!(told.concat().ends_with(text), "{told:?}");
        let offsets = numbers(&logprobs["text_offset"]);
        assert_eq!(offsets[..2], [0.0, 0.0]);
        for (offset, token) in offsets.iter().zip(&told).skip(2) {
            let rest: String = text.chars().skip(*offset as usize).collect();
            assert!(rest.starts_with(token), "{offset} {token:?}");
        }
        assert_eq!(offsets.len(), told.len());
    }
    // Without an echo, there are the tokens of the answer alone.
    let answer = complete(&server, &json!({ "echo": false, "max_tokens": 6 }));
    let logprobs = &answer["logprobs"];
    assert_eq!(numbers(&logprobs["token_logprobs"]).len(), 6);
    assert_eq!(logprobs["text_offset"][0], 0);
    // And without `logprobs`, there is the text of the prompt alone.
    let silent = complete(&server, &json!({ "logprobs": null }));
    assert_eq!(silent["logprobs"], Value::Null);
    assert_eq!(silent["text"], TEXT);
}

#[test]
fn a_score_is_the_same_beside_others_and_in_a_stream() {
    let server = Server::new();
    let prompt = tokens(&server);
    let more = json!({ "model": "ann", "prompt": prompt, "max_tokens": 1 });
    let alone = complete(&server, &more);
    let body = json!({ "model": "ann", "prompt": [prompt, prompt], "max_tokens": 1, "logprobs": 1, "echo": true });
    let reply = server.post("/v1/completions", &body, None).json();
    assert_eq!(reply["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    for choice in reply["choices"].as_array().unwrap() {
        assert_eq!(choice["logprobs"], alone["logprobs"]);
        assert_eq!(choice["text"], alone["text"]);
    }
    let mut body = body;
    body["stream"] = json!(true);
    body["prompt"] = json!(prompt);
    let stream = server.post("/v1/completions", &body, None);
    let mut streamed = Vec::new();
    for chunk in events(&stream.text) {
        let told = chunk["choices"][0]["logprobs"]["token_logprobs"].clone();
        streamed.extend(told.as_array().unwrap().clone());
    }
    assert_eq!(json!(streamed), alone["logprobs"]["token_logprobs"]);
}

#[test]
fn the_token_that_ends_the_answer_is_told_after_an_echo() {
    let server = Server::new();
    let n_prompt = tokens(&server).len();
    let ends: Vec<_> = server.fixture.model.eog_tokens().collect();
    let more = json!({ "max_tokens": 1, "logit_bias": [[ends[0], 1000.0]] });
    let choice = complete(&server, &more);
    assert_eq!(choice["finish_reason"], "stop");
    // lm-evaluation-harness takes the last token away, whatever it is.
    let told = choice["logprobs"]["token_logprobs"].as_array().unwrap();
    assert_eq!(told.len(), n_prompt + 1);
    // The bias is for the answer and changes no score.
    let unbiased = complete(&server, &json!({}));
    let scores = unbiased["logprobs"]["token_logprobs"].as_array().unwrap();
    assert_eq!(told[..n_prompt], scores[..]);
}
