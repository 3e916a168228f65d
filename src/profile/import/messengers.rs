//! Chats that people have with each other, as messengers export them. Each format has a file that reads its messages; here
//! the user's own texts are made of them.
//!
//! Texts of one person that follow each other within minutes are one text, and what the others said before it is its
//! prompt. Notices, attachments, forwarded and deleted messages are left and counted. A message of somebody else that is
//! left ends what was said before, so that no text becomes the answer to something that it does not answer.

mod exchange;
mod placeholders;
mod stamp;
mod talk;
mod talk_lines;
#[cfg(test)]
mod tests;
mod whatsapp;
mod who;

use std::collections::BTreeSet;

use self::exchange::Exchange;
use self::talk::{Said, Talk, TalkEvent};
use self::who::{Survey, Whose};
use super::authors::Authors;
use super::export_files::{ExportFile, ExportFiles};
use super::{ImportOption, ImportOptions, Imported};
use crate::Result;

/// The bytes at the beginning of a file that tell its format.
const BEGINNING: u64 = 64 << 10;

/// The most bytes of texts that are held to turn a file around that has the newest message first.
const MAX_TURNED: usize = 64 << 20;

/// The files of an import that hold chats, and what became of them.
pub(super) struct ClaimedChats {
    /// The user's texts.
    pub imported: Imported,
    /// The names of the files.
    pub files: BTreeSet<String>,
}

/// A format of chats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChatFormat {
    WhatsApp,
}

impl ChatFormat {
    /// The format of a file, by its content.
    fn of(file: &ExportFile) -> Result<Option<Self>> {
        if file.is_hidden() {
            return Ok(None);
        }
        let beginning = file.beginning(BEGINNING)?;
        let text = String::from_utf8_lossy(&beginning);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        Ok(whatsapp::is_chat(text).then_some(Self::WhatsApp))
    }

    /// Calls `take` with each message of a file.
    fn read(self, file: &ExportFile, take: &mut dyn FnMut(TalkEvent)) -> Result<()> {
        match self {
            Self::WhatsApp => whatsapp::read(file, take),
        }
    }
}

/// The user's texts of all chats among `files`; `None` if there is none. The files are read twice, at first to learn who
/// speaks in them and in which order.
///
/// # Errors
///
/// [`crate::Error::Io`] and [`crate::Error::Input`] when a file cannot be read, or no text is by the author;
/// [`crate::Error::Unspecified`] when no author is named and the files do not tell whose they are.
pub(super) fn import(files: &ExportFiles, options: &ImportOptions) -> Result<Option<ClaimedChats>> {
    let mut chats = Vec::new();
    for file in files.iter() {
        if let Some(format) = ChatFormat::of(file)? {
            chats.push((file, format));
        }
    }
    if chats.is_empty() {
        return Ok(None);
    }
    let mut survey = Survey::new(Authors::new(&options.authors));
    let mut is_newest_first = Vec::new();
    for (file, format) in &chats {
        format.read(file, &mut |event| survey.note(&event))?;
        is_newest_first.push(survey.ends_file());
    }
    let whose = survey.decide(files.root())?;
    let mut exchange = Exchange::new();
    for ((file, format), is_newest_first) in chats.iter().zip(is_newest_first) {
        let mut turned = Turned::new(is_newest_first);
        format.read(file, &mut |event| {
            turned.take(event, &mut |event| add(event, &whose, &mut exchange));
        })?;
        turned.finish(&mut |event| add(event, &whose, &mut exchange));
        exchange.begin();
    }
    let files = chats.iter().map(|(file, _)| file.name().to_owned());
    Ok(Some(ClaimedChats {
        imported: exchange.finish().with(ImportOption::Authors),
        files: files.collect(),
    }))
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
