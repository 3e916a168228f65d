//! Chats of Telegram, of one person and of an account, as JSON and as web pages.

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

#[test]
fn web_pages_are_read() {
    let message = |id: u32, class: &str, inner: &str| {
        format!(
            "<div class=\"message default clearfix{class}\" id=\"message{id}\">\n<div class=\"pull_left userpic_wrap\"><div class=\"userpic\"><div class=\"initials\">NL</div></div></div>\n\
             <div class=\"body\">\n<div class=\"pull_right date details\" title=\"07.03.2026 21:{id:02}:00 UTC+01:00\">21:00</div>\n{inner}</div>\n</div>\n"
        )
    };
    let from = |name: &str, text: &str| {
        format!(
            "<div class=\"from_name\">\n{name} \n</div>\n<div class=\"text\">\n{text}\n</div>\n"
        )
    };
    let forward = "<div class=\"from_name\">Tom Berg</div><div class=\"forwarded body\"><div class=\"from_name\">Ada</div><div class=\"text\">a text of hers</div></div>";
    let messages = [
        "<div class=\"message service\" id=\"message-1\"><div class=\"body details\">7 March 2026</div></div>".to_owned(),
        message(1, "", &from("Nora Lind", "home &amp; dry<br>yet?")),
        message(2, " joined", "<div class=\"text\">and the paint?</div>"),
        message(3, "", &format!("<div class=\"reply_to details\">In reply to <a href=\"#go_to_message1\">this message</a></div>{}", from("Tom Berg", "nearly. <strong>train</strong> is asleep"))),
        message(4, " joined", "<div class=\"text\"><blockquote>and the paint?</blockquote>mud</div>"),
        message(5, "", forward),
        message(6, " joined", "<div class=\"media_wrap clearfix\"></div>"),
    ];
    let page = format!(
        "<!DOCTYPE html><html><body><div class=\"page_wrap\"><div class=\"history\">{}</div></div></body></html>",
        messages.concat()
    );
    assert_eq!(
        read("messages.html", &page, "Tom Berg").unwrap(),
        [
            "home & dry\nyet? → nearly. train is asleep",
            "and the paint? → mud"
        ]
    );
    assert_eq!(
        left(&[("messages.html", &page)], "Tom Berg"),
        [
            "1 a forwarded message",
            "1 an attachment without a text",
            "2 from somebody else"
        ]
    );
    let damaged = page
        .replace(
            "<div class=\"from_name\">\nNora Lind",
            "<div class=\"from_nime\">\nNora Lind",
        )
        .replace("asleep\n</div>", "asleep\n</dov>");
    let texts = read("messages.html", &damaged, "Tom Berg").unwrap();
    assert!(
        !texts.concat().contains("yet") && !texts.concat().contains("hers"),
        "{texts:?}"
    );
}
