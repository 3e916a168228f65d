//! Chats of Telegram Desktop's export as web pages, `messages.html`:
//!
//! ```text
//! <div class="message default clearfix" id="message2"><div class="body">
//!   <div class="pull_right date details" title="07.03.2026 21:22:39 UTC+01:00">21:22</div>
//!   <div class="from_name">Nora Lind</div> <div class="text">home yet?</div> </div></div>
//! ```
//!
//! A message with the class `joined` has the sender of the one before. The form is that of
//! <https://github.com/telegramdesktop/tdesktop>, `export_output_html.cpp`.

use scraper::{ElementRef, Html, Node, Selector};

use super::stamp::iso_time;
use super::talk::{ATTACHMENT, FORWARDED, ReplyTo, Said, Sender, Talk, TalkEvent};
use crate::profile::import::export_files::ExportFile;
use crate::profile::import::source::malformed;
use crate::{Error, Result};

/// The largest page, in bytes. Telegram writes a thousand messages into one.
const MAX_PAGE: u64 = 32 << 20;

/// Whether a page is such a chat.
pub(super) fn is_chat(beginning: &str) -> bool {
    beginning.contains("class=\"message default clearfix")
        || beginning.contains("class=\"message service\"")
            && beginning.contains("class=\"history\"")
}

/// Calls `take` with each message.
///
/// # Errors
///
/// [`Error::Io`] when the page cannot be read; [`Error::Input`] when it is no UTF-8 or too large.
pub(super) fn read(file: &ExportFile, take: &mut dyn FnMut(TalkEvent)) -> Result<()> {
    let bytes = file.content(MAX_PAGE)?;
    let Ok(page) = str::from_utf8(&bytes) else {
        return Err(malformed(file.path(), "is not valid UTF-8"));
    };
    let messages = Selector::parse("div.message").map_err(|_| Error::Bug("a selector".into()))?;
    let page = Html::parse_document(page);
    let mut before: Option<(ElementRef, Option<String>)> = None;
    take(TalkEvent::Begins);
    for message in page.select(&messages) {
        let parts = parts(message);
        let named = part(&parts, "from_name").map(|it| text(it).trim().to_owned());
        let is_next =
            |it: ElementRef| message.prev_siblings().find_map(ElementRef::wrap) == Some(it);
        let name = match (&before, has_class(message, "joined")) {
            (Some((it, name)), true) if is_next(*it) => name.clone(),
            _ => named,
        };
        if !has_class(message, "service") {
            take(TalkEvent::Talk(talk(message, &parts, name.clone())));
        }
        before = Some((message, name));
    }
    Ok(())
}

/// The elements of a message's body.
fn parts(message: ElementRef<'_>) -> Vec<ElementRef<'_>> {
    let mut bodies = message.child_elements().filter(|it| has_class(*it, "body"));
    let body = bodies.next();
    body.into_iter()
        .flat_map(|it| it.child_elements())
        .collect()
}

fn part<'a>(parts: &[ElementRef<'a>], class: &str) -> Option<ElementRef<'a>> {
    parts.iter().copied().find(|it| has_class(*it, class))
}

fn has_class(element: ElementRef, class: &str) -> bool {
    element.value().classes().any(|it| it == class)
}

fn talk(message: ElementRef, parts: &[ElementRef], name: Option<String>) -> Talk {
    let said = if name.is_none() {
        Said::Left(ATTACHMENT)
    } else if part(parts, "forwarded").is_some() {
        Said::Left(FORWARDED)
    } else {
        Said::text(
            part(parts, "text").map(text).unwrap_or_default(),
            ATTACHMENT,
        )
    };
    let date = part(parts, "date").and_then(|it| it.attr("title"));
    let sender = name.map(Sender::named).unwrap_or_default();
    let mut talk = Talk::new(sender, date.and_then(time), said);
    let number = |it: &str| {
        it.rsplit_once("message")
            .map(|(_, number)| number.to_owned())
    };
    talk.id = message.attr("id").and_then(number);
    let answered =
        part(parts, "reply_to").and_then(|it| it.child_elements().find_map(|it| it.attr("href")));
    if let Some(id) = answered.and_then(number) {
        talk.reply = ReplyTo::Id(id);
    }
    talk
}

/// Seconds since 1970 of `07.03.2026 21:22:39 UTC+01:00`.
fn time(title: &str) -> Option<i64> {
    let (date, clock) = title.split_once(' ')?;
    let parts: Vec<_> = date.split('.').collect();
    let [day, month, year] = parts.as_slice() else {
        return None;
    };
    iso_time(&format!("{year}-{month}-{day}T{clock}"))
}

/// The text of an element, with lines and quotations marked. Other messages in it, where the page is damaged, are left out.
fn text(element: ElementRef) -> String {
    let mut text = String::new();
    for child in element.children() {
        match child.value() {
            Node::Text(it) => text.push_str(&it.replace(['\n', '\r'], " ")),
            Node::Element(it) if it.name() == "br" => text.push('\n'),
            Node::Element(it) if it.name() == "div" => {}
            Node::Element(it) => {
                let inner = ElementRef::wrap(child).map(self::text).unwrap_or_default();
                if it.name() == "blockquote" {
                    let lines = inner.trim().lines().map(|line| format!("> {line}\n"));
                    text.push('\n');
                    text.extend(lines);
                } else {
                    text.push_str(&inner);
                }
            }
            _ => {}
        }
    }
    text
}
