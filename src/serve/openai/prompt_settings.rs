//! The field `chat_template_kwargs` of a chat: the settings of its prompt.

use minijinja::value::Serde;
use serde_json::{Map, Value};

use crate::prompt::{self, PromptSettings, Thinking};
use crate::serve::api_error::ApiError;

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

/// The settings of a prompt by the field's value: `enable_thinking` or `thinking` switch thoughts on, and the other variables
/// are the template's own.
///
/// # Errors
///
/// [`ApiError::invalid_field`] when a switch is neither true nor false, or the variable is not the request's to set.
pub fn prompt_settings(kwargs: Option<&Map<String, Value>>) -> Result<PromptSettings, ApiError> {
    let mut settings = PromptSettings::default();
    for (name, value) in kwargs.into_iter().flatten() {
        let wrong = |message: String| Err(ApiError::invalid_field(KWARGS, message));
        match (name.as_str(), value) {
            ("enable_thinking" | "thinking", Value::Bool(true)) => {
                settings.thinking = Thinking::On;
            }
            ("enable_thinking" | "thinking", Value::Bool(false)) => {}
            ("enable_thinking" | "thinking", _) => {
                return wrong(format!("`{name}` of `{KWARGS}` is true or false"));
            }
            (own, _) if OWN_VARIABLES.contains(&own) => {
                return wrong(format!("`{KWARGS}` cannot set `{name}`"));
            }
            _ => {
                let value = prompt::Value::from(Serde(value));
                settings.variables.insert(name.clone(), value);
            }
        }
    }
    Ok(settings)
}
