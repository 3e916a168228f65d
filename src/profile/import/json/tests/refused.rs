//! Items that cannot be read: one line that says what is wrong and where.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{read_by, refusal};

const GOOD: &str = r#"{"prompt": "a", "response": "b"}"#;

/// Lines, each with the beginning of its message.
const BAD: &str = r####"
{"prompt": "c", "response": ""} => the field "response" is empty; each item needs its texts
{"prompt": "c", "response": null} => the field "response" is empty; each item needs its texts
{"prompt": " ", "response": "x"} => the field "prompt" is empty; each item needs its texts
{"text": "\n"} => the field "text" is empty; each item needs its texts
{"prompt": "c"} => a JSON object with the field "prompt" is in none of the forms that can be read: {"prompt": …, "response": …},
{"response": "c"} => a JSON object with the field "response" is in none of the forms
{"a": 1, "b\n": [], "c": {}} => a JSON object with the fields "a", "b\n", "c" is in none of the forms
{} => an empty JSON object is in none of the forms
{"text": "hi", "sender": "Nora"} => a JSON object with the fields "text", "sender" is in none of the forms
{"input": "x", "output": "y", "profile": []} => a JSON object with the fields "input", "output", "profile" is in none of the forms
{"ID": 1, "Contents": "hi", "Attachments": ""} => a JSON object with the fields "ID", "Contents", "Attachments" is in none of the forms
{"prompt": true, "response": "x"} => the field "prompt" is true or false, where a text is needed
{"prompt": "x", "response": ["y"]} => response[0] is a text, where a message is needed
{"prompt": "x", "response": {"y": 1}} => response is a JSON object with the field "y", where a message is needed
{"prompt": "x", "response": 1e30} => the field "response" is a number, where a text is needed
{"prompt": {"a": 1}, "response": "x"} => the field "prompt" is an object, where a text or a list of messages is needed
{"prompt": "x", "response": "y", "output": "z"} => has both "response" and "output", and only one of them can be meant
{"prompt": "x", "prompt": "y", "response": "z"} => the field "prompt" is there twice
{"messages": 3} => the field "messages" is a number, where a list of messages is needed
{"messages": ["hi", "ho"]} => messages[0] is a text, where a message is needed
{"messages": [{"content": "hi"}]} => messages[0] is a JSON object with the field "content", where a message is needed
{"messages": [{"role": 3}]} => messages[0] is a JSON object with the field "role", where a message is needed
{"messages": [{"role": "user", "content": false}]} => the field "messages[0].content" is true or false, where a text or a list
{"text": "### Human: a### Assistant: b"} => the field "text" is a chat written out as one text (it begins with "### Human:")
{"text": "USER: a ASSISTANT: b"} => the field "text" is a chat written out as one text (it begins with "USER:")
{"text": "Q: a\nA: b"} => the field "text" is a chat written out as one text (it begins with "Q:")
{"text": "<|start_header_id|>user<|end_header_id|>a"} => the field "text" is a chat written out as one text (it begins with "<|start_header_id|>")
{"history": [["a"]], "prompt": "b", "response": "c"} => the field "history[0]" is a list, where a pair of texts is needed
{"data": [{"prompt": "a", "response": "b"}, 3]} => item 2 of "data": a number, where an object is needed
{"train": [], "test": []} => has both "train" and "test", and only one of them can be meant
3 => an item is a JSON object or a list of messages, and this is neither
null => an item is a JSON object or a list of messages, and this is neither
{'prompt': 'a'} => no valid JSON (key must be a string, line 3, column 2)
prompt,response => no valid JSON (expected value, line 3, column 1)
{"prompt": "a", "response": NaN} => no valid JSON (expected value, line 3, column 29)
{"prompt": "\ud800", "response": "a"} => no valid JSON (
"####;

#[test]
fn the_message_names_the_line() {
    for line in BAD.trim().lines() {
        let (line, message) = line.split_once(" => ").unwrap();
        let said = refusal(&format!("{GOOD}\n\n{line}\n{GOOD}\n"));
        let expected = format!("line 3: {message}");
        assert!(said.starts_with(&expected), "{line}: {said}");
    }
}

#[test]
fn the_message_names_the_item_of_a_list() {
    let list = format!("[{GOOD},\n{GOOD},\n {{\n\"a\": 1}}]");
    let said = refusal(&list);
    let expected = "line 3, item 3: a JSON object with the field \"a\" is ";
    assert!(said.starts_with(expected), "{said}");
    for (text, expected) in [
        (
            r#"[{"role": "user", "content": "a"}, {"prompt": "a"}]"#,
            "line 1, item 2: no message, and those before it are messages",
        ),
        ("[[3]]", "line 1, item 1: the list[0] is a number"),
        ("[[[]]]", "line 1, item 1: the list[0] is a list"),
        ("[3]", "line 1, item 1: an item is a JSON object or a list"),
        (
            r#"[{"a": 1},]"#,
            "line 1, item 1: a JSON object with the field",
        ),
        (
            r#"[{"text": "a"},]"#,
            "line 1, item 1: no valid JSON (trailing comma",
        ),
        (
            r#"{"text": "a"}, {"text": "b"}"#,
            "line 1: no valid JSON (expected value",
        ),
    ] {
        let said = refusal(text);
        assert!(said.starts_with(expected), "{text}: {said}");
    }
}

const VALUES: [&str; 15] = [
    "null",
    "true",
    "0",
    "-7",
    "1e99",
    r#""""#,
    r#""ü""#,
    "[]",
    "{}",
    "[[]]",
    "[{}]",
    "[null]",
    r#"{"text": 1}"#,
    r#"[{"role": "user", "content": "u"}]"#,
    r#"[{"from": "gpt", "value": "v"}]"#,
];

const NAMES: [&str; 22] = [
    "prompt",
    "response",
    "output",
    "messages",
    "conversations",
    "text",
    "input",
    "history",
    "system",
    "role",
    "content",
    "from",
    "value",
    "weight",
    "tool_calls",
    "data",
    "mapping",
    "title",
    "chosen",
    "label",
    "type",
    "id",
];

/// A value of random fields and values, now and then without its end.
fn mutated(random: &mut ChaCha8Rng) -> String {
    let mut value = VALUES[random.random_range(0..VALUES.len())].to_owned();
    for _ in 0..random.random_range(1..4) {
        let mut fields = Vec::new();
        for _ in 0..random.random_range(1..5) {
            let name = NAMES[random.random_range(0..NAMES.len())];
            let other = VALUES[random.random_range(0..VALUES.len())];
            let other = if random.random_bool(0.3) {
                &value
            } else {
                other
            };
            fields.push(format!("\"{name}\": {other}"));
        }
        value = format!("{{{}}}", fields.join(", "));
        if random.random_bool(0.3) {
            value = format!("[{value}]");
        }
    }
    if random.random_bool(0.1) {
        let n = random.random_range(0..value.chars().count());
        value = value.chars().take(n).collect();
    }
    value
}

#[test]
fn mutated_items_are_read_or_refused_with_their_line() {
    let mut random = ChaCha8Rng::seed_from_u64(30);
    let mut n_read = 0;
    for _ in 0..20_000 {
        let value = mutated(&mut random);
        match read_by(&format!("\n{value}"), None) {
            Ok(_) => n_read += 1,
            Err(message) => assert!(message.starts_with("line 2"), "{value}: {message}"),
        }
    }
    assert!(n_read > 500, "{n_read}");
}
