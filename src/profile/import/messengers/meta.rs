//! Chats of Messenger and Instagram, as `message_1.json` in Meta's download, and as a file per chat in the one of encrypted
//! chats:
//!
//! ```text
//! {"participants": […], "messages": [{"sender_name": …, "timestamp_ms": …, "content": …, "type": "Generic"}], "title": …}
//! {"participants": […], "threadName": …, "messages": [{"senderName": …, "timestamp": …, "text": …, "type": "text"}]}
//! ```
//!
//! In the first, each byte of the texts' UTF-8 is written as a character. The newest message comes first.

use serde_json::{Map, Value};

use super::talk::{ATTACHMENT, CALL, DELETED, NOTICE, Said, Sender, Talk};
use crate::profile::text_value::text_of;

/// The ends of texts that the program writes for an attachment, in the language of the account.
const AUTOMATIC: [&str; 50] = [
    " sent an attachment.",
    " sent a photo.",
    " sent a video.",
    " sent a link.",
    " sent a sticker.",
    " sent a voice message.",
    " sent a GIF.",
    " sent a location.",
    " sent a live location.",
    " shared a story.",
    " shared a post.",
    " hat einen Anhang gesendet.",
    " hat ein Foto gesendet.",
    " haben einen Anhang gesendet.",
    " hast einen Anhang gesendet.",
    " a envoyé une pièce jointe.",
    " avez envoyé une pièce jointe.",
    " envió un archivo adjunto.",
    " Enviaste un archivo adjunto.",
    " ha inviato un allegato.",
    " hai inviato un allegato.",
    " enviou um anexo.",
    " heeft een bijlage verzonden.",
    " heeft een bijlage gestuurd.",
    " hebt een bijlage verzonden.",
    " skickade en bilaga.",
    " har skickat en bilaga.",
    " sendte et vedlegg.",
    " sendte en vedhæftet fil.",
    " lähetti liitteen.",
    " wysłał załącznik.",
    " wysłała załącznik.",
    " wysłał(a) załącznik.",
    " poslal přílohu.",
    " poslala přílohu.",
    " küldött egy mellékletet.",
    " a trimis un fișier atașat.",
    " отправил вложение.",
    " отправила вложение.",
    " отправил(а) вложение.",
    " надіслав вкладення.",
    " bir ek gönderdi.",
    " έστειλε ένα συνημμένο.",
    " mengirim lampiran.",
    " đã gửi một file đính kèm.",
    "さんが添付ファイルを送信しました。",
    "님이 첨부 파일을 보냈습니다.",
    "发送了一个附件。",
    "傳送了附件。",
    " أرسل مرفقًا.",
];

/// Beginnings and ends of what is written for a reaction.
const REACTIONS: [(&str, &str); 14] = [
    ("Reacted ", " to your message"),
    ("Liked a message", ""),
    ("Hat mit ", " auf deine Nachricht reagiert"),
    ("Hat eine Nachricht mit „Gefällt mir“ markiert", ""),
    ("A réagi ", " à votre message"),
    ("A aimé un message", ""),
    ("Reaccionó con ", " a tu mensaje"),
    ("Le gustó un mensaje", ""),
    ("Indicó que le gusta un mensaje", ""),
    ("Ha reagito con ", " al tuo messaggio"),
    ("Ha messo \"Mi piace\" a un messaggio", ""),
    ("Reagiu com ", " à sua mensagem"),
    ("Curtiu uma mensagem", ""),
    ("Heeft met ", " op je bericht gereageerd"),
];

/// How a notice about the owner begins in English, and how notices of calls end or begin.
const NOTICES: [&str; 17] = [
    "You named the group ",
    "You set the nickname ",
    "You set your nickname ",
    "You set the emoji ",
    "You set the quick reaction ",
    "You changed the ",
    "You created a poll",
    "You created the group",
    "You added ",
    "You removed ",
    "You left the group",
    "You missed a ",
    "You are now connected on Messenger",
    "You unsent a message",
    "This message was unsent",
    "This poll is no longer available",
    "The video chat ended",
];

/// Fields of what is attached.
const ATTACHED: [&str; 7] = [
    "photos",
    "videos",
    "audio_files",
    "files",
    "gifs",
    "sticker",
    "share",
];

/// Whether an object is a message of such a chat.
pub(super) fn is_message(message: &Map<String, Value>) -> bool {
    let has = |name: &str| message.contains_key(name);
    has("sender_name") && has("timestamp_ms")
        || has("senderName") && has("timestamp") && has("type")
}

/// Reads a message.
pub(super) fn talk(message: &Map<String, Value>) -> Talk {
    let field = |names: [&str; 2]| {
        names
            .iter()
            .find_map(|it| text_of(message.get(*it)?))
            .map(|it| repaired(&it))
    };
    let name = field(["sender_name", "senderName"]).unwrap_or_default();
    let time = field(["timestamp_ms", "timestamp"]).and_then(|it| it.parse::<i64>().ok());
    let text = field(["content", "text"]).unwrap_or_default();
    let is_set = |name: &str| message.get(name) == Some(&Value::Bool(true));
    let said = match message.get("type").and_then(Value::as_str) {
        _ if is_set("is_unsent") || is_set("isUnsent") => Said::Left(DELETED),
        Some("Call") => Said::Left(CALL),
        _ if message.contains_key("call_duration") => Said::Left(CALL),
        Some("Subscribe" | "Unsubscribe" | "placeholder") => Said::Notice,
        _ => {
            let is_attached = ATTACHED.iter().any(|it| message.contains_key(*it));
            said(&name, &text, is_attached)
        }
    };
    Talk::new(Sender::named(name), time.map(|it| it / 1000), said)
}

/// Reads the text of somebody's message, to which something may be attached.
pub(super) fn said(name: &str, text: &str, is_attached: bool) -> Said {
    let text = text.trim();
    let is_reaction = |(start, end): &(&str, &str)| text.starts_with(start) && text.ends_with(end);
    let is_automatic = |it: &&str| {
        text.ends_with(it.trim_start()) && (is_attached || !text.contains('\n'))
            // What was sent may have words of its own, behind the program's.
            || text.strip_prefix(name).is_some_and(|rest| rest.starts_with(*it))
    };
    let is_link = is_attached && text.starts_with("http") && !text.contains(char::is_whitespace);
    if is_link || AUTOMATIC.iter().any(is_automatic) {
        return Said::Left(ATTACHMENT);
    }
    let first = name.split_whitespace().next().unwrap_or(name);
    let speaks_of = |name: &str| {
        let rest = text.strip_prefix(name).filter(|_| !name.is_empty());
        rest.is_some_and(|it| it.starts_with(' '))
    };
    let is_notice = speaks_of(name) || speaks_of(first) && text.ends_with('.');
    if is_notice
        || REACTIONS.iter().any(is_reaction)
        || NOTICES.iter().any(|it| text.starts_with(it))
    {
        return Said::Left(NOTICE);
    }
    Said::text(text, ATTACHMENT)
}

/// A text whose characters are the bytes of its UTF-8, put right.
fn repaired(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let bytes: Option<Vec<u8>> = text.chars().map(|it| u8::try_from(it).ok()).collect();
    let repaired = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    repaired.unwrap_or_else(|| text.to_owned())
}
