//! Prompts in Google's record of what a person did with Gemini. The record is a list in JSON (`json/gemini.rs`), or the page
//! `MyActivity.html`, which is read here:
//!
//! ```text
//! <div class="outer-cell …"><div class="header-cell …"><p class="mdl-typography--title">Gemini Apps<br></p></div>
//! <div class="content-cell mdl-cell mdl-cell--6-col …">Prompted&nbsp;…<br>Mar 1, 2026, 8:00:00 AM CET<br><p>the answer</p></div>
//! ```
//!
//! What a person typed stands after a verb in the language of the account. Nothing tells which prompts were of one chat, so each
//! is a chat of its own. The elements, and the verbs in English and German, are those that public readers of real exports look
//! for.

use std::io::BufRead;
use std::sync::LazyLock;

use scraper::{ElementRef, Html, Selector};

use super::export_files::ExportFile;
use super::mail::text_of_html;
use super::{ImportOptions, Imported, Speaker, json};
use crate::{Error, Result};

/// Words before what a person typed.
const TYPED: [&str; 8] = [
    "Prompted with: ",
    "Prompted: ",
    "Prompted ",
    "Asked Gemini: ",
    "Asked Bard: ",
    "Asked ",
    "Answered ",
    "Eingegebener Prompt: ",
];

/// Words before what a person said aloud.
const SPOKEN: [&str; 1] = ["Said "];

/// Words of activities with an answer that are no prompts.
const OTHERS: [&str; 3] = ["Created ", "Used ", "Selected "];

/// Beginnings of lines below a prompt about its files, after their number.
const FILES: [&str; 4] = ["file.", "files.", "Datei angehängt", "Dateien angehängt"];

/// The tag with which an activity begins, without its bracket.
const CELL: &[u8] = b"div class=\"outer-cell";

/// The most bytes of an activity.
const MAX_CELL: usize = 4 << 20;

static HEADER: LazyLock<Selector> = LazyLock::new(|| selector(".header-cell"));
static CONTENT: LazyLock<Selector> =
    LazyLock::new(|| selector(".content-cell.mdl-cell--6-col:not(.mdl-typography--text-right)"));

fn selector(css: &str) -> Selector {
    Selector::parse(css).expect("a valid selector")
}

/// Whether a page is a record of what a person did, by some of its beginning.
pub(super) fn is_record(beginning: &[u8]) -> bool {
    beginning.windows(CELL.len()).any(|window| window == CELL)
}

/// An entry of the record.
pub(super) struct Activity<'a> {
    /// The name of the program, in the language of the account.
    pub program: &'a str,
    /// A verb and what the person typed.
    pub title: &'a str,
    /// The answer, in HTML.
    pub answer: &'a str,
}

impl Activity<'_> {
    /// Adds the example of an entry, or counts it.
    pub fn add(&self, speaker: Option<Speaker>, imported: &mut Imported) {
        let program = self.program.to_lowercase();
        if !program.contains("gemini") && !program.contains("bard") {
            imported.skip("an activity in another program of Google's");
            return;
        }
        let title = self.title.replace('\u{a0}', " ");
        let after = |verbs: &[&str]| {
            let mut typed = verbs.iter().filter_map(|verb| title.strip_prefix(verb));
            typed.next().map(str::trim).map(str::to_owned)
        };
        match (after(&TYPED), after(&SPOKEN)) {
            (Some(typed), _) => {
                json::add_exchange(
                    without_files(&typed),
                    &text_of_html(self.answer),
                    speaker,
                    imported,
                );
            }
            (None, Some(_)) => imported.skip("a recording"),
            (None, None) if self.answer.is_empty() || after(&OTHERS).is_some() => {
                imported.skip("an activity that is no prompt");
            }
            (None, None) => imported.skip("a prompt after words of a language that are not known"),
        }
    }
}

/// A prompt without the line about the files that were attached to it.
fn without_files(typed: &str) -> &str {
    let line = typed.rsplit('\n').next().unwrap_or_default().trim();
    let counted = line
        .trim_start_matches("Attached ")
        .trim_start_matches(|c: char| c.is_ascii_digit());
    let is_about_files =
        counted.len() < line.len() && FILES.iter().any(|it| counted.trim_start().starts_with(it));
    if is_about_files {
        typed[..typed.len() - line.len()].trim_end()
    } else {
        typed
    }
}

/// The examples of the page with the record.
///
/// # Errors
///
/// [`Error::Io`] when the page cannot be read.
pub(super) fn import(file: &ExportFile, options: &ImportOptions) -> Result<Imported> {
    let mut imported = Imported::default();
    file.read(|reader| {
        let read = for_each_cell(reader, |cell| {
            add_cell(cell, options.speaker, &mut imported)
        });
        read.map_err(Error::io("read", file.path()))
    })?;
    Ok(imported)
}

/// Calls `take` with the HTML of each entry.
fn for_each_cell(reader: &mut dyn BufRead, mut take: impl FnMut(&str)) -> std::io::Result<()> {
    let mut cell = Vec::new();
    let mut is_in_cell = false;
    loop {
        let start = cell.len();
        let n_read = reader.read_until(b'<', &mut cell)?;
        let begins = cell[start..].starts_with(CELL);
        if begins || n_read == 0 {
            let next = cell.split_off(start);
            if is_in_cell {
                take(&format!(
                    "<{}",
                    String::from_utf8_lossy(&cell).trim_end_matches('<')
                ));
            }
            cell = next;
            is_in_cell = begins;
        }
        if n_read == 0 {
            return Ok(());
        }
        if !is_in_cell {
            cell.clear();
        }
        cell.truncate(MAX_CELL);
    }
}

fn add_cell(html: &str, speaker: Option<Speaker>, imported: &mut Imported) {
    let cell = Html::parse_fragment(html);
    let text = |element: ElementRef| element.text().collect::<String>();
    let program = cell.select(&HEADER).next().map(text).unwrap_or_default();
    let content = cell.select(&CONTENT).next();
    let content = content
        .map(|content| content.inner_html())
        .unwrap_or_default();
    // What was typed stands above the line with the time, and the answer below it.
    let lines: Vec<_> = content.split("<br>").collect();
    let time = lines.iter().position(|line| is_time(&text_of_html(line)));
    let time = time.unwrap_or(lines.len());
    let title: Vec<_> = lines[..time]
        .iter()
        .map(|line| text_of_html(line))
        .collect();
    let files = title
        .iter()
        .skip(1)
        .position(|line| without_files(line).is_empty() && !line.is_empty());
    let title = title[..files.map_or(title.len(), |at| at + 1)].join("\n");
    let answer = lines.get(time + 1..).unwrap_or_default().join("<br>");
    let activity = Activity {
        program: &program,
        title: title.trim(),
        answer: &answer,
    };
    activity.add(speaker, imported);
}

/// Whether a line is a date with a time, in any language.
fn is_time(line: &str) -> bool {
    let has_time = line
        .split([' ', ',', '\u{202f}', '\u{a0}', 'T'])
        .any(|word| {
            let parts: Vec<_> = word.split(':').collect();
            parts.len() == 3
                && parts
                    .iter()
                    .all(|part| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit()))
        });
    has_time && line.chars().count() < 60
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(page: &str, speaker: Option<Speaker>) -> Imported {
        let mut imported = Imported::default();
        for_each_cell(&mut page.as_bytes(), |cell| {
            add_cell(cell, speaker, &mut imported)
        })
        .unwrap();
        imported
    }

    const PAGE: &str = r#"<html><head><style>.outer-cell{}</style></head><body><div class="mdl-grid">
<div class="outer-cell mdl-cell"><div class="mdl-grid"><div class="header-cell mdl-cell"><p class="mdl-typography--title">Gemini Apps<br></p></div>
<div class="content-cell mdl-cell mdl-cell--6-col mdl-typography--body-1">Prompted&nbsp;how do i keep slugs<br>off my beans &lt;3<br>Attached 1 file.<br>-&nbsp;<a href="x">beans.jpg</a><br>Mar 1, 2026, 8:00:00 AM CET<br><p>Copper <b>tape</b>.</p><p>Or beer.</p></div>
<div class="content-cell mdl-cell mdl-cell--6-col mdl-typography--body-1 mdl-typography--text-right"></div></div></div>
<div class="outer-cell mdl-cell"><div class="header-cell"><p>Gemini-Apps</p></div><div class="content-cell mdl-cell mdl-cell--6-col">Eingegebener Prompt: wie spät<br>18.04.2026, 17:38:51 MESZ<br></div></div>
<div class="outer-cell"><div class="header-cell">Gemini Apps</div><div class="content-cell mdl-cell--6-col">Created Gemini Canvas titled x<br>18.04.2026, 17:38:51 MESZ<br></div></div>
<div class="outer-cell"><div class="header-cell">Search</div><div class="content-cell mdl-cell--6-col">Searched for beans<br>18.04.2026, 17:38:51 MESZ<br></div></div>
</div></body></html>"#;

    #[test]
    fn prompts_of_the_page_are_read() {
        assert!(is_record(PAGE.as_bytes()));
        let imported = read(PAGE, None);
        let texts: Vec<_> = imported
            .examples
            .iter()
            .map(|it| it.response.as_str())
            .collect();
        assert_eq!(texts, ["how do i keep slugs\noff my beans <3", "wie spät"]);
        let skipped: Vec<_> = imported.skipped.into_iter().collect();
        assert_eq!(
            skipped,
            [
                ("an activity in another program of Google's".to_owned(), 1),
                ("an activity that is no prompt".to_owned(), 1)
            ]
        );
        let answers = read(PAGE, Some(Speaker::Assistant)).examples;
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].response, "Copper tape.\n\nOr beer.");
        assert_eq!(
            answers[0].prompt[0].content,
            "how do i keep slugs\noff my beans <3"
        );
    }
}
