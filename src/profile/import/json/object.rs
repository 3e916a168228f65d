//! Objects of a JSON text, with the fields that any form of item or message has.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::profile::text_value::kind;

/// Fields that hold the messages of a chat.
pub(super) const CHATS: [&str; 4] = ["messages", "conversations", "conversation", "contents"];
/// Fields that hold the text that the user wrote, or messages with it.
pub(super) const ANSWERS: [&str; 7] = [
    "response",
    "completion",
    "output",
    "answer",
    "chosen",
    "preferred_output",
    "output_text",
];
/// Fields that hold the text before the answer, or messages.
pub(super) const QUESTIONS: [&str; 5] =
    ["prompt", "instruction", "question", "query", "input_text"];
/// Fields that hold a text which the question is about.
pub(super) const MATERIALS: [&str; 2] = ["input", "context"];
/// Fields that hold the system message.
pub(super) const SYSTEMS: [&str; 4] = [
    "system",
    "system_prompt",
    "system_instruction",
    "systeminstruction",
];
/// Fields named by the one who asks.
pub(super) const ASKERS: [&str; 2] = ["human", "user"];
/// Fields named by the one who answers.
pub(super) const ANSWERERS: [&str; 3] = ["assistant", "gpt", "bot"];
/// Fields that hold a list of items.
pub(super) const LISTS: [&str; 10] = [
    "data",
    "train",
    "test",
    "validation",
    "items",
    "examples",
    "instances",
    "records",
    "rows",
    "samples",
];
/// Fields that say whether a text is learnt: it is not where one of them is 0 or false.
pub(super) const WEIGHTS: [&str; 10] = [
    "weight",
    "train",
    "loss",
    "loss_weight",
    "loss_scale",
    "loss_mask",
    "train_on_turn",
    "trainable",
    "training",
    "learn",
];
/// Fields that say that a text is not learnt, where one of them is 1 or true.
pub(super) const MASKS: [&str; 2] = ["mask", "masked"];
/// Fields that say whether an answer is wanted.
pub(super) const LABELS: [&str; 2] = ["label", "kto_tag"];
/// Further fields of items and messages.
const OTHERS: [&str; 15] = [
    "history",
    "text",
    "title",
    "role",
    "from",
    "content",
    "value",
    "parts",
    "tool_calls",
    "function_call",
    "train_detail",
    "channel",
    "type",
    "thought",
    "profile",
];
/// Fields of chats that programs export.
const OF_PROGRAMS: [&str; 20] = [
    "mapping",
    "current_node",
    "chat_messages",
    "current_leaf_message_uuid",
    "header",
    "products",
    "safehtmlitem",
    "chat",
    "messagestree",
    "user_name",
    "character_name",
    "chat_metadata",
    "mes",
    "is_user",
    "is_system",
    "create_time",
    "created_at",
    "inserted_at",
    "responses",
    "time",
];
/// Names and numbers of items and people, of which some are not read.
const IDS: [&str; 5] = ["id", "user_id", "reviewerid", "author", "name"];

/// The most names that [`JsonObject`]'s `Display` lists, and the most characters of each.
const MAX_LISTED: usize = 12;
const MAX_NAME: usize = 40;

/// An object of a JSON text. Names are compared without regard to case and to white space around them, since tables that
/// were turned into JSON have names such as `Prompt`.
#[derive(Debug, Default)]
pub(in crate::profile::import) struct JsonObject {
    names: Vec<String>,
    values: BTreeMap<String, Value>,
    twice: Option<String>,
}

impl JsonObject {
    /// Reads an object and keeps the values of known fields alone: others may be large, nested deeply or hold numbers that
    /// no type has room for.
    pub fn read<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut object = Self::default();
        while let Some(name) = map.next_key::<String>()? {
            let canonical = canonical(&name);
            if IDS.contains(&canonical.as_str()) {
                let raw: Box<RawValue> = map.next_value()?;
                match serde_json::from_str(raw.get()) {
                    Ok(value) => object.insert(name, value),
                    Err(_) => object.names.push(name),
                }
            } else if is_known(&canonical) {
                object.insert(name, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
                object.names.push(name);
            }
        }
        Ok(object)
    }

    fn insert(&mut self, name: String, value: Value) {
        let canonical = canonical(&name);
        let is_twice = self.values.insert(canonical.clone(), value).is_some();
        if is_twice && !IDS.contains(&canonical.as_str()) {
            self.twice = Some(canonical);
        }
        self.names.push(name);
    }

    /// The value of a field; `None` if it is null or not there.
    pub fn given(&self, name: &str) -> Option<&Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    /// Replaces the value of a field.
    pub fn set(&mut self, name: &str, value: Value) {
        self.values.insert(name.to_owned(), value);
    }

    /// Removes the value of a field.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.values.remove(name).filter(|value| !value.is_null())
    }

    /// Whether a field of this name is there, with any value.
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|it| canonical(it) == name)
    }

    /// The one field of `names` that is given, and its value.
    ///
    /// # Errors
    ///
    /// Several are given, or a field is there twice.
    pub fn one_of<'a>(&self, names: &[&'a str]) -> Result<Option<(&'a str, &Value)>, String> {
        if let Some(name) = &self.twice {
            return Err(format!("the field {name:?} is there twice"));
        }
        let given = |name: &&'a str| Some((*name, self.given(name)?));
        let mut given = names.iter().filter_map(given);
        match (given.next(), given.next()) {
            (Some((first, _)), Some((second, _))) => Err(format!(
                "has both {first:?} and {second:?}, and only one of them can be meant"
            )),
            (first, _) => Ok(first),
        }
    }
}

impl From<Map<String, Value>> for JsonObject {
    fn from(map: Map<String, Value>) -> Self {
        let mut object = Self::default();
        for (name, value) in map {
            object.insert(name, value);
        }
        object
    }
}

/// The object by its fields: `a JSON object with the fields "id" and "name"`.
impl fmt::Display for JsonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = self.names.iter().take(MAX_LISTED);
        let listed: Vec<_> = listed
            .map(|name| format!("{:?}", shortened(name)))
            .collect();
        match (
            listed.as_slice(),
            self.names.len().saturating_sub(MAX_LISTED),
        ) {
            ([], _) => f.write_str("an empty JSON object"),
            ([name], _) => write!(f, "a JSON object with the field {name}"),
            (names, 0) => write!(f, "a JSON object with the fields {}", names.join(", ")),
            (names, more) => write!(
                f,
                "a JSON object with the fields {} and {more} more",
                names.join(", ")
            ),
        }
    }
}

fn canonical(name: &str) -> String {
    name.trim().to_ascii_lowercase()
}

fn is_known(name: &str) -> bool {
    let groups: [&[&str]; 13] = [
        &CHATS,
        &ANSWERS,
        &QUESTIONS,
        &MATERIALS,
        &SYSTEMS,
        &ASKERS,
        &ANSWERERS,
        &LISTS,
        &WEIGHTS,
        &MASKS,
        &LABELS,
        &OTHERS,
        &OF_PROGRAMS,
    ];
    groups.iter().any(|group| group.contains(&name))
}

/// The beginning of a name that a file gives, for messages.
pub(super) fn shortened(name: &str) -> String {
    match name.char_indices().nth(MAX_NAME) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// A message about a field of the wrong type.
pub(super) fn wrong_type(name: &str, value: &Value, needed: &str) -> String {
    format!(
        "the field {name:?} is {}, where {needed} is needed",
        kind(value)
    )
}
