//! A channel of Discord as `DiscordChatExporter` writes it in plain text:
//!
//! ```text
//! ==============================================================
//! Guild: Shed
//! Channel: paint
//! ==============================================================
//!
//! [3/7/2026 9:22 PM] nora
//! who has the ladder
//!
//! {Attachments}
//! https://…
//! ```

use super::stamp::{DateOrder, Stamp, begins_with_date, heads};
use super::talk::{ATTACHMENT, PASTED, Said, Sender, Talk, TalkEvent};
use super::talk_lines::{for_each_line, push_line};
use crate::Result;
use crate::profile::import::export_files::ExportFile;

/// The words after the name of a pinned message.
const PINNED: &str = " (pinned)";

/// Lines that end the text of a message.
const ENDS: [&str; 4] = ["{Attachments}", "{Embed}", "{Stickers}", "{Reactions}"];

/// The words that stand for events.
const NOTICES: [&str; 5] = [
    "Joined the server.",
    "Pinned a message.",
    "Left the group.",
    "Changed the channel icon.",
    "Started a call that lasted ",
];

/// The most characters of a name.
const MAX_NAME: usize = 80;

/// Whether a text is the beginning of such a channel.
pub(super) fn is_chat(beginning: &str) -> bool {
    let mut lines = beginning.lines();
    lines.next().is_some_and(is_rule)
        && lines.next().is_some_and(|line| line.starts_with("Guild: "))
}

fn is_rule(line: &str) -> bool {
    line.len() > 20 && line.bytes().all(|it| it == b'=')
}

/// Calls `take` with each message.
///
/// # Errors
///
/// [`crate::Error::Io`] when the file cannot be read; [`crate::Error::Input`] when it is no UTF-8.
pub(super) fn read(file: &ExportFile, take: &mut dyn FnMut(TalkEvent)) -> Result<()> {
    let mut channel = ChannelText::default();
    take(TalkEvent::Begins);
    for_each_line(file, &mut |line| channel.add(line, take))?;
    channel.end(take);
    Ok(())
}

/// The reader of one file.
#[derive(Default)]
struct ChannelText {
    message: Option<(Option<i64>, String, String)>,
    /// Whether the text of the message has ended.
    has_ended: bool,
    is_after_blank: bool,
}

impl ChannelText {
    fn add(&mut self, line: &str, take: &mut dyn FnMut(TalkEvent)) {
        let is_after_blank = std::mem::replace(&mut self.is_after_blank, line.trim().is_empty());
        if let Some((time, name)) = header(line).filter(|_| is_after_blank) {
            self.end(take);
            self.message = Some((time, name, String::new()));
        } else if is_after_blank && line.starts_with('[') || begins_with_date(line) {
            // The text below a damaged header is not that of the message before it.
            self.end(take);
        } else if ENDS.contains(&line.trim()) || is_rule(line) {
            self.has_ended = true;
        } else if let Some((_, _, text)) = &mut self.message
            && !self.has_ended
        {
            push_line(text, line);
        }
    }

    fn end(&mut self, take: &mut dyn FnMut(TalkEvent)) {
        self.has_ended = false;
        let Some((time, name, text)) = self.message.take() else {
            return;
        };
        let is_notice = NOTICES.iter().any(|it| text.trim().starts_with(it));
        // A line that lost the end of the line before it.
        let holds_header = text.lines().any(|line| heads(line).next().is_some());
        let said = if is_notice {
            Said::Notice
        } else if holds_header {
            Said::Left(PASTED)
        } else {
            Said::text(text, ATTACHMENT)
        };
        take(TalkEvent::Talk(Talk::new(Sender::named(name), time, said)));
    }
}

/// The time and the name in the line above a message.
fn header(line: &str) -> Option<(Option<i64>, String)> {
    let (_, name) = heads(line).next().filter(|_| line.starts_with('['))?;
    let name = name.trim();
    let name = name.strip_suffix(PINNED).unwrap_or(name);
    let time = Stamp::read(line).map(|(stamp, _)| stamp.time(DateOrder::DayFirst));
    let is_name = !name.is_empty() && name.chars().count() <= MAX_NAME;
    is_name.then(|| (time, name.to_owned()))
}
