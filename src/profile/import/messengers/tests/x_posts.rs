//! Posts and direct messages on X.

use super::{failure, left, read, read_all};

const POSTS: &str = r#"window.YTD.tweets.part0 = [
  {"tweet": {"id_str": "3", "full_text": "RT @nora: a text of hers", "created_at": "Sat Mar 07 21:23:39 +0000 2026"}},
  {"tweet": {"id_str": "2", "full_text": "@nora @ada mud &amp; more https://t.co/a https://t.co/p", "created_at": "Sat Mar 07 21:22:39 +0000 2026", "in_reply_to_status_id_str": "9",
    "entities": {"urls": [{"url": "https://t.co/a", "expanded_url": "https://paint.example/mud"}], "media": [{"url": "https://t.co/p"}]}}},
  {"tweet": {"id_str": "1", "full_text": "the ladder is back &lt;3", "created_at": "Fri Mar 06 21:22:39 +0000 2026"}},
  {"tweet": {"id_str": "4", "full_text": "a long text that goes on https://t.co/b", "created_at": "Thu Mar 05 21:22:39 +0000 2026", "entities": {"urls": [{"url": "https://t.co/b", "expanded_url": "https://twitter.com/i/web/status/4"}]}}}
]"#;

const LONG: &str = r#"window.YTD.note_tweet.part0 = [{"noteTweet": {"noteTweetId": "5", "createdAt": "2026-03-05T21:22:39.000Z", "core": {"text": "a long text that goes on and on", "urls": []}}}]"#;

const MESSAGES: &str = r#"window.YTD.direct_messages.part0 = [{"dmConversation": {"conversationId": "11-22", "messages": [
  {"messageCreate": {"recipientId": "11", "senderId": "22", "text": "mine", "createdAt": "2026-03-07T21:23:39.123Z", "urls": []}},
  {"joinConversation": {}},
  {"messageCreate": {"recipientId": "22", "senderId": "11", "text": "ladder? https://t.co/q", "createdAt": "2026-03-07T21:22:39.123Z", "urls": [{"url": "https://t.co/q", "expanded": "https://ladder.example"}]}}
]}}]"#;

const ACCOUNT: &str = r#"window.YTD.account.part0 = [{"account": {"email": "tom@berg.example", "username": "tomb", "accountId": "22", "accountDisplayName": "Tom Berg"}}]"#;

#[test]
fn posts_are_the_owners_without_what_others_wrote() {
    let expected = [
        "Write a text. → a long text that goes on and on",
        "Write a text. → the ladder is back <3",
        "Write a text. → mud & more https://paint.example/mud",
    ];
    let files = [("data/tweets.js", POSTS), ("data/note-tweet.js", LONG)];
    for author in ["", "Tom Berg"] {
        assert_eq!(read_all(&files, author).unwrap(), expected);
    }
    assert_eq!(
        left(&files, ""),
        ["1 a forwarded message", "1 a post that is cut off here"]
    );
}

#[test]
fn direct_messages_are_told_by_the_account() {
    let files = [
        ("data/direct-messages.js", MESSAGES),
        ("data/account.js", ACCOUNT),
    ];
    for author in ["", "Tom Berg", "22"] {
        assert_eq!(
            read_all(&files, author).unwrap(),
            ["ladder? https://ladder.example → mine"]
        );
    }
    let all = [files[0], files[1], ("data/tweets.js", POSTS)];
    for author in ["", "Tom Berg"] {
        assert_eq!(read_all(&all, author).unwrap().len(), 3);
    }
    assert!(
        failure(&[("data/direct-messages.js", MESSAGES)], "")
            .ends_with("They are by 11 (1), 22 (1)")
    );
    assert_eq!(read("direct-messages.js", MESSAGES, "22").unwrap().len(), 1);
}
