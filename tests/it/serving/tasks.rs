//! Open WebUI's tasks around a chat, which an arm of their own can answer.

use cope_llama::decode::ArmKind;
use serde_json::{Value, json};

use super::{Server, merge};

/// A prompt in the form of those by which Open WebUI asks for a title.
const TITLE: &str = "### Task:\nSuggest a title.\n### Output:\nJSON\n### Chat History:\n<chat_history>\nhello alice\n</chat_history>";

fn said(server: &Server, prompt: &str, more: &Value) -> String {
    let mut body = json!({ "messages": [{ "role": "user", "content": prompt }] });
    merge(&mut body, more);
    let reply = server.chat("ann", &body);
    assert_eq!(reply.status, 200, "{}", reply.text);
    let reply = reply.json();
    assert_eq!(reply["model"], "ann");
    reply["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_title_can_be_the_bases_while_the_chat_is_the_users() {
    let plain = Server::new();
    let server = Server::with(|options| {
        options.task_arm = Some(ArmKind::Base);
        options.retrieve = 2;
    });
    let none = json!({});
    let [base, cope] = ["base", "cope"].map(|arm| said(&plain, TITLE, &json!({ "arm": arm })));
    assert_ne!(base, cope);
    assert_eq!(said(&plain, TITLE, &none), cope, "without the option");
    assert_eq!(said(&server, TITLE, &none), base);
    // What the request says holds.
    assert_eq!(said(&server, TITLE, &json!({ "arm": "cope" })), cope);
    let contrast = json!({ "contrast": 0.5 });
    assert_eq!(
        said(&server, TITLE, &contrast),
        said(&plain, TITLE, &contrast)
    );
    // Other messages are answered as ever.
    let chat = "hello alice, the wine";
    assert_eq!(said(&server, chat, &none), said(&plain, chat, &none));
    // Over an Ollama connection, and by a key of the base.
    let body = json!({
        "model": "ann:latest", "stream": false, "num_predict": 12, "options": {},
        "messages": [{ "role": "user", "content": TITLE }],
    });
    let reply = server.post("/api/chat", &body, None).json();
    assert_eq!(reply["message"]["content"], base, "{reply}");
}
