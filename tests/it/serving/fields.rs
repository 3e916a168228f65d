//! Each field of OpenAI's and llama-server's requests, with a value that is not its default: it is obeyed, it changes
//! nothing, or it is refused by name.

use serde_json::{Value, json};

use super::Server;

/// The consequence of a field for the answer.
enum Fate {
    /// The answer is another one.
    Obeyed,
    /// The answer is the same.
    Ignored,
    /// 400, whose error names this path and says this.
    Refused(&'static str, &'static str),
}

use Fate::{Ignored, Obeyed, Refused};

/// The answer that is compared: 12 tokens at a temperature of 1, with a seed. The rules against loops are off.
fn chat_body() -> Value {
    json!({
        "model": "ann", "max_tokens": 12, "temperature": 1.0, "seed": 5, "no_repeat_ngram": 0,
        "messages": [{ "role": "user", "content": "hello alice" }],
    })
}

fn completion_body() -> Value {
    json!({ "model": "ann", "max_tokens": 12, "temperature": 1.0, "seed": 5, "no_repeat_ngram": 0, "prompt": "hello alice" })
}

/// The answer as a client reads it, without the parts that differ from one request to the next.
fn answer(server: &Server, path: &str, body: &Value) -> Value {
    let reply = server.post(path, body, None);
    assert_eq!(reply.status, 200, "{body}: {}", reply.text);
    if body["stream"] == true {
        return json!({ "stream": reply.text.contains("data: "), "n": reply.text.matches("usage").count() });
    }
    let reply = reply.json();
    json!([reply["choices"], reply["model"]])
}

fn check(server: &Server, path: &str, body: &Value, cases: Vec<(Value, Fate)>) {
    let plain = answer(server, path, body);
    assert_eq!(
        answer(server, path, body),
        plain,
        "the seed repeats the answer"
    );
    for (more, fate) in cases {
        let mut body = body.clone();
        super::merge(&mut body, &more);
        match fate {
            Obeyed => assert_ne!(answer(server, path, &body), plain, "{more}"),
            Ignored => assert_eq!(answer(server, path, &body), plain, "{more}"),
            Refused(param, message) => {
                let reply = server.post(path, &body, None);
                assert_eq!(reply.status, 400, "{more}: {}", reply.text);
                let told = reply.error();
                assert_eq!(reply.json()["error"]["param"], param, "{more}: {told}");
                assert!(
                    told.contains(&format!("`{param}`")) && told.contains(message),
                    "{told}"
                );
            }
        }
    }
}

const UNLESS: &str = "is not supported by this server unless it is ";
const NOT_HERE: &str = "is not supported by this server; leave it out";
const UNKNOWN: &str = "is not a field that this server obeys here";

/// Fields that chats and completions share, and that change the answer.
const OBEYED: &[&str] = &[
    r#"{"model": "bob"}"#,
    r#"{"temperature": 0}"#,
    r#"{"max_tokens": 3.0}"#,
    r#"{"max_tokens": null, "max_completion_tokens": 3}"#,
    r#"{"max_tokens": null, "n_predict": 3}"#,
    r#"{"lora": [{"id": 0, "scale": 3}]}"#,
    r#"{"scale": 3}"#,
    r#"{"seed": 6}"#,
    r#"{"top_k": 1.0}"#,
    r#"{"top_p": 0.01}"#,
    r#"{"min_p": 1}"#,
    r#"{"presence_penalty": -1000}"#,
    r#"{"frequency_penalty": -1000}"#,
    r#"{"repeat_penalty": 0.001}"#,
    r#"{"n": 2}"#,
    r#"{"stop": "a"}"#,
    r#"{"stop": ["a", "e", ""]}"#,
    r#"{"logit_bias": {"7": 100}}"#,
    r#"{"stream": true}"#,
    r#"{"stream": true, "stream_options": {"include_usage": true}}"#,
    r#"{"regenerate": 1}"#,
    r#"{"contrast": 3}"#,
    r#"{"plausibility": 1.0}"#,
    r#"{"arm": "base"}"#,
    r#"{"model": "base", "lora": [{"id": 1.0}]}"#,
    r#"{"grammar": "root ::= \"fine\""}"#,
    r#"{"json_schema": {"const": 1}}"#,
    r#"{"response_format": {"type": "json_object"}}"#,
];

/// Fields that chats and completions share, and that change nothing.
const IGNORED: &[&str] = &[
    r#"{"user": "somebody", "metadata": {"a": "b"}, "store": true}"#,
    r#"{"service_tier": "flex", "prediction": {"type": "content", "content": "a"}}"#,
    r#"{"safety_identifier": "a", "prompt_cache_key": "b", "prompt_cache_retention": "24h"}"#,
    r#"{"parallel_tool_calls": false, "tools": [], "tool_choice": "auto"}"#,
    r#"{"tools": [{"type": "function"}], "tool_choice": "none"}"#,
    r#"{"n": 1.0, "best_of": 1, "stream_options": {"include_obfuscation": false}}"#,
    r#"{"stream": false, "stop": null, "logit_bias": {}, "response_format": {"type": "text"}}"#,
    r#"{"cache_prompt": false, "id_slot": 3, "n_keep": 4, "timings_per_token": true, "return_progress": true}"#,
    r#"{"dynatemp_range": 0, "xtc_probability": 0.0, "mirostat": 0, "dry_multiplier": 0, "dry_base": 1.75}"#,
    r#"{"backend_sampling": false, "reasoning_format": "auto", "typ_p": 1, "typical_p": 1}"#,
    r#"{"samplers": ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"]}"#,
    r#"{"lora": [], "n_predict": 12, "max_completion_tokens": 12.0}"#,
    r#"{"lora": [{"id": 0}, {"id": 1, "scale": 0}]}"#,
    r#"{"nobody_sends_this": null, "functions": [], "function_call": "auto"}"#,
];

/// Fields that chats and completions share, and that are refused: the error's path and a part of its message.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        r#"{"tools": [{"type": "function"}]}"#,
        "tools",
        "does not call tools",
    ),
    (
        r#"{"tools": {}}"#,
        "tools",
        "has to be a list, not an object",
    ),
    (
        r#"{"tool_choice": "required"}"#,
        "tool_choice",
        "can only be `none` or `auto`",
    ),
    (r#"{"functions": [{}]}"#, "functions", UNLESS),
    (
        r#"{"function_call": {"name": "a"}}"#,
        "function_call",
        UNLESS,
    ),
    (r#"{"audio": {"voice": "alloy"}}"#, "audio", NOT_HERE),
    (r#"{"modalities": ["text", "audio"]}"#, "modalities", UNLESS),
    (
        r#"{"reasoning_effort": "high"}"#,
        "reasoning_effort",
        UNLESS,
    ),
    (r#"{"verbosity": "low"}"#, "verbosity", UNLESS),
    (
        r#"{"web_search_options": {}}"#,
        "web_search_options",
        UNKNOWN,
    ),
    (r#"{"best_of": 2}"#, "best_of", "equal to `n`"),
    (r#"{"dynatemp_range": 0.5}"#, "dynatemp_range", UNLESS),
    (r#"{"xtc_probability": 0.5}"#, "xtc_probability", UNLESS),
    (r#"{"mirostat": 2}"#, "mirostat", UNLESS),
    (r#"{"dry_multiplier": 0.8}"#, "dry_multiplier", UNLESS),
    (r#"{"top_n_sigma": 1}"#, "top_n_sigma", UNLESS),
    (
        r#"{"samplers": ["temperature", "top_k"]}"#,
        "samplers",
        UNLESS,
    ),
    (r#"{"min_keep": 5}"#, "min_keep", UNLESS),
    (r#"{"n_probs": 3}"#, "n_probs", UNLESS),
    (
        r#"{"post_sampling_probs": true}"#,
        "post_sampling_probs",
        UNLESS,
    ),
    (
        r#"{"response_fields": ["content"]}"#,
        "response_fields",
        UNLESS,
    ),
    (r#"{"return_tokens": true}"#, "return_tokens", UNLESS),
    (r#"{"n_indent": 4}"#, "n_indent", UNLESS),
    (r#"{"t_max_predict_ms": 50}"#, "t_max_predict_ms", UNLESS),
    (r#"{"grammar_lazy": true}"#, "grammar_lazy", UNLESS),
    (r#"{"image_data": [{}]}"#, "image_data", UNLESS),
    (
        r#"{"repetition_penalty": 1.2}"#,
        "repetition_penalty",
        UNLESS,
    ),
    (r#"{"tempreature": 1}"#, "tempreature", UNKNOWN),
    (r#"{"extra_body": {}}"#, "extra_body", UNKNOWN),
    (
        r#"{"stream_options": {"include_all": true}}"#,
        "stream_options.include_all",
        UNKNOWN,
    ),
    (
        r#"{"stream_options": {"include_usage": 1}}"#,
        "stream_options.include_usage",
        "has to be true or false, not 1",
    ),
    (
        r#"{"response_format": {"type": "json_object", "name": "a"}}"#,
        "response_format.name",
        UNKNOWN,
    ),
    (
        r#"{"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "mode": 1}}}"#,
        "response_format.json_schema.mode",
        UNKNOWN,
    ),
    (
        r#"{"response_format": {"type": "text", "schema": {}}}"#,
        "response_format.type",
        "has no schema",
    ),
    (
        r#"{"lora": [{"id": 0, "name": "a"}]}"#,
        "lora[0].name",
        UNKNOWN,
    ),
    (r#"{"model": 3}"#, "model", "has to be a text, not 3"),
    (
        r#"{"temperature": "hot"}"#,
        "temperature",
        "has to be a number, not a text",
    ),
    (
        r#"{"max_tokens": 4.5}"#,
        "max_tokens",
        "has to be a whole number, not 4.5",
    ),
    (
        r#"{"top_k": "40"}"#,
        "top_k",
        "has to be a whole number, not a text",
    ),
    (
        r#"{"n": -1}"#,
        "n",
        "has to be a whole number from 0 on, not -1",
    ),
    (
        r#"{"stream": "yes"}"#,
        "stream",
        "has to be true or false, not a text",
    ),
    (r#"{"stop": [1]}"#, "stop[0]", "has to be a text, not 1"),
    (
        r#"{"stop": 1}"#,
        "stop",
        "has to be a text or a list of texts, not 1",
    ),
    (
        r#"{"seed": []}"#,
        "seed",
        "has to be a whole number, not a list",
    ),
    (r#"{"logit_bias": {"a": 1}}"#, "logit_bias", "maps tokens"),
    (
        r#"{"repeat_last_n": -2}"#,
        "repeat_last_n",
        "whole number from 0 on",
    ),
    (
        r#"{"response_format": "json"}"#,
        "response_format",
        "has to be an object, not a text",
    ),
    (
        r#"{"response_format": {}}"#,
        "response_format.type",
        "is missing",
    ),
    (
        r#"{"grammar": {}}"#,
        "grammar",
        "has to be a text, not an object",
    ),
    (
        r#"{"arm": "both"}"#,
        "arm",
        "has to be `base`, `user` or `cope`, not \"both\"",
    ),
    (
        r#"{"max_completion_tokens": 3}"#,
        "max_tokens",
        "has another value than `max_completion_tokens`",
    ),
    (
        r#"{"n_predict": -1}"#,
        "n_predict",
        "has another value than `max_tokens`",
    ),
    (
        r#"{"typical_p": 0.5, "typ_p": 0.4}"#,
        "typ_p",
        "has another value than `typical_p`",
    ),
    (
        r#"{"seed": 18446744073709551615}"#,
        "seed",
        "has to be a whole number of at most 15 digits",
    ),
    (
        r#"{"arm": "user", "contrast": 1}"#,
        "contrast",
        "is for the arm `cope`",
    ),
    (
        r#"{"model": "base", "contrast": 0.5}"#,
        "contrast",
        "is for the arm `cope`",
    ),
    (
        r#"{"arm": "base", "plausibility": 0.1}"#,
        "plausibility",
        "is for the arm `cope`",
    ),
    (
        r#"{"lora": [{"id": 1}]}"#,
        "lora",
        "does not name the adapter of `model`, ann",
    ),
    (
        r#"{"lora": [{"id": 0, "scale": 0}]}"#,
        "lora",
        "does not name the adapter of `model`, ann",
    ),
    (
        r#"{"response_format": {"type": "json_schema", "schema": {"const": 1}, "json_schema": {"schema": {"const": 2}}}}"#,
        "response_format",
        "has two schemas",
    ),
    (r#"{"lora": [{"scale": 1}]}"#, "lora[0].id", "is missing"),
];

fn common() -> Vec<(Value, Fate)> {
    let value = |text: &str| serde_json::from_str(text).unwrap();
    let obeyed = OBEYED.iter().map(|it| (value(it), Obeyed));
    let ignored = IGNORED.iter().map(|it| (value(it), Ignored));
    let refused = REFUSED
        .iter()
        .map(|(it, param, message)| (value(it), Refused(param, message)));
    obeyed.chain(ignored).chain(refused).collect()
}

/// Fields of a chat beside its messages.
fn of_chats() -> Vec<(Value, Fate)> {
    vec![
        (json!({ "logprobs": true, "top_logprobs": 2.0 }), Obeyed),
        (
            json!({ "add_generation_prompt": true, "chat_template_kwargs": {} }),
            Ignored,
        ),
        (json!({ "prompt": "a" }), Refused("prompt", UNKNOWN)),
        (
            json!({ "add_generation_prompt": false }),
            Refused("add_generation_prompt", "can only be false after"),
        ),
        (json!({ "echo": true }), Refused("echo", UNLESS)),
        (
            json!({ "messages": {} }),
            Refused("messages", "has to be a list, not an object"),
        ),
        (
            json!({ "messages": ["a"] }),
            Refused("messages[0]", "has to be an object, not a text"),
        ),
        (
            json!({ "logprobs": 3 }),
            Refused("logprobs", "has to be true or false, not 3"),
        ),
        (
            json!({ "retrieve": 0.5 }),
            Refused("retrieve", "has to be a whole number from 0 on, not 0.5"),
        ),
        (
            json!({ "model": "base", "retrieve": 1 }),
            Refused("retrieve", "is for a user's model"),
        ),
        (
            json!({ "chat_template_kwargs": { "enable_thinking": true } }),
            Refused("chat_template_kwargs", "chat template cannot ask for"),
        ),
        (
            json!({ "chat_template_kwargs": { "enable_thinking": true, "thinking": false } }),
            Refused("chat_template_kwargs", "says two things"),
        ),
    ]
}

/// Fields of a chat's messages.
fn of_messages() -> Vec<(Value, Fate)> {
    let message = |more: Value| {
        let mut message = json!({ "role": "user", "content": "hello alice" });
        super::merge(&mut message, &more);
        json!({ "messages": [message] })
    };
    let part = |more: Value| {
        let mut part = json!({ "type": "text", "text": "hello alice" });
        super::merge(&mut part, &more);
        message(json!({ "content": [part] }))
    };
    vec![
        (message(json!({ "content": "hello bob" })), Obeyed),
        (message(json!({ "role": "developer" })), Obeyed),
        (part(json!({})), Ignored),
        (
            part(json!({ "cache_control": { "type": "ephemeral" } })),
            Ignored,
        ),
        (
            message(json!({ "name": "tom", "type": "text", "refusal": null, "tool_calls": [] })),
            Ignored,
        ),
        (
            message(json!({ "reasoning_content": "a thought", "annotations": [] })),
            Ignored,
        ),
        (
            message(json!({ "content": null })),
            Refused("messages[0].content", "is missing"),
        ),
        (
            message(json!({ "role": 3 })),
            Refused("messages[0].role", "has to be a text, not 3"),
        ),
        (
            message(json!({ "mood": "glad" })),
            Refused("messages[0].mood", UNKNOWN),
        ),
        (
            message(json!({ "content": 3 })),
            Refused(
                "messages[0].content",
                "has to be a text or a list of texts, not 3",
            ),
        ),
        (
            message(json!({ "tool_calls": [{}] })),
            Refused("messages[0].tool_calls", UNLESS),
        ),
        (
            part(json!({ "type": "input_audio" })),
            Refused(
                "messages[0].content[0].type",
                "\"input_audio\" cannot be read",
            ),
        ),
        (
            part(json!({ "image_url": {} })),
            Refused("messages[0].content[0].image_url", UNKNOWN),
        ),
        (
            part(json!({ "text": null })),
            Refused("messages[0].content[0].text", "is missing"),
        ),
    ]
}

#[test]
fn a_field_of_a_chat_is_obeyed_or_changes_nothing_or_is_refused_by_name() {
    let cases = [common(), of_chats(), of_messages()];
    let cases = cases.into_iter().flatten().collect();
    check(&Server::new(), "/v1/chat/completions", &chat_body(), cases);
}

#[test]
fn a_field_of_a_completion_is_obeyed_or_changes_nothing_or_is_refused_by_name() {
    let server = Server::new();
    let mut cases = common();
    cases.extend([
        (json!({ "prompt": "hello bob" }), Obeyed),
        (json!({ "echo": true }), Obeyed),
        (json!({ "logprobs": 2.0 }), Obeyed),
        (json!({ "suffix": "" }), Ignored),
        (json!({ "prompt": null }), Refused("prompt", "is missing")),
        (
            json!({ "prompt": {} }),
            Refused("prompt", "neither a text nor a list of tokens"),
        ),
        (json!({ "prompt": [[]] }), Refused("prompt", "is empty")),
        (
            json!({ "prompt": [[["a"]]] }),
            Refused("prompt", "neither a text nor a token's number"),
        ),
        (
            json!({ "logprobs": true }),
            Refused("logprobs", "has to be a whole number from 0 on, not true"),
        ),
        (json!({ "messages": [] }), Refused("messages", UNKNOWN)),
        (
            json!({ "top_logprobs": 2 }),
            Refused("top_logprobs", UNKNOWN),
        ),
        (json!({ "retrieve": 2 }), Refused("retrieve", UNKNOWN)),
    ]);
    check(&server, "/v1/completions", &completion_body(), cases);
    let reply = server.post(
        "/v1/completions",
        &json!({ "prompt": "a", "suffix": "b" }),
        None,
    );
    assert_eq!(reply.json()["error"]["param"], "suffix");
    // Tokens are whole numbers too.
    let said = |prompt: Value| {
        let mut body = completion_body();
        body["prompt"] = prompt;
        answer(&server, "/v1/completions", &body)
    };
    assert_eq!(said(json!([5, 6])), said(json!([5.0, 6.0])));
}

#[test]
fn minus_one_last_tokens_are_those_of_the_context() {
    let server = Server::new();
    let said = |repeat_last_n: Value| {
        let mut body = chat_body();
        // The penalty bans what has occurred, and the answer is longer than the default number of last tokens.
        super::merge(
            &mut body,
            &json!({ "repeat_last_n": repeat_last_n, "presence_penalty": 1e6, "temperature": 0, "max_tokens": 64 }),
        );
        answer(&server, "/v1/chat/completions", &body)
    };
    assert_eq!(said(json!(-1)), said(json!(256.0)));
    assert_ne!(said(json!(-1)), said(json!(4)));
    assert_ne!(said(json!(-1)), said(json!(0)));
}

#[test]
fn a_key_that_is_there_twice_is_refused_by_its_path() {
    let server = Server::new();
    let body =
        r#"{"model": "ann", "messages": [{"role": "user", "content": "a", "content": "b"}]}"#;
    let request = super::agent().post(server.url("/v1/chat/completions"));
    let request = request.header("Content-Type", "application/json");
    let reply = super::reply(request.send(body).unwrap());
    reply.assert_refused(&super::Refusal {
        param: Some("messages[0].content"),
        ..super::Refusal::new(
            400,
            "invalid_request_error",
            "`messages[0].content` is there twice",
        )
    });
}
