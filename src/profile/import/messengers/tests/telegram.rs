use super::{failure, left, read};

const CHAT: &str = r#"{"name": "Nora", "type": "personal_chat", "id": 1, "messages": [
  {"id": 1, "type": "service", "date": "2026-03-07T20:00:00", "actor": "Nora Lind", "actor_id": "user1", "action": "phone_call", "text": "", "text_entities": []},
  {"id": 2, "type": "message", "date": "2026-03-07T21:00:00", "date_unixtime": "1772913600", "from": "Nora Lind", "from_id": "user1", "text": "home yet?", "text_entities": [{"type": "plain", "text": "home yet?"}]},
  {"id": 3, "type": "message", "date": "2026-03-07T21:01:00", "from": "Tom Berg", "from_id": "user2", "text": ["nearly. ", {"type": "bold", "text": "train is asleep"}, " 😴"], "text_entities": []},
  {"id": 4, "type": "message", "date": "2026-03-07T21:02:00", "from": "Tom Berg", "from_id": "user2", "forwarded_from": null, "text": "a text of Ada's"},
  {"id": 5, "type": "message", "date": "2026-03-07T21:02:30", "from": "Tom Berg", "from_id": "user2", "via_bot": "@gif", "text": "a bot's"},
  {"id": 6, "type": "message", "date": "2026-03-07T21:03:00", "from": "Nora Lind", "from_id": "user1", "text": "and the paint?"},
  {"id": 7, "type": "message", "date": "2026-03-07T21:03:10", "from": "Nora Lind", "from_id": "user1", "photo": "p.jpg", "text": ""},
  {"id": 8, "type": "message", "date": "2026-03-07T21:04:00", "from": "Tom Berg", "from_id": "user2", "reply_to_message_id": 6, "text": [{"type": "blockquote", "text": "and the paint?"}, "mud it is"]},
  {"id": 9, "type": "message", "date": "2026-03-07T21:05:00", "from": "Tom Berg", "from_id": "user2", "reply_to_message_id": 1, "photo": "q.jpg", "text": "look", "text_entities": []},
  {"id": 10, "type": "message", "date": "2026-03-07T21:06:00", "from": null, "from_id": "user3", "text": "who is that"},
  {"id": 11, "type": "message", "date": "2026-03-07T21:07:00", "from": "Tom Berg", "from_id": "user2", "text": "gone"}
]}"#;

#[test]
fn texts_are_joined_and_forwards_left() {
    assert_eq!(
        read("result.json", CHAT, "Tom Berg").unwrap(),
        [
            "home yet? → nearly. train is asleep 😴",
            "and the paint? → mud it is",
            "Write a text. → look",
            "who is that → gone",
        ]
    );
    assert_eq!(
        left(&[("result.json", CHAT)], "user2"),
        [
            "1 a forwarded message",
            "1 a message of a bot",
            "1 a notice of the messenger",
            "1 an attachment without a text",
            "3 from somebody else",
        ]
    );
    assert_eq!(
        failure(&[("result.json", CHAT)], ""),
        "whose messages are the user's own? They are by Tom Berg (4), Nora Lind (2)"
    );
}

#[test]
fn an_account_tells_its_owner() {
    let account = format!(
        r#"{{"about": "…", "personal_information": {{"user_id": 2, "first_name": "Tom"}}, "contacts": {{"list": [{{"first_name": "Nora"}}]}},
            "chats": {{"about": "…", "list": [{CHAT}]}}, "left_chats": {{"list": []}}}}"#
    );
    let texts = read("result.json", &account, "").unwrap();
    assert_eq!(texts.len(), 4);
    assert!(texts[0].ends_with("train is asleep 😴"));
    assert_eq!(read("result.json", &account, "Nora Lind").unwrap().len(), 2);
}

#[test]
fn two_people_of_one_name_are_told_apart() {
    let chat = CHAT.replace("Nora Lind", "Tom Berg");
    assert_eq!(
        failure(&[("result.json", &chat)], "tom berg"),
        "several people have that name; give the id of the user's own account instead: user1 (Tom Berg), user2 (Tom Berg)"
    );
    assert_eq!(read("result.json", &chat, "user2").unwrap().len(), 4);
}

#[test]
fn a_broken_file_is_named_with_its_place() {
    let broken = CHAT.replace(r#""text": "gone"}"#, r#""text": "gone""#);
    assert_eq!(
        failure(&[("result.json", &broken)], "Tom Berg"),
        "line 11, item 11: no valid JSON (expected `,` or `}`, line 13, column 1)"
    );
}
