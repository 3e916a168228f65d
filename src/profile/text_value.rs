//! Texts in JSON files of other programs, where a number may stand for a text.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The text of a string or a number; `None` for other values, and for numbers so large or so near to 0 that reading them
/// may have changed their digits.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()).filter(|text| !text.contains('e')),
        _ => None,
    }
}

/// The kind of a value in words: `a list`.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Reads a text, for serde.
///
/// # Errors
///
/// The value is neither a string nor a number.
pub(super) fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let wrong = || D::Error::custom(format_args!("is {}, where a text is needed", kind(&value)));
    text_of(&value).ok_or_else(wrong)
}

/// Reads a text or null, for serde.
///
/// # Errors
///
/// The value is neither a string nor a number nor null.
pub(super) fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    if value.is_null() {
        return Ok(None);
    }
    required(value).map(Some).map_err(D::Error::custom)
}
