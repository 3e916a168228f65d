//! Prompts in Google's record of what a person did with Gemini. The record is a list in JSON (`json/gemini.rs`), or the page
//! `MyActivity.html`, which is read here:
//!
//! ```text
//! <div class="outer-cell …"><div class="header-cell …"><p class="mdl-typography--title">Gemini Apps<br></p></div>
//! <div class="content-cell mdl-cell mdl-cell--6-col …">Prompted&nbsp;…<br>Mar 1, 2026, 8:00:00 AM CET<br><p>the answer</p></div>
//! ```
//!
//! The elements are those that public readers of real exports look for.

use std::sync::LazyLock;

use scraper::{ElementRef, Html, Selector};

use super::export_files::ExportFile;
use super::html_blocks::for_each_element;
use super::json::{Activity, PromptLabels, without_files};
use super::mail::{is_nested_deeply, text_of_html};
use super::{ImportOptions, Imported, Speaker};
use crate::{Error, Result};

/// The tag with which an activity begins, without its bracket.
const CELL: &[u8] = b"div class=\"outer-cell";

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

/// The examples of the page with the record. It is read again if the words around its prompts have to be learnt.
///
/// # Errors
///
/// [`Error::Io`] when the page cannot be read.
pub(super) fn import(file: &ExportFile, options: &ImportOptions) -> Result<Imported> {
    let read = |labels: &mut PromptLabels| {
        let mut imported = Imported::default();
        file.read(|reader| {
            let read = for_each_element(reader, begins_cell, |cell| {
                add_cell(cell, options.speaker, labels, &mut imported);
            });
            read.map_err(Error::io("read", file.path()))
        })?;
        Ok(imported)
    };
    let mut labels = PromptLabels::default();
    let imported = read(&mut labels)?;
    match labels.learn() {
        Some(mut labels) => read(&mut labels),
        None => Ok(imported),
    }
}

fn begins_cell(tag: &[u8]) -> bool {
    tag.starts_with(CELL)
}

fn add_cell(
    html: &str,
    speaker: Option<Speaker>,
    labels: &mut PromptLabels,
    imported: &mut Imported,
) {
    if is_nested_deeply(html) {
        imported.skip("an activity that cannot be read");
        return;
    }
    let Some(mut activity) = activity(html) else {
        imported.skip("an activity without a time");
        return;
    };
    if let Some(title) = activity.english(labels) {
        activity.title = title;
    }
    activity.add(speaker, imported);
}

/// The activity in a cell, if it has a time.
fn activity(html: &str) -> Option<Activity> {
    let cell = Html::parse_fragment(html);
    let text = |element: ElementRef| element.text().collect::<String>();
    let program = cell.select(&HEADER).next().map(text).unwrap_or_default();
    let content = cell.select(&CONTENT).next();
    let content = content
        .map(|content| content.inner_html())
        .unwrap_or_default();
    // What was typed stands above the line with the time, and the answer below it.
    let lines: Vec<_> = content.split("<br>").collect();
    let time = lines.iter().position(|line| is_time(&text_of_html(line)))?;
    let title: Vec<_> = lines[..time]
        .iter()
        .map(|line| text_of_html(line))
        .collect();
    let files = title
        .iter()
        .skip(1)
        .position(|line| without_files(line).is_empty() && !line.is_empty());
    let title = title[..files.map_or(title.len(), |at| at + 1)].join("\n");
    Some(Activity {
        program,
        title: title.trim().to_owned(),
        answer: lines[time + 1..].join("<br>"),
    })
}

/// Whether a line is a date with a year and a time, in any language that writes them in these digits.
fn is_time(line: &str) -> bool {
    let words = || line.split([' ', ',', '،', '\u{202f}', '\u{a0}', 'T', '/', '-']);
    let is_number = |part: &str| !part.is_empty() && part.chars().all(char::is_numeric);
    let is_clock = |word: &str, separators: &[char]| {
        let parts: Vec<_> = word.split(separators).collect();
        parts.len() == 3
            && parts
                .iter()
                .all(|it| it.chars().count() <= 2 && is_number(it))
    };
    // Before the hours, the half of the day may stand without a blank.
    let hours = |word: &str| word.trim_start_matches(char::is_alphabetic).to_owned();
    let has_time = words().any(|it| is_clock(it, &[':', '.']) || is_clock(&hours(it), &[':']));
    let is_year = |part: &str| part.chars().count() == 4 && is_number(part);
    let has_year = words().any(|word| word.split(['.', '年', '년', '년']).any(is_year));
    has_time && has_year && line.chars().count() < 60
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(page: &str, speaker: Option<Speaker>) -> Imported {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("MyActivity.html");
        std::fs::write(&path, page).unwrap();
        let options = ImportOptions {
            speaker,
            ..ImportOptions::default()
        };
        import(&ExportFile::on_disk(&path).unwrap(), &options).unwrap()
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
    fn the_time_is_told_in_many_languages() {
        for line in [
            "Mar 1, 2026, 8:00:00\u{202f}AM CET",
            "18.04.2026, 17:38:51 MESZ",
            "1. maalis 2026 klo 8.00.00 EET",
            "2026/03/01 8:00:00 JST",
            "2026年3月1日 8:00:00 JST",
            "2026年3月1日下午8:00:00 [GMT+08:00]",
            "2026. 3. 1. 오전 8:00:00 KST",
            "1 марта 2026 г., 08:00:00 MSK",
            "1 de mar. de 2026, 08:00:00 BRT",
            "١ مارس ٢٠٢٦، ٨:٠٠:٠٠ ص",
            "1 mars 2026, 08:00:00 CET",
        ] {
            assert!(is_time(line), "{line}");
        }
        for line in [
            "at 8:00 in 2026",
            "1.2.3 is out",
            "v1.2.3 since 2026",
            "since 2026",
            "18.04.2026",
        ] {
            assert!(!is_time(line), "{line}");
        }
    }

    #[test]
    fn of_a_page_without_times_nothing_is_taken() {
        let page = PAGE.replace("2026, ", "26, ");
        let imported = read(&page, None);
        assert_eq!(imported.examples, []);
        assert_eq!(imported.skipped["an activity without a time"], 4);
        let deep = PAGE.replace("how do i", &"<div>".repeat(20_000));
        assert_eq!(
            read(&deep, None).skipped["an activity that cannot be read"],
            1
        );
    }

    #[test]
    fn words_of_other_languages_are_learnt() {
        let cell = |title: &str| {
            format!(
                "<div class=\"outer-cell mdl-cell\"><div class=\"header-cell\"><p>Приложения Gemini</p></div><div class=\"content-cell mdl-cell mdl-cell--6-col\">{title}<br>1 мар. 2026 г., 08:00:00 MSK<br><p>an answer</p></div></div>"
            )
        };
        let prompts = ["slugs", "rain", "tea?", "more tea", "soup"];
        let page: String = prompts
            .iter()
            .map(|it| cell(&format!("Вы спросили&nbsp;{it}")))
            .collect();
        let imported = read(&page, None);
        let texts: Vec<_> = imported
            .examples
            .iter()
            .map(|it| it.response.as_str())
            .collect();
        assert_eq!(texts, prompts);
        let few: String = prompts[..2]
            .iter()
            .map(|it| cell(&format!("Вы спросили&nbsp;{it}")))
            .collect();
        assert_eq!(
            read(&few, None).skipped["a prompt after words of a language that are not known"],
            2
        );
    }

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
