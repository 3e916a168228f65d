//! Mailboxes: what the user wrote, without what they quoted and their signature.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use mail_parser::mailbox::mbox::MessageIterator;
use mail_parser::{Message, MessageParser};

use super::source::{entries, read};
use super::{Imported, need_authors};
use crate::{Error, Result};

/// A mail, as far as it is of use.
struct Mail {
    id: String,
    /// The mail that it answers.
    answers: Option<String>,
    /// Seconds since 1970; of a mail without a date 0.
    time: i64,
    is_own: bool,
    subject: String,
    /// What its author wrote, and what they quoted.
    text: String,
    quoted: String,
}

pub(super) fn is_maildir(folder: &Path) -> bool {
    ["cur", "new"].iter().all(|name| folder.join(name).is_dir())
}

/// The user's own mails of a Maildir: those from one of `authors`' addresses.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be read; [`Error::Input`] when no author is named.
pub(super) fn import_maildir(folder: &Path, authors: &[String]) -> Result<Imported> {
    need_authors(folder, authors, "mails")?;
    let mut imported = Imported::default();
    let mut mails = Vec::new();
    for part in ["cur", "new"].map(|name| folder.join(name)) {
        for entry in entries(&part)? {
            if entry.path().is_file() {
                keep(&read(&entry.path())?, authors, &mut mails, &mut imported);
            }
        }
    }
    Ok(taken(mails, imported))
}

/// The user's own mails of an mbox file, message by message, so that it may be large.
///
/// # Errors
///
/// As [`import_maildir`].
pub(super) fn import_mbox(path: &Path, authors: &[String]) -> Result<Imported> {
    need_authors(path, authors, "mails")?;
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut imported = Imported::default();
    let mut mails = Vec::new();
    for message in MessageIterator::new(BufReader::new(file)) {
        let message = message.map_err(Error::io("read", path))?;
        keep(message.contents(), authors, &mut mails, &mut imported);
    }
    Ok(taken(mails, imported))
}

/// Keeps what is of use of a message.
fn keep(bytes: &[u8], authors: &[String], mails: &mut Vec<Mail>, imported: &mut Imported) {
    let message = MessageParser::default().parse(bytes);
    match message.as_ref().and_then(|message| mail(message, authors)) {
        Some(mail) => mails.push(mail),
        None => imported.leave("not a mail with a sender"),
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

/// The own ones of some mails, oldest first, each after what it answers: the mail, if it is there, or what is quoted of it;
/// else the subject has to do.
fn taken(mut mails: Vec<Mail>, mut imported: Imported) -> Imported {
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
            imported.leave("from somebody else");
        } else if mail.text.is_empty() {
            imported.leave("nothing but what is quoted");
        } else if !answered.is_empty() {
            imported.take(format!("Answer this mail:\n\n{answered}"), &mail.text);
        } else if mail.subject.is_empty() {
            imported.leave("neither a subject nor a mail that it answers");
        } else {
            let subject = &mail.subject;
            imported.take(
                format!("Write a mail with the subject \"{subject}\"."),
                &mail.text,
            );
        }
    }
    imported
}

/// What a body says itself, and what it quotes: lines after `>`, and all below the line of a mail that is passed on. The
/// line that says who is quoted, and what stands below the `-- ` of a signature, are neither.
fn own_and_quoted(body: &str) -> (String, String) {
    let (mut own, mut quoted) = (Vec::new(), Vec::new());
    for line in body.lines() {
        if line == "-- " || line.trim_end() == "--" || is_passed_on(line) {
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

fn is_passed_on(line: &str) -> bool {
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

/// How many of the last lines say who is quoted, as `On Monday Ann <ann@example.org> wrote:`, which may be broken in two.
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
    fn what_is_quoted_and_the_signature_are_cut() {
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
