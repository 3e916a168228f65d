//! Items in the forms that other programs write, and what becomes of them.

mod chats;
mod programs;
mod refused;

use std::fmt::Write as _;

use super::*;
use crate::message::Role;

/// The outcome of a text: a line for each example (`U: question / A: answer`), then a line for each reason with its count.
fn read_by(text: &str, speaker: Option<Speaker>) -> Result<String, String> {
    let imported = items(Path::new("f"), text.as_bytes(), speaker);
    let imported = imported.map_err(|error| {
        let message = error.to_string();
        assert!(!message.contains('\n'), "{message}");
        assert!(!message.contains("invalid type"), "{message}");
        message.strip_prefix("f: ").unwrap_or(&message).to_owned()
    })?;
    let mut said = String::new();
    for example in imported.examples {
        for message in &example.prompt {
            let who = match message.role {
                Role::System => 'S',
                Role::User => 'U',
                Role::Assistant => 'A',
            };
            write!(said, "{who}: {} / ", message.content).unwrap();
        }
        writeln!(said, "A: {}", example.response).unwrap();
    }
    for (why, n) in imported.skipped {
        writeln!(said, "{n} {why}").unwrap();
    }
    Ok(said.trim_end().replace("\n\n", "|"))
}

fn read(text: &str) -> String {
    read_by(text, None).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal(text: &str) -> String {
    read_by(text, None).expect_err(text)
}

/// Items that all hold the answer "shed" to the question "ladder?".
const FORMS: &str = r#"
{"prompt": "ladder?", "response": "shed"}
{"prompt": "ladder?", "completion": "shed", "id": 7, "meta": {"a": [1, null]}}
{"Prompt": "ladder?", " Response": "shed"}
{"instruction": "ladder?", "input": "", "output": "shed"}
{"instruction": "ladder?", "output": "shed", "system": "", "history": []}
{"instruction": "ladder?", "input": null, "output": "shed", "text": "Below is an instruction"}
{"instruction": "", "input": "ladder?", "output": "shed"}
{"instruction": "ladder?", "context": "", "response": "shed", "category": "qa"}
{"input": "ladder?", "output": "shed"}
{"question": "ladder?", "answer": "shed"}
{"query": "ladder?", "answer": "shed"}
{"input_text": "ladder?", "output_text": "shed"}
{"prompt": "ladder?", "chosen": "shed", "rejected": "dunno"}
{"prompt": "ladder?", "completion": "shed", "label": true}
{"prompt": [{"role": "user", "content": "ladder?"}], "completion": [{"role": "assistant", "content": "shed"}]}
{"prompt": [{"role": "user", "content": "ladder?"}], "completion": "shed"}
{"prompt": "ladder?", "completion": {"role": "assistant", "content": "shed"}}
{"prompt": "ladder?", "messages": [{"role": "user", "content": "ladder?"}, {"role": "assistant", "content": "shed"}]}
{"messages": null, "text": null, "prompt": "ladder?", "response": "shed"}
{"messages": [], "prompt": "ladder?", "response": "shed"}
{"messages": [{"role": "user", "content": "ladder?"}], "answer": "shed"}
{"prompt": "ladder?", "chosen": [{"role": "user", "content": "ladder?"}, {"role": "assistant", "content": "shed"}]}
{"conversations": [{"from": "human", "value": "ladder?"}], "chosen": {"from": "gpt", "value": "shed"}, "rejected": {}}
{"input": {"messages": [{"role": "user", "content": "ladder?"}]}, "preferred_output": [{"role": "assistant", "content": "shed"}]}
{"conversations": [{"from": "Human", "value": "ladder?"}, {"from": "GPT-4", "value": "shed"}]}
{"conversations": [{"role": "user", "content": "ladder?"}, {"role": "model", "content": "shed"}]}
{"contents": [{"role": "user", "parts": [{"text": "ladder?"}]}, {"role": "model", "parts": [{"text": "shed"}]}]}
[{"role": "user", "content": "ladder?"}, {"role": "assistant", "content": "shed"}]
{"contents": [{"role": "user", "parts": [{"text": "ladder?"}]}, {"role": "model", "parts": ["shed"]}], "id": 1}
{"conversation": [{"human": "ladder?", "assistant": "shed"}]}
{"user": "ladder?", "assistant": "shed"}
{"id": "x", "items": [{"from": "human", "value": "ladder?"}, {"from": "gpt", "value": "shed"}]}
{"data": [{"prompt": "ladder?", "response": "shed"}], "version": 1}
{"type": "text2text", "instances": [{"input": "ladder?", "output": "shed"}]}
{"conversations": [{"messages": [{"role": "user", "content": "ladder?"}, {"role": "assistant", "content": "shed"}]}]}
"#;

#[test]
fn an_item_is_read_in_every_form_and_layout() {
    let shed = "U: ladder? / A: shed";
    let items = FORMS.trim().lines();
    assert_eq!(items.clone().count(), 35);
    for item in items {
        assert_eq!(read(item), shed, "{item}");
        assert_eq!(read(&format!("[{item}]")), shed, "a list of {item}");
        assert_eq!(read(&format!("\u{feff}\r\n{item}\r\n\r\n")), shed, "{item}");
        let item = item.replace(": ", ":\r\n  ").replace(", ", ",\n\t");
        assert_eq!(read(&item), shed, "{item}");
        let twice = format!("{shed}\n{shed}");
        assert_eq!(read(&format!("{item}\n{item}")), twice, "twice {item}");
    }
    let lists = r#"[[{"from": "human", "value": "ladder?"}, {"from": "gpt", "value": "shed"}]]"#;
    assert_eq!(read(lists), shed);
    let all = FORMS.trim().lines().collect::<Vec<_>>();
    assert_eq!(read(FORMS).lines().count(), all.len());
    assert_eq!(read(&format!("[{}]", all.join(","))), read(FORMS));
}

#[test]
fn a_prompt_has_a_system_message_a_history_and_material() {
    let item = r#"{"system": "be Tom", "history": [["hi", "hello"], ["well?", "fine"]],
        "instruction": "sum up", "input": "1 and 2", "output": 3}"#;
    assert_eq!(
        read(item),
        "S: be Tom / U: hi / A: hello / U: well? / A: fine / U: sum up|1 and 2 / A: 3"
    );
    let item = r#"{"system_prompt": "be Tom", "question": "who?", "context": "Tom is here.", "response": "me"}"#;
    assert_eq!(read(item), "S: be Tom / U: who?|Tom is here. / A: me");
    let item = r#"{"system": [{"type": "text", "text": "be"}, {"type": "text", "text": "Tom"}],
        "messages": [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "me"}]}"#;
    assert_eq!(read(item), "S: be\nTom / U: who? / A: me");
    let item = r#"{"systemInstruction": {"role": "system", "parts": [{"text": "be Tom"}]},
        "contents": [{"role": "user", "parts": [{"text": "who?"}]}, {"role": "model", "parts": [{"text": "me"}]}]}"#;
    assert_eq!(read(item), "S: be Tom / U: who? / A: me");
}

#[test]
fn of_a_prompt_with_answers_nothing_is_learnt() {
    let item = r#"{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"}], "chosen": [{"role": "assistant", "content": "d"}],
        "rejected": [{"role": "assistant", "content": "e"}], "rejected_ended": true}"#;
    assert_eq!(read(item), "U: a / A: b / U: c / A: d");
    let whole = r#"{"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}], "rejected": []}"#;
    assert_eq!(read(whole), "U: a / A: b / U: c / A: d");
    let unwanted = r#"{"prompt": "a", "completion": "b", "label": false}"#;
    assert_eq!(read(unwanted), "1 an answer that is marked as unwanted");
    for label in ["0", "-1", "\"false\"", "\" FALSE\"", "\"rejected\""] {
        let unwanted = unwanted.replace("false", label);
        let why = "1 an answer that is marked as unwanted";
        assert_eq!(read(&unwanted), why, "{label}");
    }
    for label in ["1", "\"true\"", "null", "\"cats\""] {
        let wanted = unwanted.replace("false", label);
        assert_eq!(read(&wanted), "U: a / A: b", "{label}");
    }
    let chat = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "kto_tag": false}"#;
    assert_eq!(read(chat), "1 an answer that is marked as unwanted");
    for field in ["\"weight\": 0", "\"train\": false", "\"mask\": true"] {
        let weightless = unwanted.replace("\"label\": false", field);
        assert_eq!(read(&weightless), "1 an answer of weight 0", "{field}");
    }
    // In a set for a classifier the label is that of a kind.
    let text = r#"{"text": "b", "label": 0}"#;
    assert_eq!(read(text), "U: Write a text. / A: b");
    assert_eq!(
        refusal(&whole.replacen('{', r#"{"prompt": "x", "#, 1)),
        "line 1: the chat in \"chosen\" does not begin with the prompt"
    );
}

#[test]
fn a_text_without_a_prompt_is_an_example() {
    let alone = "U: Write a text. / A: just so";
    for item in [
        r#"{"text": "just so"}"#,
        r#"{"text": "just so", "id": 3, "source": "diary", "title": ""}"#,
        r#"{"prompt": null, "response": "just so"}"#,
        r#"{"instruction": null, "input": null, "output": "just so"}"#,
    ] {
        assert_eq!(read(item), alone, "{item}");
    }
    assert_eq!(
        read(r#"{"text": "It rained.", "title": " A walk "}"#),
        "U: Write a text titled \"A walk\". / A: It rained."
    );
}

#[test]
fn fields_that_are_not_read_may_hold_anything() {
    let deep = "[".repeat(5000) + &"]".repeat(5000);
    let item =
        format!(r#"{{"id": 1e999, "meta": {deep}, "prompt": "ladder?", "response": "shed"}}"#);
    assert_eq!(read(&item), "U: ladder? / A: shed");
    let said = refusal(&format!(r#"{{"prompt": {deep}}}"#));
    assert!(
        said.starts_with("line 1: no valid JSON (recursion limit exceeded"),
        "{said}"
    );
    let numbers = r#"{"prompt": 12, "response": -0.5}"#;
    assert_eq!(read(numbers), "U: 12 / A: -0.5");
}

#[test]
fn the_beginning_of_a_file_tells_json() {
    for (text, json) in [
        ("\u{feff} \r\n{\"a\": 1}", true),
        ("[\n  {\n    \"a\": 1}]", true),
        ("[link](x)", false),
        ("{{< figure >}}", false),
        ("[]", false),
        ("", false),
    ] {
        assert_eq!(begins(text.as_bytes()), json, "{text:?}");
    }
}
