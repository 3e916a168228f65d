//! Mailboxes (mbox and Maildir): the user's own e-mails, without quoted text and signatures. The e-mail that is answered
//! is the prompt.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use mail_parser::mailbox::mbox::MessageIterator;
use mail_parser::{Message, MessageParser};

use super::source::{entries, read};
use super::{Imported, require_authors};
use crate::{Error, Result};

/// The parts of an e-mail that are needed.
struct Mail {
    /// The message id.
    id: String,
    /// The message id of the e-mail that this one answers.
    answers: Option<String>,
    /// Seconds since 1970; 0 for an e-mail without a date.
    time: i64,
    /// Whether it was sent from one of the authors' addresses.
    is_own: bool,
    subject: String,
    /// The text that its author wrote.
    text: String,
    /// The text that its author quoted.
    quoted: String,
}

pub(super) fn is_maildir(folder: &Path) -> bool {
    ["cur", "new"].iter().all(|name| folder.join(name).is_dir())
}

/// The user's own e-mails in a Maildir: those sent from one of the addresses `authors`.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be read; [`Error::Unspecified`] when no author is named.
pub(super) fn import_maildir(folder: &Path, authors: &[String]) -> Result<Imported> {
    require_authors(folder, authors, "mails")?;
    let mut imported = Imported::default();
    let mut mails = Vec::new();
    for part in ["cur", "new"].map(|name| folder.join(name)) {
        for entry in entries(&part)? {
            if entry.path().is_file() {
                add_mail(&read(&entry.path())?, authors, &mut mails, &mut imported);
            }
        }
    }
    Ok(examples(mails, imported))
}

/// The user's own e-mails in an mbox file. The file is read message by message, so that it may be large.
///
/// # Errors
///
/// The same as [`import_maildir`]'s.
pub(super) fn import_mbox(path: &Path, authors: &[String]) -> Result<Imported> {
    require_authors(path, authors, "mails")?;
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut imported = Imported::default();
    let mut mails = Vec::new();
    for message in MessageIterator::new(BufReader::new(file)) {
        let message = message.map_err(Error::io("read", path))?;
        add_mail(message.contents(), authors, &mut mails, &mut imported);
    }
    Ok(examples(mails, imported))
}

/// Parses a message and adds it to `mails`, or skips it.
fn add_mail(bytes: &[u8], authors: &[String], mails: &mut Vec<Mail>, imported: &mut Imported) {
    let message = MessageParser::default().parse(bytes);
    match message.as_ref().and_then(|message| mail(message, authors)) {
        Some(mail) => mails.push(mail),
        None => imported.skip("not an e-mail with a sender"),
    }
}

fn mail(message: &Message, authors: &[String]) -> Option<Mail> {
    let from = message.from()?.first()?.address()?;
    let body = message.body_text(0).unwrap_or_default();
    let (text, quoted) = own_and_quoted(&body);
    Some(Mail {
        id: message.message_id().unwrap_or_default().to_owned(),
        answers: message.in_reply_to().as_text().map(str::to_owned),
        time: message
            .date()
            .map_or(0, mail_parser::DateTime::to_timestamp),
        is_own: authors
            .iter()
            .any(|author| author.trim().eq_ignore_ascii_case(from)),
        subject: message.subject().unwrap_or_default().trim().to_owned(),
        text,
        quoted,
    })
}

/// Turns the user's own e-mails into examples, oldest first. The prompt has the e-mail that is answered if it is in the
/// mailbox, else the text that is quoted from it, else the subject.
fn examples(mut mails: Vec<Mail>, mut imported: Imported) -> Imported {
    mails.sort_by_key(|mail| mail.time);
    let texts: HashMap<&str, &str> = mails
        .iter()
        .filter(|mail| !mail.id.is_empty())
        .map(|mail| (mail.id.as_str(), mail.text.as_str()))
        .collect();
    for mail in &mails {
        let answered = mail
            .answers
            .as_deref()
            .and_then(|id| texts.get(id).copied());
        let answered = answered.unwrap_or(&mail.quoted).trim();
        if !mail.is_own {
            imported.skip("from somebody else");
        } else if mail.text.is_empty() {
            imported.skip("nothing but quoted text");
        } else if !answered.is_empty() {
            imported.add(format!("Answer this mail:\n\n{answered}"), &mail.text);
        } else if mail.subject.is_empty() {
            imported.skip("neither a subject nor an answered e-mail");
        } else {
            let subject = &mail.subject;
            imported.add(
                format!("Write a mail with the subject \"{subject}\"."),
                &mail.text,
            );
        }
    }
    imported
}

/// Splits a body into the author's own text and the text of lines that begin with `>`. Everything from the `-- ` of a
/// signature or the header of a forwarded e-mail on is dropped, and so are lines that say who is quoted and quotes within
/// quotes.
fn own_and_quoted(body: &str) -> (String, String) {
    let (mut own, mut quoted) = (Vec::new(), Vec::new());
    for line in body.lines() {
        if line == "-- " || line.trim_end() == "--" || is_forward_header(line) {
            break;
        }
        match line.strip_prefix('>') {
            None => own.push(line.trim_end()),
            Some(line) => {
                pop_empty(&mut own);
                if let n @ 1.. = attribution_len(&own) {
                    own.truncate(own.len() - n);
                    pop_empty(&mut own);
                }
                if !line.trim_start().starts_with('>') {
                    quoted.push(line.strip_prefix(' ').unwrap_or(line).trim_end());
                }
            }
        }
    }
    let text = |lines: &[&str]| lines.join("\n").trim().to_owned();
    (text(&own), text(&quoted))
}

fn is_forward_header(line: &str) -> bool {
    let line = line.trim();
    let is_ruled = line.starts_with("-----") && line.ends_with("-----");
    let names = ["Original Message", "Forwarded message", "Forwarded Message"];
    is_ruled && names.iter().any(|name| line.contains(name))
}

fn pop_empty(lines: &mut Vec<&str>) {
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
}

/// The number of lines at the end that say who is quoted, such as `On Monday Ann <ann@example.org> wrote:`. A mail program
/// may have broken that line in two.
fn attribution_len(lines: &[&str]) -> usize {
    const VERBS: [&str; 7] = [
        "wrote",
        "writes",
        "schrieb",
        "a écrit",
        "escribió",
        "scrisse",
        "ha scritto",
    ];
    const OPENINGS: [&str; 5] = ["On ", "Am ", "Le ", "El ", "Il "];
    let opens = |line: &str| OPENINGS.iter().any(|opening| line.starts_with(opening));
    match lines {
        [.., last] if !last.ends_with(':') || !VERBS.iter().any(|verb| last.contains(verb)) => 0,
        [.., before, last] if !opens(last) && opens(before) => 2,
        [.., _] => 1,
        [] => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_and_the_signature_are_removed() {
        let body = "Hello Ann,\n\nOn Monday, 2 March, Ann Lee\n<ann@example.org> wrote:\n> Shall we?\n>> Before.\n\
            > Really?\n\nYes.\nBut when:\n> At six?\nAt six.\n-- \nBob\n> not this";
        let (own, quoted) = own_and_quoted(body);
        assert_eq!(own, "Hello Ann,\n\nYes.\nBut when:\nAt six.");
        assert_eq!(quoted, "Shall we?\nReally?\nAt six?");
        let (own, quoted) =
            own_and_quoted("See below.\n\n-----Original Message-----\nFrom: Ann\nHi");
        assert_eq!((own.as_str(), quoted.as_str()), ("See below.", ""));
    }
}
