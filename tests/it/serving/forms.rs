//! Answers in the form of a JSON schema.

use serde_json::json;

use super::Server;

#[test]
fn a_schema_that_no_grammar_holds_is_refused_by_its_keyword() {
    let server = Server::new();
    let schema =
        json!({ "type": "object", "properties": { "share": { "type": "number", "maximum": 1 } } });
    let bodies = [
        (
            "response_format",
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "a", "schema": schema } } }),
        ),
        ("json_schema", json!({ "json_schema": schema })),
    ];
    for (param, more) in bodies {
        let reply = server.chat("base", &more);
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (400, &json!(param))
        );
        let told = reply.error();
        assert!(
            told.contains("the keyword `maximum` at \"#/properties/share\" is not supported"),
            "{told}"
        );
    }
}

#[test]
fn an_object_has_its_properties_in_the_order_of_the_schema() {
    let server = Server::new();
    // The body is a text, since a JSON value of this test would be sorted.
    let schema = r#"{"type": "object", "properties": {"z": {"const": 1}, "a": {"const": 2}, "m": {"const": 3}}, "required": ["a", "m", "z"]}"#;
    let format =
        format!(r#"{{"type": "json_schema", "json_schema": {{"name": "o", "schema": {schema}}}}}"#);
    for field in [
        format!(r#""response_format": {format}"#),
        format!(r#""json_schema": {schema}"#),
    ] {
        let body = format!(
            r#"{{"messages": [{{"role": "user", "content": "hello"}}], "max_tokens": 64, {field}}}"#
        );
        let response = super::agent()
            .post(server.url("/v1/chat/completions"))
            .header("Content-Type", "application/json")
            .send(&body)
            .unwrap();
        let reply = super::reply(response);
        assert_eq!(reply.status, 200, "{}", reply.text);
        let said = reply.json()["choices"][0]["message"]["content"].clone();
        let said: String = said.as_str().unwrap().split_whitespace().collect();
        assert_eq!(said, r#"{"z":1,"a":2,"m":3}"#);
    }
}
