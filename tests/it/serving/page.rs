//! The page, and the requests that it makes.

use cope_llama::home::UserName;
use cope_llama::profile::{Example, Profile};
use cope_llama::serve::KeyOf;
use serde_json::json;

use super::Server;

#[test]
fn the_page_loads_nothing_from_other_servers() {
    let server = Server::new();
    let html = server.get("/", None);
    assert_eq!(html.status, 200);
    let policy = html.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    let paths = html.text.split('"').filter(|it| it.starts_with("/page/"));
    let mut n_files = 0;
    for path in paths {
        let file = server.get(path, None);
        assert_eq!(file.status, 200, "{path}");
        let kind = file.headers["content-type"].to_str().unwrap();
        let expected = match path.rsplit_once('.') {
            Some((_, "css")) => "text/css",
            _ => "text/javascript",
        };
        assert!(kind.starts_with(expected), "{path}: {kind}");
        let links = file.text.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !links.contains("//fonts") && !links.contains("http:") && !links.contains("https:")
        );
        n_files += 1;
    }
    assert_eq!(n_files, 5);
    let unknown = server.get("/page/page.rs", None);
    assert_eq!(unknown.status, 404);
    assert_eq!(
        unknown.json()["error"]["message"],
        "there is nothing at /page/page.rs"
    );
    assert!(!html.text.contains("http"));
}

#[test]
fn a_history_and_its_feedback_belong_to_their_user() {
    let server = Server::new();
    let ann = server.home.user(UserName::new("ann").unwrap()).unwrap();
    let item = |n: usize| Example::new(format!("{n}?"), format!("{n}!"));
    let profile = Profile {
        history: (1..=5).map(item).collect(),
        held_out: vec![item(6)],
    };
    ann.save_profile(&profile).unwrap();
    let history = server.get("/api/users/ann/history?from=1&n=2", None).json();
    assert_eq!(history["total"], 5);
    assert_eq!(history["held_out"], 1);
    let said: Vec<_> = history["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["response"].clone())
        .collect();
    assert_eq!(said, ["4!", "3!"]);

    let prompt = json!([{ "role": "user", "content": "hello" }]);
    let tell = |more: serde_json::Value| {
        let mut body = json!({ "prompt": prompt, "response": "this" });
        super::merge(&mut body, &more);
        server.post("/api/users/ann/feedback", &body, None)
    };
    assert_eq!(tell(json!({ "edited": "that" })).status, 200);
    assert_eq!(
        tell(json!({ "response": "other", "verdict": "bad" })).status,
        200
    );
    for wrong in [
        json!({}),
        json!({ "edited": "this" }),
        json!({ "verdict": "fine" }),
        json!({ "response": " ", "verdict": "bad" }),
    ] {
        assert_eq!(tell(wrong.clone()).status, 400, "{wrong}");
    }
    assert_eq!(ann.feedback().unwrap().len(), 3);
    assert_eq!(
        server.get("/api/users/ann/history", None).json()["pairs"],
        2
    );

    // With keys, another user's are not found.
    let bob = server.home.user(UserName::new("bob").unwrap()).unwrap();
    let key = KeyOf::User(bob).make(&server.home).unwrap();
    let key = Some(key.as_str());
    assert_eq!(server.get("/api/users/ann/history", None).status, 401);
    for path in [
        "/api/users/ann/history",
        "/api/users/ann/training",
        "/api/users/..%2fann/history",
        "/api/users/carol/history",
    ] {
        assert_eq!(server.get(path, key).status, 404, "{path}");
    }
    let body = json!({ "prompt": prompt, "response": "this", "verdict": "good" });
    assert_eq!(
        server.post("/api/users/ann/feedback", &body, key).status,
        404
    );
    assert_eq!(
        server
            .post("/api/users/ann/training", &json!({}), key)
            .status,
        404
    );
    assert_eq!(server.get("/api/users/bob/history", key).status, 200);
    let me = server.get("/api/me", key).json();
    assert_eq!(me["user"], "bob");
    assert_eq!(me["voices"].as_array().unwrap().len(), 1);
}

#[test]
fn a_training_is_started_watched_and_its_adapter_used() {
    let server = Server::new();
    let ann = server.home.user(UserName::new("ann").unwrap()).unwrap();
    let item = |n: usize| Example::new(format!("note {n}"), format!("dear alice, {n} thanks"));
    let profile = Profile {
        history: (1..=6).map(item).collect(),
        held_out: Vec::new(),
    };
    ann.save_profile(&profile).unwrap();
    let path = "/api/users/ann/training";
    assert_eq!(server.get(path, None).json()["state"], "none");
    let content =
        || server.chat("ann", &json!({})).json()["choices"][0]["message"]["content"].clone();
    let before = content();
    assert_eq!(server.post(path, &json!({}), None).status, 200);
    let status = loop {
        let status = server.get(path, None).json();
        if status["state"] != "running" {
            break status;
        }
        // Answers are given meanwhile.
        assert_eq!(server.chat("ann", &json!({ "max_tokens": 1 })).status, 200);
    };
    assert_eq!(status["state"], "ended", "{status}");
    let stages = ["sft", "mine", "dpo", "calibrate"];
    let done = stages.map(|name| json!({ "name": name, "state": "done" }));
    assert_eq!(status["stages"], json!(done));
    assert_eq!(status["seconds_left"], json!(null));
    assert!(
        !status["losses"]["sft"].as_array().unwrap().is_empty(),
        "{status}"
    );
    assert_ne!(content(), before);
}
