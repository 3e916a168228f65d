//! Channels of Slack.

use super::{failure, left, read, read_all};

const USERS: &str = r#"[{"id": "U1", "name": "nlind", "real_name": "Nora Lind", "profile": {"real_name": "Nora Lind", "display_name": "nora", "email": "nora@lind.example"}},
  {"id": "U2", "name": "tberg", "profile": {"real_name": "Tom Berg", "display_name": "", "email": "tom@berg.example"}}]"#;

const FIRST: &str = r#"[
  {"type": "message", "subtype": "channel_join", "user": "U2", "text": "<@U2> has joined the channel", "ts": "1772913000.000100"},
  {"type": "message", "user": "U1", "text": "<@U2> who has the ladder &amp; the &lt;paint&gt;?", "ts": "1772913600.000100", "thread_ts": "1772913600.000100", "reply_count": 2},
  {"type": "message", "user": "U1", "text": "coffee?", "ts": "1772913610.000100"},
  {"type": "message", "subtype": "bot_message", "username": "deploy", "bot_id": "B1", "text": "done", "ts": "1772913615.000100"},
  {"type": "message", "user": "U1", "text": "or tea?", "ts": "1772913616.000100"},
  {"type": "message", "user": "U2", "text": "tea, see <https://tea.example/a?b=1&amp;c=2|this page> and <https://x.example>, <!here>", "ts": "1772913620.000100"},
  {"type": "message", "user": "U2", "text": "mine", "ts": "1772913630.000100", "thread_ts": "1772913600.000100", "parent_user_id": "U1"},
  {"type": "message", "user": "U2", "text": "", "files": [{"id": "F1"}], "ts": "1772913640.000100"}
]"#;

const SECOND: &str = r#"[
  {"type": "message", "user": "U1", "text": "bring it", "ts": "1772999900.000100", "thread_ts": "1772913600.000100"},
  {"type": "message", "user": "U2", "subtype": "thread_broadcast", "text": "tomorrow, <#C1|shed>", "ts": "1772999990.000100", "thread_ts": "1772913600.000100"}
]"#;

const FILES: [(&str, &str); 4] = [
    ("export/users.json", USERS),
    (
        "export/channels.json",
        r#"[{"id": "C1", "name": "shed", "members": ["U1", "U2"]}]"#,
    ),
    ("export/shed/2026-03-07.json", FIRST),
    ("export/shed/2026-03-08.json", SECOND),
];

#[test]
fn threads_are_followed_across_days() {
    let expected = [
        "or tea? → tea, see this page and https://x.example, @here",
        "@Tom Berg who has the ladder & the <paint>? → mine",
        "bring it → tomorrow, #shed",
    ];
    for author in ["Tom Berg", "tom@berg.example", "U2", "tberg"] {
        assert_eq!(read_all(&FILES, author).unwrap(), expected, "{author}");
    }
    assert_eq!(
        left(&FILES, "U2"),
        [
            "2 a JSON file in no known form",
            "1 a message of a bot",
            "1 a notice of the messenger",
            "1 an attachment without a text",
            "4 from somebody else"
        ]
    );
    assert!(failure(&FILES, "").ends_with("They are by nora (4), Tom Berg (3)"));
}

#[test]
fn a_day_alone_names_people_by_their_profiles() {
    let day = SECOND.replace(
        r#""user": "U2","#,
        r#""user": "U2", "user_profile": {"real_name": "Tom Berg", "display_name": "tomb"},"#,
    );
    assert_eq!(
        read("2026-03-08.json", &day, "Tom Berg").unwrap(),
        ["bring it → tomorrow, #shed"]
    );
    assert!(failure(&[("2026-03-08.json", &day)], "").ends_with("They are by tomb (1)"));
}
