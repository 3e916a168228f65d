//! Gemini's activity, as Google Takeout exports it in `My Activity/Gemini Apps/MyActivity.json`, the newest first:
//!
//! ```text
//! [{"header": "Gemini Apps", "title": "Prompted …", "time": …, "products": ["Gemini Apps"], "safeHtmlItem": [{"html": …}]}]
//! ```
//!
//! The activity of Google's other programs has the same form. `header` and `products` are in the account's language and always
//! hold the name.
//!
//! The text that a person typed stands after a verb in the language of the account. Nothing tells which prompts were of one
//! chat, so each is a chat of its own. The verbs in English and German are those that public readers of real exports look for.

use serde_json::Value;

use super::super::Imported;
use super::super::mail::text_of_html;
use super::assistant::{add_chat, text_in};
use super::object::JsonObject;
use super::turn::{Speaker, Turn};

/// The program's name.
pub(super) const NAME: &str = "Gemini";

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

pub(super) fn wrote(object: &JsonObject) -> bool {
    let is_text = |field| object.given(field).is_some_and(Value::is_string);
    is_text("title")
        && is_text("time")
        && (object.given("products").is_some_and(Value::is_array) || is_text("header"))
}

/// Adds the example of an activity.
pub(super) fn add(mut object: JsonObject, speaker: Option<Speaker>, imported: &mut Imported) {
    let products = object.take("products").unwrap_or_default();
    let items = object.take("safehtmlitem").unwrap_or_default();
    let products = products.as_array().map_or(&[][..], Vec::as_slice);
    let names = products.iter().chain(object.given("header"));
    let names: Vec<_> = names.filter_map(Value::as_str).collect();
    let items = items.as_array().map_or(&[][..], Vec::as_slice);
    let answer: String = items
        .iter()
        .filter_map(|item| text_in(item, "html"))
        .collect();
    let title = object.given("title").and_then(Value::as_str);
    let activity = Activity {
        program: &names.join(" "),
        title: title.unwrap_or_default(),
        answer: &answer,
    };
    activity.add(speaker, imported);
}

/// An entry of the record.
pub(in crate::profile::import) struct Activity<'a> {
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
                add_exchange(
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
pub(in crate::profile::import) fn without_files(typed: &str) -> &str {
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

/// Adds the example of a question to an assistant and its answer, which may be empty.
fn add_exchange(question: &str, answer: &str, speaker: Option<Speaker>, imported: &mut Imported) {
    let mut turns = vec![Turn::asked(question)];
    if !answer.is_empty() {
        turns.push(Turn::answered(answer));
    }
    add_chat(None, turns, speaker, imported);
    imported.take_from(NAME, speaker.unwrap_or(Speaker::Human));
}
