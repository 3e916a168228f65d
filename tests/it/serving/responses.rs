//! `/v1/responses`: the same answers as those of a chat, in OpenAI's newer form; and the smaller endpoints beside it.

use serde_json::{Value, json};

use super::{Refusal, Server, merge};
use crate::fixture::Fixture;

fn body(more: &Value) -> Value {
    let mut body = json!({ "model": "ann", "input": "hello alice", "max_output_tokens": 12 });
    merge(&mut body, more);
    body
}

fn ok(server: &Server, more: &Value) -> Value {
    let reply = server.post("/v1/responses", &body(more), None);
    assert_eq!(reply.status, 200, "{more}: {}", reply.text);
    reply.json()
}

/// The text of a response, whose one item is a message.
fn text(response: &Value) -> String {
    let output = response["output"].as_array().unwrap();
    assert_eq!(output.len(), 1, "{response}");
    assert_eq!(output[0]["type"], "message");
    assert_eq!(output[0]["content"][0]["type"], "output_text");
    output[0]["content"][0]["text"].as_str().unwrap().to_owned()
}

/// The events of a stream, whose names are their types.
fn events(text: &str) -> Vec<Value> {
    let mut events = Vec::new();
    for block in text.split("\n\n").filter(|block| !block.is_empty()) {
        let (name, data) = block.split_once('\n').unwrap();
        let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: ").unwrap(), event["type"]);
        assert_eq!(event["sequence_number"], events.len());
        events.push(event);
    }
    events
}

#[test]
fn a_response_says_what_a_chat_says() {
    let server = Server::new();
    let chat = server.chat("ann", &json!({})).json();
    let response = ok(&server, &json!({}));
    assert_eq!(text(&response), chat["choices"][0]["message"]["content"]);
    assert_eq!(
        (&response["object"], &response["model"]),
        (&json!("response"), &json!("ann"))
    );
    assert_eq!(response["status"], "incomplete");
    assert_eq!(
        response["incomplete_details"],
        json!({ "reason": "max_output_tokens" })
    );
    assert_eq!(response["store"], false);
    assert_eq!(
        response["usage"]["input_tokens"],
        chat["usage"]["prompt_tokens"]
    );
    assert_eq!(response["usage"]["output_tokens"], 12);

    // Turns as a list, with the parts that an earlier response had, and instructions.
    let turns = json!([
        { "role": "user", "content": [{ "type": "input_text", "text": "hello alice" }] },
        { "type": "reasoning", "id": "rs_1", "summary": [], "content": [{ "type": "reasoning_text", "text": "hm" }] },
        { "type": "message", "id": "msg_1", "status": "incomplete", "role": "assistant",
          "content": [{ "type": "output_text", "text": "the wine", "annotations": [], "logprobs": [] }] },
        { "role": "user", "content": "hello alice" },
    ]);
    let messages = json!([
        { "role": "system", "content": "the wine" }, { "role": "user", "content": "hello alice" },
        { "role": "assistant", "content": "the wine" }, { "role": "user", "content": "hello alice" },
    ]);
    let chat = server.chat("ann", &json!({ "messages": messages })).json();
    let response = ok(
        &server,
        &json!({ "input": turns, "instructions": "the wine" }),
    );
    assert_eq!(text(&response), chat["choices"][0]["message"]["content"]);

    let schema = json!({ "type": "object", "properties": { "a": { "enum": [1] } }, "required": ["a"], "additionalProperties": false });
    let format = json!({ "format": { "type": "json_schema", "name": "a", "strict": true, "schema": schema } });
    let response = ok(&server, &json!({ "text": format, "max_output_tokens": 60 }));
    let answer: Value = serde_json::from_str(&text(&response)).unwrap();
    assert_eq!(answer, json!({ "a": 1 }));
    assert_eq!(response["status"], "completed");
}

#[test]
fn a_response_is_streamed_as_events() {
    let server = Server::new();
    let whole = ok(&server, &json!({}));
    let reply = server.post("/v1/responses", &body(&json!({ "stream": true })), None);
    let events = events(&reply.text);
    let kinds: Vec<_> = events
        .iter()
        .map(|it| it["type"].as_str().unwrap())
        .collect();
    let deltas = kinds
        .iter()
        .filter(|it| **it == "response.output_text.delta");
    let n_deltas = deltas.count();
    assert!(n_deltas > 1, "{kinds:?}");
    assert_eq!(
        kinds[..4],
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added"
        ]
    );
    assert_eq!(
        kinds[4 + n_deltas..],
        [
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.incomplete"
        ]
    );
    let said: String = events
        .iter()
        .filter_map(|it| it["delta"].as_str())
        .collect();
    assert_eq!(said, text(&whole));
    let last = &events.last().unwrap()["response"];
    assert_eq!(text(last), said);
    assert_eq!(last["usage"]["output_tokens"], 12);
    assert_eq!(last["id"], events[0]["response"]["id"]);
}

#[test]
fn a_thought_is_an_item_before_the_message() {
    const OPENS: &str = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}\
        <|assistant|><think>{% if enable_thinking is false %}</think>{% endif %}";
    let server = Server::of(Fixture::with_template(OPENS), |_| {});
    let more = json!({
        "max_output_tokens": 200,
        "grammar": "root ::= \"hm, so\\n</think>\\n\\nfine\"",
        "chat_template_kwargs": { "enable_thinking": true },
    });
    let whole = ok(&server, &more);
    let output = &whole["output"];
    assert_eq!(output.as_array().unwrap().len(), 2, "{output}");
    assert_eq!(output[0]["type"], "reasoning");
    let thought = json!([{ "type": "reasoning_text", "text": "hm, so" }]);
    assert_eq!(output[0]["content"], thought);
    assert_eq!(output[1]["content"][0]["text"], "fine");
    assert_eq!(whole["status"], "completed");

    let mut body = body(&more);
    body["stream"] = json!(true);
    let events = events(&server.post("/v1/responses", &body, None).text);
    let joined = |kind: &str| {
        let of_kind = events.iter().filter(|it| it["type"] == kind);
        of_kind
            .map(|it| it["delta"].as_str().unwrap())
            .collect::<String>()
    };
    assert_eq!(joined("response.reasoning_text.delta"), "hm, so");
    assert_eq!(joined("response.output_text.delta"), "fine");
    let added = events
        .iter()
        .filter(|it| it["type"] == "response.output_item.added");
    let added: Vec<_> = added
        .map(|it| (&it["output_index"], &it["item"]["type"]))
        .collect();
    assert_eq!(
        added,
        [
            (&json!(0), &json!("reasoning")),
            (&json!(1), &json!("message"))
        ]
    );
}

#[test]
fn a_stream_that_fails_ends_with_the_error() {
    let server = Server::new();
    let more = json!({ "grammar": "root ::= \"fine\"", "ignore_eos": true, "stream": true });
    let events = events(&server.post("/v1/responses", &body(&more), None).text);
    let last = events.last().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["status"]),
        (&json!("response.failed"), &json!("failed"))
    );
    let message = last["response"]["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("the answer cannot go on"), "{message}");
}

#[test]
fn what_a_server_would_have_to_store_is_refused() {
    let server = Server::new();
    for (more, param, message) in [
        (
            json!({ "store": true }),
            "store",
            "this server stores no conversations",
        ),
        (
            json!({ "previous_response_id": "resp_1" }),
            "previous_response_id",
            "send all turns as `input`",
        ),
        (
            json!({ "conversation": { "id": "1" } }),
            "conversation",
            "send all turns as `input`",
        ),
        (
            json!({ "background": true }),
            "background",
            "is not supported by this server unless it is false",
        ),
        (
            json!({ "truncation": "auto" }),
            "truncation",
            "is not supported by this server unless it is \"disabled\"",
        ),
        (
            json!({ "tools": [{ "type": "web_search" }] }),
            "tools",
            "this server does not call tools",
        ),
        (
            json!({ "input": [{ "type": "item_reference", "id": "1" }] }),
            "input[0].role",
            "is missing",
        ),
        (json!({ "input": [] }), "input", "there are no messages"),
        (
            json!({ "text": { "format": { "type": "xml" } } }),
            "text.format.type",
            "\"xml\" is not known",
        ),
    ] {
        server
            .post("/v1/responses", &body(&more), None)
            .assert_refused(&Refusal {
                param: Some(param),
                ..Refusal::new(400, "invalid_request_error", message)
            });
    }
    let fine = json!({ "store": false, "include": [], "truncation": "disabled", "metadata": { "a": "b" } });
    assert_eq!(text(&ok(&server, &fine)), text(&ok(&server, &json!({}))));
    let embeddings = server.post(
        "/v1/embeddings",
        &json!({ "model": "base", "input": "a" }),
        None,
    );
    embeddings.assert_refused(&Refusal::new(
        404,
        "not_found_error",
        "this server makes no embeddings",
    ));
}

#[test]
fn one_model_and_its_properties_can_be_asked_for() {
    let server = Server::new();
    let listed = server.get("/v1/models", None).json();
    for (number, name) in ["base", "ann", "bob"].iter().enumerate() {
        let model = server.get(&format!("/v1/models/{name}"), None);
        assert_eq!(model.status, 200, "{}", model.text);
        assert_eq!(model.json(), listed["data"][number]);
    }
    assert_eq!(
        server.get("/models/base:ann", None).json()["meta"]["adapter"],
        "ann"
    );
    server.get("/v1/models/eve", None).assert_refused(&Refusal {
        code: Some("model_not_found"),
        param: Some("model"),
        ..Refusal::new(
            404,
            "not_found_error",
            "there is no model \"eve\" for this key",
        )
    });
    let props = server.get("/props", None).json();
    assert_eq!(props["default_generation_settings"]["n_ctx"], 256);
    assert_eq!(
        props["default_generation_settings"]["params"]["n_predict"],
        64
    );
    assert_eq!(
        (&props["total_slots"], &props["model_path"]),
        (&json!(4), &json!("tiny.gguf"))
    );
    assert_eq!(
        props["modalities"],
        json!({ "vision": false, "audio": false })
    );
    let template = props["chat_template"].as_str().unwrap();
    assert!(template.contains("messages"), "{template}");
}
