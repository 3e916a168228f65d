//! Chats of Messenger and Instagram.

use super::{failure, left, read, read_all};

const THREAD: &str = r#"{"participants": [{"name": "Zo\u00c3\u00ab"}, {"name": "Tom Berg"}], "messages": [
  {"sender_name": "Tom Berg", "timestamp_ms": 1772913960000, "content": "Tom named the group Shed.", "type": "Generic"},
  {"sender_name": "Tom Berg", "timestamp_ms": 1772913950000, "content": "Reacted \u00e2\u009d\u00a4 to your message ", "type": "Generic"},
  {"sender_name": "Tom Berg", "timestamp_ms": 1772913940000, "content": "You sent an attachment.", "share": {"link": "https://x.example"}, "type": "Share"},
  {"sender_name": "Tom Berg", "timestamp_ms": 1772913930000, "photos": [{"uri": "a.jpg"}], "type": "Generic"},
  {"sender_name": "Tom Berg", "timestamp_ms": 1772913920000, "content": "a secret", "is_unsent": true, "type": "Generic"},
  {"sender_name": "Tom Berg", "timestamp_ms": 1772913910000, "content": "You called Zoe.", "call_duration": 12, "type": "Call"},
  {"sender_name": "Tom Berg", "timestamp_ms": 1772913670000, "content": "et du th\u00c3\u00a9", "type": "Generic", "reactions": [{"reaction": "\u00f0\u009f\u0098\u0086", "actor": "Zo\u00c3\u00ab"}]},
  {"sender_name": "Tom Berg", "timestamp_ms": 1772913660000, "content": "tr\u00c3\u00a8s bien \u00e2\u0098\u0095", "type": "Generic"},
  {"sender_name": "Zo\u00c3\u00ab", "timestamp_ms": 1772913600000, "content": "caf\u00c3\u00a9 \u00c3\u00a0 8 ?", "type": "Generic"}
], "title": "Zo\u00c3\u00ab", "thread_path": "inbox/zoe_1"}"#;

#[test]
fn texts_are_put_right_and_turned_around() {
    let expected = ["café à 8 ? → très bien ☕\net du thé"];
    assert_eq!(
        read("message_1.json", THREAD, "Tom Berg").unwrap(),
        expected
    );
    assert_eq!(
        left(&[("message_1.json", THREAD)], "Tom Berg"),
        [
            "1 a call",
            "1 a deleted message",
            "2 a notice of the messenger",
            "2 an attachment without a text",
            "1 from somebody else"
        ]
    );
    assert!(
        failure(&[("message_1.json", THREAD)], "").ends_with("They are by Tom Berg (2), Zoë (1)")
    );
    assert_eq!(
        read("message_1.json", THREAD, "zoë").unwrap(),
        ["Write a text. → café à 8 ?"]
    );
}

#[test]
fn what_is_written_well_stays() {
    let thread = r#"{"messages": [{"sender_name": "Tom Berg", "timestamp_ms": 1, "content": "Zoë: 10 €, naïve", "type": "Generic"}]}"#;
    assert_eq!(
        read("message_1.json", thread, "Tom Berg").unwrap(),
        ["Write a text. → Zoë: 10 €, naïve"]
    );
}

#[test]
fn chats_of_a_folder_and_encrypted_ones_are_read() {
    let encrypted = r#"{"participants": ["Nora Lind", "Tom Berg"], "threadName": "Nora Lind_3", "messages": [
        {"isUnsent": false, "media": [], "reactions": [], "senderName": "Nora Lind", "text": "ladder?", "timestamp": 1772000000000, "type": "text"},
        {"isUnsent": false, "media": [], "reactions": [], "senderName": "Tom Berg", "text": "mine", "timestamp": 1772000060000, "type": "text"},
        {"isUnsent": true, "media": [], "reactions": [], "senderName": "Tom Berg", "text": "no", "timestamp": 1772000070000, "type": "text"}]}"#;
    let files = [
        ("messages/inbox/zoe_1/message_1.json", THREAD),
        ("messages/e2ee/Nora Lind_3.json", encrypted),
    ];
    assert_eq!(
        read_all(&files, "Tom Berg").unwrap(),
        ["ladder? → mine", "café à 8 ? → très bien ☕\net du thé"]
    );
}
