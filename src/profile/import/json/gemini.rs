//! Gemini's activity, as Google Takeout exports it in `My Activity/Gemini Apps/MyActivity.json`, the newest first:
//!
//! ```text
//! [{"header": "Gemini Apps", "title": "Prompted …", "time": …, "products": ["Gemini Apps"], "safeHtmlItem": [{"html": …}]}]
//! ```
//!
//! The activity of Google's other programs has the same form. `header` and `products` are in the account's language and always
//! hold the name.
//!
//! The text that a person typed stands after a verb, or before one, in the language of the account. Nothing tells which
//! prompts were of one chat, so each is a chat of its own. The verbs are those that public readers of real exports look for;
//! in other languages they are learnt (`prompt_label.rs`).

use serde_json::Value;

use super::super::Imported;
use super::super::mail::text_of_html;
use super::assistant::{add_chat, text_in};
use super::object::JsonObject;
use super::prompt_label::PromptLabels;
use super::turn::{Speaker, Turn};

/// The program's name.
pub(super) const NAME: &str = "Gemini";

/// Words before what a person typed.
const TYPED: [&str; 12] = [
    "Prompted with: ",
    "Prompted: ",
    "Prompted ",
    "Asked Gemini: ",
    "Asked Bard: ",
    "Asked ",
    "Answered ",
    "Eingegebener Prompt: ",
    "送信したメッセージ: ",
    "送信したメッセージ：",
    "已提示 ",
    "已給予提示 ",
];

/// Words behind it.
const TYPED_BEFORE: [&str; 1] = ["と入力しました"];

/// Parts of the words before a colon that a prompt stands after, folded, in further languages: `Prompt inserito: `.
const PROMPTS: [&str; 8] = [
    "prompt",
    "promt",
    "промпт",
    "プロンプト",
    "프롬프트",
    "提示",
    "запрос",
    "istem",
];

/// The most characters and words before that colon.
const MAX_LABEL: usize = 40;
const MAX_WORDS: usize = 5;

/// Words before what a person said aloud.
const SPOKEN: [&str; 1] = ["Said "];

/// Words of activities with an answer that are no prompts.
const OTHERS: [&str; 5] = [
    "Created ",
    "Used ",
    "Selected ",
    "Gave feedback",
    "フィードバックを送信しました",
];

/// Beginnings of lines below a prompt about its files, after their number.
const FILES: [&str; 4] = ["file.", "files.", "Datei angehängt", "Dateien angehängt"];

pub(super) fn wrote(object: &JsonObject) -> bool {
    let is_text = |field| object.given(field).is_some_and(Value::is_string);
    is_text("title")
        && is_text("time")
        && (object.given("products").is_some_and(Value::is_array) || is_text("header"))
}

/// Adds the example of an activity.
pub(super) fn add(object: &JsonObject, speaker: Option<Speaker>, imported: &mut Imported) {
    Activity::of(object).add(speaker, imported);
}

/// Puts the title of an activity into English, if the words around the prompt have been learnt, and counts them otherwise.
pub(super) fn translate(object: &mut JsonObject, labels: &mut PromptLabels) {
    if wrote(object)
        && let Some(title) = Activity::of(object).english(labels)
    {
        object.set("title", Value::String(title));
    }
}

/// An entry of the record.
pub(in crate::profile::import) struct Activity {
    /// The name of the program, in the language of the account.
    pub program: String,
    /// A verb and what the person typed.
    pub title: String,
    /// The answer, in HTML.
    pub answer: String,
}

/// The meaning of a title.
enum ActivityTitle {
    Typed(String),
    Spoken,
    Other,
    /// The words in it are not known.
    Unknown,
}

impl Activity {
    fn of(object: &JsonObject) -> Self {
        let list = |name| object.given(name).and_then(Value::as_array);
        let products = list("products").into_iter().flatten();
        let names = products.chain(object.given("header"));
        let names: Vec<_> = names.filter_map(Value::as_str).collect();
        let items = list("safehtmlitem").into_iter().flatten();
        let title = object.given("title").and_then(Value::as_str);
        Self {
            program: names.join(" "),
            title: title.unwrap_or_default().to_owned(),
            answer: items.filter_map(|item| text_in(item, "html")).collect(),
        }
    }

    /// The title in English, if it is an answered prompt to Gemini among words that are not known, but have been learnt.
    pub fn english(&self, labels: &mut PromptLabels) -> Option<String> {
        let is_unknown = matches!(self.meaning(), ActivityTitle::Unknown);
        let is_asked = is_unknown && self.is_of_gemini() && !self.answer.is_empty();
        is_asked.then(|| labels.english(&self.title()))?
    }

    /// The title with blanks that are all alike.
    fn title(&self) -> String {
        self.title.replace(['\u{a0}', '\u{202f}'], " ")
    }

    fn is_of_gemini(&self) -> bool {
        let program = self.program.to_lowercase();
        program.contains("gemini") || program.contains("bard")
    }

    fn meaning(&self) -> ActivityTitle {
        let title = self.title();
        let begins = |words: &[&str]| words.iter().any(|it| title.starts_with(it));
        let after = TYPED.iter().find_map(|it| title.strip_prefix(it));
        let before = || {
            let mut ends = TYPED_BEFORE.iter();
            ends.find_map(|it| title.strip_suffix(it))
        };
        match after.or_else(before) {
            Some(typed) => ActivityTitle::Typed(typed.trim().to_owned()),
            None if begins(&SPOKEN) => ActivityTitle::Spoken,
            None if begins(&OTHERS) => ActivityTitle::Other,
            None => labelled(&title).map_or(ActivityTitle::Unknown, |typed| {
                ActivityTitle::Typed(typed.trim().to_owned())
            }),
        }
    }

    /// Adds the example of an entry, or counts it.
    pub fn add(&self, speaker: Option<Speaker>, imported: &mut Imported) {
        if !self.is_of_gemini() {
            imported.skip("an activity in another program of Google's");
            return;
        }
        match self.meaning() {
            ActivityTitle::Typed(typed) => {
                let answer = text_of_html(&self.answer);
                add_exchange(without_files(&typed), &answer, speaker, imported);
            }
            ActivityTitle::Spoken => imported.skip("a recording"),
            ActivityTitle::Unknown if !self.answer.is_empty() => {
                imported.skip("a prompt after words of a language that are not known");
            }
            ActivityTitle::Other | ActivityTitle::Unknown => {
                imported.skip("an activity that is no prompt");
            }
        }
    }
}

/// The text after words with a colon that speak of a prompt.
fn labelled(title: &str) -> Option<&str> {
    let (label, typed) = title.split_once([':', '：'])?;
    let folded = label.to_lowercase();
    let is_short = label.chars().count() <= MAX_LABEL && label.split(' ').count() <= MAX_WORDS;
    let is_label = is_short && PROMPTS.iter().any(|it| folded.contains(it));
    (is_label && !typed.starts_with("//")).then_some(typed)
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
