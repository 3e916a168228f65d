//! Exports of all kinds with a few bytes changed.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

/// An export of each format, in which all texts of the other side hold the word `secret`.
fn exports() -> Vec<(&'static str, String)> {
    let rule = "=".repeat(62);
    let x = |name: &str, json: &str| format!("window.YTD.{name}.part0 = {json}");
    vec![
        (
            "android.txt",
            "12/03/2026, 18:02 - Nora Lind: secret ladder?\n12/03/2026, 18:05 - Tom Berg: aye\nand paint\n12/03/2026, 18:06 - Nora Lind: secret two\nsecret three\n12/03/2026, 18:09 - Tom Berg: mud\n".into(),
        ),
        (
            "_chat.txt",
            "[07.03.26, 21:23:01] Nora Lind: secret home?\r\n[07.03.26, 21:24:11] Tom Berg: nearly\r\n[07.03.26, 21:25:01] Nora Lind: secret train?\r\n[07.03.26, 21:26:11] Tom Berg: asleep\r\n".into(),
        ),
        (
            "line.txt",
            "[LINE] Chat history with Nora\nSaved on: 2026/03/12 18:02\n\n2026/03/12(Thu)\n18:02\tNora Lind\tsecret\n18:05\tTom Berg\t\"aye\nand paint\"\n18:06\tNora Lind\t\"secret\nsecret\"\n18:09\tTom Berg\tmud\n".into(),
        ),
        (
            "desktop.txt",
            "2026.03.12 Thursday\n18:02 Nora Lind secret ladder?\n18:05 Tom Berg aye\nand paint\n18:06 Nora Lind secret\nsecret two\n18:09 Tom Berg mud\n18:10 Nora Lind secret three\n".into(),
        ),
        (
            "channel.txt",
            format!("{rule}\nGuild: Shed\nChannel: paint\n{rule}\n\n[3/7/2026 9:20 PM] Nora Lind\nsecret?\n\n\n[3/7/2026 9:21 PM] Tom Berg\nmine\n\n\n[3/7/2026 9:22 PM] Nora Lind\nsecret!\n\n\n"),
        ),
        (
            "result.json",
            r#"{"name": "Nora", "type": "personal_chat", "id": 1, "messages": [{"id": 1, "type": "message", "date": "2026-03-07T21:00:00", "from": "Nora Lind", "from_id": "user111", "text": "secret \"1\""}, {"id": 2, "type": "message", "date": "2026-03-07T21:01:00", "from": "Tom Berg", "from_id": "user222", "text": ["nearly. ", {"type": "bold", "text": "asleep"}]}, {"id": 3, "type": "message", "date": "2026-03-07T21:02:00", "from": "Nora Lind", "from_id": "user111", "text": "secret 2"}]}"#.into(),
        ),
        (
            "message_1.json",
            r#"{"participants": [{"name": "Nora Lind"}], "messages": [{"sender_name": "Nora Lind", "timestamp_ms": 3, "content": "secret 2", "type": "Generic"}, {"sender_name": "Tom Berg", "timestamp_ms": 2, "content": "nearly", "type": "Generic"}, {"sender_name": "Nora Lind", "timestamp_ms": 1, "content": "secret 1", "type": "Generic"}]}"#.into(),
        ),
        (
            "discord.json",
            r#"{"guild": {"name": "Shed"}, "messages": [{"id": "1", "type": "Default", "timestamp": "2026-03-07T21:00:00+00:00", "content": "secret 1", "author": {"id": "111", "name": "Nora Lind"}}, {"id": "2", "type": "Reply", "timestamp": "2026-03-07T21:01:00+00:00", "content": "me", "author": {"id": "222", "name": "Tom Berg"}, "reference": {"messageId": "1"}}]}"#.into(),
        ),
        (
            "discord.csv",
            "AuthorID,Author,Date,Content,Attachments,Reactions\n\"111\",\"Nora Lind\",\"2026-03-07\",\"secret\",\"\",\"\"\n\"222\",\"Tom Berg\",\"2026-03-07\",\"mine\",\"\",\"\"\n\"111\",\"Nora Lind\",\"2026-03-07\",\"secret\",\"\",\"\"\n".into(),
        ),
        (
            "2026-03-07.json",
            r#"[{"type": "message", "user": "U1AB", "text": "secret <@U2CD>", "ts": "1772913600.000100", "user_profile": {"real_name": "Nora Lind"}}, {"type": "message", "user": "U2CD", "text": "mine", "ts": "1772913610.000100", "user_profile": {"real_name": "Tom Berg"}}, {"type": "message", "user": "U1AB", "text": "secret", "ts": "1772913620.000100", "user_profile": {"real_name": "Nora Lind"}}]"#.into(),
        ),
        (
            "data.json",
            "{\"date\": \"2026-03-07T21:01:00\", \"sender\": \"Nora\", \"body\": \"secret\", \"quote\": \"\", \"reactions\": []}\n{\"date\": \"2026-03-07T21:02:00\", \"sender\": \"Tom Berg\", \"body\": \"mine\", \"quote\": \"\", \"reactions\": []}\n".into(),
        ),
        (
            "direct-messages.js",
            x("direct_messages", r#"[{"dmConversation": {"conversationId": "1-2", "messages": [{"messageCreate": {"senderId": "11", "text": "secret", "createdAt": "2026-03-07T21:23:39.123Z"}}, {"messageCreate": {"senderId": "Tom Berg", "text": "mine", "createdAt": "2026-03-07T21:22:39.123Z"}}]}}]"#),
        ),
        (
            "messages.html",
            "<div class=\"history\"><div class=\"message default clearfix\" id=\"message1\"><div class=\"body\"><div class=\"from_name\">Nora Lind</div><div class=\"text\">secret</div></div></div><div class=\"message default clearfix joined\" id=\"message2\"><div class=\"body\"><div class=\"text\">secret</div></div></div><div class=\"message default clearfix\" id=\"message3\"><div class=\"body\"><div class=\"from_name\">Tom Berg</div><div class=\"text\">mine</div></div></div><div class=\"message default clearfix\" id=\"message4\"><div class=\"body\"><div class=\"from_name\">Nora Lind</div><div class=\"text\">secret</div></div></div></div>".into(),
        ),
        ("message_1.html", page("section", "h2", "footer")),
        ("message_2.html", page("div", "div", "div")),
    ]
}

/// A page of Meta's of these elements.
fn page(message: &str, heading: &str, date: &str) -> String {
    let said = [
        ("Nora Lind", "secret 2"),
        ("Tom Berg", "mine"),
        ("Nora Lind", "secret 1"),
    ];
    let messages = said.iter().map(|(name, text)| {
        format!("<{message} class=\"_3-95 _a6-g\"><{heading} class=\"_2ph_ _a6-h _a6-i\">{name}</{heading}><div class=\"_2ph_ _a6-p\"><div><div></div><div>{text}</div><div></div><div></div><div><ul class=\"_a6-q\"><li><span>❤Nora Lind</span></li></ul></div></div></div><{date} class=\"_3-94 _a6-o\"><div class=\"_a72d\">Mar 07, 2026 9:22:39 pm</div></{date}></{message}>")
    });
    format!(
        "<html><head><title>Nora Lind</title></head><body><main role=\"main\">{}</main></body></html>",
        messages.collect::<String>()
    )
}

/// A change of a text: where, in parts of its length, how many bytes go, and what comes instead.
type Change = (f64, usize, Vec<u8>);

fn changed(text: &str, changes: &[Change]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for (place, n_gone, new) in changes {
        let at = ((bytes.len() as f64) * place) as usize;
        let end = (at + n_gone).min(bytes.len());
        bytes.splice(at.min(end)..end, new.iter().copied());
    }
    bytes
}

#[test]
fn damaged_exports_never_give_the_user_another_persons_text() {
    let byte = prop_oneof![
        any::<u8>(),
        proptest::sample::select(b"\"'[]{}<>,:;-/.0129 \n\t\\=".to_vec())
    ];
    let change = (0.0..1.0_f64, 0..4_usize, vec(byte, 0..3));
    let folder = TempDir::new().unwrap();
    for (name, text) in exports() {
        let path = folder.path().join(name);
        let options = ImportOptions {
            authors: vec!["Tom Berg".into()],
            ..ImportOptions::default()
        };
        std::fs::write(&path, &text).unwrap();
        let whole = crate::profile::import(&path, &options).unwrap();
        assert!(!whole.examples.is_empty(), "{name}");
        let mut runner = TestRunner::deterministic();
        for _ in 0..CASES {
            let changes = vec(&change, 1..3).new_tree(&mut runner).unwrap().current();
            let bytes = changed(&text, &changes);
            std::fs::write(&path, &bytes).unwrap();
            let Ok(imported) = crate::profile::import(&path, &options) else {
                continue;
            };
            // A file that is no chat any more is a text like others.
            if !imported.applied.contains(&ImportOption::Authors) {
                continue;
            }
            for example in imported.examples {
                let bytes = String::from_utf8_lossy(&bytes);
                assert!(
                    !example.response.contains("secret"),
                    "{name}: {example:?}\n{bytes}"
                );
            }
        }
    }
}

/// The number of changed texts of each format.
const CASES: usize = 200;
