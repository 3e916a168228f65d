//! The formats of chats: how each is recognised by its content, and which reader it has.

use serde_json::{Map, Value};

use super::discord;
use super::json_walk::{JsonEvent, JsonLayout, glance, walk};
use super::slack::SlackUsers;
use super::talk::{Sender, TalkEvent};
use super::telegram::Telegram;
use super::x_archive::{self, XFile};
use super::{
    discord_text, line_talk, meta, meta_page, signal, slack, telegram, telegram_page, whatsapp,
};
use crate::Result;
use crate::profile::import::authors::Authors;
use crate::profile::import::export_files::{ExportFile, ExportFiles};
use crate::profile::import::source::malformed;

/// The bytes at the beginning of a file that tell its format.
const BEGINNING: u64 = 128 << 10;

/// Extensions of files that may hold chats. Others are not opened: they may be large recordings.
const EXTENSIONS: [&str; 10] = [
    "txt", "md", "json", "jsonl", "ndjson", "js", "csv", "html", "htm", "",
];

/// A format of chats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChatFormat {
    WhatsApp,
    Line,
    Telegram,
    TelegramPage,
    /// The user's own messages in Discord's package, and the same as a table.
    DiscordOwn,
    DiscordOwnTable,
    /// A channel by `DiscordChatExporter`, and the same as a table.
    DiscordChannel,
    DiscordChannelTable,
    DiscordChannelText,
    Meta,
    MetaPage,
    Sigexport,
    SignalFrames,
    Slack,
    X(XFile),
}

impl ChatFormat {
    /// The format of a file, if it holds chats.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] when the file cannot be read.
    pub fn of(file: &ExportFile) -> Result<Option<Self>> {
        if !EXTENSIONS.contains(&file.extension().as_str()) {
            return Ok(None);
        }
        let bytes = file.beginning(BEGINNING)?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        if let Some(file) = XFile::of(text) {
            return Ok(Some(Self::X(file)));
        }
        if text.trim_start().starts_with(['{', '['])
            && let Some(format) = Self::of_json(&bytes)
        {
            return Ok(Some(format));
        }
        if file.extension().starts_with("htm") {
            return Ok(if telegram_page::is_chat(text) {
                Some(Self::TelegramPage)
            } else {
                meta_page::is_chat(file)?.then_some(Self::MetaPage)
            });
        }
        Ok(if line_talk::is_chat(text) {
            Some(Self::Line)
        } else if discord_text::is_chat(text) {
            Some(Self::DiscordChannelText)
        } else if discord::is_table(text) {
            Some(if text.contains("AuthorID") {
                Self::DiscordChannelTable
            } else {
                Self::DiscordOwnTable
            })
        } else {
            whatsapp::is_chat(text).then_some(Self::WhatsApp)
        })
    }

    /// The format of the messages in a JSON text.
    fn of_json(beginning: &[u8]) -> Option<Self> {
        type Is = fn(&Map<String, Value>) -> bool;
        let known: [(Is, Self); 6] = [
            (discord::is_own, Self::DiscordOwn),
            (meta::is_message, Self::Meta),
            (telegram::is_message, Self::Telegram),
            (signal::is_message, Self::Sigexport),
            (signal::is_frame, Self::SignalFrames),
            (slack::is_message, Self::Slack),
        ];
        let mut is_channel = false;
        glance(beginning).iter().find_map(|event| match event {
            JsonEvent::Field(name, value) if telegram::is_account(name, value) => {
                Some(Self::Telegram)
            }
            JsonEvent::Field(name, _) => {
                is_channel |= discord::BESIDE.contains(&name.as_str());
                None
            }
            JsonEvent::Message(message) if is_channel && discord::is_of_channel(message) => {
                Some(Self::DiscordChannel)
            }
            JsonEvent::Message(message) => known
                .iter()
                .find(|(is, _)| is(message))
                .map(|(_, format)| *format),
            JsonEvent::Begins => None,
        })
    }

    /// Whether the files of one folder are one conversation.
    pub fn continues(self) -> bool {
        self == Self::Slack
    }

    /// Whether the newest message comes first, as far as the format tells it.
    pub fn is_newest_first(self) -> bool {
        [Self::Meta, Self::MetaPage].contains(&self)
    }

    /// Whether the newest message comes first in some files of the format.
    pub fn is_of_any_order(self) -> bool {
        let channels = [
            Self::DiscordChannel,
            Self::DiscordChannelTable,
            Self::DiscordChannelText,
        ];
        let others = [Self::Meta, Self::MetaPage, Self::X(XFile::Messages)];
        channels.contains(&self) || others.contains(&self)
    }

    /// Whether every file of the format tells whose export it is.
    pub fn tells_owner(self) -> bool {
        match self {
            Self::DiscordOwn | Self::DiscordOwnTable | Self::Sigexport | Self::SignalFrames => true,
            Self::X(file) => file != XFile::Messages,
            _ => false,
        }
    }

    /// Calls `give` with each message of a file.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] and [`crate::Error::Input`] when the file cannot be read.
    pub fn read(
        self,
        file: &ExportFile,
        beside: &Beside,
        give: &mut dyn FnMut(TalkEvent),
    ) -> Result<()> {
        let layout = match self {
            Self::WhatsApp => return whatsapp::read(file, give),
            Self::Line => return line_talk::read(file, &beside.authors, give),
            Self::TelegramPage => return telegram_page::read(file, give),
            Self::MetaPage => return meta_page::read(file, give),
            Self::DiscordChannelText => return discord_text::read(file, give),
            Self::DiscordOwnTable => return table(file, true, give),
            Self::DiscordChannelTable => return table(file, false, give),
            Self::Telegram | Self::DiscordChannel | Self::Meta | Self::X(XFile::Messages) => {
                JsonLayout::Nested
            }
            _ => JsonLayout::Flat,
        };
        let mut telegram = Telegram::default();
        let mut frames = signal::SignalFrames::default();
        if layout == JsonLayout::Flat {
            give(TalkEvent::Begins);
        }
        walk(file, layout, &mut |event| {
            let message = match event {
                event if self == Self::Telegram => return telegram.take(event, give),
                JsonEvent::Begins => return give(TalkEvent::Begins),
                JsonEvent::Field(..) => return,
                JsonEvent::Message(message) => message,
            };
            let talk = match self {
                Self::DiscordOwn => return discord::own(&message, give),
                Self::X(XFile::Posts) => return x_archive::post(&message, give),
                Self::X(XFile::LongPosts) => return x_archive::long_post(&message, give),
                Self::SignalFrames => return frames.take(&message, give),
                Self::X(XFile::Messages) => x_archive::message(&message, beside.owner.as_ref()),
                Self::DiscordChannel => Some(discord::of_channel(&message)),
                Self::Meta => Some(meta::talk(&message)),
                Self::Sigexport => Some(signal::talk(&message)),
                _ => Some(beside.users.talk(&message)),
            };
            if let Some(talk) = talk {
                give(TalkEvent::Talk(talk));
            }
        })
    }
}

/// Facts about the people of an export: the names of the user, and what files without messages tell.
pub(super) struct Beside {
    authors: Authors,
    users: SlackUsers,
    /// The one whose archive of X it is.
    owner: Option<Sender>,
}

impl Beside {
    /// Reads the files beside those with messages, if there are others.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] and [`crate::Error::Input`] when a file cannot be read.
    pub fn read(files: Option<&ExportFiles>, authors: &[String]) -> Result<Self> {
        let mut beside = Self {
            authors: Authors::new(authors),
            users: SlackUsers::default(),
            owner: None,
        };
        let files = files.into_iter().flat_map(ExportFiles::iter);
        for file in files.filter(|it| !it.is_hidden()) {
            let mut note = |event| {
                if let JsonEvent::Message(element) = event {
                    if slack::is_user(&element) {
                        beside.users.note(&element);
                    }
                    beside.owner = x_archive::account(&element).or(beside.owner.take());
                }
            };
            if ["users.json", "account.js"].contains(&file.file_name()) {
                walk(file, JsonLayout::Flat, &mut note)?;
            }
        }
        Ok(beside)
    }
}

/// Reads a table of Discord's messages.
fn table(file: &ExportFile, is_own: bool, give: &mut dyn FnMut(TalkEvent)) -> Result<()> {
    give(TalkEvent::Begins);
    file.read(|reader| {
        let mut reader = csv::Reader::from_reader(reader);
        for row in reader.records() {
            let row = row.map_err(|error| malformed(file.path(), error))?;
            discord::row(&row, is_own, give);
        }
        Ok(())
    })
}
