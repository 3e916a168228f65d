//! Chats of LINE as its programs for computers save them. There is no title, and blanks stand where the phones write tabs, so
//! that a name of several words has to be told from the text after it:
//!
//! ```text
//! 2026.03.12 Thursday
//! 18:02 Nora Lind are you bringing the ladder?
//! 18:05 Tom Berg aye
//! and the paint
//! ```
//!
//! The facts are from public programs that read such exports in English, Chinese and Japanese.

use std::collections::{HashMap, HashSet};

use super::stamp::{clock, day};
use crate::Result;
use crate::profile::import::authors::Authors;
use crate::profile::import::export_files::ExportFile;

/// The bytes from which the names are learnt.
const LEARNT: u64 = 1 << 20;

/// The most words of a name.
const MAX_WORDS: usize = 6;

/// The fewest lines of a person that tell a name by what they have in common.
const MIN_LINES: usize = 2;

/// Parts of the names of the days of the week, folded, in the languages of LINE.
const WEEKDAYS: [&str; 13] = [
    "day",
    "星期",
    "周",
    "週",
    "曜日",
    "요일",
    "วัน",
    "hari",
    "senin",
    "selasa",
    "rabu",
    "kamis",
    "jumat",
];

/// Words of the halves of a day that stand apart from the hours.
const NOONS: [&str; 8] = ["上午", "下午", "午前", "午後", "오전", "오후", "am", "pm"];

/// Words that stand for a message without a text.
const STAND_INS: [&str; 32] = [
    "Photos",
    "Videos",
    "Stickers",
    "Audio",
    "Files",
    "Contacts",
    "Location",
    "Photo",
    "Video",
    "Sticker",
    "File",
    "Contact",
    "Voice message",
    "圖片",
    "照片",
    "影片",
    "貼圖",
    "檔案",
    "聯絡資訊",
    "位置資訊",
    "语音信息",
    "贴图",
    "图片",
    "视频",
    "文件",
    "写真",
    "画像",
    "動画",
    "スタンプ",
    "ファイル",
    "사진",
    "스티커",
];

/// Ends of the program's own lines, which the name of a person may begin.
const NOTICES: [&str; 16] = [
    "unsent a message.",
    "joined the group.",
    "joined the chat.",
    "left the group.",
    "left the chat.",
    "已收回訊息",
    "已收回讯息",
    "已加入群組。",
    "加入群組。",
    "已退出群組。",
    "加入聊天",
    "離開聊天",
    "メッセージの送信を取り消しました",
    "参加しました。",
    "退会しました。",
    "退出しました。",
];

/// Whether a text is the beginning of such a chat, or of one with tabs and without a title.
pub(super) fn is_chat(beginning: &str) -> bool {
    let mut lines = beginning.lines().filter(|line| !line.trim().is_empty());
    let Some(first) = lines.next().filter(|line| day(line).is_some()) else {
        return false;
    };
    let folded = first.to_lowercase();
    let has_weekday = WEEKDAYS.iter().any(|it| folded.contains(it));
    let is_message = |line: &str| has_tabs(line) || has_weekday && timed(line).is_some();
    lines.next().is_some_and(is_message)
}

/// Whether a line is a message with tabs.
fn has_tabs(line: &str) -> bool {
    let time = line.split_once('\t').map(|(time, _)| clock(time));
    time.flatten().is_some()
}

/// The names in a chat.
pub(super) struct DesktopNames<'a> {
    authors: &'a Authors,
    /// The name of the other one, or of the group.
    title: String,
    /// The names that lines have in common, by their first words.
    learnt: HashMap<String, String>,
    /// The first words of several lines.
    speakers: HashSet<String>,
}

impl<'a> DesktopNames<'a> {
    /// Learns the names of a chat, of which the file's name is one: `[LINE]Nora Lind.txt`; `None` if tabs tell them.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] when it cannot be read.
    pub fn learn(file: &ExportFile, authors: &'a Authors) -> Result<Option<Self>> {
        let beginning = file.beginning(LEARNT)?;
        let beginning = String::from_utf8_lossy(&beginning);
        let is_message = |line: &&str| has_tabs(line) || timed(line).is_some();
        if beginning.lines().find(is_message).is_none_or(has_tabs) {
            return Ok(None);
        }
        let said = beginning.lines().filter_map(timed).map(|(_, said)| said);
        let mut by_first: HashMap<&str, Vec<&str>> = HashMap::new();
        for said in said.filter(|it| !is_notice(it)) {
            let first = said.split(' ').next().unwrap_or_default();
            by_first.entry(first).or_default().push(said);
        }
        let speakers = by_first.iter().filter(|(_, said)| said.len() >= MIN_LINES);
        let speakers = speakers.map(|(first, _)| (*first).to_owned()).collect();
        let learnt = by_first.into_iter();
        let learnt = learnt.map(|(first, said)| (first.to_owned(), common_name(&said)));
        let title = file.file_name().trim_start_matches("[LINE]");
        let title = title.rsplit_once('.').map_or(title, |(title, _)| title);
        Ok(Some(Self {
            authors,
            title: title.trim().to_owned(),
            learnt: learnt.collect(),
            speakers,
        }))
    }

    /// A line in the form of the phones, with tabs, if it has none and begins with a time, or holds the beginning of another
    /// person's message, as in a damaged file.
    pub fn tabbed(&self, line: &str) -> Option<String> {
        let Some((time, said)) = timed(line) else {
            return self
                .with_heads(line)
                .or_else(|| is_damaged(line).then(|| format!("\t\t{line}")));
        };
        let name = Some(said)
            .filter(|it| !is_notice(it))
            .and_then(|it| self.name(it));
        let name = name.unwrap_or_default();
        let text = said[name.len()..].trim_start();
        let text = if STAND_INS.contains(&text) {
            format!("[{text}]")
        } else {
            self.with_heads(text).unwrap_or_else(|| text.to_owned())
        };
        Some(format!("{time}\t{name}\t{text}"))
    }

    /// A text with a tab after each word with a digit that a name follows, which marks the beginning of a message, if there are any.
    /// After hours and minutes, that of somebody who has spoken once will do.
    fn with_heads(&self, text: &str) -> Option<String> {
        let words: Vec<_> = text.split(' ').collect();
        let is_head = |pair: &[&str]| {
            let time = pair[0].rsplit_once(':').map_or("", |(_, minutes)| minutes);
            let is_time = !time.is_empty() && time.bytes().all(|it| it.is_ascii_digit());
            let is_number = pair[0].contains(|it: char| it.is_ascii_digit());
            is_time && self.learnt.contains_key(pair[1])
                || is_number && self.speakers.contains(pair[1])
        };
        words.windows(2).any(is_head).then(|| {
            let mut marked = words[0].to_owned();
            for pair in words.windows(2) {
                marked.push(if is_head(pair) { '\t' } else { ' ' });
                marked.push_str(pair[1]);
            }
            marked
        })
    }

    /// The name at the beginning of a line, after which a text follows.
    fn name<'b>(&self, said: &'b str) -> Option<&'b str> {
        let ends = said.match_indices(' ').map(|(at, _)| &said[..at]);
        let mut names = ends.take(MAX_WORDS);
        let author = names.find(|it| self.authors.include([*it]));
        let after = |name: &str| {
            let rest = said.strip_prefix(name)?;
            (!name.is_empty() && rest.starts_with(' ')).then(|| &said[..name.len()])
        };
        let learnt = self.learnt.get(said.split(' ').next()?);
        let learnt = learnt.and_then(|it| after(it));
        let others = after(&self.title).or(learnt);
        match (author, others) {
            // One word of a name may be another person's, too.
            (Some(author), Some(other)) if !author.contains(' ') && other.len() > author.len() => {
                Some(other)
            }
            (author, other) => author.or(other),
        }
    }
}

/// The time at the beginning of a line, and what follows it after a blank.
fn timed(line: &str) -> Option<(String, &str)> {
    let line = line.trim_end();
    if line.contains('\t') {
        return None;
    }
    let (first, rest) = line.split_once(' ')?;
    let is_noon = |word: &str| NOONS.contains(&word.to_lowercase().as_str());
    let next = rest.split_once(' ').unwrap_or((rest, ""));
    let (time, said) = if is_noon(first) || is_noon(next.0) {
        (format!("{first} {}", next.0), next.1)
    } else {
        (first.to_owned(), rest)
    };
    let said = said.trim_start();
    let is_time = time.contains([':', '：']) && clock(&time).is_some();
    (is_time && !said.is_empty()).then_some((time, said))
}

/// Whether a line begins with a time that nothing but a name could be glued to.
fn is_damaged(line: &str) -> bool {
    let digits = line.trim_start_matches(|it: char| it.is_ascii_digit());
    digits.len() < line.len()
        && digits
            .strip_prefix(':')
            .is_some_and(|it| it.starts_with(|it: char| it.is_ascii_digit()))
}

fn is_notice(said: &str) -> bool {
    NOTICES.iter().any(|it| said.ends_with(it))
}

/// The words that all lines of one first word begin with, of which each has a text behind them.
fn common_name(said: &[&str]) -> String {
    let words = |said: &str| -> Vec<String> {
        let without = STAND_INS
            .iter()
            .find_map(|it| said.strip_suffix(it)?.strip_suffix(' '));
        let said = without.map_or(said.to_owned(), |it| format!("{it} _"));
        said.split(' ').map(str::to_owned).collect()
    };
    let mut lines = said.iter().map(|it| words(it));
    let first = lines.next().unwrap_or_default();
    let mut n_common = if said.len() < MIN_LINES { 1 } else { MAX_WORDS };
    n_common = n_common.min(first.len().saturating_sub(1)).max(1);
    for line in lines {
        let pairs = first.iter().zip(&line).take_while(|(a, b)| a == b);
        n_common = n_common
            .min(pairs.count())
            .min(line.len().saturating_sub(1))
            .max(1);
    }
    first[..n_common.min(first.len())].join(" ")
}
