//! The page's records of a user: texts that are edited, chats, and guesses.

use cope_llama::home::{Home, UserFolder, UserName};
use cope_llama::profile::{Example, Profile};
use cope_llama::serve::KeyOf;
use serde_json::{Value, json};

use super::{Refusal, Reply, Server, agent, reply};

fn user(home: &Home, name: &str) -> UserFolder {
    home.user(UserName::new(name).unwrap()).unwrap()
}

fn put(server: &Server, path: &str, body: &Value) -> Reply {
    reply(agent().put(server.url(path)).send_json(body).unwrap())
}

fn delete(server: &Server, path: &str) -> Reply {
    reply(agent().delete(server.url(path)).call().unwrap())
}

/// A server on which ann has three texts and two held-out ones.
fn server_with_texts() -> (Server, UserFolder) {
    let server = Server::new();
    let ann = user(&server.home, "ann");
    let item = |text: &str| Example::new(format!("{text}?"), format!("{text}!"));
    let profile = Profile {
        history: ["One", "two", "three"].map(item).into(),
        held_out: ["four", "five"].map(item).into(),
    };
    ann.save_profile(&profile).unwrap();
    (server, ann)
}

#[test]
fn items_are_found_edited_and_removed_with_what_was_made_of_them() {
    let (server, ann) = server_with_texts();
    let path = "/api/users/ann/history";
    let found = server.get(&format!("{path}?n=9&matching=ONE"), None).json();
    assert_eq!(
        (&found["total"], &found["held_out"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(found["items"][0]["response"], "One!");
    let held_out = server
        .get(&format!("{path}?n=9&part=held_out"), None)
        .json();
    assert_eq!(held_out["items"][0]["response"], "five!");
    assert_eq!(held_out["total"], 2);

    std::fs::write(ann.pairs(), "").unwrap();
    let id = found["items"][0]["id"].as_str().unwrap();
    let item = format!("{path}/{id}");
    let lock = ann.lock().unwrap();
    assert_eq!(delete(&server, &item).status, 409);
    drop(lock);
    let card = "5555 5555 5555 4444";
    let response = format!("Won {card}!");
    let edited = put(&server, &item, &json!({ "response": response }));
    let consequence =
        "ann's adapter has learnt the text; the next training makes one that has not.";
    assert_eq!(
        edited.json(),
        json!({ "consequence": consequence, "masked": [["card number", 1]] }),
        "{}",
        edited.text
    );
    assert_eq!(
        ann.profile().unwrap().history[0],
        Example::new("One?", "Won [card number]!")
    );
    assert!(!ann.pairs().exists());
    let gone = Refusal::new(404, "not_found_error", "there is no such item");
    delete(&server, &item).assert_refused(&gone);
    put(&server, &item, &json!({ "response": " " })).assert_refused(&Refusal {
        param: Some("response"),
        ..Refusal::new(400, "invalid_request_error", "the text is empty")
    });
    let held_out_id = held_out["items"][0]["id"].as_str().unwrap();
    assert_eq!(
        delete(&server, &format!("{path}/{held_out_id}")).status,
        200
    );
    let profile = ann.profile().unwrap();
    assert_eq!((profile.history.len(), profile.held_out.len()), (3, 1));
}

#[test]
fn chats_survive_a_reload_and_another_browser() {
    let (server, _) = server_with_texts();
    let path = "/api/users/ann/chats";
    assert_eq!(server.get(path, None).json(), json!({ "chats": [] }));
    let chat = json!({
        "title": "Cake",
        "settings": { "temperature": 0.5 },
        "messages": [{ "role": "user", "content": "hello" }],
        "n_answers": 0,
    });
    let one = format!("{path}/cake-1");
    assert_eq!(put(&server, &one, &chat).status, 200);
    assert_eq!(server.get(&one, None).json(), chat);
    let listed = server.get(path, None).json();
    assert_eq!(listed["chats"][0]["id"], "cake-1");
    assert_eq!(listed["chats"][0]["title"], "Cake");
    assert!(listed["chats"][0]["changed"].as_u64().unwrap() > 1_700_000_000);
    for id in ["..%2f..%2fbob", ".hidden", "a%00"] {
        let wrong = put(&server, &format!("{path}/{id}"), &chat);
        assert_eq!(wrong.status, 400, "{id}: {}", wrong.text);
    }
    assert_eq!(put(&server, &one, &json!({ "messages": "x" })).status, 400);
    assert_eq!(delete(&server, &one).status, 200);
    assert_eq!(delete(&server, &one).status, 404);
    assert_eq!(put(&server, &one, &chat).status, 200);
    let key = KeyOf::User(user(&server.home, "bob"))
        .make(&server.home)
        .unwrap();
    assert_eq!(server.get(&one, Some(&key)).status, 404);
}

#[test]
fn guesses_are_scored_for_each_adapter_and_no_text_comes_twice() {
    let (server, ann) = server_with_texts();
    let path = "/api/users/ann/guesses";
    let guess = |id: &Value, is_right: bool| {
        let body = json!({ "id": id, "answer": "six!", "is_right": is_right });
        server.post(path, &body, None)
    };
    let first = server.get(path, None).json();
    assert_eq!(
        (&first["n_held_out"], &first["scores"]),
        (&json!(2), &json!([]))
    );
    assert_eq!(first["next"]["text"], "four!");
    assert_eq!(first["next"]["prompt"][0]["content"], "four?");
    let second = guess(&first["next"]["id"], true).json();
    assert_eq!(second["next"]["text"], "five!");
    // The same text again does not count.
    assert_eq!(guess(&first["next"]["id"], false).json(), second);
    let last = guess(&second["next"]["id"], false).json();
    assert_eq!(last["next"], Value::Null);
    assert_eq!(
        (&last["scores"][0]["n"], &last["scores"][0]["right"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(guess(&json!("0123456789"), true).status, 404);

    // Another adapter begins anew, and the score of the one before stays.
    std::fs::copy(user(&server.home, "bob").adapter(), ann.adapter()).unwrap();
    let other = server.get(path, None).json();
    assert_eq!(other["next"], first["next"]);
    let scored = guess(&other["next"]["id"], true).json();
    let counts: Vec<_> = scored["scores"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["n"].clone(), it["right"].clone()))
        .collect();
    assert_eq!(counts, [(json!(2), json!(1)), (json!(1), json!(1))]);
    std::fs::remove_file(ann.adapter()).unwrap();
    assert_eq!(server.get(path, None).json()["next"], Value::Null);
    assert_eq!(guess(&other["next"]["id"], true).status, 409);
    let markdown = server.post("/api/markdown", &json!({ "texts": ["*a*", "<b>"] }), None);
    let html = ["<p><em>a</em></p>\n", "<p>&lt;b&gt;</p>\n"];
    assert_eq!(markdown.json(), json!({ "html": html }));
}
