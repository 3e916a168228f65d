//! The words that `WhatsApp` writes in place of messages: see `placeholders.tsv`.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::talk::{ATTACHMENT, CALL, DELETED, NOTICE};

/// A kind of words that stand for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placeholder {
    Attachment,
    Call,
    Deleted,
    Notice,
}

/// The words of the table by their kinds, and those that stand after the name of a file.
struct Placeholders {
    kinds: HashMap<String, Placeholder>,
    after_files: Vec<String>,
}

static PLACEHOLDERS: LazyLock<Placeholders> = LazyLock::new(|| {
    let mut placeholders = Placeholders {
        kinds: HashMap::new(),
        after_files: Vec::new(),
    };
    let lines = include_str!("placeholders.tsv").lines();
    for (kind, words) in lines.filter_map(|line| line.split_once('\t')) {
        let words = folded(words);
        let kind = match kind {
            "attachment" => Placeholder::Attachment,
            "call" => Placeholder::Call,
            "deleted" => Placeholder::Deleted,
            "notice" => Placeholder::Notice,
            _ => {
                placeholders.after_files.push(words);
                continue;
            }
        };
        placeholders.kinds.insert(words, kind);
    }
    placeholders
});

impl Placeholder {
    /// The kind of a line without invisible marks, if it is one of the table's, or names an attached file.
    pub fn of(line: &str) -> Option<Self> {
        let line = folded(line);
        let inner = line.strip_prefix('<').and_then(|it| it.strip_suffix('>'));
        let inner = inner.map(folded);
        let known = inner.as_ref().unwrap_or(&line);
        if let Some(kind) = PLACEHOLDERS.kinds.get(known) {
            return Some(*kind);
        }
        let (name, words) = line.strip_suffix(')')?.rsplit_once(" (")?;
        let (_, extension) = name.rsplit_once('.')?;
        let is_file =
            (1..=5).contains(&extension.len()) && extension.chars().all(char::is_alphanumeric);
        let is_known = PLACEHOLDERS.after_files.iter().any(|it| it == words);
        let is_known = is_known || is_media_file(name) || extension == "vcf";
        (is_file && is_known).then_some(Self::Attachment)
    }

    /// The reason to leave the message.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Attachment => ATTACHMENT,
            Self::Call => CALL,
            Self::Deleted => DELETED,
            Self::Notice => NOTICE,
        }
    }
}

/// Whether a file has a name that `WhatsApp` gives: `IMG-20260307-WA0001.jpg`.
fn is_media_file(name: &str) -> bool {
    let parts: Vec<_> = name.split('-').collect();
    matches!(parts.as_slice(), [kind, date, number] if kind.len() == 3 && date.len() == 8 && number.starts_with("wa"))
}

fn folded(words: &str) -> String {
    let words = words.trim().trim_end_matches(['.', '。']);
    words.to_lowercase()
}
