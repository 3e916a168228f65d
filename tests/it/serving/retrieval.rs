//! Items of a user's history in prompts, and what the models keep of prompts between requests.

use cope_llama::home::{UserFolder, UserName};
use cope_llama::profile::{Example, Profile};
use cope_llama::serve::KeyOf;
use serde_json::{Value, json};

use super::{Refusal, Server, ann, train};

fn folder(server: &Server, name: &str) -> UserFolder {
    server.home.user(UserName::new(name).unwrap()).unwrap()
}

/// Replaces a user's history by items of a question and a response each.
fn set_history(server: &Server, name: &str, items: &[(&str, &str)]) {
    let item = |(question, response): &(&str, &str)| Example::new(*question, *response);
    let profile = Profile {
        history: items.iter().map(item).collect(),
        held_out: Vec::new(),
    };
    folder(server, name).save_profile(&profile).unwrap();
}

fn turn(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

/// A text that is longer than the shortest prefix that is reused, 32 tokens.
fn long() -> String {
    "wine ".repeat(40)
}

/// The answer to `messages`, the number of the prompt's tokens, and how many of them the models had read before.
fn answer(server: &Server, key: Option<&str>, body: &Value) -> (String, u64, u64) {
    let reply = server.post("/v1/chat/completions", body, key);
    assert_eq!(reply.status, 200, "{body}: {}", reply.text);
    let reply = reply.json();
    let content = &reply["choices"][0]["message"]["content"];
    let (n_prompt, n_cached) = (
        reply["usage"]["prompt_tokens"].as_u64().unwrap(),
        reply["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap(),
    );
    assert_eq!(reply["timings"]["prompt_n"], n_prompt - n_cached);
    (content.as_str().unwrap().to_owned(), n_prompt, n_cached)
}

#[test]
fn retrieved_items_stand_before_the_message_as_if_they_had_been_sent() {
    let server = Server::new();
    let items = [("alice", "hello hello"), ("nobody", "nothing")];
    set_history(&server, "ann", &items);
    let said = |model: &str, more: Value| {
        let reply = server.chat(model, &more).json();
        (
            reply["choices"].clone(),
            reply["usage"]["prompt_tokens"].clone(),
        )
    };
    let question = turn("user", "hello alice");
    let sent = [
        turn("user", "alice"),
        turn("assistant", "hello hello"),
        question,
    ];
    let expected = said("ann", json!({ "messages": sent }));
    assert_eq!(said("ann", json!({ "retrieve": 2 })), expected);
    assert_ne!(said("ann", json!({})), expected);
    // Nobody else's prompt has them.
    assert_eq!(
        said("bob", json!({ "retrieve": 2 })),
        said("bob", json!({}))
    );
    // The base has none, and a server's default is not meant for it.
    assert_eq!(
        said("base", json!({ "retrieve": 0 })),
        said("base", json!({}))
    );
    let many = server.chat("ann", &json!({ "retrieve": 17 }));
    many.assert_refused(&Refusal {
        param: Some("retrieve"),
        ..Refusal::new(
            400,
            "invalid_request_error",
            "`retrieve` is at most 16, not 17",
        )
    });
}

#[test]
fn the_prompt_is_counted_and_shown_with_its_items() {
    let server = Server::new();
    set_history(&server, "ann", &[("alice", "hello hello")]);
    let body = json!({ "model": "ann", "retrieve": 1, "messages": [turn("user", "hello alice")] });
    let prompt = server.post("/apply-template", &body, None).json();
    let prompt = prompt["prompt"].as_str().unwrap();
    let item = "<|user|>alice<|end|><|assistant|>hello hello<|end|><|user|>hello alice<|end|>";
    assert!(prompt.contains(item), "{prompt}");
    let count = server.post("/v1/chat/completions/input_tokens", &body, None);
    let (_, n_prompt, _) = answer(&server, None, &body);
    assert_eq!(count.json()["input_tokens"], n_prompt);
    let unknown = json!({ "model": "carol", "retrieve": 1, "messages": body["messages"] });
    assert_eq!(server.post("/apply-template", &unknown, None).status, 404);
    // A model that does not exist is as wrong here as in a chat, with items or without.
    let unknown = json!({ "model": "carol", "messages": body["messages"] });
    for path in ["/apply-template", "/v1/chat/completions/input_tokens"] {
        let reply = server.post(path, &unknown, None);
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (404, &json!("model"))
        );
    }
}

#[test]
fn a_history_that_has_changed_is_searched_anew() {
    let server = Server::new();
    let body = json!({ "model": "ann", "retrieve": 1, "messages": [turn("user", "hello alice")] });
    let prompt = || {
        let reply = server.post("/apply-template", &body, None).json();
        reply["prompt"].as_str().unwrap().to_owned()
    };
    let without = prompt();
    for response in ["thanks", "the wine"] {
        set_history(&server, "ann", &[("alice", response)]);
        assert!(prompt().contains(response), "{}", prompt());
    }
    set_history(&server, "ann", &[]);
    assert_eq!(prompt(), without);
}

#[test]
fn the_next_request_of_a_chat_with_items_reads_only_what_is_new() {
    let server = Server::with(|options| options.settings.context.n_ctx = 512);
    let items = [("alice", "hello hello"), ("wine", "the wine and thanks")];
    set_history(&server, "ann", &items);
    for arm in ["user", "cope"] {
        let mut messages = vec![
            turn("system", &format!("{arm} {}", long())),
            turn("user", "hello alice, and the note"),
        ];
        let body = |messages: &[Value]| json!({ "model": "ann", "arm": arm, "retrieve": 1, "max_tokens": 12, "messages": messages });
        let (said, n_first, n_cached) = answer(&server, None, &body(&messages));
        assert_eq!(n_cached, 0);
        messages.extend([turn("assistant", &said), turn("user", "dear, the wine?")]);
        let (said, n_second, n_cached) = answer(&server, None, &body(&messages));
        // The first prompt is the beginning of the second one; up to 31 of its tokens are read again.
        let n_new = n_second - n_first;
        assert!(n_cached >= 32, "{arm}: {n_cached} of {n_second}");
        assert!(
            n_second - n_cached < n_new + 32,
            "{arm}: {n_cached} of {n_second}"
        );

        messages.extend([turn("assistant", &said), turn("user", "fine")]);
        let (_, n_third, n_cached) = answer(&server, None, &body(&messages));
        assert!(
            n_third - n_cached < n_third - n_second + 32,
            "{arm}: {n_cached} of {n_third}"
        );
    }
}

#[test]
fn nobody_goes_on_from_what_was_read_for_another_user() {
    let server = Server::new();
    let question = format!("hello alice {}", long());
    let items = [("alice", "hello hello, dear alice and the wine")];
    set_history(&server, "ann", &items);
    let key = |name: &str| {
        KeyOf::User(folder(&server, name))
            .make(&server.home)
            .unwrap()
    };
    let (anns, bobs) = (key("ann"), key("bob"));
    let admins = KeyOf::Admin.make(&server.home).unwrap();
    let retrieving = |model: &str| json!({ "model": model, "retrieve": 1, "messages": [turn("user", &question)] });
    // The same prompt, by somebody who knows the item.
    let copying = |model: &str, arm: &str| {
        let messages = [
            turn("user", items[0].0),
            turn("assistant", items[0].1),
            turn("user", &question),
        ];
        json!({ "model": model, "arm": arm, "messages": messages })
    };
    let n_cached = |key: &str, body: Value| answer(&server, Some(key), &body).2;
    assert_eq!(n_cached(&anns, retrieving("ann")), 0);
    assert!(n_cached(&anns, retrieving("ann")) >= 32);
    assert!(n_cached(&anns, copying("base", "base")) >= 32);
    for (key, model) in [(&bobs, "bob"), (&admins, "ann"), (&admins, "base")] {
        assert_eq!(n_cached(key, copying(model, "base")), 0, "{model}");
    }
    // The administrator's requests in the voices of two users do not share either, though one caller asks.
    assert!(n_cached(&admins, copying("ann", "base")) >= 32);
    assert_eq!(n_cached(&admins, copying("bob", "base")), 0);
}

#[test]
fn what_was_read_for_a_deleted_user_is_forgotten() {
    let server = Server::new();
    let long = long();
    let body =
        |model: &str| json!({ "model": model, "arm": "base", "messages": [turn("user", &long)] });
    let n_cached = |model: &str| answer(&server, None, &body(model)).2;
    assert_eq!(n_cached("ann"), 0);
    assert!(n_cached("ann") >= 32);
    folder(&server, "ann").delete().unwrap();
    // The end of any text is a time to forget. The second one begins after that of the first.
    assert_eq!(n_cached("bob"), 0);
    assert!(n_cached("bob") >= 32);
    train(&server.home, &server.fixture, "ann", &ann());
    assert_eq!(n_cached("ann"), 0);
}
