//! Chats of Signal.

use super::{failure, left, read};

#[test]
fn the_frames_of_a_backup_tell_their_owner() {
    let frames = [
        r#"{"version": "1", "backupTimeMs": "1772913600000"}"#,
        r#"{"account": {"givenName": "Tom", "familyName": "Berg"}}"#,
        r#"{"recipient": {"id": "1", "self": {}}}"#,
        r#"{"recipient": {"id": "2", "contact": {"profileGivenName": "Nora", "profileFamilyName": "Lind", "e164": "447700900123"}}}"#,
        r#"{"recipient": {"id": "3", "contact": {"profileGivenName": "Ada"}}}"#,
        r#"{"chat": {"id": "7", "recipientId": "2"}}"#,
        r#"{"chatItem": {"chatId": "7", "authorId": "2", "dateSent": "1772913600000", "incoming": {}, "standardMessage": {"text": {"body": "home yet?"}}}}"#,
        r#"{"chatItem": {"chatId": "8", "authorId": "3", "dateSent": "1772913610000", "incoming": {}, "standardMessage": {"text": {"body": "tea?"}}}}"#,
        r#"{"chatItem": {"chatId": "7", "authorId": "1", "dateSent": "1772913660000", "outgoing": {}, "standardMessage": {"text": {"body": "nearly"}}}}"#,
        r#"{"chatItem": {"chatId": "8", "authorId": "1", "dateSent": "1772913670000", "outgoing": {}, "standardMessage": {"quote": {"authorId": "3", "text": {"body": "milk?"}}, "text": {"body": "gladly"}}}}"#,
        r#"{"chatItem": {"chatId": "7", "authorId": "1", "dateSent": "1772913680000", "outgoing": {}, "standardMessage": {"attachments": [{}]}}}"#,
        r#"{"chatItem": {"chatId": "7", "authorId": "1", "dateSent": "1772913690000", "outgoing": {}, "remoteDeletedMessage": {}}}"#,
        r#"{"chatItem": {"chatId": "7", "authorId": "2", "dateSent": "1772913695000", "directionless": {}, "updateMessage": {}}}"#,
    ]
    .join("\n");
    for author in ["", "Tom Berg"] {
        assert_eq!(
            read("main.jsonl", &frames, author).unwrap(),
            ["home yet? → nearly", "milk? → gladly"]
        );
    }
    assert_eq!(
        read("main.jsonl", &frames, "Nora Lind").unwrap(),
        ["Write a text. → home yet?"]
    );
    assert_eq!(
        left(&[("main.jsonl", &frames)], ""),
        [
            "1 a deleted message",
            "1 a notice of the messenger",
            "1 an attachment without a text",
            "2 from somebody else"
        ]
    );
    assert!(
        failure(&[("main.jsonl", &frames)], "Xena")
            .ends_with("it has some by Tom Berg (2), Ada (1), Nora Lind (1)")
    );
}

#[test]
fn sigexports_lines_are_read() {
    let message = |minute: u32, sender: &str, body: &str, quote: &str| {
        format!(
            r#"{{"date": "2026-03-07T21:{minute:02}:00", "sender": "{sender}", "body": "{body}  ", "quote": "{quote}", "sticker": null, "reactions": [], "attachments": [], "deleted": false}}"#
        )
    };
    let lines = [
        message(1, "Nora", "home yet?", ""),
        message(2, "Nora", "train?", ""),
        message(3, "Me", "nearly", r"\n\n> home yet?\n\n"),
        message(4, "Me", "", ""),
        message(5, "Nora", "ok", ""),
        message(6, "Me", "gone", "").replace("\"deleted\": false", "\"deleted\": true"),
    ];
    for author in ["", "Tom Berg", "me"] {
        assert_eq!(
            read("data.json", &lines.join("\n"), author).unwrap(),
            ["home yet? → nearly"]
        );
    }
    assert_eq!(
        read("data.json", &lines.join("\n"), "Nora").unwrap(),
        ["Write a text. → home yet?\ntrain?", "Write a text. → ok"]
    );
}

#[test]
fn another_chat_that_does_not_tell_its_owner_is_asked_for() {
    let own = r#"{"date": "2026-03-07T21:01:00", "sender": "Me", "body": "nearly", "quote": "", "reactions": []}"#;
    let other = "12/03/2026, 18:02 - Nora Lind: ladder?\n12/03/2026, 18:05 - Tom Berg: aye\n";
    let files = [("a/data.json", own), ("b.txt", other)];
    assert!(failure(&files, "").ends_with("They are by Nora Lind (1), Tom Berg (1)"));
    // The name is that of somebody, who may not be the owner of the other file.
    assert_eq!(
        super::read_all(&files, "Tom Berg").unwrap(),
        ["ladder? → aye"]
    );
}
