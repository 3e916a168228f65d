//! Thoughts: when a chat has them, and where its answer has them.

use serde_json::{Value, json};

use super::{Server, events};
use crate::fixture::Fixture;

/// A template that opens a thought, or an empty one.
const OPENS: &str = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}\
    <|assistant|><think>{% if enable_thinking is false %}</think>{% endif %}";

fn server() -> Server {
    Server::of(Fixture::with_template(OPENS), |_| {})
}

/// A request for exactly this answer.
fn exactly(text: &str, more: &Value) -> Value {
    let mut body = json!({ "grammar": format!("root ::= {text:?}"), "max_tokens": 200 });
    super::merge(&mut body, more);
    body
}

#[test]
fn a_chat_thinks_when_the_request_says_so() {
    let server = server();
    let prompt = |kwargs: Value| {
        let body = json!({ "messages": [{ "role": "user", "content": "?" }], "chat_template_kwargs": kwargs });
        let reply = server.post("/apply-template", &body, None).json();
        reply["prompt"].as_str().unwrap().to_owned()
    };
    let closed = "<s><|user|>?<|end|><|assistant|><think></think>";
    let open = "<s><|user|>?<|end|><|assistant|><think>";
    assert_eq!(prompt(json!(null)), closed);
    assert_eq!(prompt(json!({ "enable_thinking": false })), closed);
    assert_eq!(prompt(json!({ "enable_thinking": true })), open);
    assert_eq!(prompt(json!({ "thinking": true })), open);
}

#[test]
fn a_thought_is_not_part_of_the_content() {
    let server = server();
    let on = json!({ "chat_template_kwargs": { "enable_thinking": true } });
    let opened = exactly("hm, so\n</think>\n\nfine", &on);
    let unasked = exactly("<think>hm, so</think>fine", &json!({}));
    for body in [&opened, &unasked] {
        let reply = server.chat("ann", body).json();
        let message = &reply["choices"][0]["message"];
        let expected =
            json!({ "role": "assistant", "content": "fine", "reasoning_content": "hm, so" });
        assert_eq!(*message, expected, "{reply}");

        let mut body = body.clone();
        body["stream"] = json!(true);
        let events = events(&server.chat("ann", &body).text);
        let joined = |field: &str| {
            let deltas = events.iter().map(|event| &event["choices"][0]["delta"]);
            let texts = deltas.filter_map(|delta| delta[field].as_str());
            texts.collect::<String>()
        };
        assert_eq!(joined("reasoning_content"), "hm, so");
        assert_eq!(joined("content"), "fine");
        let last = &events.last().unwrap()["choices"][0];
        assert_eq!(last["finish_reason"], "stop");
    }
    // A thought that does not end leaves no content; an answer without one has no such field.
    let cut_off = exactly("hm, so", &on);
    let reply = server.chat("ann", &cut_off).json();
    let message = &reply["choices"][0]["message"];
    assert_eq!(message["content"], "");
    assert_eq!(message["reasoning_content"], "hm, so");
    let plain = server.chat("ann", &exactly("fine", &json!({}))).json();
    let message = &plain["choices"][0]["message"];
    assert_eq!(*message, json!({ "role": "assistant", "content": "fine" }));
}

#[test]
fn a_variable_of_the_template_that_cannot_be_set_is_refused() {
    let server = server();
    let refused = |kwargs: Value, more: Value, message: &str| {
        let mut body = json!({ "chat_template_kwargs": kwargs });
        super::merge(&mut body, &more);
        let reply = server.chat("ann", &body);
        assert_eq!(reply.status, 400, "{}", reply.text);
        assert_eq!(reply.error(), message);
        assert_eq!(reply.json()["error"]["param"], "chat_template_kwargs");
    };
    refused(
        json!({ "enable_thinking": "yes" }),
        json!({}),
        "`chat_template_kwargs` needs true or false for `enable_thinking`",
    );
    refused(
        json!({ "messages": [] }),
        json!({}),
        "`chat_template_kwargs` cannot set `messages`",
    );
    refused(
        json!({ "reasoning_effort": "high", "enable_thinking": false }),
        json!({}),
        "`chat_template_kwargs` sets `reasoning_effort`, and this model's chat template has no such variable",
    );
    let begun = json!({ "messages": [
        { "role": "user", "content": "?" },
        { "role": "assistant", "content": "so" },
    ] });
    refused(
        json!({ "enable_thinking": true }),
        begun,
        "an answer that is begun already cannot have a thought before it",
    );
}

#[test]
fn other_variables_reach_the_template() {
    // A variable with a default is one of the template's, too.
    let template = "{% set tone = tone | default('dry') %}{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}|{{ tone }}|{{ extra | tojson }}|";
    let server = Server::of(Fixture::with_template(template), |_| {});
    let body = json!({
        "messages": [{ "role": "user", "content": "?" }],
        "chat_template_kwargs": { "tone": "kind", "extra": { "a": ["ü"] } },
    });
    let reply = server.post("/apply-template", &body, None).json();
    assert_eq!(reply["prompt"], "<s>?|kind|{\"a\": [\"ü\"]}|");
}
