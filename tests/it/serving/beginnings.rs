//! A server without a base, on which a person begins by the page.

use std::time::{Duration, Instant};

use cope_llama::bases;
use cope_llama::home::{Home, UserName};
use cope_llama::serve::KeyOf;
use serde_json::{Value, json};

use super::{Refusal, Reply, Running, agent, options, reply};
use crate::default_model;
use crate::stores::Stores;
use crate::tiny::TinyModel;

/// A server without a base, and its home.
fn server() -> (tempfile::TempDir, Home, Running) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path().join("home"));
    let mut options = options(folder.path());
    options.base = None;
    let server = Running::start_without_base(&home, options);
    (folder, home, server)
}

fn choose(server: &Running, name: &str, key: Option<&str>) -> Reply {
    server.post(&format!("/api/bases/{name}"), &json!({}), key)
}

/// The state of the base, once it is not being loaded any more.
fn state_after_loading(server: &Running) -> Value {
    let begun = Instant::now();
    loop {
        let base = server.get("/api/me", None).json()["base"].clone();
        if base["state"] != "loading" {
            return base;
        }
        assert!(begun.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_base_that_is_there_is_loaded_from_the_page_and_answers() {
    let (_folder, home, server) = server();
    let me = server.get("/api/me", None).json();
    let none = json!({ "state": "none", "name": null, "message": null });
    assert_eq!((&me["base"], &me["voices"]), (&none, &json!([])));
    assert_eq!((&me["is_admin"], &me["user"]), (&json!(true), &Value::Null));
    let default = bases::default_base();
    let listed = server.get("/api/bases", None).json();
    assert_eq!(listed["bases"][0]["name"], default.name);
    assert_eq!(listed["bases"][0]["is_pulled"], false);
    assert_eq!(listed["pulling"], Value::Null);

    std::fs::create_dir_all(home.root().join("models")).unwrap();
    std::os::unix::fs::symlink(default_model::path(), home.base(&default.file)).unwrap();
    let listed = server.get("/api/bases", None).json();
    assert_eq!(listed["bases"][0]["is_pulled"], true);
    assert_eq!(choose(&server, &default.name, None).status, 200);
    let ready = json!({ "state": "ready", "name": default.name, "message": null });
    assert_eq!(state_after_loading(&server), ready);
    assert_eq!(server.get("/health", None).status, 200);
    let answer = server.chat("base", &json!({ "max_tokens": 1 }));
    assert_eq!(answer.status, 200, "{}", answer.text);
    let message = format!("this server's base is {}", default.name);
    let refusal = Refusal::new(409, "conflict_error", &message);
    choose(&server, &default.name, None).assert_refused(&refusal);
}

#[test]
fn a_model_of_another_program_is_chosen_on_the_page() {
    let (folder, stores) = (tempfile::tempdir().unwrap(), Stores::new());
    let file = folder.path().join("tiny.gguf");
    TinyModel::default().write(&file);
    let bytes = std::fs::read(file).unwrap();
    stores.ollama_model("registry.ollama.ai/library/tiny/1b", 1, &bytes);
    stores.ollama_model("registry.ollama.ai/library/cut/1b", 2, &bytes[..99]);
    let home = Home::at(folder.path().join("home"));
    let mut options = options(folder.path());
    options.base = None;
    options.places = stores.places();
    let server = Running::start_without_base(&home, options);
    let listed = server.get("/api/bases", None).json();
    let bases = listed["bases"].as_array().unwrap();
    assert_eq!(bases.len(), bases::all().len() + 1);
    let expected = json!({
        "name": "ollama:tiny:1b",
        "title": "ollama:tiny:1b (llama)",
        "bytes": bytes.len(),
        "licence": null,
        "consent": null,
        "is_pulled": true,
    });
    assert_eq!(bases.last(), Some(&expected));
    assert_eq!(choose(&server, "ollama%3Aother", None).status, 400);
    assert_eq!(choose(&server, "ollama%3Atiny%3A1b", None).status, 200);
    let ready = json!({ "state": "ready", "name": "ollama:tiny:1b", "message": null });
    assert_eq!(state_after_loading(&server), ready);
}

#[test]
fn a_base_that_cannot_be_loaded_says_why_and_another_can_be_chosen() {
    let (_folder, home, server) = server();
    let default = bases::default_base();
    std::fs::create_dir_all(home.root().join("models")).unwrap();
    let file = std::fs::File::create(home.base(&default.file)).unwrap();
    file.set_len(default.bytes).unwrap();
    assert_eq!(choose(&server, &default.name, None).status, 200);
    let failed = state_after_loading(&server);
    assert_eq!(failed["state"], "failed");
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains(&default.file), "{message}");
    assert_eq!(server.get("/api/bases", None).json()["message"], message);
    assert_eq!(choose(&server, &default.name, None).status, 200);
    assert_eq!(state_after_loading(&server), failed);
}

#[test]
fn terms_are_agreed_to_and_unknown_bases_are_not_found() {
    let (_folder, home, server) = server();
    let all = bases::all();
    let with_terms = all.iter().find(|base| base.consent.is_some()).unwrap();
    choose(&server, &with_terms.name, None).assert_refused(&Refusal {
        param: Some("agree"),
        ..Refusal::new(400, "invalid_request_error", "needs your consent")
    });
    assert_eq!(choose(&server, "no-such-base", None).status, 404);
    let stop = agent().delete(server.url("/api/bases/no-such-base"));
    assert_eq!(reply(stop.call().unwrap()).status, 404);
    assert!(!home.root().join("models").exists());
}

#[test]
fn users_are_created_by_the_administrator_alone() {
    let (_folder, home, server) = server();
    let create = |name: &str, key| server.post("/api/users", &json!({ "name": name }), key);
    let created = create("ann", None);
    assert_eq!(
        (created.status, created.json()),
        (201, json!({ "name": "ann" }))
    );
    let there = Refusal::new(409, "conflict_error", "there is a user ann already");
    create("ann", None).assert_refused(&there);
    for (name, message) in [
        ("../ann", "not a valid name"),
        ("", "not a valid name: it is empty"),
        ("Base", "a user cannot be called Base"),
    ] {
        let refused = create(name, None);
        assert_eq!(refused.status, 400, "{name:?}");
        assert!(refused.error().contains(message), "{}", refused.text);
    }
    let voices = server.get("/api/me", None).json()["voices"].clone();
    let ann = json!({ "name": "ann", "is_trained": false, "n_history": 0, "n_held_out": 0, "contrast": 0.1, "scale": 1.0 });
    assert!(
        voices[0]["contrast"]
            .as_f64()
            .is_some_and(|it| (it - 0.1).abs() < 1e-6)
    );
    let mut voice = voices[0].clone();
    voice["contrast"] = ann["contrast"].clone();
    assert_eq!((voice, voices.as_array().unwrap().len()), (ann, 1));

    let ann = home.user(UserName::new("ann").unwrap()).unwrap();
    let key = KeyOf::User(ann).make(&home).unwrap();
    let key = Some(key.as_str());
    let refusal = |what| Refusal::new(403, "permission_error", what);
    create("eve", key).assert_refused(&refusal("only the administrator's key may create a user"));
    let base = &bases::default_base().name;
    choose(&server, base, key).assert_refused(&refusal("only the administrator's key may pull"));
    assert_eq!(server.get("/api/bases", key).status, 403);
    assert_eq!(server.get("/api/me", key).json()["is_admin"], false);
}
