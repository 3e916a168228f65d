//! Finds the messages of mailboxes: mbox files, Maildir and Maildir++ folders, Apple Mail's folders, and messages in files of
//! their own. They are read one after the other, so a mailbox may be far larger than the memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::profile::import::source::{entries, open};
use crate::{Error, Result};

/// The most bytes of a message that are read. Larger ones are cut: their ends are attached files.
const MAX_MESSAGE_BYTES: usize = 32 << 20;

/// The most bytes of a line that are looked at as one.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// A file with mails.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MailFile {
    /// One message after the other.
    Mbox(PathBuf),
    /// A message.
    Message(PathBuf),
    /// Apple Mail's: the length of the message, the message, and properties.
    Emlx(PathBuf),
}

/// The mails in a file whose extension or beginning tells that it holds mails.
pub(super) fn file(path: &Path) -> Result<Option<MailFile>> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let extension = extension.unwrap_or_default().to_ascii_lowercase();
    let path = path.to_owned();
    Ok(match extension.as_str() {
        "mbox" | "mbx" => Some(MailFile::Mbox(path)),
        "eml" => Some(MailFile::Message(path)),
        "emlx" => Some(MailFile::Emlx(path)),
        _ => match beginning(&path)? {
            beginning if is_mbox(&beginning) => Some(MailFile::Mbox(path)),
            beginning if extension.is_empty() && is_message(&beginning) => {
                Some(MailFile::Message(path))
            }
            _ => None,
        },
    })
}

/// All mails in a folder and its subfolders, in the order of their names; none if it holds posts in Markdown.
pub(super) fn folder(path: &Path) -> Result<Vec<MailFile>> {
    let mut files = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let name = folder.file_name().unwrap_or_default();
        let is_maildir = ["cur", "new"].iter().any(|part| name == *part);
        let mut inner = Vec::new();
        for entry in entries(&folder)? {
            let path = entry.path();
            let kind = entry.file_type().map_err(Error::io("read", &path))?;
            let extension = path.extension().unwrap_or_default();
            if kind.is_dir() {
                inner.push(path);
            } else if ["md", "markdown"]
                .iter()
                .any(|markdown| extension == *markdown)
            {
                return Ok(Vec::new());
            } else if !kind.is_file() {
            } else if is_maildir {
                files.push(MailFile::Message(path));
            } else if extension.is_empty()
                || ["mbox", "mbx", "eml", "emlx"]
                    .iter()
                    .any(|known| extension == *known)
            {
                files.extend(file(&path)?);
            }
        }
        folders.extend(inner.into_iter().rev());
    }
    Ok(files)
}

fn beginning(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?
        .take(4096)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    Ok(bytes)
}

fn is_mbox(beginning: &[u8]) -> bool {
    let text = without_mark(beginning).trim_ascii_start();
    let mut lines = text.split(|&byte| byte == b'\n');
    lines.next().is_some_and(is_separator) && lines.next().is_some_and(is_header)
}

/// Whether a file begins with headers that all mails have.
fn is_message(beginning: &[u8]) -> bool {
    let head = without_mark(beginning).split(|&byte| byte == b'\n');
    let head: Vec<_> = head
        .take_while(|line| !line.trim_ascii().is_empty())
        .collect();
    let has = |name: &[u8]| {
        head.iter().any(|line| {
            line.get(..name.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(name))
        })
    };
    head.first().is_some_and(|line| is_header(line))
        && has(b"From:")
        && (has(b"Date:") || has(b"Message-ID:"))
}

fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Whether a line may stand between two messages of an mbox file: `From `, an address, and a date with a time and a year.
fn is_separator(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"From ") else {
        return false;
    };
    let mut words = rest
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let is_number = |word: &[u8]| word.iter().all(u8::is_ascii_digit);
    let is_year = |word: &[u8]| word.len() == 4 && is_number(word);
    let is_time = |word: &[u8]| {
        let parts: Vec<_> = word.split(|&byte| byte == b':').collect();
        (2..=3).contains(&parts.len())
            && parts
                .iter()
                .all(|part| (1..=2).contains(&part.len()) && is_number(part))
    };
    words.next();
    let (mut has_time, mut has_year) = (false, false);
    for word in words {
        has_time |= is_time(word);
        has_year |= is_year(word);
    }
    has_time && has_year
}

/// Whether a line is a header, such as `Subject: Tea`.
fn is_header(line: &[u8]) -> bool {
    let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
    let name = name.strip_prefix(b">From ").unwrap_or(name);
    !name.is_empty() && name.len() < line.len() && name.iter().all(u8::is_ascii_graphic)
}

impl MailFile {
    /// Calls `receive` with each message.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file cannot be read.
    pub fn for_each(&self, receive: &mut dyn FnMut(&[u8])) -> Result<()> {
        let (Self::Mbox(path) | Self::Message(path) | Self::Emlx(path)) = self;
        let mut reader = BufReader::with_capacity(256 << 10, open(path)?);
        let read = match self {
            Self::Mbox(_) => split(reader, receive),
            Self::Message(_) => {
                read_message(&mut reader, MAX_MESSAGE_BYTES as u64).map(|bytes| receive(&bytes))
            }
            Self::Emlx(_) => read_emlx(reader).map(|bytes| receive(&bytes)),
        };
        read.map_err(Error::io("read", path))
    }
}

fn read_message(reader: &mut impl Read, n_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(n_bytes.min(MAX_MESSAGE_BYTES as u64))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read_emlx(mut reader: BufReader<File>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    reader
        .by_ref()
        .take(MAX_LINE_BYTES)
        .read_until(b'\n', &mut line)?;
    let length = std::str::from_utf8(&line)
        .ok()
        .and_then(|line| line.trim().parse().ok());
    read_message(&mut reader, length.unwrap_or_default())
}

/// Splits an mbox file at the lines that begin with `From ` and a date, if a header follows. Such a line within a text is
/// written as `>From `, and `>` is taken away again.
fn split(mut reader: impl BufRead, receive: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut message = Vec::new();
    let mut line = Vec::new();
    let mut separator = Vec::new();
    let mut is_start = true;
    let mut is_first = true;
    loop {
        line.clear();
        reader
            .by_ref()
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)?;
        if std::mem::take(&mut is_first) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if !separator.is_empty() {
            if is_header(&line) {
                deliver(&mut message, receive);
            } else {
                push(&mut message, &separator);
            }
            separator.clear();
        }
        if line.is_empty() {
            deliver(&mut message, receive);
            return Ok(());
        }
        if is_start && is_separator(&line) {
            separator.extend_from_slice(&line);
            continue;
        }
        let n_marks = line.iter().take_while(|&&byte| byte == b'>').count();
        let is_escaped = is_start && n_marks > 0 && line[n_marks..].starts_with(b"From ");
        push(&mut message, &line[usize::from(is_escaped)..]);
        is_start = line.ends_with(b"\n");
    }
}

fn push(message: &mut Vec<u8>, line: &[u8]) {
    if message.len() < MAX_MESSAGE_BYTES {
        message.extend_from_slice(line);
    }
}

fn deliver(message: &mut Vec<u8>, receive: &mut dyn FnMut(&[u8])) {
    if !message.trim_ascii().is_empty() {
        receive(message);
    }
    message.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(mbox: &str) -> Vec<String> {
        let mut messages = Vec::new();
        let mut receive = |bytes: &[u8]| messages.push(String::from_utf8(bytes.to_vec()).unwrap());
        split(mbox.as_bytes(), &mut receive).unwrap();
        messages
    }

    #[test]
    fn an_mbox_is_split_at_dates_above_headers() {
        let mbox = "\u{feff}From a@x Tue Mar  3 10:00:00 2026\nSubject: 1\n\nFrom now on\nFrom a@x Tue Mar  3 10:00:00 2026\nno header\n\
            >From here\n>>From there\n\nFrom 12@xxx Tue Mar 11 01:31:25 +0000 2025\r\nSubject: 2\r\n\r\nx\r\n";
        assert_eq!(
            messages(mbox),
            [
                "Subject: 1\n\nFrom now on\nFrom a@x Tue Mar  3 10:00:00 2026\nno header\nFrom here\n>From there\n\n",
                "Subject: 2\r\n\r\nx\r\n",
            ]
        );
        assert_eq!(messages(""), [""; 0]);
        assert_eq!(
            messages("From a@x Tue Mar  3 10:00:00 2026"),
            ["From a@x Tue Mar  3 10:00:00 2026"]
        );
    }

    #[test]
    fn a_message_has_a_limit() {
        let long = format!(
            "From a@x Tue Mar  3 10:00:00 2026\nSubject: 1\n\n{}\n\nFrom a@x Tue Mar  3 10:00:00 2026\nSubject: 2\n",
            "x".repeat(MAX_MESSAGE_BYTES)
        );
        let lengths: Vec<_> = messages(&long).iter().map(String::len).collect();
        assert!(
            lengths[0] < MAX_MESSAGE_BYTES + MAX_LINE_BYTES as usize,
            "{lengths:?}"
        );
        assert_eq!(lengths[1..], [11]);
    }

    #[test]
    fn the_beginning_of_a_file_tells_mails() {
        assert!(is_mbox(
            b"\n\nFrom - Mon Mar  2 10:00:00 2026\nX-Status: 1\n"
        ));
        assert!(!is_mbox(b"From now on, at 10:00, in 2026\n\nwe"));
        assert!(is_message(b"Received: x\r\nFROM: a@x\r\nDate: y\r\n\r\nHi"));
        assert!(!is_message(b"From: Berlin\nTo: Hamburg\n"));
    }
}
