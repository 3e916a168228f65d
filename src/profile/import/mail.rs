//! Mailboxes: the user's own e-mails, without what they quote and what programs add. The e-mail that is answered is the
//! prompt.

mod body;
mod footers;
mod html;
mod leave;
mod line;
mod mailbox;
mod markers;
mod reply;
mod signature;
mod template;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use mail_parser::{Address, HeaderValue, Message, MessageParser};

use self::line::SIGNATURES;
pub(super) use self::mailbox::{MailFile, MailForm};
use self::markers::MARKERS;
use super::authors::{Authors, People};
use super::source::malformed;
use super::{ImportOption, ImportOptions, Imported, MAX_BYTES};
use crate::Result;
use crate::error::Unspecified;

/// The mails in some files.
pub(super) struct Mailbox<'a> {
    /// The path that the person gave, for messages.
    pub path: &'a Path,
    pub files: Vec<MailFile>,
}

impl Mailbox<'_> {
    /// The user's own mails: those from one of the authors, by address or name, and those that Gmail has labelled as sent.
    ///
    /// The files are read twice, at first the headers alone, because only the texts of mails that are the user's own or are
    /// answered by one of these are kept in memory.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] when a file cannot be read; [`crate::Error::Unspecified`] when no author is named and nothing is
    /// labelled.
    pub fn import(&self, options: &ImportOptions) -> Result<Imported> {
        let authors = Authors::new(&options.authors);
        let mut mails = Mails::new(&authors, options.keep_signature);
        for file in &self.files {
            file.for_each(&mut |bytes| mails.note(bytes))?;
        }
        if !mails.has_sent && authors.is_empty() {
            return Err(Unspecified::Author {
                path: self.path.to_owned(),
                texts: "mails".to_owned(),
                people: mails.senders.counts(),
            }
            .into());
        }
        if mails.n_own == 0 {
            let what = format!(
                "has no mails by that author; it has some by {}",
                mails.senders.counts()
            );
            return Err(malformed(self.path, what));
        }
        for file in &self.files {
            file.for_each(&mut |bytes| mails.read(bytes))?;
        }
        let imported = mails.into_examples().with(ImportOption::Authors);
        Ok(imported.with(ImportOption::KeepSignature))
    }
}

/// Whether the elements of a piece of HTML are nested so deeply that parsing it would take long.
pub(super) fn is_nested_deeply(html: &str) -> bool {
    html::depth(html) > html::MAX_DEPTH
}

/// The text of a piece of HTML, with a line for each block.
pub(super) fn text_of_html(html: &str) -> String {
    let lines: Vec<_> = html::lines(html)
        .into_iter()
        .map(|line| line.text)
        .collect();
    lines.join("\n").trim().to_owned()
}

/// A mail of the user's own.
struct OwnMail {
    /// Seconds since 1970; 0 for a mail without a date.
    time: i64,
    /// The id of the mail that this one answers.
    answers: Option<u64>,
    subject: String,
    /// The sender's name.
    name: String,
    text: String,
    /// The text that it quotes; empty if the answered mail is in the mailbox.
    quoted: String,
}

/// The parts of a mailbox that are kept while it is read. Message ids are kept as hashes.
struct Mails<'a> {
    authors: &'a Authors,
    keep_signature: bool,
    hasher: RandomState,
    /// Whether a mail is labelled as sent.
    has_sent: bool,
    /// The senders by their addresses, or by their names where a mail has no address.
    senders: People,
    /// The number of the user's own mails.
    n_own: usize,
    ids: HashSet<u64>,
    answered: HashSet<u64>,
    /// The user's own mails that were read.
    read: HashSet<u64>,
    own: Vec<OwnMail>,
    /// The texts of the answered mails.
    texts: HashMap<u64, String>,
    imported: Imported,
}

impl<'a> Mails<'a> {
    fn new(authors: &'a Authors, keep_signature: bool) -> Self {
        Self {
            authors,
            keep_signature,
            hasher: RandomState::new(),
            has_sent: false,
            senders: People::default(),
            n_own: 0,
            ids: HashSet::new(),
            answered: HashSet::new(),
            read: HashSet::new(),
            own: Vec::new(),
            texts: HashMap::new(),
            imported: Imported::default(),
        }
    }

    /// Notes which mails there are and which the user has answered, by the headers of a message.
    fn note(&mut self, bytes: &[u8]) {
        let Some(message) = MessageParser::default().parse_headers(bytes) else {
            return;
        };
        self.ids.extend(self.id(&message));
        self.has_sent |= is_sent(&message);
        if let Some(sender) = message.from().and_then(Address::first) {
            let address = sender.address().map(str::to_lowercase);
            let name = address.as_deref().or(sender.name());
            self.senders.count(name.unwrap_or_default());
        }
        if self.is_own(&message) {
            self.n_own += 1;
            self.answered.extend(self.answered_id(&message));
        }
    }

    /// Reads a message if the user wrote or answered it.
    fn read(&mut self, bytes: &[u8]) {
        let parser = MessageParser::default();
        let headers = parser.parse_headers(bytes);
        let Some(headers) =
            headers.filter(|headers| headers.from().and_then(Address::first).is_some())
        else {
            self.imported.skip("not an e-mail with a sender");
            return;
        };
        let is_own = self.is_own(&headers);
        let id = self.id(&headers);
        let is_answered =
            id.is_some_and(|id| self.answered.contains(&id) && !self.texts.contains_key(&id));
        if is_own && id.is_some_and(|id| !self.read.insert(id)) {
            self.imported.skip("a copy of another mail");
            return;
        }
        if !is_own {
            self.imported.skip("from somebody else");
        }
        if !is_own && !is_answered {
            return;
        }
        let Some(message) = parser.parse(bytes) else {
            return;
        };
        let left = leave::why_left(&message);
        if let Some(why) = left.filter(|_| is_own) {
            self.imported.skip(why);
            return;
        }
        let name = message
            .from()
            .and_then(Address::first)
            .and_then(|sender| sender.name());
        let name = name.unwrap_or_default();
        let reply = reply::divide(body::lines(&message), name, self.keep_signature && is_own);
        if let Some(id) = id.filter(|_| is_answered) {
            self.texts.insert(id, shortened(&reply.own));
        }
        if is_own {
            self.add(&message, name, reply);
        }
    }

    fn add(&mut self, message: &Message, name: &str, reply: reply::Divided) {
        if reply.own.is_empty() {
            self.imported.skip(if reply.cuts.is_empty() {
                "no text"
            } else {
                "nothing but quoted text"
            });
            return;
        }
        for cut in reply.cuts {
            self.imported.count_cut(cut, 1);
        }
        let subject = message.subject().unwrap_or_default().trim().to_owned();
        let answers = self.answered_id(message);
        let is_answered_here = answers.is_some_and(|id| self.ids.contains(&id));
        let is_forward = MARKERS.is_forward(&subject);
        self.own.push(OwnMail {
            time: message
                .date()
                .map_or(0, mail_parser::DateTime::to_timestamp),
            answers,
            name: name.to_owned(),
            text: reply.own,
            quoted: if is_answered_here || is_forward {
                String::new()
            } else {
                shortened(&reply.quoted)
            },
            subject,
        });
    }

    fn is_own(&self, message: &Message) -> bool {
        let sender = message.from().and_then(Address::first);
        let names = sender.map(|it| [it.address(), it.name()]);
        let names = names.into_iter().flatten().flatten();
        self.authors.include(names) || is_sent(message)
    }

    fn id(&self, message: &Message) -> Option<u64> {
        message.message_id().map(|id| self.hasher.hash_one(id))
    }

    fn answered_id(&self, message: &Message) -> Option<u64> {
        message
            .in_reply_to()
            .as_text()
            .map(|id| self.hasher.hash_one(id))
    }

    /// Turns the user's own mails into examples, oldest first. The prompt has the mail that is answered if it is in the
    /// mailbox, else the text that is quoted from it, else the subject.
    fn into_examples(mut self) -> Imported {
        self.own.sort_by_key(|mail| mail.time);
        if !self.keep_signature {
            let texts = self
                .own
                .iter_mut()
                .map(|mail| (&mut mail.text, mail.name.as_str()));
            let n_cut = signature::cut_repeated(texts);
            self.imported.count_cut(SIGNATURES, n_cut);
        }
        for mail in self.own {
            let answered = mail.answers.and_then(|id| self.texts.get(&id));
            let answered = answered
                .filter(|text| !text.is_empty())
                .unwrap_or(&mail.quoted);
            let subject = &mail.subject;
            if mail.text.is_empty() {
                self.imported.skip("nothing but a signature");
            } else if !answered.is_empty() {
                self.imported
                    .add(format!("Answer this mail:\n\n{answered}"), &mail.text);
            } else if subject.is_empty() {
                self.imported
                    .skip("neither a subject nor an answered e-mail");
            } else {
                self.imported.add(
                    format!("Write a mail with the subject \"{subject}\"."),
                    &mail.text,
                );
            }
        }
        self.imported
    }
}

/// Whether Gmail has labelled a mail as one that the user has sent.
fn is_sent(message: &Message) -> bool {
    let labels = message
        .header("X-Gmail-Labels")
        .and_then(HeaderValue::as_text);
    labels.is_some_and(|labels| MARKERS.is_sent(labels))
}

/// At most as much of a text as an example may have.
fn shortened(text: &str) -> String {
    let fitting = text
        .char_indices()
        .map(|(start, character)| start + character.len_utf8());
    let end = fitting.take_while(|&end| end <= MAX_BYTES).last();
    text[..end.unwrap_or_default()].to_owned()
}
