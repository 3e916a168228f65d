//! Chats of Messenger and Instagram as the web pages of Meta's download, `message_1.html`, the newest message first:
//!
//! ```text
//! <main role="main"><section class="_3-95 _a6-g"><h2 class="_2ph_ _a6-h _a6-i">Nora Lind</h2>
//!   <div class="_2ph_ _a6-p"><div><div></div><div>home yet?</div><div>what was shared</div><div></div><div>photos, reactions</div></div></div>
//!   <footer class="_3-94 _a6-o"><div class="_a72d">Mar 07, 2026 9:22:39 pm</div></footer></section> …
//! ```
//!
//! Elements and classes have changed over the years, so that a message is told by its form alone: an element that holds a
//! name, a body and a date, and nothing else. The facts are from what public readers of real exports look for.

use std::collections::BTreeSet;

use scraper::{ElementRef, Html, Node, Selector};

use super::meta::said;
use super::talk::{ATTACHMENT, CALL, NOTICE, Said, Sender, Talk, TalkEvent};
use super::written_date::written_time;
use crate::profile::import::export_files::ExportFile;
use crate::profile::import::html_blocks::for_each_element;
use crate::profile::import::mail::is_nested_deeply;
use crate::{Error, Result};

/// The bytes from which the form of the messages is learnt. Styles and pictures come before them.
const LEARNT: u64 = 1 << 20;

/// The most characters of a date, and the fewest digits in it.
const MAX_DATE: usize = 60;
const MIN_DIGITS: usize = 4;

/// The most characters of a name.
const MAX_NAME: usize = 100;

/// The children of a message's innermost element, as Meta writes them, and the one of them that holds the text. Others hold
/// what was shared, photos and reactions.
const N_SLOTS: usize = 4;
const TEXT_SLOT: usize = 1;

/// Elements that may stand in a name. Browsers that translate a page put `font` around each text.
const INLINE: [&str; 9] = ["a", "b", "bdi", "em", "font", "i", "img", "span", "strong"];

/// Elements of what is attached or was reacted.
const ATTACHED: [&str; 8] = ["a", "audio", "iframe", "img", "ol", "table", "ul", "video"];

/// The tag that begins a message: the element's name and its class.
type Opening = (String, String);

/// The parts of a message.
struct PageMessage<'a> {
    name: String,
    body: Option<ElementRef<'a>>,
    date: String,
}

/// Whether a page is such a chat: one with messages, by its name, by its title, which is that of a speaker, or by the form of
/// the texts, which Meta's other pages do not have.
///
/// # Errors
///
/// [`Error::Io`] when the page cannot be read.
pub(super) fn is_chat(file: &ExportFile) -> Result<bool> {
    let page = beginning(file)?;
    let messages = messages(&page);
    let bodies = messages.iter().filter_map(|(_, it)| it.body);
    let names: BTreeSet<_> = messages
        .iter()
        .filter(|(_, it)| it.body.is_some())
        .map(|(_, it)| it.name.as_str())
        .collect();
    let titles = Selector::parse("title, h1").map_err(|_| Error::Bug("a selector".into()))?;
    let mut titles = page.select(&titles).map(|it| text(it).trim().to_owned());
    let is_sentence = |it: &&str| it.ends_with(['.', '。']) && it.split(' ').count() > 3;
    let is_in_slots = |it: ElementRef| slots(it).len() >= N_SLOTS;
    Ok(!names.is_empty()
        && (is_named(&file.file_name().to_ascii_lowercase())
            || titles.any(|it| names.contains(it.as_str()))
            || names.len() > 1
                && !names.iter().any(is_sentence)
                && bodies.into_iter().all(is_in_slots)))
}

/// Whether a file has a name that Meta gives: `message_1.html`.
fn is_named(name: &str) -> bool {
    let number = name
        .strip_prefix("message")
        .and_then(|it| it.rsplit_once('.'));
    let number = number.map(|(number, _)| number.trim_start_matches('_'));
    number.is_some_and(|it| it.bytes().all(|it| it.is_ascii_digit()))
}

/// Calls `take` with each message.
///
/// # Errors
///
/// [`Error::Io`] when the page cannot be read.
pub(super) fn read(file: &ExportFile, take: &mut dyn FnMut(TalkEvent)) -> Result<()> {
    let page = beginning(file)?;
    let messages = messages(&page);
    let messages = messages.iter().filter(|(_, it)| it.body.is_some());
    let openings: BTreeSet<_> = messages.map(|(it, _)| opening(*it)).collect();
    take(TalkEvent::Begins);
    let begins = |tag: &[u8]| opening_of_tag(tag).is_some_and(|it| openings.contains(&it));
    file.read(|reader| {
        let read = for_each_element(reader, begins, |html| take(TalkEvent::Talk(talk(html))));
        read.map_err(Error::io("read", file.path()))
    })
}

/// The beginning of a page, without messages if its elements are nested deeply.
fn beginning(file: &ExportFile) -> Result<Html> {
    let bytes = file.beginning(LEARNT)?;
    let html = String::from_utf8_lossy(&bytes);
    Ok(if is_nested_deeply(&html) {
        Html::new_document()
    } else {
        Html::parse_document(&html)
    })
}

/// The elements of a page that are messages, without those that are in others.
fn messages(page: &Html) -> Vec<(ElementRef<'_>, PageMessage<'_>)> {
    let mut messages = Vec::new();
    let mut elements = vec![page.root_element()];
    while let Some(element) = elements.pop() {
        match PageMessage::of(element) {
            Some(message) => messages.push((element, message)),
            None => elements.extend(element.child_elements()),
        }
    }
    messages
}

fn opening(element: ElementRef) -> Opening {
    let class = element.attr("class").unwrap_or_default();
    (element.value().name().to_owned(), class.to_owned())
}

/// The name and the class in a tag without its brackets.
fn opening_of_tag(tag: &[u8]) -> Option<Opening> {
    let end = tag.iter().position(|it| *it == b'>')?;
    let tag = str::from_utf8(&tag[..end]).ok()?;
    let (name, attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
    let class = attributes.split_once("class=").and_then(|(_, rest)| {
        let quote = rest.chars().next()?;
        rest[quote.len_utf8()..].split_once(quote)
    });
    let class = class.map_or("", |(class, _)| class);
    Some((name.to_ascii_lowercase(), class.to_owned()))
}

/// Reads the HTML from the beginning of a message to that of the next.
fn talk(html: &str) -> Talk {
    let left = Talk::new(Sender::default(), None, Said::Left(NOTICE));
    if is_nested_deeply(html) {
        return left;
    }
    let fragment = Html::parse_fragment(html);
    let mut elements = fragment.root_element().child_elements();
    let Some(message) = elements.next().and_then(PageMessage::of) else {
        return left;
    };
    let said = message
        .body
        .map_or(Said::Left(ATTACHMENT), |body| said_in(&message.name, body));
    let time = written_time(&message.date);
    Talk::new(Sender::named(message.name), time, said)
}

impl<'a> PageMessage<'a> {
    /// The parts of an element, if it is a message.
    fn of(element: ElementRef<'a>) -> Option<Self> {
        let mut parts: Vec<_> = element.child_elements().collect();
        // In some pages an element is around name and body.
        if let [wrapper, _] = parts.as_slice()
            && let inner @ [_, _] = wrapper.child_elements().collect::<Vec<_>>().as_slice()
            && is_name(inner[0])
        {
            parts.splice(..1, inner.iter().copied());
        }
        let (name, body, date) = match parts.as_slice() {
            [name, date] => (*name, None, *date),
            [name, body, date] => (*name, Some(*body), *date),
            _ => return None,
        };
        let is_message = !holds_text(element) && is_name(name) && is_date(date);
        is_message.then(|| Self {
            name: text(name).trim().to_owned(),
            body,
            date: text(date),
        })
    }
}

/// Whether an element may hold a name: it is a line, of some length at most.
fn is_name(element: ElementRef) -> bool {
    let mut inner = element.descendent_elements().skip(1);
    let is_line = ["div", "h1", "h2", "h3", "h4", "p", "span"].contains(&element.value().name())
        && inner.all(|it| INLINE.contains(&it.value().name()));
    is_line
        && element
            .text()
            .flat_map(str::chars)
            .take(MAX_NAME + 1)
            .count()
            <= MAX_NAME
}

/// Whether an element may hold a date, in any language.
fn is_date(element: ElementRef) -> bool {
    let text = element.text().flat_map(str::chars);
    let text: String = text.take(MAX_DATE + 1).collect();
    let n_digits = text.chars().filter(|it| it.is_numeric()).count();
    text.chars().count() <= MAX_DATE && n_digits >= MIN_DIGITS && !text.contains("://")
}

/// Whether text stands in an element itself.
fn holds_text(element: ElementRef) -> bool {
    let mut texts = element.children().filter_map(|it| it.value().as_text());
    texts.any(|it| !it.trim().is_empty())
}

/// Reads the body of somebody's message.
fn said_in(name: &str, body: ElementRef) -> Said {
    let slots = slots(body);
    let is_text = |slot: &ElementRef| !holds_attached(*slot) && !text(*slot).trim().is_empty();
    let at = match slots.first() {
        Some(first) if slots.len() < N_SLOTS && is_text(first) => 0,
        _ => TEXT_SLOT.min(slots.len().saturating_sub(1)),
    };
    let own = slots.get(at).map(|it| text(*it)).unwrap_or_default();
    let others = slots.iter().enumerate();
    let others: Vec<_> = others.filter(|(slot, _)| *slot != at).collect();
    let has_attached = others.iter().any(|(_, it)| holds_attached(**it));
    // Beside a call stands how long it was.
    if !has_attached && others.iter().any(|(_, it)| is_length(&text(**it))) {
        return Said::Left(CALL);
    }
    said(name, &own, has_attached)
}

/// The elements that stand side by side within a body; the body itself, or an element in it, if it holds text.
fn slots(body: ElementRef) -> Vec<ElementRef> {
    let mut inner = body;
    loop {
        let slots: Vec<_> = inner.child_elements().collect();
        match slots.as_slice() {
            _ if holds_text(inner) => return vec![inner],
            [slot] if !is_attached(*slot) => inner = *slot,
            _ => return slots,
        }
    }
}

fn is_attached(element: ElementRef) -> bool {
    ATTACHED.contains(&element.value().name())
}

fn holds_attached(element: ElementRef) -> bool {
    element.descendent_elements().any(is_attached)
}

/// Whether a text is the length of a call, `Duration: 53 seconds`, and no address, which some pages hold.
fn is_length(text: &str) -> bool {
    let n_labels = text.matches([':', '：']).count();
    let is_line = !text.trim().contains(['\n', '.']) && text.chars().count() <= MAX_DATE;
    is_line && (1..=2).contains(&n_labels) && text.contains(char::is_numeric)
}

/// The text of an element, with its lines, without what is attached.
fn text(element: ElementRef) -> String {
    let mut text = String::new();
    for child in element.children() {
        match child.value() {
            Node::Text(it) => text.push_str(&it.replace(['\n', '\r'], " ")),
            Node::Element(it) if it.name() == "br" => text.push('\n'),
            Node::Element(it) if it.name() == "a" || !ATTACHED.contains(&it.name()) => {
                let is_block = ["div", "p"].contains(&it.name());
                let inner = ElementRef::wrap(child).map(self::text).unwrap_or_default();
                if is_block && !text.trim().is_empty() && !inner.trim().is_empty() {
                    text.push('\n');
                }
                text.push_str(&inner);
            }
            _ => {}
        }
    }
    text
}
