//! Chats of LINE, as its phones export them, in any of its languages: a title, then days, and below each the messages with
//! time, name and text between tabs. A text of several lines stands between quotation marks.
//!
//! ```text
//! [LINE] Chat history with Nora Lind
//! Saved on: 2026/03/12 18:02
//!
//! 2026/03/12(Thu)
//! 18:02 ⇥ Nora Lind ⇥ are you bringing the ladder?
//! 18:05 ⇥ Tom Berg ⇥ "aye
//! and the paint"
//! ```
//!
//! The facts are from public exports in Japanese, English, Korean and Chinese.

use super::line_desktop::{self, DesktopNames};
use super::stamp::{clock, day};
use super::talk::{ATTACHMENT, CALL, Said, Sender, Talk, TalkEvent};
use super::talk_lines::{for_each_line, push_line};
use crate::Result;
use crate::profile::import::authors::Authors;
use crate::profile::import::export_files::ExportFile;

/// How such a file begins.
const TITLE: &str = "[LINE]";

/// The mark before a line about a call.
const PHONE: char = '☎';

/// The most characters of what stands for an attachment: `[Sticker]`.
const MAX_STAND_IN: usize = 40;

/// Whether a text is the beginning of such a chat.
pub(super) fn is_chat(beginning: &str) -> bool {
    beginning.trim_start().starts_with(TITLE) || line_desktop::is_chat(beginning)
}

/// Calls `take` with each message. The names of the user tell them from the texts where no tabs do.
///
/// # Errors
///
/// [`crate::Error::Io`] when the file cannot be read; [`crate::Error::Input`] when it is no UTF-8.
pub(super) fn read(
    file: &ExportFile,
    authors: &Authors,
    take: &mut dyn FnMut(TalkEvent),
) -> Result<()> {
    let mut chat = LineChat::default();
    let names = DesktopNames::learn(file, authors)?;
    take(TalkEvent::Begins);
    for_each_line(
        file,
        &mut |line| match names.as_ref().and_then(|it| it.tabbed(line)) {
            Some(line) => chat.add(&line, take),
            None => chat.add(line, take),
        },
    )?;
    chat.end(take);
    Ok(())
}

/// The reader of one file.
#[derive(Default)]
struct LineChat {
    /// Days since 1970 of the messages that follow.
    day: Option<i64>,
    message: Option<LineMessage>,
}

struct LineMessage {
    time: Option<i64>,
    name: String,
    text: String,
}

impl LineChat {
    fn add(&mut self, line: &str, take: &mut dyn FnMut(TalkEvent)) {
        let is_open = |it: &LineMessage| {
            // A quotation mark of the text itself is not closed; then the next day begins after an empty line.
            it.is_open() && !(it.text.ends_with('\n') && day(line).is_some())
        };
        let is_open = self.message.as_ref().is_some_and(is_open);
        let mut fields = line.splitn(3, '\t');
        let time = fields.next().and_then(clock);
        match (time, fields.next(), fields.next()) {
            _ if is_open && !line.contains('\t') => {
                self.continue_text(line);
            }
            (Some(seconds), Some(name), text) => {
                let time = self.day.map(|day| day * 86_400 + i64::from(seconds));
                let (name, text) = text.map_or(("", name), |text| (name, text));
                self.begin(time, name, text, take);
            }
            // A damaged row does not continue the message before.
            (None, Some(name), Some(text)) => self.begin(None, name, text, take),
            (None, Some(_), None) => self.begin(None, "", line, take),
            _ => match day(line) {
                Some(day) => {
                    self.end(take);
                    self.day = Some(day);
                }
                None => self.continue_text(line),
            },
        }
    }

    fn begin(
        &mut self,
        time: Option<i64>,
        name: &str,
        text: &str,
        take: &mut dyn FnMut(TalkEvent),
    ) {
        self.end(take);
        self.message = Some(LineMessage {
            time,
            name: name.trim().to_owned(),
            text: text.to_owned(),
        });
    }

    fn continue_text(&mut self, line: &str) {
        if let Some(message) = &mut self.message {
            push_line(&mut message.text, line);
        }
    }

    fn end(&mut self, take: &mut dyn FnMut(TalkEvent)) {
        let Some(message) = self.message.take() else {
            return;
        };
        let (sender, said) = if message.name.is_empty() {
            (Sender::default(), Said::Notice)
        } else {
            (Sender::named(message.name), said(&message.text))
        };
        take(TalkEvent::Talk(Talk::new(sender, message.time, said)));
    }
}

impl LineMessage {
    /// Whether its text goes on until a quotation mark.
    fn is_open(&self) -> bool {
        self.text.starts_with('"') && self.text.matches('"').count() % 2 == 1
    }
}

/// Reads the text of a message.
fn said(text: &str) -> Said {
    let text = text.trim();
    let inner = text.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    if let Some(inner) = inner.filter(|it| it.contains('\n')) {
        return Said::text(inner.replace("\"\"", "\""), ATTACHMENT);
    }
    let is_stand_in =
        |it: &str| !it.contains(['[', ']', '\n']) && it.chars().count() <= MAX_STAND_IN;
    let bracketed = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    if text.starts_with(PHONE) {
        Said::Left(CALL)
    } else if bracketed.is_some_and(is_stand_in) {
        Said::Left(ATTACHMENT)
    } else {
        Said::text(text, ATTACHMENT)
    }
}
