//! Chats: which messages are learnt, left and joined.

use super::super::{Path, Speaker, items};
use super::{read, read_by};

/// A chat in OpenAI's form of these messages: `user a | assistant b`. A content in brackets stands for itself.
fn openai(messages: &str) -> String {
    let message = |message: &str| {
        let (role, content) = message.split_once(' ').unwrap();
        let content = if content.starts_with('[') {
            content.to_owned()
        } else {
            format!("{content:?}")
        };
        format!(r#"{{"role": "{role}", "content": {content}}}"#)
    };
    let messages: Vec<_> = messages.split(" | ").map(message).collect();
    format!(r#"{{"messages": [{}]}}"#, messages.join(", "))
}

/// The outcome of a chat in ShareGPT's form: `human: a | gpt: b`.
fn sharegpt(turns: &str) -> String {
    let turn = |turn: &str| {
        let (from, value) = turn.split_once(':').unwrap();
        format!(r#"{{"from": {from:?}, "value": {:?}}}"#, value.trim())
    };
    let turns: Vec<_> = turns.split(" | ").map(turn).collect();
    read(&format!(r#"{{"conversations": [{}]}}"#, turns.join(",")))
}

#[test]
fn each_answer_is_learnt_but_those_of_weight_0() {
    let item = openai("user a | assistant b | user c | assistant d");
    let with = |field: &str| {
        let field = format!(r#""content": "b", {field}"#);
        read(&item.replace(r#""content": "b""#, &field))
    };
    let both = "U: a / A: b\nU: a / A: b / U: c / A: d";
    assert_eq!(read(&item), both);
    for field in [
        "\"weight\": 1",
        "\"weight\": null",
        "\"train\": true",
        "\"weight\": 0.5",
        "\"mask\": 0",
        "\"learn\": true",
        "\"train_detail\": [{\"begin_offset\": 0, \"end_offset\": 0, \"train\": true}]",
    ] {
        assert_eq!(with(field), both, "{field}");
    }
    for field in [
        "\"weight\": 0",
        "\"weight\": 0.0",
        "\"train\": false",
        "\"loss\": false",
        "\"loss_weight\": 0",
        "\"train_on_turn\": false",
        "\"learn\": false",
        "\"mask\": 1",
        "\"masked\": true",
    ] {
        let last = "U: a / A: b / U: c / A: d\n1 an answer of weight 0";
        assert_eq!(with(field), last, "{field}");
    }
    let part = with(r#""train_detail": [{"begin_offset": 0, "end_offset": 0, "train": false}]"#);
    let last = "U: a / A: b / U: c / A: d\n1 an answer of which only a part is to be learnt";
    assert_eq!(part, last);
    let item = item.replace(r#""content": "b""#, r#""content": "b", "weight": "0""#);
    assert_eq!(
        read_by(&item, None).unwrap_err(),
        "line 1: the field \"messages[1].weight\" is a text, where 0 or 1 is needed"
    );
}

#[test]
fn of_channels_the_final_one_is_the_answer() {
    let item = openai("user a | assistant hm | assistant b | user c | assistant d");
    let in_channel = |content: &str, channel: &str| {
        let content = format!("\"content\": \"{content}\"");
        item.replace(&content, &format!("{content}, \"channel\": \"{channel}\""))
    };
    let both = "U: a / A: b\nU: a / A: b / U: c / A: d\n1 a";
    assert_eq!(
        read(&in_channel("hm", "analysis")),
        format!("{both} thought")
    );
    assert_eq!(
        read(&in_channel("hm", "commentary")),
        format!("{both} call of a tool or its result")
    );
    // Elsewhere a channel is a place where people write.
    let elsewhere = in_channel("d", "general");
    assert!(read(&elsewhere).contains("A: d"));
}

#[test]
fn texts_between_marks_of_a_template_are_counted() {
    for (item, why) in [
        (
            r#"{"prompt": "q", "completion": "a<|im_end|>"}"#,
            "an answer",
        ),
        (
            r#"{"prompt": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", "completion": "a"}"#,
            "a prompt",
        ),
        (
            r####"{"prompt": "### Instruction:\nq\n\n### Response:\n", "completion": "a"}"####,
            "a prompt",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a</s>"}]}"#,
            "an answer",
        ),
    ] {
        let expected = format!("1 {why} with marks of a chat template");
        assert_eq!(read(item), expected, "{item}");
    }
}

#[test]
fn system_messages_are_one_and_come_first() {
    let item = openai("system be Tom | developer and short | user who? | assistant me");
    assert_eq!(read(&item), "S: be Tom|and short / U: who? / A: me");
    let item = openai("system  | user who? | assistant me");
    assert_eq!(read(&item), "U: who? / A: me");
}

#[test]
fn texts_of_parts_are_taken_and_the_rest_is_counted() {
    let item = openai(
        r#"user [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "what"}, {"type": "input_text", "text": "is it?"}] | assistant ["a ", "cat"]"#,
    );
    assert_eq!(
        read(&item),
        "U: what\nis it? / A: a \ncat\n1 a part that is no text (\"image_url\")"
    );
    // The question was a recording alone, so that the answer has no question.
    let item = openai(
        r#"user hi | assistant ho | user [{"type": "input_audio", "input_audio": {}}] | assistant a cat | user thanks | assistant sure"#,
    );
    assert_eq!(
        read(&item),
        "U: hi / A: ho\nU: thanks / A: sure\n1 a part that is no text (\"input_audio\")\n\
         1 an answer without a question before it"
    );
    let thought = r#"[{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "shed"}]"#;
    assert_eq!(
        read(&openai(&format!("user ladder? | assistant {thought}"))),
        "U: ladder? / A: shed\n1 a thought"
    );
    for (content, message) in [
        (
            r#"[{"type": "text", "text": ["a"]}]"#,
            "\"messages[0].content[0].text\" is a list, where a text is needed",
        ),
        (
            "[[1]]",
            "\"messages[0].content[0]\" is a list, where a part of a message is needed",
        ),
    ] {
        let said = read_by(&openai(&format!("user {content}")), None).unwrap_err();
        assert_eq!(said, format!("line 1: the field {message}"));
    }
}

/// A chat whose first answer comes after a call of a tool, in a message with these fields.
fn with_call(fields: &str) -> String {
    format!(
        r#"{{"messages": [{{"role": "user", "content": "weather?"}}, {{"role": "assistant", {fields}}},
        {{"role": "tool", "tool_call_id": "1", "content": "rain"}}, {{"role": "assistant", "content": "take a coat"}},
        {{"role": "user", "content": "thanks"}}, {{"role": "assistant", "content": "sure"}}]}}"#
    )
}

#[test]
fn an_answer_after_the_tools_that_it_called_answers_the_question() {
    let calls = r#""tool_calls": [{"id": "1", "function": {"name": "w", "arguments": "{}"}}]"#;
    let parts = r#""content": [{"type": "tool_use", "id": "1", "name": "w", "input": {}}]"#;
    let coat = "U: weather? / A: take a coat\nU: weather? / A: take a coat / U: thanks / A: sure\n\
        2 a call of a tool or its result";
    for fields in [
        calls,
        &format!(r#""content": null, {calls}"#),
        &format!(r#""content": "", {calls}"#),
        r#""content": null, "function_call": {"name": "w", "arguments": "{}"}"#,
        parts,
        r#""content": "<tool_call>\n{\"name\": \"w\"}\n</tool_call>""#,
    ] {
        assert_eq!(read(&with_call(fields)), coat, "{fields}");
        let function = with_call(fields).replace("\"tool\"", "\"Function\"");
        assert_eq!(read(&function), coat, "{fields}");
    }
    let result = with_call(parts).replace(
        r#""role": "tool", "tool_call_id": "1", "content": "rain""#,
        r#""role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "rain"}]"#,
    );
    assert_eq!(read(&result), coat);
    let remark = with_call(&format!(r#""content": "I shall look.", {calls}"#));
    assert_eq!(
        read(&remark),
        format!("U: weather? / A: I shall look.\n{coat}")
    );
    // Nothing was called.
    let none = with_call(r#""content": "rain", "tool_calls": [], "function_call": null"#);
    assert_eq!(
        read(&none),
        "U: weather? / A: rain\nU: thanks / A: sure\n1 a call of a tool or its result\n\
         1 an answer without a question before it"
    );
}

#[test]
fn a_question_after_a_call_without_an_answer_is_another_one() {
    let called = r#"{"role": "assistant", "tool_calls": [{"id": "1"}]}"#;
    let item = openai("user a | assistant b | user c | assistant d")
        .replace(r#"{"role": "assistant", "content": "b"}"#, called);
    assert_eq!(read(&item), "U: c / A: d\n1 a call of a tool or its result");
}

#[test]
fn messages_around_one_that_was_left_are_not_joined() {
    for (turns, outcome) in [
        (
            "human: ladder? | function_call: find | observation: shed 2 | gpt: shed two",
            "2 a call of a tool or its result\n1 an answer without a question before it",
        ),
        (
            "HUMAN: a | Gpt: b | narrator: c | user: d | ChatGPT: e",
            "U: a / A: b\nU: d / A: e\n1 a message of an unknown speaker, \"narrator\"",
        ),
        (
            "human: a | Nora Ö: b | gpt: c | human: d | bing: e",
            "U: d / A: e\n1 a message of an unknown speaker, \"Nora Ö\"\n1 an answer without a question before it",
        ),
        (
            "human: a | gpt: b | bing: c | human: d | gpt: e",
            "U: a / A: b\nU: d / A: e\n1 an answer without a question before it",
        ),
        (
            "human: a | gpt:  | gpt: c | human: d | gpt: e",
            "U: d / A: e\n1 an answer without a question before it\n1 an empty message",
        ),
        (
            "gpt: hello | human: a | human: b | gpt: c",
            "U: a|b / A: c\n1 an answer without a question before it",
        ),
        (
            "human: a | gpt: <think>hm | gpt: c",
            "1 a thought without an answer\n1 an answer without a question before it",
        ),
        ("human: a", "1 a chat without an answer"),
    ] {
        assert_eq!(sharegpt(turns), outcome, "{turns}");
    }
    assert_eq!(
        read(r#"{"conversations": []}"#),
        "1 a chat without an answer"
    );
}

#[test]
fn few_unknown_speakers_are_named() {
    let turns: Vec<_> = (0..20).map(|n| format!("p{n}: x")).collect();
    let said = sharegpt(&turns.join(" | "));
    assert_eq!(said.lines().count(), 10, "{said}");
    assert!(
        said.contains("\n12 a message of an unknown speaker\n"),
        "{said}"
    );
}

#[test]
fn the_texts_of_the_human_can_be_taken() {
    let item = openai("user a | assistant b | user c | assistant d");
    assert_eq!(
        read_by(&item, Some(Speaker::Human)).unwrap(),
        "U: b / A: c\n1 an answer without a question before it"
    );
}

#[test]
fn long_chats_give_what_fits_and_take_no_long_time() {
    let turn = |n: usize| {
        let from = if n.is_multiple_of(2) { "human" } else { "gpt" };
        format!(r#"{{"from": "{from}", "value": "{n:05}"}}"#)
    };
    let turns: Vec<_> = (0..60_000).map(turn).collect();
    let text = format!(r#"{{"conversations": [{}]}}"#, turns.join(","));
    let imported = items(Path::new("f"), text.as_bytes(), None).unwrap();
    assert_eq!(imported.examples.len(), 100);
    let why = "an answer after more than 200 messages of a chat";
    assert_eq!(imported.skipped[why], 29_900);

    let long = "x".repeat(9000);
    let item = format!("user {long} | assistant {long} | user b | assistant {long}");
    let said = read(&openai(&item));
    assert!(said.ends_with("\n1 longer than 24000 bytes"), "{said}");
    assert_eq!(said.lines().count(), 2);
}
