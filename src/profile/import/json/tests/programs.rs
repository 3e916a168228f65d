//! Chats of assistants, as programs export them.

use proptest::prelude::*;

use super::{Path, Speaker, items, read, read_by};

/// A chat of `ChatGPT` with these nodes, `id < parent: message`, of which the last is the current one.
fn chatgpt(nodes: &[(&str, &str, &str)]) -> String {
    let node = |(id, parent, message): &(&str, &str, &str)| {
        format!(
            r#""{id}": {{"id": "{id}", "parent": "{parent}", "children": [], "message": {message}}}"#
        )
    };
    let mapping: Vec<_> = nodes.iter().map(node).collect();
    let newest = nodes.last().unwrap().0;
    let mapping = mapping.join(", ");
    format!(r#"[{{"title": "Soup", "current_node": "{newest}", "mapping": {{{mapping}}}}}]"#)
}

fn said(role: &str, content: &str) -> String {
    said_with(role, content, "")
}

fn said_with(role: &str, content: &str, more: &str) -> String {
    format!(r#"{{"author": {{"role": "{role}"}}, "content": {content}{more}}}"#)
}

fn text(text: &str) -> String {
    format!(r#"{{"content_type": "text", "parts": ["{text}"]}}"#)
}

#[test]
fn of_chatgpt_the_current_branch_is_read_without_what_is_hidden() {
    let context = r#"{"content_type": "user_editable_context", "user_profile": "I keep bees"}"#;
    let hidden = r#", "metadata": {"is_visually_hidden_from_conversation": true}"#;
    let thoughts = r#"{"content_type": "thoughts", "thoughts": []}"#;
    let code = r#"{"content_type": "code", "language": "python", "text": "1"}"#;
    let chat = chatgpt(&[
        ("r", "", "null"),
        ("s", "r", &said("system", &text(""))),
        ("p", "s", &said("user", context)),
        ("h", "p", &said_with("user", &text("hidden"), hidden)),
        ("a", "h", &said("user", &text("a soup?"))),
        ("x", "h", &said("user", &text("a soop?"))),
        ("t", "a", &said("assistant", thoughts)),
        (
            "c",
            "t",
            &said_with("assistant", code, r#", "recipient": "python""#),
        ),
        ("o", "c", &said("tool", &text("1"))),
        (
            "b",
            "o",
            &said("assistant", &text("Leek\u{e200}cite\u{e202}1\u{e201}.")),
        ),
        (
            "d",
            "b",
            &said_with("user", &text("leeks ARE onions"), r#", "create_time": 2.0"#),
        ),
    ]);
    assert_eq!(
        read(&chat),
        "U: Start a chat about \"Soup\". / A: a soup?\n\
         U: Start a chat about \"Soup\". / A: a soup? / U: Leek. / A: leeks ARE onions\n\
         1 a call of a tool or its result"
    );
    assert_eq!(
        read_by(&chat, Some(Speaker::Assistant)).unwrap(),
        "U: a soup? / A: Leek.\n1 a call of a tool or its result"
    );
    let unnamed = chat.replace(r#""current_node": "d""#, r#""current_node": null"#);
    assert_eq!(read(&unnamed), read(&chat));
}

#[test]
fn what_was_spoken_or_shown_to_chatgpt_is_left() {
    let shown = r#"{"content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer", "asset_pointer": "f"}, "which colour?"]}"#;
    let spoken = r#"{"content_type": "multimodal_text", "parts": [{"content_type": "audio_transcription", "text": "bees", "direction": "in"}, {"content_type": "audio_asset_pointer"}]}"#;
    let attached = r#", "metadata": {"attachments": [{"name": "a.pdf", "mime_type": "application/pdf"}, {"name": "b.png", "mime_type": "image/png"}]}"#;
    let voice = r#", "metadata": {"voice_mode_message": true}"#;
    let chat = chatgpt(&[
        ("a", "", &said_with("user", shown, attached)),
        ("b", "a", &said("assistant", &text("Green."))),
        ("c", "b", &said("user", spoken)),
        ("d", "c", &said("assistant", &text("Bees hum."))),
        ("e", "d", &said_with("user", &text("said aloud"), voice)),
        ("f", "e", &said("assistant", &text("Indeed."))),
        ("g", "f", &said("user", &text("thanks"))),
    ]);
    assert_eq!(
        read(&chat),
        "U: Start a chat about \"Soup\". / A: which colour?\nU: Indeed. / A: thanks\n\
         1 a picture\n2 a recording\n1 an attached file"
    );
    // An answer to what was said aloud has no question.
    assert_eq!(
        read_by(&chat, Some(Speaker::Assistant)).unwrap(),
        "U: which colour? / A: Green.\n1 a picture\n2 a recording\n\
         2 an answer without a question before it\n1 an attached file"
    );
}

#[test]
fn of_claude_own_words_of_the_current_branch_are_read() {
    let message = |id: &str, parent: &str, sender: &str, content: &str| {
        format!(
            r#"{{"uuid": "{id}", "parent_message_uuid": "{parent}", "sender": "{sender}", "text": "This block is not supported", "content": {content}, "attachments": [], "files": []}}"#
        )
    };
    let part = |text: &str| format!(r#"[{{"type": "text", "text": "{text}", "citations": []}}]"#);
    let answer = r#"[{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Old"}, {"type": "tool_use", "name": "artifacts", "input": {}}, {"type": "tool_result", "content": []}, {"type": "text", "text": "yeast."}, {"type": "token_budget"}]"#;
    let root = "00000000-0000-4000-8000-000000000000";
    let messages = [
        message("1", root, "human", &part("flat as a board, why")),
        message("2", "1", "assistant", answer),
        message("3", "2", "human", &part("no")),
        message("4", "2", "human", &part("fair.")),
    ];
    let chat = |more: &str| {
        let messages = messages.join(", ");
        format!(r#"[{{"uuid": "u", "name": "Bread", "chat_messages": [{messages}]{more}}}]"#)
    };
    let own = "U: Start a chat about \"Bread\". / A: flat as a board, why\n\
               U: Start a chat about \"Bread\". / A: flat as a board, why / U: Old\nyeast. / A: fair.\n\
               2 a call of a tool or its result\n1 a thought";
    assert_eq!(read(&chat("")), own);
    let other = chat(r#", "current_leaf_message_uuid": "3""#);
    assert_eq!(read(&other), own.replace("fair.", "no"));
    // A long paste is an attachment, and old exports have texts alone.
    let pasted = r#"[{"name": "", "chat_messages": [{"sender": "human", "text": "", "content": [], "attachments": [{"file_name": "", "extracted_content": "pasted"}]},
        {"sender": "assistant", "text": "I see."}, {"sender": "human", "text": "do you?", "files": [{"file_name": "a.png"}]}]}]"#;
    assert_eq!(read(pasted), "U: I see. / A: do you?\n2 an attached file");
    let untitled =
        r#"[{"name": "New chat", "chat_messages": [{"sender": "human", "text": "hi"}]}]"#;
    assert_eq!(read(untitled), "U: Start a chat. / A: hi");
    assert_eq!(
        read(r#"[{"name": "x", "chat_messages": []}]"#),
        "1 a chat without a question"
    );
}

#[test]
fn of_open_webui_the_current_branch_is_read() {
    let chat = r#"[{"id": "1", "title": "Beans", "chat": {"title": "Beans", "models": ["x"], "history": {"currentId": "d", "messages": {
        "a": {"id": "a", "parentId": null, "role": "user", "content": "when?", "files": [{"type": "file"}]},
        "b": {"id": "b", "parentId": "a", "role": "assistant", "content": "<details type=\"reasoning\" done=\"true\">hm</details>\nMay.\n<details type=\"tool_calls\">x</details>"},
        "c": {"id": "c", "parentId": "a", "role": "assistant", "content": "June."},
        "d": {"id": "d", "parentId": "b", "role": "user", "content": "so late"}}},
        "messages": [{"id": "a", "role": "user", "content": "not this"}]}}]"#;
    let own = "U: Start a chat about \"Beans\". / A: when?\n\
               U: Start a chat about \"Beans\". / A: when? / U: May. / A: so late\n\
               1 a call of a tool or its result\n1 an attached file";
    assert_eq!(read(chat), own);
    assert_eq!(
        read_by(chat, Some(Speaker::Assistant)).unwrap(),
        "U: when? / A: May.\n1 a call of a tool or its result\n1 an attached file"
    );
    let listed = chat.replace("\"currentId\": \"d\"", "\"currentId\": null");
    assert_eq!(
        read(&listed),
        "U: Start a chat about \"Beans\". / A: not this"
    );
}

#[test]
fn of_librechat_lists_and_trees_are_read() {
    let list = r#"{"conversationId": "c", "endpoint": "openAI", "title": "Beans", "branches": true, "recursive": false, "messages": [
        {"messageId": "1", "parentMessageId": "0", "sender": "User", "isCreatedByUser": true, "text": "when?"},
        {"messageId": "2", "parentMessageId": "1", "sender": "GPT", "isCreatedByUser": false, "text": "", "content": [{"type": "think", "think": "hm"}, {"type": "text", "text": {"value": "May."}}, {"type": "tool_call", "tool_call": {}}]},
        {"messageId": "3", "parentMessageId": "1", "sender": "GPT", "isCreatedByUser": false, "text": "June."},
        {"messageId": "4", "parentMessageId": "2", "sender": "User", "isCreatedByUser": true, "text": "so late"}]}"#;
    let own = "U: Start a chat about \"Beans\". / A: when?\n\
               U: Start a chat about \"Beans\". / A: when? / U: May. / A: so late\n\
               1 a call of a tool or its result\n1 a thought";
    assert_eq!(read(list), own);
    let tree = r#"{"conversationId": "c", "title": "Beans", "recursive": true, "messages": [
        {"messageId": "1", "isCreatedByUser": true, "text": "when?", "children": [
            {"messageId": "2", "isCreatedByUser": false, "text": "June.", "children": []},
            {"messageId": "3", "isCreatedByUser": false, "text": "May.", "children": [
                {"messageId": "4", "isCreatedByUser": true, "text": "so late", "children": [
                    {"messageId": "5", "isCreatedByUser": false, "text": "Connection lost", "error": true}]}]}]}]}"#;
    let of_tree = own.rsplit_once("\n1 a call").unwrap().0;
    assert_eq!(read(tree), format!("{of_tree}\n1 a program's error"));
}

#[test]
fn each_line_of_sillytavern_is_a_message() {
    let lines = r#"{"user_name": "Ola", "character_name": "Finn", "create_date": "2026-1-1", "chat_metadata": {"note": "x"}}
        {"name": "Finn", "is_user": false, "is_system": false, "mes": "Ahoy.", "swipes": ["Ahoy.", "Hey."], "swipe_id": 0}
        {"name": "Ola", "is_user": true, "mes": "ahoy yourself"}
        {"name": "System", "is_user": false, "is_system": true, "mes": "Checkpoint created."}
        {"name": "Finn", "is_user": false, "mes": "Tea?", "extra": {"reasoning": "hm"}}
        {"name": "Ola", "is_user": true, "mes": "always"}"#;
    assert_eq!(
        read(lines),
        "U: Ahoy. / A: ahoy yourself\nU: Tea? / A: always\n1 a note of the program"
    );
    let group = lines.split_once('\n').unwrap().1;
    assert_eq!(read(group), read(lines));
    let two = format!("{lines}\n{lines}");
    assert_eq!(read(&two).matches("ahoy yourself").count(), 2);
}

#[test]
fn of_deepseeks_tree_the_newest_branch_is_read_without_thoughts() {
    let message = |kind: &str, text: &str, time: u32| {
        format!(
            r#"{{"files": [], "inserted_at": "2026-03-01T08:{time:02}:00+08:00", "fragments": [{{"type": "THINK", "content": "a thought"}}, {{"type": "{kind}", "content": "{text}"}}]}}"#
        )
    };
    let nodes = [
        ("root", "null".to_owned(), "null".to_owned()),
        (
            "1",
            "\"root\"".to_owned(),
            message("REQUEST", "when to sow?", 1),
        ),
        ("2", "\"1\"".to_owned(), message("RESPONSE", "In June.", 2)),
        ("10", "\"1\"".to_owned(), message("RESPONSE", "In May.", 3)),
        (
            "11",
            "\"10\"".to_owned(),
            message("REQUEST", "and beans?", 4).replace("[]", r#"[{"file_name": "a.txt"}]"#),
        ),
    ];
    let nodes: Vec<_> = nodes
        .iter()
        .map(|(id, parent, message)| {
            format!(r#""{id}": {{"id": "{id}", "parent": {parent}, "children": [], "message": {message}}}"#)
        })
        .collect();
    let chat = format!(
        r#"[{{"id": "c", "title": "Garden", "inserted_at": "2026-03-01T08:00:00+08:00", "mapping": {{{}}}}}]"#,
        nodes.join(", ")
    );
    assert_eq!(
        read(&chat),
        "U: Start a chat about \"Garden\". / A: when to sow?\nU: In May. / A: and beans?\n1 an attached file"
    );
}

#[test]
fn of_groks_export_the_persons_messages_are_read() {
    let response = |sender: &str, text: &str| {
        format!(
            r#"{{"response": {{"_id": "{text}", "sender": "{sender}", "message": "{text}", "create_time": {{"$date": {{"$numberLong": "1772352000000"}}}}}}}}"#
        )
    };
    let chat = format!(
        r#"{{"conversations": [{{"conversation": {{"id": "c", "title": "Garden"}}, "responses": [{}, {}, {}]}}], "projects": [], "tasks": []}}"#,
        response("human", "when to sow?"),
        response("ASSISTANT", "In May."),
        response("human", "and beans?")
    );
    let expected =
        "U: Start a chat about \"Garden\". / A: when to sow?\nU: In May. / A: and beans?";
    assert_eq!(read(&chat), expected);
}

#[test]
fn of_geminis_activity_prompts_are_read() {
    let item = |product: &str, title: &str, more: &str| {
        format!(
            r#"{{"header": "{product}", "title": "{title}", "time": "2026-03-01T08:00:00Z", "products": ["{product}"]{more}}}"#
        )
    };
    let answer =
        r#", "safeHtmlItem": [{"html": "<p>Copper <b>tape</b>.</p><ul><li>Beer</li></ul>"}]"#;
    let items = [
        item(
            "Gemini Apps",
            "Prompted slugs on my beans\\nAttached 1 file.",
            answer,
        ),
        item("Gemini-Apps", "Eingegebener Prompt: wie spät", ""),
        item("Gemini Apps", "Created Gemini Canvas titled x", ""),
        item("Gemini Apps", "Said hello", ""),
        item("Search", "Searched for beans", ""),
    ];
    let list = format!("[{}]", items.join(", "));
    let rest = "1 a recording\n1 an activity in another program of Google's\n1 an activity that is no prompt";
    assert_eq!(
        read(&list),
        format!("U: Start a chat. / A: slugs on my beans\nU: Start a chat. / A: wie spät\n{rest}")
    );
    assert_eq!(
        read_by(&list, Some(Speaker::Assistant)).unwrap(),
        format!(
            "U: slugs on my beans / A: Copper tape.\n\nBeer\n1 a chat without an answer\n{rest}"
        )
        .replace("\n\n", "|")
    );
}

#[test]
fn of_geminis_activity_the_words_of_other_languages_are_known_or_learnt() {
    let item = |title: &str| {
        format!(
            r#"{{"header": "Gemini", "title": "{title}", "time": "2026-03-01T08:00:00Z", "products": ["Gemini"], "safeHtmlItem": [{{"html": "<p>x</p>"}}]}}"#
        )
    };
    for title in [
        "送信したメッセージ: slugs",
        "slugs と入力しました",
        "已提示 slugs",
        "已給予提示 slugs",
        "Prompt inserito: slugs",
        "Prompt saisi\u{a0}: slugs",
        "Wpisany prompt: slugs",
        "输入的提示：slugs",
    ] {
        let list = format!("[{}]", item(title));
        assert_eq!(read(&list), "U: Start a chat. / A: slugs", "{title}");
    }
    let feedback = format!("[{}]", item("フィードバックを送信しました: bad"));
    assert_eq!(read(&feedback), "1 an activity that is no prompt");
    let unknown = format!("[{}]", item("Has preguntado slugs"));
    assert_eq!(
        read(&unknown),
        "1 a prompt after words of a language that are not known"
    );
    let prompts = ["slugs", "rain", "tea?", "more tea", "soup"];
    let items: Vec<_> = prompts
        .iter()
        .map(|it| item(&format!("Has preguntado {it}")))
        .collect();
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("MiActividad.json");
    std::fs::write(&path, format!("[{}]", items.join(","))).unwrap();
    let imported =
        crate::profile::import(&path, &crate::profile::ImportOptions::default()).unwrap();
    let texts: Vec<_> = imported
        .examples
        .iter()
        .map(|it| it.response.as_str())
        .collect();
    assert_eq!(texts, prompts);
}

#[test]
fn of_a_long_chat_the_last_messages_are_kept_with_each_text() {
    let chat = |words: usize| {
        let message = |number: usize| {
            let sender = ["human", "assistant"][number % 2];
            let text = format!("{number:03}{}", " words".repeat(words));
            format!(r#"{{"sender": "{sender}", "text": "{text}"}}"#)
        };
        let messages: Vec<_> = (0..400).map(message).collect();
        format!(
            r#"[{{"name": "", "chat_messages": [{}]}}]"#,
            messages.join(",")
        )
    };
    // Ten messages of 99 bytes have room, of which the first is the person's.
    let said = read(&chat(16));
    assert_eq!(said.lines().count(), 200);
    let last = said.lines().last().unwrap();
    let starts: Vec<_> = last.split(" / ").map(|part| &part[..6]).collect();
    assert_eq!(
        (starts.len(), starts[0], starts[9]),
        (10, "U: 389", "A: 398")
    );
    // The end of a longer answer.
    let said = read(&chat(1000));
    let last = said.lines().last().unwrap();
    let (before, own) = last.split_once(" / A: ").unwrap();
    assert_eq!(before, format!("U: … {}", "words ".repeat(165) + "words"));
    assert!(own.starts_with("398 words words"), "{own}");
    // A question is kept whole.
    let answers = read_by(&chat(1000), Some(Speaker::Assistant)).unwrap();
    let last = answers.lines().last().unwrap();
    assert!(
        last.starts_with("U: 398 words") && last.contains(" / A: 399 words"),
        "{last}"
    );
}

#[test]
fn the_oldest_chat_comes_first() {
    let chat = |time: &str, text: &str| {
        format!(
            r#"{{"name": "", "created_at": {time}, "chat_messages": [{{"sender": "human", "text": "{text}"}}]}}"#
        )
    };
    let times = [
        ("\"2026-02-03T10:00:00Z\"", "new"),
        ("\"2025-12-30T09:00:00Z\"", "old"),
        ("null", "beside"),
    ];
    let chats: Vec<_> = times.iter().map(|(time, text)| chat(time, text)).collect();
    let said = read(&format!("[{}]", chats.join(",")));
    let texts: Vec<_> = said
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(texts, ["old", "beside", "new"]);
}

proptest! {
    #[test]
    fn no_change_of_an_export_panics(case in 0..CHANGED.len(), changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
        let mut bytes = CHANGED[case].as_bytes().to_vec();
        for (place, value) in changes {
            let place = place % bytes.len();
            bytes[place] = value;
        }
        for speaker in [None, Some(Speaker::Assistant)] {
            if let Err(error) = items(Path::new("f"), bytes.as_slice(), speaker) {
                prop_assert!(!error.to_string().contains('\n'));
            }
        }
    }
}

/// Exports that are changed at random.
const CHANGED: [&str; 5] = [
    r#"[{"title": "a", "current_node": "b", "mapping": {"a": {"parent": "b", "message": {"author": {"role": "user"}, "content": {"content_type": "multimodal_text", "parts": ["x", {"content_type": "y"}]}, "metadata": {"attachments": [{}]}}}, "b": {"parent": "a", "message": {"author": {"role": "assistant"}, "content": {"content_type": "text", "parts": ["x\ue200y"]}}}}}]"#,
    r#"[{"name": "x", "chat_messages": [{"uuid": "a", "parent_message_uuid": "b", "sender": "human", "text": "t", "content": [{"type": "text", "text": "t"}], "files": [1]}, {"uuid": "b", "parent_message_uuid": "a", "sender": "assistant", "content": [{"type": "thinking"}]}]}]"#,
    r#"[{"title": "x", "chat": {"history": {"currentId": "a", "messages": {"a": {"parentId": "a", "role": "user", "content": "<details type=\"tool_calls\""}}}, "messages": []}}]"#,
    r#"{"messages": [{"messageId": "a", "isCreatedByUser": true, "text": "x", "content": [{"type": "text", "text": {"value": "y"}}], "children": [{"messageId": "a", "isCreatedByUser": false}]}]}"#,
    r#"{"header": "Gemini", "title": "Prompted x\nAttached 1 file.", "time": "2", "products": [], "safeHtmlItem": [{"html": "<p>"}]}
{"user_name": "a", "character_name": "b"}
{"mes": "x", "is_user": true, "name": "a"}"#,
];
