//! The field `chat_template_kwargs` of a chat: the settings of its prompt.

use minijinja::value::Serde;
use serde_json::Value;

use crate::prompt::{self, PromptSettings, Thinking};
use crate::serve::api_error::ApiError;
use crate::serve::fields::Field;

/// The name of the field.
pub const KWARGS: &str = "chat_template_kwargs";

/// The variables of a chat template that a request cannot set, since other fields or the model do.
const OWN_VARIABLES: [&str; 6] = [
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
];

/// The settings of a prompt by the field, if it is given: `enable_thinking` or `thinking` switch thoughts on, and the other
/// variables are the template's own.
///
/// # Errors
///
/// [`ApiError::invalid_field`] when a switch is neither true nor false, or a variable is not the request's to set.
pub fn prompt_settings(field: Option<Field>) -> Result<PromptSettings, ApiError> {
    let mut settings = PromptSettings::default();
    let Some(field) = field else {
        return Ok(settings);
    };
    let variables = match field.value()? {
        Value::Object(variables) => variables,
        other => return Err(field.not_a("an object", &other)),
    };
    let switches = ["enable_thinking", "thinking"].map(|name| variables.get(name));
    if let [Some(one), Some(other)] = switches
        && one != other
    {
        return Err(field.wrong("says two things by `enable_thinking` and `thinking`"));
    }
    for (name, value) in variables {
        match (name.as_str(), &value) {
            ("enable_thinking" | "thinking", Value::Bool(true)) => {
                settings.thinking = Thinking::On;
            }
            ("enable_thinking" | "thinking", Value::Bool(false)) => {}
            ("enable_thinking" | "thinking", _) => {
                return Err(field.wrong(format!("needs true or false for `{name}`")));
            }
            (own, _) if OWN_VARIABLES.contains(&own) => {
                return Err(field.wrong(format!("cannot set `{name}`")));
            }
            _ => {
                let value = prompt::Value::from(Serde(&value));
                settings.variables.insert(name, value);
            }
        }
    }
    Ok(settings)
}
