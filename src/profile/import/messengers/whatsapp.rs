//! Chats of `WhatsApp`, and of `sigexport`, which writes Signal's in the same manner: lines with date, time and name.
//!
//! ```text
//! 12/03/2026, 18:02 - Nora Lind: are you bringing the ladder?
//! [07.03.26, 21:23:01] Nora Lind: home yet?
//! ```
//!
//! The first is Android's form and the second that of iOS. Dates are in the form of the phone's locale. Lines that begin
//! otherwise continue the message above. What the program says itself begins with U+200E, or has no name, or is one of the
//! words in `placeholders.tsv`. The facts are from public exports; <https://github.com/carderne/signal-export> for Signal.

use std::collections::HashSet;

use super::placeholders::Placeholder;
use super::stamp::{DateOrder, Stamp, StampForm, begins_with_date, heads};
use super::talk::{ATTACHMENT, NOTICE, Said, Sender, Talk, TalkEvent};
use super::talk_lines::{for_each_line, push_line};
use crate::Result;
use crate::error::is_mark;
use crate::profile::import::export_files::ExportFile;

/// The bytes from which the form of dates is learnt.
const LEARNT: u64 = 1 << 20;

/// The most characters of a name, and of what the program adds to a text.
const MAX_NAME: usize = 100;
const MAX_ADDED: usize = 100;

/// The most characters, and letters among them, of a date and time that is damaged.
const MAX_DAMAGED: usize = 40;
const MAX_LETTERS: usize = 12;

/// The most names that are known in damaged lines.
const MAX_NAMES: usize = 10_000;

/// The mark before what the program says.
const MARK: char = '\u{200e}';

/// The name that `sigexport` gives to the owner.
const SIGNAL_OWNER: &str = "Me";

/// Whether a text is the beginning of such a chat.
pub(super) fn is_chat(beginning: &str) -> bool {
    let lines = beginning.lines().filter(|line| !line.trim().is_empty());
    let stamps: Vec<_> = lines.take(12).map(Stamp::read).collect();
    let n_stamps = stamps.iter().flatten().count();
    let begins = stamps.first().is_some_and(Option::is_some);
    let stamped = beginning.lines().filter_map(Stamp::read);
    (begins || n_stamps > 1) && stamped.map(|(_, rest)| named(rest)).any(|it| it.is_some())
}

/// Calls `take` with each message.
///
/// # Errors
///
/// [`crate::Error::Io`] when the file cannot be read; [`crate::Error::Input`] when it is no UTF-8.
pub(super) fn read(file: &ExportFile, take: &mut dyn FnMut(TalkEvent)) -> Result<()> {
    let beginning = file.beginning(LEARNT)?;
    let beginning = String::from_utf8_lossy(&beginning);
    let mut stamps: Vec<_> = beginning
        .lines()
        .filter_map(|line| Some(Stamp::read(line)?.0))
        .collect();
    let form = stamps.first().map(|stamp| stamp.form);
    stamps.retain(|stamp| Some(stamp.form) == form);
    let mut chat = ChatText {
        form,
        order: DateOrder::of(&stamps),
        names: beginning
            .lines()
            .filter_map(|line| Some(named(Stamp::read(line)?.1)?.0))
            .take(MAX_NAMES)
            .collect(),
        message: None,
    };
    take(TalkEvent::Begins);
    for_each_line(file, &mut |line| chat.add(line, take))?;
    chat.end(take);
    Ok(())
}

/// The reader of one file.
struct ChatText {
    /// The form of the first date. A line with one in another form was pasted into a message.
    form: Option<StampForm>,
    order: DateOrder,
    /// The names so far.
    names: HashSet<String>,
    message: Option<RawMessage>,
}

/// A message as it is written.
struct RawMessage {
    time: Option<i64>,
    /// The name; `None` for a line of the program.
    name: Option<String>,
    text: String,
}

impl ChatText {
    fn add(&mut self, line: &str, take: &mut dyn FnMut(TalkEvent)) {
        let stamp = Stamp::read(line).filter(|(stamp, _)| Some(stamp.form) == self.form);
        let (time, named, text) = match stamp {
            Some((stamp, rest)) => (Some(stamp.time(self.order)), named(rest), rest),
            // The text below a damaged date is not that of the message before it.
            None => match self.damaged(line) {
                Some(named) => (None, Some(named), line),
                None if begins_with_date(line) || damaged_head(line).is_some() => {
                    (None, None, line)
                }
                None => {
                    if let Some(message) = &mut self.message {
                        push_line(&mut message.text, line);
                    }
                    return;
                }
            },
        };
        self.end(take);
        let (name, text) = named.map_or((None, text), |(name, text)| (Some(name), text));
        self.message = Some(RawMessage {
            time,
            name,
            text: text.to_owned(),
        });
    }

    /// The name and the text of a line that begins with a damaged date and time.
    fn damaged<'a>(&self, line: &'a str) -> Option<(String, &'a str)> {
        let head = damaged_head(line).and_then(named);
        head.or_else(|| self.known(line))
    }

    /// The name of somebody who has spoken before, after some digits and before a colon, and the text after that.
    fn known<'a>(&self, line: &'a str) -> Option<(String, &'a str)> {
        let n_digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
        for (end, _) in line.match_indices(':') {
            let before = &line[..end];
            if before.chars().count() > MAX_DAMAGED + MAX_NAME {
                break;
            }
            let begins = |(at, _): &(usize, char)| !before[..*at].ends_with(char::is_alphanumeric);
            let mut starts = before.char_indices().filter(begins);
            let is_known = |start: usize| {
                let head = &before[..start];
                // The end of a date whose beginning is in the line above.
                let is_rest = n_digits(head) > 0 && (head.ends_with("- ") || head.ends_with("] "));
                (n_digits(head) > 2 || is_rest) && self.names.contains(&before[start..])
            };
            if let Some((start, _)) = starts.find(|(start, _)| is_known(*start)) {
                return Some((before[start..].to_owned(), line[end + 1..].trim_start()));
            }
        }
        None
    }

    fn end(&mut self, take: &mut dyn FnMut(TalkEvent)) {
        let Some(message) = self.message.take() else {
            return;
        };
        let (sender, said) = match message.name {
            None => (Sender::default(), Said::Notice),
            Some(name) if name == SIGNAL_OWNER && self.form.is_some_and(StampForm::is_signal) => {
                (Sender::owner(), said(&without_links(&message.text)))
            }
            Some(name) => (Sender::named(name), said(&message.text)),
        };
        take(TalkEvent::Talk(Talk::new(sender, message.time, said)));
    }
}

/// The name at the beginning of what follows the date, and the text after it; `None` for a line of the program, as
/// `Nora Lind created group "Shed: paint"` is.
fn named(rest: &str) -> Option<(String, &str)> {
    let ends_name = |(at, _): &(usize, &str)| {
        let after = rest[at + 1..].chars().next();
        after.is_none_or(|it| it.is_whitespace() || is_mark(it))
    };
    let (end, _) = rest.match_indices(':').find(ends_name)?;
    let name: String = rest[..end].chars().filter(|it| !is_mark(*it)).collect();
    let name = name.trim_matches(|it: char| it.is_whitespace() || it == '~');
    let n_quotes = name.matches('"').count();
    let is_quoted = n_quotes % 2 == 1
        || name.matches(['“', '«', '„']).count() != name.matches(['”', '»']).count();
    let is_name = !name.is_empty() && name.chars().count() <= MAX_NAME && !is_quoted;
    is_name.then(|| {
        (
            name.to_owned(),
            rest[end + 1..].trim_start_matches([' ', '\u{a0}', '\u{202f}']),
        )
    })
}

/// The text after a damaged date and time at the beginning of a line.
fn damaged_head(line: &str) -> Option<&str> {
    let (before, rest) = heads(line).next()?;
    let n_letters = before.chars().filter(|it| it.is_alphabetic()).count();
    (before.chars().count() <= MAX_DAMAGED && n_letters < MAX_LETTERS).then_some(rest)
}

/// Reads the text of a message.
fn said(text: &str) -> Said {
    let text = text.trim_matches(|it: char| it.is_whitespace() || is_mark(it) && it != MARK);
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let plain: String = first.chars().filter(|it| !is_mark(*it)).collect();
    let plain = plain.trim();
    let placeholder = Placeholder::of(plain);
    if let Some(caption) = first.strip_prefix(MARK).and_then(caption) {
        return Said::text(format!("{caption}\n{rest}"), ATTACHMENT);
    }
    if placeholder == Some(Placeholder::Attachment) || is_bracketed(plain) || is_place(plain) {
        return Said::text(without_addition(rest), ATTACHMENT);
    }
    if let Some(placeholder) = placeholder {
        return Said::Left(placeholder.reason());
    }
    if is_poll(text) {
        return Said::Left(NOTICE);
    }
    if first.starts_with(MARK) {
        let is_sentence = plain.ends_with(['.', ':']) || plain.chars().count() > MAX_ADDED;
        return Said::Left(if is_sentence { NOTICE } else { ATTACHMENT });
    }
    Said::text(without_addition(text), ATTACHMENT)
}

/// Whether a message is a poll: a title, the question, and options with the number of votes.
fn is_poll(text: &str) -> bool {
    let (title, options) = text.split_once('\n').unwrap_or((text, ""));
    let is_option = |line: &&str| {
        let votes = line.strip_suffix(')').and_then(|it| it.rsplit_once(" ("));
        votes.is_some_and(|(_, votes)| {
            votes.starts_with(|it: char| it.is_numeric()) && votes.contains(' ')
        })
    };
    title.trim_end().ends_with([':', '：']) && options.lines().filter(is_option).count() > 1
}

/// The caption in `caption <U+200E><attached: …>`, the line of an attachment.
fn caption(line: &str) -> Option<&str> {
    let (caption, attached) = line.rsplit_once(MARK)?;
    let is_attached =
        attached.starts_with('<') && attached.ends_with('>') || Placeholder::of(attached).is_some();
    let is_text = |it: char| !it.is_whitespace() && !is_mark(it) && it != '<';
    (is_attached && caption.contains(is_text) && !caption.contains('<')).then_some(caption)
}

/// Whether a line consists of words of the program between `<` and `>`, in any language.
fn is_bracketed(line: &str) -> bool {
    let inner = line.strip_prefix('<').and_then(|it| it.strip_suffix('>'));
    inner.is_some_and(is_programs)
}

/// Whether the text between `<` and `>` are words of the program: several, or in another script than that of code.
fn is_programs(inner: &str) -> bool {
    let is_worded = inner.trim().contains(' ') || !inner.is_ascii();
    is_worded && !inner.contains(['<', '>', '\n']) && inner.chars().count() <= MAX_ADDED
}

/// Whether a line is a place on the map: `location: https://maps.google.com/?q=…`.
fn is_place(line: &str) -> bool {
    let link = line.split_once(": ").map_or(line, |(_, link)| link);
    ["https://maps.google.com/?q=", "https://foursquare.com/v/"]
        .iter()
        .any(|it| link.starts_with(it))
}

/// A text without what the program adds at its end: `<This message was edited>`, or what follows U+200E.
fn without_addition(text: &str) -> &str {
    let mut text = text.trim_end();
    if let Some((before, added)) = text.rsplit_once(MARK) {
        let is_added = !added.contains('\n') && added.chars().count() <= MAX_ADDED;
        if is_added && (before.is_empty() || before.ends_with(char::is_whitespace)) {
            text = before.trim_end();
        }
    }
    let bracketed = text.strip_suffix('>').and_then(|it| it.rsplit_once('<'));
    match bracketed {
        Some((before, added))
            if is_programs(added) && !added.starts_with(|it: char| it.is_lowercase()) =>
        {
            before.trim_end()
        }
        _ => text,
    }
}

/// A message of Signal's without what `sigexport` adds below it: links to attachments, and reactions.
fn without_links(text: &str) -> String {
    let is_reaction = |line: &str| line.starts_with("(- ") && line.ends_with(" -)");
    let lines = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !is_reaction(line));
    let mut text = lines.collect::<Vec<_>>().join("\n");
    while let Some(start) = text.rfind("](./").and_then(|at| text[..at].rfind('[')) {
        let Some(length) = text[start..].find(')') else {
            break;
        };
        let end = start + length + 1;
        let start = if text[..start].ends_with('!') {
            start - 1
        } else {
            start
        };
        text.replace_range(start..end, "");
    }
    text
}
