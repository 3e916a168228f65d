//! Chats that people have with each other, as messengers export them. Each format has a file that reads its messages; here
//! the user's own texts are made of them.
//!
//! Texts of one person that follow each other within minutes are one text, and what the others said before it is its
//! prompt. Notices, attachments, forwarded and deleted messages are left and counted. A message of somebody else that is
//! left ends what was said before, so that no text becomes the answer to something that it does not answer.

mod discord;
mod discord_text;
mod exchange;
mod formats;
mod json_walk;
mod line_desktop;
mod line_talk;
mod meta;
mod meta_page;
mod other_chat;
mod placeholders;
mod signal;
mod slack;
mod stamp;
mod talk;
mod talk_lines;
mod telegram;
mod telegram_page;
#[cfg(test)]
mod tests;
mod whatsapp;
mod who;
mod written_date;
mod x_archive;

use std::path::Path;

pub(super) use self::other_chat::is_unknown_chat;

use self::exchange::Exchange;
use self::formats::{Beside, ChatFormat};
use self::talk::{Said, Talk, TalkEvent};
use self::who::{Survey, Whose};
use super::authors::Authors;
use super::export_files::{ExportFile, ExportFiles};
use super::{ImportOption, ImportOptions, Imported};
use crate::Result;

/// The most bytes of texts that are held to turn a file around that has the newest message first.
const MAX_TURNED: usize = 64 << 20;

/// The files of an import that hold chats.
#[derive(Default)]
pub(super) struct Chats<'a>(Vec<(&'a ExportFile, ChatFormat)>);

impl<'a> Chats<'a> {
    /// Takes a file, if it holds chats.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] and [`crate::Error::Input`] when it cannot be read.
    pub fn claim(&mut self, file: &'a ExportFile) -> Result<bool> {
        let format = ChatFormat::of(file)?;
        self.0.extend(format.map(|format| (file, format)));
        Ok(format.is_some())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &'a ExportFile> {
        self.0.iter().map(|(file, _)| *file)
    }

    /// The user's texts in all these. The files are read twice, at first to learn who speaks in them and in which order. Other
    /// files of the same export tell more about its people; `root` is what the person gave, for messages.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] and [`crate::Error::Input`] when a file cannot be read, or no text is by the author;
    /// [`crate::Error::Unspecified`] when no author is named and the files do not tell whose they are.
    pub fn import(
        &self,
        root: &Path,
        files: Option<&ExportFiles>,
        options: &ImportOptions,
    ) -> Result<Imported> {
        let beside = Beside::read(files, &options.authors)?;
        let mut survey = Survey::new(Authors::new(&options.authors));
        let mut is_newest_first = Vec::new();
        for (file, format) in &self.0 {
            format.read(file, &beside, &mut |event| survey.note(&event))?;
            is_newest_first.push(survey.ends_file(*format));
        }
        let whose = survey.decide(root)?;
        let mut exchange = Exchange::new();
        let mut before = None;
        for ((file, format), is_newest_first) in self.0.iter().zip(is_newest_first) {
            let folder = format.continues().then_some(file.folder());
            let continues = folder.is_some() && before == folder;
            before = folder;
            let mut turned = Turned::new(is_newest_first);
            format.read(file, &beside, &mut |event| {
                if !(continues && matches!(event, TalkEvent::Begins)) {
                    turned.take(event, &mut |event| add(event, &whose, &mut exchange));
                }
            })?;
            turned.finish(&mut |event| add(event, &whose, &mut exchange));
        }
        Ok(exchange.finish().with(ImportOption::Authors))
    }
}

fn add(event: TalkEvent, whose: &Whose, exchange: &mut Exchange) {
    match event {
        TalkEvent::Begins => exchange.begin(),
        TalkEvent::Talk(talk) => {
            let is_own = whose.is_own(&talk.sender);
            exchange.add(talk, is_own);
        }
    }
}

/// Turns the messages of each conversation around, if the newest comes first.
struct Turned {
    is_newest_first: bool,
    n_bytes: usize,
    held: Vec<Talk>,
}

impl Turned {
    fn new(is_newest_first: bool) -> Self {
        Self {
            is_newest_first,
            n_bytes: 0,
            held: Vec::new(),
        }
    }

    fn take(&mut self, event: TalkEvent, give: &mut dyn FnMut(TalkEvent)) {
        match event {
            TalkEvent::Talk(talk) if self.is_newest_first => {
                if let Said::Text(text) = &talk.said {
                    self.n_bytes += text.len();
                }
                self.held.push(talk);
                if self.n_bytes > MAX_TURNED {
                    self.finish(give);
                }
            }
            event => {
                self.finish(give);
                give(event);
            }
        }
    }

    fn finish(&mut self, give: &mut dyn FnMut(TalkEvent)) {
        self.n_bytes = 0;
        for talk in self.held.drain(..).rev() {
            give(TalkEvent::Talk(talk));
        }
    }
}
