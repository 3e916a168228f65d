//! What clients ask for, as OpenAI's API has it and llama-server beside it, made into what the decoder wants.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::options::CommonRequest;
use crate::decode::AnswerOptions;
use crate::llama::{Boundary, Model, Special, Token};
use crate::message::{Message, Role};
use crate::prompt::ChatTemplate;
use crate::serve::error::ApiError;

/// The most candidates that are shown beside each token.
const MAX_TOP_LOGPROBS: usize = 20;

/// A request for the next message of a chat.
#[derive(Debug, Deserialize)]
pub struct ChatRequest {
    /// What was said so far.
    pub messages: Vec<ChatMessage>,
    /// Whether each token comes with its probability.
    #[serde(default)]
    pub logprobs: Option<bool>,
    /// And with so many of the best candidates.
    #[serde(default)]
    pub top_logprobs: Option<usize>,
    #[serde(default)]
    continue_final_message: Option<bool>,
    #[serde(default)]
    add_generation_prompt: Option<bool>,
    /// What both kinds of requests have.
    #[serde(flatten)]
    pub common: CommonRequest,
}

/// A message as clients send it.
#[derive(Debug, Deserialize)]
pub struct ChatMessage {
    role: String,
    #[serde(default)]
    content: Value,
}

/// A request for how a text goes on.
#[derive(Debug, Deserialize)]
pub struct CompletionRequest {
    /// A text, or its tokens.
    pub prompt: Value,
    /// Whether each token comes with its probability, and so many of the best candidates.
    #[serde(default)]
    pub logprobs: Option<usize>,
    /// Whether the prompt comes back too.
    #[serde(default)]
    pub echo: Option<bool>,
    /// What both kinds of requests have.
    #[serde(flatten)]
    pub common: CommonRequest,
}

impl ChatRequest {
    /// The text of the prompt: as llama-server has it, a last message that is the assistant's is gone on with.
    ///
    /// # Errors
    ///
    /// The messages cannot be read, or the template refuses them.
    pub fn prompt_text(&self, template: &ChatTemplate) -> Result<String, ApiError> {
        let (messages, beginning) = self.turns()?;
        let text = template.render(&messages)?;
        Ok(text + beginning.as_deref().unwrap_or_default())
    }

    /// Its tokens.
    ///
    /// # Errors
    ///
    /// As [`prompt_text`](Self::prompt_text).
    pub fn prompt(&self, template: &ChatTemplate, model: &Model) -> Result<Vec<Token>, ApiError> {
        let (messages, beginning) = self.turns()?;
        let mut tokens = template.prompt_tokens(model, &messages)?;
        if let Some(beginning) = beginning {
            tokens.extend(model.tokenize(&beginning, Boundary::Omit, Special::Ignored)?);
        }
        Ok(tokens)
    }

    /// The messages, and the beginning of the answer if it is given.
    fn turns(&self) -> Result<(Vec<Message>, Option<String>), ApiError> {
        let wrong = |param, what| Err(ApiError::invalid_field(param, what));
        let mut messages = self.messages()?;
        let is_assistants = |message: &&Message| message.role == Role::Assistant;
        let n_last = messages.iter().rev().take_while(is_assistants).count();
        match (self.continue_final_message, self.add_generation_prompt) {
            (Some(true), Some(true)) => wrong(
                "continue_final_message",
                "and `add_generation_prompt` cannot both be",
            ),
            (Some(true), _) if n_last == 0 => wrong(
                "continue_final_message",
                "needs a last message of the assistant's",
            ),
            (Some(false), _) | (None, Some(true)) => Ok((messages, None)),
            _ if n_last > 1 => wrong("messages", "end with more than one of the assistant's"),
            _ if n_last == 1 => {
                let beginning = messages.pop().map(|message| message.content);
                Ok((messages, beginning))
            }
            _ => Ok((messages, None)),
        }
    }

    fn messages(&self) -> Result<Vec<Message>, ApiError> {
        let wrong = |what: String| ApiError::invalid_field("messages", what);
        if self.messages.is_empty() {
            return Err(wrong("there are no messages".into()));
        }
        let message = |(number, message): (usize, &ChatMessage)| {
            let content = content(&message.content)
                .map_err(|what| wrong(format!("message {number}: {what}")))?;
            match message.role.as_str() {
                "system" | "developer" => Ok(Message::system(content)),
                "user" => Ok(Message::user(content)),
                "assistant" => Ok(Message::assistant(content)),
                role => Err(wrong(format!(
                    "message {number}: the role {role:?} is not known"
                ))),
            }
        };
        (1..).zip(&self.messages).map(message).collect()
    }

    /// How the answer is decoded by `model`, and how many candidates come with each token.
    ///
    /// # Errors
    ///
    /// A field is out of its range, or asks for what there is not.
    pub fn options(
        &self,
        model: &Arc<Model>,
        n_predict: usize,
    ) -> Result<(AnswerOptions, Option<usize>), ApiError> {
        let top = self.top_logprobs.unwrap_or_default();
        if top > MAX_TOP_LOGPROBS {
            let what = format!("is at most {MAX_TOP_LOGPROBS}, and not {top}");
            return Err(ApiError::invalid_field("top_logprobs", what));
        }
        let explain = self.logprobs.unwrap_or_default();
        if top > 0 && !explain {
            return Err(ApiError::invalid_field("top_logprobs", "needs `logprobs`"));
        }
        let options = self.common.options(model, n_predict)?;
        Ok((options, explain.then_some(top)))
    }
}

/// The text of a message: a string, or the parts of one.
fn content(content: &Value) -> Result<String, String> {
    match content {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let text = |part: &Value| {
                let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
                let text = part.get("text").and_then(Value::as_str);
                match (kind, text) {
                    ("text", Some(text)) => Ok(text.to_owned()),
                    (kind, _) => Err(format!(
                        "a part of the type {kind:?} cannot be read: texts alone can"
                    )),
                }
            };
            parts.iter().map(text).collect()
        }
        _ => Err("its content is neither a text nor parts of one".into()),
    }
}

impl CompletionRequest {
    /// The tokens of each prompt. A prompt is a text, or a list of tokens among which may be texts; several are a list of
    /// such.
    ///
    /// # Errors
    ///
    /// There is none, or one is nothing of the kind.
    pub fn prompts(&self, model: &Model) -> Result<Vec<Vec<Token>>, ApiError> {
        let wrong = |what| ApiError::invalid_field("prompt", what);
        let text = |text: &str, is_first| {
            let boundary = if is_first {
                Boundary::Add
            } else {
                Boundary::Omit
            };
            Ok::<_, ApiError>(model.tokenize(text, boundary, Special::ByName)?)
        };
        let token = |value: &Value| {
            let token = value.as_i64().and_then(|it| Token::try_from(it).ok());
            let token = token.filter(|token| model.contains(*token));
            token.ok_or_else(|| wrong("holds what is no token of the model"))
        };
        let mixed = |parts: &[Value]| -> Result<Vec<Token>, ApiError> {
            let mut tokens = Vec::new();
            for part in parts {
                match part {
                    Value::String(part) => tokens.extend(text(part, tokens.is_empty())?),
                    part => tokens.push(token(part)?),
                }
            }
            Ok(tokens)
        };
        let one = |prompt: &Value| match prompt {
            Value::String(prompt) => text(prompt, true),
            Value::Array(parts) => mixed(parts),
            _ => Err(wrong("is neither a text nor a list of tokens")),
        };
        match &self.prompt {
            Value::Array(prompts) if prompts.is_empty() => Err(wrong("is empty")),
            Value::Array(prompts) if !prompts.iter().any(Value::is_number) => {
                prompts.iter().map(one).collect()
            }
            prompt => Ok(vec![one(prompt)?]),
        }
    }

    /// How the text is decoded by `model`, and how many candidates come with each token.
    ///
    /// # Errors
    ///
    /// As [`ChatRequest::options`].
    pub fn options(
        &self,
        model: &Arc<Model>,
        n_predict: usize,
    ) -> Result<(AnswerOptions, Option<usize>), ApiError> {
        if self.logprobs.is_some_and(|top| top > MAX_TOP_LOGPROBS) {
            let what = format!("is at most {MAX_TOP_LOGPROBS}");
            return Err(ApiError::invalid_field("logprobs", what));
        }
        Ok((self.common.options(model, n_predict)?, self.logprobs))
    }
}
