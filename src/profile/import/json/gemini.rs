//! Gemini's activity, as Google Takeout exports it in `My Activity/Gemini Apps/MyActivity.json`, the newest first:
//!
//! ```text
//! [{"header": "Gemini Apps", "title": "Prompted …", "time": …, "products": ["Gemini Apps"], "safeHtmlItem": [{"html": …}]}]
//! ```
//!
//! The activity of Google's other programs has the same form. `header` and `products` are in the account's language and always
//! hold the name.

use serde_json::Value;

use super::super::Imported;
use super::super::activity::Activity;
use super::object::JsonObject;
use super::program::text_in;
use super::turn::Speaker;

pub(super) const FIELDS: &[&str] = &["header", "title", "time", "products", "safehtmlitem"];

pub(super) fn wrote(object: &JsonObject) -> bool {
    let is_text = |field| object.given(field).is_some_and(Value::is_string);
    is_text("title")
        && is_text("time")
        && (object.given("products").is_some_and(Value::is_array) || is_text("header"))
}

/// Adds the example of an activity.
pub(super) fn add(
    mut object: JsonObject,
    speaker: Option<Speaker>,
    imported: &mut Imported,
) -> Result<(), String> {
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
    Ok(())
}
