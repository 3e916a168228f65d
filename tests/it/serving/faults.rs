//! Errors: each status by a fault that is really there, and failures that end one text alone.

use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

use cope_llama::Error;
use cope_llama::error::MemoryUser;
use cope_llama::home::{Home, UserName};
use cope_llama::llama::{ContextOptions, Sequences};
use cope_llama::serve::{KeyOf, serve};
use serde_json::{Value, json};

use super::{Refusal, Running, Server, agent};
use crate::fixture::{Fixture, exact};

/// The refusal of a field of the request.
fn field<'a>(param: &'a str, message: &'a str) -> Refusal<'a> {
    Refusal {
        param: Some(param),
        ..Refusal::new(400, "invalid_request_error", message)
    }
}

#[test]
fn a_setting_out_of_its_range_is_400_and_named() {
    let server = Server::new();
    let cases = [
        (
            json!({"temperature": -1}),
            "temperature",
            "the temperature must be 0 or more, not -1",
        ),
        (
            json!({"top_p": 3}),
            "top_p",
            "the top-p must be from 0 to 1, not 3",
        ),
        (
            json!({"repeat_penalty": 0}),
            "repeat_penalty",
            "the repeat penalty must be above 0, not 0",
        ),
        (
            json!({"model": "ann", "contrast": -1}),
            "contrast",
            "the contrast must be 0 or more, not -1",
        ),
        (
            json!({"model": "ann", "plausibility": 2}),
            "plausibility",
            "the plausibility must be from 0 to 1, not 2",
        ),
        (
            json!({"max_tokens": -2}),
            "max_tokens",
            "`max_tokens` has to be a whole number from 0 on",
        ),
        (
            json!({"grammar": "root ::= \"a"}),
            "grammar",
            "the grammar is wrong in line 1: a text has no closing quotation mark",
        ),
    ];
    for (more, param, message) in cases {
        server
            .chat("base", &more)
            .assert_refused(&field(param, message));
    }
}

#[test]
fn a_malformed_request_is_400_in_the_envelope() {
    let server = Server::new();
    let invalid = |message| Refusal::new(400, "invalid_request_error", message);
    let query = server.get("/api/users/ann/history?from=some", None);
    query.assert_refused(&invalid("Failed to deserialize query string"));
    let path = server.get("/api/users/%ff/history", None);
    path.assert_refused(&invalid("Invalid URL"));
    let body = server.chat("base", &json!({"messages": 3}));
    body.assert_refused(&field("messages", "`messages` has to be a list, not 3"));
    let list = server.post("/v1/chat/completions", &json!([]), None);
    list.assert_refused(&invalid("the body: invalid type"));
    let text = agent()
        .post(server.url("/v1/chat/completions"))
        .send("{}")
        .unwrap();
    super::reply(text).assert_refused(&invalid("the body has to be JSON"));
}

#[test]
fn a_request_without_a_key_is_401_and_one_of_another_site_403() {
    let server = Server::new();
    let of_site = agent()
        .get(server.url("/v1/models"))
        .header("Origin", "http://evil.example");
    let message = "pages of http://evil.example may not use this server";
    super::reply(of_site.call().unwrap()).assert_refused(&Refusal::new(
        403,
        "permission_error",
        message,
    ));
    KeyOf::Admin.make(&server.home).unwrap();
    let without_key = server.chat("base", &json!({}));
    without_key.assert_refused(&Refusal {
        code: Some("invalid_api_key"),
        ..Refusal::new(401, "authentication_error", "a key is needed")
    });
    assert_eq!(without_key.headers["www-authenticate"], "Bearer");
}

#[test]
fn an_unknown_model_user_or_path_is_404() {
    let server = Server::new();
    server.chat("carol", &json!({})).assert_refused(&Refusal {
        code: Some("model_not_found"),
        param: Some("model"),
        ..Refusal::new(
            404,
            "not_found_error",
            "there is no model \"carol\" for this key",
        )
    });
    let missing = |message| Refusal::new(404, "not_found_error", message);
    let user = server.get("/api/users/carol/history", None);
    user.assert_refused(&missing("there is no such user for this key"));
    let path = server.get("/nothing", None);
    path.assert_refused(&missing("there is nothing at /nothing"));
}

#[test]
fn a_body_that_is_too_long_is_413() {
    let server = Server::new();
    let long = json!({"messages": [{"role": "user", "content": "a".repeat(1 << 16)}]});
    server.chat("base", &long).assert_refused(&Refusal::new(
        413,
        "invalid_request_error",
        "the body is longer than 65536 bytes",
    ));
}

#[test]
fn a_damaged_file_of_a_user_is_500() {
    let server = Server::new();
    let failed = |message| Refusal::new(500, "server_error", message);
    let ann = server.home.user(UserName::new("ann").unwrap()).unwrap();
    std::fs::write(ann.adapter(), b"not an adapter").unwrap();
    server
        .chat("ann", &json!({}))
        .assert_refused(&failed("is not a GGUF file"));
    // A stream is refused before it begins, with the same status.
    server
        .chat("ann", &json!({"stream": true}))
        .assert_refused(&failed("is not a GGUF file"));
    // Other users do not notice.
    assert_eq!(server.chat("bob", &json!({})).status, 200);
    #[cfg(feature = "train")]
    {
        std::fs::write(ann.path().join("manifest.json"), b"{").unwrap();
        server
            .post("/api/users/ann/training", &json!({}), None)
            .assert_refused(&failed("delete the file and train ann again"));
        let status = server.get("/api/users/ann/training", None).json();
        assert_eq!(status["state"], "none");
    }
}

#[test]
fn a_voice_that_needs_more_memory_than_there_is_is_503() {
    let fixture = Fixture::new();
    let of_base = 4 * exact().kv_bytes(&fixture.model);
    let server = Server::of(fixture, |options| options.settings.memory = of_base);
    server.chat("ann", &json!({})).assert_refused(&Refusal {
        code: Some("insufficient_memory"),
        retry_after: Some("10"),
        ..Refusal::new(
            503,
            "unavailable_error",
            "the server has to be started with more --memory",
        )
    });
}

#[test]
fn a_server_without_memory_for_the_base_does_not_start() {
    let fixture = Fixture::new();
    let home = Home::at(fixture.folder.path().join("home"));
    let mut options = super::options(&fixture.path);
    options.settings.context.free_memory = Some(0);
    let error = serve(&home, options, |_| (), std::future::pending()).unwrap_err();
    let user = MemoryUser::Context {
        n_ctx: 256,
        n_sequences: 4,
    };
    match error {
        Error::NoRoom { user: it, .. } => assert_eq!(it, user),
        error => panic!("{error}"),
    }
    let mut options = super::options(&fixture.path);
    options.settings.memory = 0;
    let error = serve(&home, options, |_| (), std::future::pending()).unwrap_err();
    let expected = 4 * exact().kv_bytes(&fixture.model);
    match error {
        Error::Memory { needed, limit } => assert_eq!((needed, limit), (expected, 0)),
        error => panic!("{error}"),
    }
}

#[test]
fn a_voice_without_free_memory_is_503_and_the_streams_of_others_go_on() {
    let fixture = Fixture::new();
    let context = |free_memory| ContextOptions {
        free_memory: Some(free_memory),
        ..exact()
    };
    // Less than this is refused without being measured.
    let little = 2 * 256 * 48;
    let of_base = Sequences::check_memory(&fixture.model, &context(little), 2);
    let Err(Error::NoRoom { needed, .. }) = of_base else {
        panic!("{of_base:?}");
    };
    // There is memory for a context of the base, and none for those of users, which have more sequences.
    let server = Server::of(fixture, |options| {
        options.settings.context = context(needed);
        options.settings.parallel = 2;
        options.settings.parallel_user = 64;
        options.limits.n_predict = 200;
    });
    let refusal = Refusal {
        code: Some("insufficient_memory"),
        retry_after: Some("10"),
        ..Refusal::new(
            503,
            "unavailable_error",
            "a context of 64 texts of 256 tokens each takes",
        )
    };
    let body = chat_body(
        "base",
        &json!({ "max_tokens": 200, "temperature": 1.0, "seed": 3, "ignore_eos": true }),
    );
    let alone = stream(&server, &body, None);
    let (first, began) = channel();
    let told = std::thread::scope(|scope| {
        let under_way = scope.spawn(|| stream(&server, &body, Some(first)));
        began.recv().unwrap();
        for stream in [false, true] {
            let refused = server.chat("ann", &json!({ "stream": stream }));
            refused.assert_refused(&refusal);
        }
        under_way.join().unwrap()
    });
    assert_eq!(told, alone);
    assert_eq!(server.chat("base", &json!({})).status, 200);
}

#[test]
fn a_pass_that_fails_is_500_for_its_text_alone() {
    let server = Server::new();
    // Every weight is a number, and their products overflow, so that the user model's logits are no numbers.
    let mut overflowing = super::ann();
    for tensor in &mut overflowing.tensors {
        for weight in tensor.a.data.iter_mut().chain(&mut tensor.b.data) {
            *weight = weight.signum() * 1e30;
        }
    }
    super::train(&server.home, &server.fixture, "eve", &overflowing);
    let message = "the model gives no token a probability";
    let failed = Refusal::new(500, "server_error", message);
    server.chat("eve", &json!({})).assert_refused(&failed);
    // The first token fails, so that the stream is refused before it begins.
    server
        .chat("eve", &json!({"stream": true}))
        .assert_refused(&failed);
    assert_eq!(server.chat("ann", &json!({})).status, 200);
    assert_eq!(server.get("/health", None).status, 200);
}

/// The text of a stream, and the error that ended it, if one did. `first` hears of the first chunk.
fn stream(server: &Running, body: &Value, first: Option<Sender<()>>) -> (String, Option<Value>) {
    let mut response = agent()
        .post(server.url("/v1/chat/completions"))
        .send_json(body)
        .unwrap();
    assert_eq!(response.status(), 200, "{body}");
    let (mut text, mut event, mut first) = (String::new(), String::new(), first);
    for line in BufReader::new(response.body_mut().as_reader()).lines() {
        let line = line.unwrap();
        if let Some(name) = line.strip_prefix("event: ") {
            name.clone_into(&mut event);
        }
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        if let Some(first) = first.take() {
            first.send(()).unwrap();
        }
        if data == "[DONE]" {
            return (text, None);
        }
        let object: Value = serde_json::from_str(data).unwrap();
        if let Some(error) = object.get("error") {
            assert_eq!(event, "error");
            return (text, Some(error.clone()));
        }
        let content = &object["choices"][0]["delta"]["content"];
        text.push_str(content.as_str().unwrap_or_default());
    }
    panic!("the stream has no end: {text}");
}

fn chat_body(model: &str, more: &Value) -> Value {
    let mut body = json!({ "model": model, "stream": true, "messages": [{ "role": "user", "content": "hello alice" }] });
    super::merge(&mut body, more);
    body
}

const CANNOT_GO_ON: &str = "the answer cannot go on";

/// A grammar of one text, after which only the end is allowed, and the end is banned.
fn cannot_end() -> Value {
    json!({ "grammar": "root ::= \"fine\"", "ignore_eos": true })
}

#[test]
fn a_text_that_cannot_go_on_is_400_before_it_begins_and_an_event_after() {
    let server = Server::new();
    let refusal = Refusal::new(400, "invalid_request_error", CANNOT_GO_ON);
    server.chat("ann", &cannot_end()).assert_refused(&refusal);
    // With an empty grammar there is no first token, so that a stream can be refused as a whole.
    let empty = json!({ "grammar": "root ::= \"\"", "ignore_eos": true, "stream": true });
    server.chat("ann", &empty).assert_refused(&refusal);

    let (text, error) = stream(&server, &chat_body("ann", &cannot_end()), None);
    assert_eq!(text, "fine");
    let error = error.unwrap();
    assert_eq!(error["type"], "invalid_request_error");
    assert_eq!(
        (&error["code"], &error["param"]),
        (&Value::Null, &Value::Null)
    );
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with(CANNOT_GO_ON), "{message}");
}

#[test]
fn a_text_that_fails_leaves_the_streams_of_other_users_untouched() {
    let server = Server::with(|options| options.limits.n_predict = 200);
    let long = json!({ "max_tokens": 200, "temperature": 1.0, "seed": 3, "ignore_eos": true });
    let bodies = ["ann", "bob"].map(|name| chat_body(name, &long));
    let alone = bodies.each_ref().map(|body| stream(&server, body, None));
    assert_ne!(alone[0].0, alone[1].0);
    let mut n_between = 0;
    // The failure has to fall between the first and the last chunk of both streams, which takes a few tries at most.
    for _ in 0..50 {
        let (first, began) = channel();
        let n_ended = AtomicUsize::new(0);
        let ask = |body| {
            let told = stream(&server, body, Some(first.clone()));
            n_ended.fetch_add(1, Ordering::SeqCst);
            told
        };
        let ask = &ask;
        std::thread::scope(|scope| {
            let streams = bodies.each_ref().map(|body| scope.spawn(move || ask(body)));
            for _ in &streams {
                began.recv().unwrap();
            }
            let (text, error) = stream(&server, &chat_body("ann", &cannot_end()), None);
            assert_eq!(text, "fine");
            assert!(error.is_some(), "the text has no error");
            n_between += usize::from(n_ended.load(Ordering::SeqCst) == 0);
            let told = streams.map(|thread| thread.join().unwrap());
            assert_eq!(told, alone);
        });
        if n_between >= 3 {
            return;
        }
    }
    panic!("no text failed while both streams were under way");
}
