//! Mails that are left as a whole, because a program wrote them or their text cannot be read.

use mail_parser::{HeaderValue, Message, MimeHeaders};

use super::markers::MARKERS;

/// The reason why the text of a mail of the user's own is not taken, if there is one.
pub(super) fn why_left(message: &Message) -> Option<&'static str> {
    if is_automatic(message) {
        return Some("an automatic answer");
    }
    let mut parts = message.parts.iter();
    if parts.any(|part| part.is_content_type("text", "calendar") && is_shown(part)) {
        return Some("an invitation, or an answer to one");
    }
    let root = message.root_part();
    if root.is_content_type("multipart", "report") {
        return Some("a report of delivery or reading");
    }
    is_encrypted(message).then_some("encrypted")
}

fn is_automatic(message: &Message) -> bool {
    let value = |name: &'static str| {
        message
            .header(name)
            .and_then(HeaderValue::as_text)
            .map(str::trim)
    };
    let is_submitted =
        value("Auto-Submitted").is_some_and(|value| !value.to_ascii_lowercase().starts_with("no"));
    let precedence = value("Precedence").unwrap_or_default().to_ascii_lowercase();
    is_submitted
        || value("X-Autoreply").is_some()
        || value("X-Autorespond").is_some()
        || ["bulk", "junk", "auto_reply"].contains(&precedence.as_str())
        || MARKERS.is_automatic(message.subject().unwrap_or_default())
}

/// Whether a calendar's part is what the mail is about, and not a file that is attached.
fn is_shown(part: &mail_parser::MessagePart) -> bool {
    let is_attached = part
        .content_disposition()
        .is_some_and(mail_parser::ContentType::is_attachment);
    !is_attached
        && part
            .content_type()
            .is_some_and(|kind| kind.has_attribute("method"))
}

fn is_encrypted(message: &Message) -> bool {
    let root = message.root_part();
    let kind = root.content_type();
    let is_smime = kind.is_some_and(|kind| {
        let name = kind.subtype().unwrap_or_default().to_ascii_lowercase();
        let is_signed = kind
            .attribute("smime-type")
            .is_some_and(|kind| kind.eq_ignore_ascii_case("signed-data"));
        ["pkcs7-mime", "x-pkcs7-mime"].contains(&name.as_str()) && !is_signed
    });
    let is_pgp = || {
        let text = message.text_bodies().find_map(|part| part.text_contents());
        text.is_some_and(|text| {
            let mut lines = text.lines();
            lines.any(|line| line.trim_end() == "-----BEGIN PGP MESSAGE-----")
        })
    };
    root.is_content_type("multipart", "encrypted") || is_smime || is_pgp()
}
