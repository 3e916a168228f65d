//! Channels of Discord, and the package with the user's own messages.

use super::{failure, left, read, read_all};

const CHANNEL: &str = r#"{"guild": {"id": "1", "name": "Shed"}, "channel": {"id": "2", "name": "paint"}, "messages": [
  {"id": "1", "type": "Default", "timestamp": "2026-03-07T21:00:00+00:00", "content": "who has the ladder <@20>", "author": {"id": "10", "name": "nora", "nickname": "Nora Lind", "isBot": false}, "mentions": [{"id": "20", "name": "tomb", "nickname": "Tom Berg"}]},
  {"id": "2", "type": "Default", "timestamp": "2026-03-07T21:01:00+00:00", "content": "and a brush?", "author": {"id": "11", "name": "ada", "nickname": "Ada", "isBot": false}},
  {"id": "3", "type": "Default", "timestamp": "2026-03-07T21:01:30+00:00", "content": "beep", "author": {"id": "12", "name": "robot", "nickname": "robot", "isBot": true}},
  {"id": "4", "type": "Reply", "timestamp": "2026-03-07T21:02:00+00:00", "content": "me, obviously <:wave:33>", "author": {"id": "20", "name": "tomb", "nickname": "Tom Berg", "isBot": false}, "reference": {"messageId": "1"}},
  {"id": "5", "type": "GuildMemberJoin", "timestamp": "2026-03-07T21:03:00+00:00", "content": "Joined the server.", "author": {"id": "20", "name": "tomb", "nickname": "Tom Berg", "isBot": false}},
  {"id": "6", "type": "Default", "timestamp": "2026-03-07T21:04:00+00:00", "content": "", "attachments": [{"id": "7"}], "author": {"id": "20", "name": "tomb", "nickname": "Tom Berg", "isBot": false}},
  {"id": "7", "type": "Default", "timestamp": "2026-03-07T23:04:00+02:00", "content": "> and a brush?\nthat too", "author": {"id": "20", "name": "tomb", "nickname": "Tom Berg", "isBot": false}}
], "messageCount": 7}"#;

#[test]
fn a_channel_is_read_by_either_name() {
    let expected = [
        "who has the ladder @Tom Berg → me, obviously :wave:",
        "and a brush? → that too",
    ];
    for author in ["Tom Berg", "tomb", "20"] {
        assert_eq!(
            read("c.json", CHANNEL, author).unwrap(),
            expected,
            "{author}"
        );
    }
    assert_eq!(
        left(&[("c.json", CHANNEL)], "tomb"),
        [
            "1 a message of a bot",
            "1 a notice of the messenger",
            "1 an attachment without a text",
            "2 from somebody else"
        ]
    );
    assert!(
        failure(&[("c.json", CHANNEL)], "")
            .ends_with("They are by Tom Berg (2), Ada (1), Nora Lind (1)")
    );
}

#[test]
fn a_channel_with_the_newest_message_first_is_turned_around() {
    let (head, rest) = CHANNEL.split_once("[\n").unwrap();
    let (messages, tail) = rest.split_once("\n]").unwrap();
    let mut lines: Vec<_> = messages
        .lines()
        .map(|line| line.trim_end_matches(','))
        .collect();
    lines.reverse();
    let turned = format!("{head}[\n{}\n]{tail}", lines.join(",\n"));
    assert_eq!(
        read("c.json", &turned, "tomb").unwrap(),
        read("c.json", CHANNEL, "tomb").unwrap()
    );
}

#[test]
fn the_package_holds_the_users_own_messages() {
    let json = r#"[{"ID": 2, "Timestamp": "2026-03-01 10:05:00", "Contents": "the ladder", "Attachments": ""},
        {"ID": 1, "Timestamp": "2026-03-01 10:00:00", "Contents": "hello <@12345> ", "Attachments": ""},
        {"ID": 3, "Timestamp": "2026-03-01 10:06:00", "Contents": "", "Attachments": "https://cdn.example/x.png"}]"#;
    let csv = "ID,Timestamp,Contents,Attachments\n4,2026-02-01 10:00:00.123000+00:00,\"two\nlines, quoted\",\n";
    let files = [
        ("package/messages/c1/messages.json", json),
        (
            "package/messages/c1/channel.json",
            r#"{"id": "1", "type": 1}"#,
        ),
        ("package/messages/c2/messages.csv", csv),
    ];
    let expected = [
        "Write a text. → two\nlines, quoted",
        "Write a text. → hello",
        "Write a text. → the ladder",
    ];
    for author in ["", "Tom Berg"] {
        assert_eq!(read_all(&files, author).unwrap(), expected);
    }
}

#[test]
fn a_channel_is_read_from_a_table() {
    let csv = "AuthorID,Author,Date,Content,Attachments,Reactions\n\"10\",\"nora\",\"2026-03-07T21:00:00.0000000+00:00\",\"ladder?\",\"\",\"\"\n\
        \"20\",\"tomb\",\"2026-03-07T21:01:00.0000000+00:00\",\"mine, \"\"the\"\" one\",\"\",\"\"\n";
    assert_eq!(
        read("c.csv", csv, "tomb").unwrap(),
        ["ladder? → mine, \"the\" one"]
    );
}

#[test]
fn a_channel_is_read_from_plain_text() {
    let rule = "=".repeat(62);
    let text = format!(
        "{rule}\nGuild: Shed\nChannel: paint\n{rule}\n\n[3/7/2026 9:20 PM] nora\nladder?\n\n\n[3/7/2026 9:21 PM] tomb (pinned)\nmine\n\nthe green one\n\n\
         {{Attachments}}\nhttps://x.example\n\n\n[3/7/2026 9:22 PM] tomb\nPinned a message.\n\n\n{rule}\nExported 3 message(s)\n{rule}\n"
    );
    assert_eq!(
        read("c.txt", &text, "tomb").unwrap(),
        ["ladder? → mine\n\nthe green one"]
    );
    assert_eq!(
        left(&[("c.txt", &text)], "tomb"),
        ["1 a notice of the messenger", "1 from somebody else"]
    );
    // A header that lost the lines above it does not make the text below that of the message before.
    let damaged = text.replace(
        "\n\n\n[3/7/2026 9:21 PM] tomb (pinned)",
        "[3/7/2026 9:21 PM] tomb",
    );
    assert!(failure(&[("c.txt", &damaged)], "nora").contains("no usable items"));
}
