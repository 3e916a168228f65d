//! Finds the messages of mailboxes: mbox files, Maildir and Maildir++ folders, Apple Mail's folders, and messages in files of
//! their own. They are read one after the other, so a mailbox may be far larger than the memory.

use std::io::{self, BufRead, Read};
use std::path::Path;

use crate::profile::import::export_files::ExportFile;
use crate::{Error, Result};

/// The most bytes of a message that are read. Larger ones are cut: their ends are attached files.
const MAX_MESSAGE_BYTES: usize = 32 << 20;

/// The most bytes of a line that are looked at as one.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// How a file holds mails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::profile::import) enum MailForm {
    /// One message after the other.
    Mbox,
    /// A message.
    Message,
    /// Apple Mail's: the length of the message, the message, and properties.
    Emlx,
}

/// A file with mails.
pub(in crate::profile::import) struct MailFile {
    pub file: ExportFile,
    pub form: MailForm,
}

impl MailForm {
    /// How a file holds mails, if its extension, its folder or its beginning tells that it does.
    pub fn of(file: &ExportFile, beginning: &[u8]) -> Option<Self> {
        let folder = file.path().parent().and_then(Path::file_name);
        let is_maildir = folder.is_some_and(|folder| folder == "cur" || folder == "new");
        let first_line = beginning.split(|&byte| byte == b'\n').next();
        match file.extension().as_str() {
            "mbox" | "mbx" => Some(Self::Mbox),
            "eml" => Some(Self::Message),
            "emlx" => Some(Self::Emlx),
            "md" | "markdown" => None,
            _ if is_mbox(beginning) => Some(Self::Mbox),
            "" if is_message(beginning) => Some(Self::Message),
            // The flags of a message end the name of its file, and look like an extension.
            _ if is_maildir && first_line.is_some_and(is_header) => Some(Self::Message),
            _ => None,
        }
    }
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
        self.file.read(|reader| {
            let read = match self.form {
                MailForm::Mbox => split(reader, receive),
                MailForm::Message => {
                    read_message(reader, MAX_MESSAGE_BYTES as u64).map(|bytes| receive(&bytes))
                }
                MailForm::Emlx => read_emlx(reader).map(|bytes| receive(&bytes)),
            };
            read.map_err(Error::io("read", self.file.path()))
        })
    }
}

fn read_message(reader: &mut dyn BufRead, n_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(n_bytes.min(MAX_MESSAGE_BYTES as u64))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read_emlx(reader: &mut dyn BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    reader.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    let length = std::str::from_utf8(&line)
        .ok()
        .and_then(|line| line.trim().parse().ok());
    read_message(reader, length.unwrap_or_default())
}

/// Splits an mbox file at the lines that begin with `From ` and a date, if a header follows. Such a line within a text is
/// written as `>From `, and `>` is taken away again.
fn split(reader: &mut dyn BufRead, receive: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut message = Vec::new();
    let mut line = Vec::new();
    let mut separator = Vec::new();
    let mut is_start = true;
    let mut is_first = true;
    loop {
        line.clear();
        reader.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
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
        split(&mut mbox.as_bytes(), &mut receive).unwrap();
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
