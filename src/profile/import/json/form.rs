//! The forms of items: which fields make an item, and the messages that it stands for.

use serde_json::Value;

use super::super::Imported;
use super::super::marks::written_out;
use super::dialogue::Dialogue;
use super::object::{
    ANSWERS, CHATS, JsonObject, LABELS, LISTS, MATERIALS, QUESTIONS, SYSTEMS, wrong_type,
};
use super::program::Program;
use super::turn::{Learning, Party, Speaker, Turn, is_weightless};
use crate::profile::text_value::{kind, text_of};

/// The forms, for messages.
pub(super) const FORMS: &str = "{\"prompt\": …, \"response\": …}, {\"messages\": […]}, {\"conversations\": […]}, \
     {\"instruction\": …, \"output\": …}, {\"question\": …, \"answer\": …}, {\"prompt\": …, \"chosen\": …}, {\"text\": …}, \
     the exports of ChatGPT, Claude, Gemini, DeepSeek, Grok, Open WebUI, LibreChat and SillyTavern, and LaMP's {\"task\": …, \"users\": […]}";

/// The prompt of a text that has none.
pub(in crate::profile::import) const NO_PROMPT: &str = "Write a text.";

/// Fields that make an item with a `text` one message among those of several people.
const AUTHORS: [&str; 9] = [
    "author", "from", "name", "role", "sender", "speaker", "user", "username", "is_user",
];

/// Texts by which a label says that an answer is not wanted.
const UNWANTED: [&str; 6] = ["false", "0", "0.0", "-1", "rejected", "undesirable"];

/// Adds the examples of an item to `imported`. `speaker` is the speaker of a chat whose texts are the user's.
///
/// # Errors
///
/// The item has no known form, or a field is of the wrong type, empty or ambiguous.
pub(super) fn add(
    mut object: JsonObject,
    speaker: Option<Speaker>,
    imported: &mut Imported,
) -> Result<(), String> {
    if let Some(program) = Program::of(&object) {
        program.add(object, speaker, imported);
        return Ok(());
    }
    if object.has("profile") {
        return Err(unknown(&object));
    }
    let chat_field = object.one_of(&CHATS)?;
    // Tables that were made of several data sets have columns of other forms, which are null or empty.
    let has_answer = object.one_of(&ANSWERS).is_ok_and(|it| it.is_some());
    let holds_answer = has_answer || chat_field.is_some() || Turn::pair(&object).is_some();
    if let Some(why) = why_left(&object).filter(|_| holds_answer) {
        imported.skip(why);
        return Ok(());
    }
    let is_chat = |(name, value): &(&str, &Value)| match value.as_array() {
        Some(list) => !(has_answer && list.is_empty()),
        // A text under this name is that of a Discord message.
        None => *name != "contents",
    };
    if let Some((name, _)) = chat_field.filter(is_chat) {
        return match object.take(name) {
            Some(Value::Array(list)) => chat(&object, name, list, speaker, imported),
            value => Err(wrong_type(
                name,
                &value.unwrap_or_default(),
                "a list of messages",
            )),
        };
    }
    if let Some((name, value)) = object.one_of(&ANSWERS)? {
        let turns = answered(&object, name, value)?;
        Dialogue::add(turns, Speaker::Assistant, imported);
        return Ok(());
    }
    if let Some(text) = object.given("text") {
        let turns = text_alone(&object, text)?;
        Dialogue::add(turns, Speaker::Assistant, imported);
        return Ok(());
    }
    if let Some(pair) = Turn::pair(&object) {
        add_chat(pair.into(), speaker, imported);
        return Ok(());
    }
    if let Some(name) = ANSWERS.iter().chain(&["text"]).find(|it| object.has(it)) {
        return Err(empty(name));
    }
    let name = object.one_of(&LISTS)?.map(|(name, _)| name);
    match name.map(|name| (name, object.take(name))) {
        Some((name, Some(Value::Array(list)))) => chat(&object, name, list, speaker, imported),
        _ => Err(unknown(&object)),
    }
}

/// The reason to leave an item that is marked as one not to be learnt.
fn why_left(object: &JsonObject) -> Option<&'static str> {
    let is_unwanted = |label: &Value| match label {
        Value::Bool(is_wanted) => !is_wanted,
        Value::Number(label) => label.as_f64().is_some_and(|label| label <= 0.0),
        Value::String(label) => UNWANTED.contains(&label.trim().to_lowercase().as_str()),
        _ => false,
    };
    let mut labels = LABELS.iter().filter_map(|it| object.given(it));
    if labels.any(is_unwanted) {
        Some("an answer that is marked as unwanted")
    } else if is_weightless(object) {
        Some("an answer of weight 0")
    } else {
        None
    }
}

/// Adds the examples of a chat.
pub(super) fn add_chat(turns: Vec<Turn>, speaker: Option<Speaker>, imported: &mut Imported) {
    Dialogue::add(turns, speaker.unwrap_or(Speaker::Assistant), imported);
}

fn items(
    list: Vec<Value>,
    name: &str,
    speaker: Option<Speaker>,
    imported: &mut Imported,
) -> Result<(), String> {
    for (number, item) in (1..).zip(list) {
        let added = match item {
            Value::Object(map) => add(map.into(), speaker, imported),
            _ => Err(format!("{}, where an object is needed", kind(&item))),
        };
        added.map_err(|what| format!("item {number} of {name:?}: {what}"))?;
    }
    Ok(())
}

/// Adds the examples of a list of messages, or of whole chats.
fn chat(
    object: &JsonObject,
    name: &str,
    list: Vec<Value>,
    speaker: Option<Speaker>,
    imported: &mut Imported,
) -> Result<(), String> {
    let is_message = |value: &Value| match value {
        Value::Object(map) => {
            let object = map.clone().into();
            Turn::is_in(&object) || Turn::pair(&object).is_some()
        }
        _ => false,
    };
    if LISTS.contains(&name) && !list.first().is_some_and(is_message) {
        return items(list, name, speaker, imported);
    }
    if let Some(Value::Object(first)) = list.first()
        && CHATS
            .iter()
            .chain(&["mapping"])
            .any(|it| first.contains_key(*it))
    {
        return items(list, name, speaker, imported);
    }
    let mut turns = system(object)?;
    turns.extend(Turn::read_all(&list, name)?);
    // A chat that ends with an answer needs no other.
    let is_asked = turns.last().is_some_and(|turn| turn.is_of(Speaker::Human));
    let further = is_asked.then(|| object.one_of(&ANSWERS)).transpose()?;
    if let Some((name, value)) = further.flatten() {
        let answer = answer(name, value)?;
        if begins_with_question(&answer) {
            turns = system(object)?;
        }
        Dialogue::add(completed(turns, answer), Speaker::Assistant, imported);
    } else {
        add_chat(turns, speaker, imported);
    }
    Ok(())
}

/// The messages of an item with a field for the answer, which alone is learnt.
fn answered(object: &JsonObject, name: &str, value: &Value) -> Result<Vec<Turn>, String> {
    let answer = answer(name, value)?;
    if !begins_with_question(&answer) {
        return Ok(completed(prompt(object)?, answer));
    }
    // The answer is a whole chat, which begins with the prompt.
    if QUESTIONS.iter().any(|it| object.given(it).is_some()) {
        let prompt = prompt(object)?;
        let question = prompt.last().map_or("", |turn| turn.text.trim());
        let asks = |turn: &Turn| turn.is_of(Speaker::Human) && turn.text.trim() == question;
        if !answer.iter().any(asks) {
            return Err(format!(
                "the chat in {name:?} does not begin with the prompt"
            ));
        }
    }
    Ok(completed(system(object)?, answer))
}

/// A prompt and its answer. Nothing of the prompt is learnt, and of an answer that repeats the prompt only the end.
fn completed(prompt: Vec<Turn>, mut answer: Vec<Turn>) -> Vec<Turn> {
    if begins_with_question(&answer) {
        let end = answer
            .iter()
            .rposition(|turn| turn.is_of(Speaker::Assistant));
        for turn in &mut answer[..end.unwrap_or(0)] {
            turn.learning = Learning::Context;
        }
    }
    let mut turns = prompt;
    for turn in &mut turns {
        turn.learning = Learning::Context;
    }
    turns.extend(answer);
    turns
}

/// Whether a text of the one who asks comes before any of the one who answers.
fn begins_with_question(turns: &[Turn]) -> bool {
    let first = turns.iter().find(|turn| turn.party != Party::System);
    first.is_some_and(|turn| turn.is_of(Speaker::Human))
}

/// The messages in the field for the answer.
fn answer(name: &str, value: &Value) -> Result<Vec<Turn>, String> {
    match value {
        Value::Array(list) if !list.is_empty() => Turn::read_all(list, name),
        Value::Object(map) => Ok(vec![Turn::read(&map.clone().into(), name)?]),
        _ => {
            let text = text(name, value)?;
            if text.trim().is_empty() {
                return Err(empty(name));
            }
            if name == "chosen" {
                not_written_out(name, &text)?;
            }
            Ok(vec![Turn::answered(text)])
        }
    }
}

/// The messages before the answer: system message, history, and the question with what it is about.
fn prompt(object: &JsonObject) -> Result<Vec<Turn>, String> {
    let mut turns = system(object)?;
    turns.extend(history(object)?);
    let question = object.one_of(&QUESTIONS)?;
    let input = object.given("input").map(|value| ("input", value));
    match question.or(input) {
        Some((name, Value::Array(list))) => {
            turns.extend(Turn::read_all(list, name)?);
            return Ok(turns);
        }
        Some((name, Value::Object(map))) => {
            let inner = JsonObject::from(map.clone());
            let Some((inner, Value::Array(list))) = inner.one_of(&CHATS)? else {
                return Err(wrong_type(
                    name,
                    &Value::Object(map.clone()),
                    "a text or a list of messages",
                ));
            };
            turns.extend(Turn::read_all(list, &format!("{name}.{inner}"))?);
            return Ok(turns);
        }
        _ => {}
    }
    let materials = MATERIALS
        .iter()
        .filter_map(|it| Some((*it, object.given(it)?)));
    let mut texts = Vec::new();
    for (name, value) in question.into_iter().chain(materials) {
        texts.push((name, text(name, value)?));
    }
    let said: Vec<_> = texts.iter().map(|(_, text)| text.as_str()).collect();
    let said: Vec<_> = said
        .into_iter()
        .filter(|text| !text.trim().is_empty())
        .collect();
    match (said.is_empty(), texts.first()) {
        (false, _) => turns.push(Turn::asked(said.join("\n\n"))),
        (true, Some((name, _))) => {
            return Err(empty(name));
        }
        // All are null: the text has no prompt.
        (true, None) if QUESTIONS.iter().chain(&MATERIALS).any(|it| object.has(it)) => {
            turns.push(Turn::asked(NO_PROMPT));
        }
        (true, None) => return Err(unknown(object)),
    }
    Ok(turns)
}

/// The turns before the question: a list of messages or of pairs of question and answer.
fn history(object: &JsonObject) -> Result<Vec<Turn>, String> {
    let Some(history) = object.given("history") else {
        return Ok(Vec::new());
    };
    let wrong = || {
        wrong_type(
            "history",
            history,
            "a list of pairs of texts or of messages",
        )
    };
    let list = history.as_array().ok_or_else(wrong)?;
    if list.iter().all(Value::is_object) {
        return Turn::read_all(list, "history");
    }
    let mut turns = Vec::new();
    for (number, pair) in list.iter().enumerate() {
        let texts = pair.as_array().map(|pair| pair.iter().map(text_of));
        let texts: Option<Vec<String>> = texts.and_then(Iterator::collect);
        let Some([question, answer]) = texts.as_deref() else {
            let place = format!("history[{number}]");
            return Err(wrong_type(&place, pair, "a pair of texts"));
        };
        turns.push(Turn::asked(question));
        turns.push(Turn::answered(answer));
    }
    Ok(turns)
}

/// The system message beside a prompt or a chat.
fn system(object: &JsonObject) -> Result<Vec<Turn>, String> {
    let Some((name, value)) = object.one_of(&SYSTEMS)? else {
        return Ok(Vec::new());
    };
    Ok(vec![Turn::with_content(Party::System, value, name)?])
}

/// The messages of a text that has no prompt, or only a title.
fn text_alone(object: &JsonObject, value: &Value) -> Result<Vec<Turn>, String> {
    let is_one_of_many = AUTHORS.iter().any(|it| object.has(it));
    let asks = |it: &&str| object.given(it).is_some();
    if is_one_of_many || QUESTIONS.iter().chain(&MATERIALS).any(asks) {
        return Err(unknown(object));
    }
    let text = text("text", value)?;
    if text.trim().is_empty() {
        return Err(empty("text"));
    }
    not_written_out("text", &text)?;
    let title = object.given("title").and_then(text_of);
    let title = title.filter(|title| !title.trim().is_empty());
    let prompt = title.map_or(NO_PROMPT.to_owned(), |title| {
        format!("Write a text titled \"{}\".", title.trim())
    });
    Ok(vec![Turn::asked(prompt), Turn::answered(text)])
}

/// Refuses a chat that is written out as one text: it holds other people's words and marks of a template.
fn not_written_out(name: &str, text: &str) -> Result<(), String> {
    match written_out(text) {
        Some(mark) => Err(format!(
            "the field {name:?} is a chat written out as one text (it begins with {mark:?}); give it as {{\"messages\": […]}}"
        )),
        None => Ok(()),
    }
}

fn text(name: &str, value: &Value) -> Result<String, String> {
    text_of(value).ok_or_else(|| wrong_type(name, value, "a text"))
}

/// A message about a field without a text.
fn empty(name: &str) -> String {
    format!("the field {name:?} is empty; each item needs its texts, in one of the forms {FORMS}")
}

/// A message about an item in no known form.
fn unknown(object: &JsonObject) -> String {
    format!("{object} is in none of the forms that can be read: {FORMS}")
}
