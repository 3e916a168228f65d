//! The bodies of chat and completion requests, in the forms of OpenAI and llama-server, and how they become prompts.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::common_request::CommonRequest;
use super::prompt_settings::{KWARGS, prompt_settings};
use crate::decode::AnswerOptions;
use crate::llama::{Boundary, Model, Special, Token};
use crate::message::{Message, Role};
use crate::prompt::{ChatTemplate, PromptSettings, Thinking, with_retrieved_items};
use crate::retrieval::Retriever;
use crate::serve::api_error::ApiError;
use crate::thought::ThoughtSplitter;

/// The most candidates that are explained beside each token.
const MAX_TOP_LOGPROBS: usize = 20;

/// The most items that are retrieved for a message.
const MAX_RETRIEVED: usize = 16;

/// A request for the next message of a chat.
#[derive(Debug, Deserialize)]
pub struct ChatRequest {
    /// The messages of the chat so far.
    pub messages: Vec<ChatMessage>,
    /// Whether each token is explained with its probability.
    #[serde(default)]
    pub logprobs: Option<bool>,
    /// The number of best candidates that are explained beside each token.
    #[serde(default)]
    pub top_logprobs: Option<usize>,
    /// The number of items of the user's history that are put before each of the user's messages.
    #[serde(default)]
    retrieve: Option<usize>,
    #[serde(default)]
    continue_final_message: Option<bool>,
    #[serde(default)]
    add_generation_prompt: Option<bool>,
    /// Variables of the model's chat template, of which `enable_thinking` and `thinking` switch thoughts on.
    #[serde(default)]
    chat_template_kwargs: Option<Map<String, Value>>,
    /// The fields that both kinds of requests share.
    #[serde(flatten)]
    pub common: CommonRequest,
}

/// A message in the form that clients send.
#[derive(Debug, Deserialize)]
pub struct ChatMessage {
    role: String,
    #[serde(default)]
    content: Value,
}

/// A request for the continuation of a text.
#[derive(Debug, Deserialize)]
pub struct CompletionRequest {
    /// A text, its tokens, or a list of such prompts.
    pub prompt: Value,
    /// Whether each token is explained, and the number of best candidates beside it.
    #[serde(default)]
    pub logprobs: Option<usize>,
    /// Whether the answer begins with the prompt.
    #[serde(default)]
    pub echo: Option<bool>,
    /// The fields that both kinds of requests share.
    #[serde(flatten)]
    pub common: CommonRequest,
}

/// The turns of a chat, from which a prompt is made.
#[derive(Debug)]
pub struct ChatTurns {
    messages: Vec<Message>,
    /// The beginning of the answer, if the request gives one.
    beginning: Option<String>,
    settings: PromptSettings,
}

impl ChatTurns {
    /// The turns with at most `n_items` items before each of the user's messages, within a context of `n_ctx` tokens.
    #[must_use]
    pub fn with_items(
        self,
        retriever: &Retriever<'_>,
        n_items: usize,
        model: &Model,
        n_ctx: usize,
    ) -> Self {
        let messages = with_retrieved_items(&self.messages, retriever, n_items, model, n_ctx);
        Self { messages, ..self }
    }

    /// The text of the prompt.
    ///
    /// # Errors
    ///
    /// The model's chat template refuses the messages.
    pub fn text(&self, template: &ChatTemplate) -> Result<String, ApiError> {
        let template = template.with_settings(self.settings.clone());
        let text = template.render(&self.messages)?;
        Ok(text + self.beginning.as_deref().unwrap_or_default())
    }

    /// The tokens of the prompt.
    ///
    /// # Errors
    ///
    /// The model's chat template refuses the messages, or the text is too long to tokenize.
    pub fn tokens(&self, template: &ChatTemplate, model: &Model) -> Result<Vec<Token>, ApiError> {
        let template = template.with_settings(self.settings.clone());
        let mut tokens = template.prompt_tokens(model, &self.messages)?;
        if let Some(beginning) = &self.beginning {
            tokens.extend(model.tokenize(beginning, Boundary::Omit, Special::Ignored)?);
        }
        Ok(tokens)
    }

    /// A splitter of the answer into a thought and the rest.
    ///
    /// # Errors
    ///
    /// The model's chat template refuses the messages.
    pub fn splitter(&self, template: &ChatTemplate) -> Result<ThoughtSplitter, ApiError> {
        let template = template.with_settings(self.settings.clone());
        Ok(template.splitter(&self.messages)?)
    }
}

impl ChatRequest {
    /// The number of items that are retrieved for each message, `default` unless the request says another.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when it is more than [`MAX_RETRIEVED`].
    pub fn n_retrieved(&self, default: usize) -> Result<usize, ApiError> {
        let n = self.retrieve.unwrap_or(default);
        if n > MAX_RETRIEVED {
            let message = format!("`retrieve` is at most {MAX_RETRIEVED}, not {n}");
            return Err(ApiError::invalid_field("retrieve", message));
        }
        Ok(n)
    }

    /// The turns. If the last message is the assistant's, the answer continues it, as in llama-server.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when the messages cannot be used.
    pub fn turns(&self) -> Result<ChatTurns, ApiError> {
        let settings = prompt_settings(self.chat_template_kwargs.as_ref())?;
        let turns = |messages, beginning: Option<String>| {
            if beginning.is_some() && settings.thinking == Thinking::On {
                return Err(ApiError::invalid_field(
                    KWARGS,
                    "an answer that is begun already cannot have a thought before it",
                ));
            }
            Ok(ChatTurns {
                messages,
                beginning,
                settings: settings.clone(),
            })
        };
        let wrong = |param, what| Err(ApiError::invalid_field(param, what));
        let mut messages = self.messages()?;
        let is_assistants = |message: &&Message| message.role == Role::Assistant;
        let n_last = messages.iter().rev().take_while(is_assistants).count();
        match (self.continue_final_message, self.add_generation_prompt) {
            (Some(true), Some(true)) => wrong(
                "continue_final_message",
                "`continue_final_message` and `add_generation_prompt` cannot both be true",
            ),
            (Some(true), _) if n_last == 0 => wrong(
                "continue_final_message",
                "`continue_final_message` needs a last message of the assistant's",
            ),
            (Some(false), _) | (None, Some(true)) => turns(messages, None),
            _ if n_last > 1 => wrong(
                "messages",
                "the chat ends with more than one message of the assistant's",
            ),
            _ if n_last == 1 => {
                let beginning = messages.pop().map(|message| message.content);
                turns(messages, beginning)
            }
            _ => turns(messages, None),
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

    /// How the answer is decoded, with at most `n_predict` tokens; and the number of candidates that are explained beside
    /// each token, if tokens are explained.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when a field is out of its range, or asks for something that this server does not do.
    pub fn options(
        &self,
        model: &Arc<Model>,
        n_predict: usize,
    ) -> Result<(AnswerOptions, Option<usize>), ApiError> {
        let top = self.top_logprobs.unwrap_or_default();
        if top > MAX_TOP_LOGPROBS {
            let message = format!("`top_logprobs` is at most {MAX_TOP_LOGPROBS}, not {top}");
            return Err(ApiError::invalid_field("top_logprobs", message));
        }
        let explain = self.logprobs.unwrap_or_default();
        if top > 0 && !explain {
            return Err(ApiError::invalid_field(
                "top_logprobs",
                "`top_logprobs` needs `logprobs`",
            ));
        }
        let options = self.common.options(model, n_predict)?;
        Ok((options, explain.then_some(top)))
    }
}

/// The text of a message: a string, or the parts of one joined.
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
                        "a part of the type {kind:?} cannot be read, only texts can"
                    )),
                }
            };
            parts.iter().map(text).collect()
        }
        _ => Err("its content is neither a text nor a list of texts".into()),
    }
}

impl CompletionRequest {
    /// The tokens of each prompt. A prompt is a text, or a list of tokens and texts; several prompts are a list of these.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when there is no prompt, or one has another form.
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
            token.ok_or_else(|| wrong("`prompt` holds a number that is not a token of the model"))
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
            _ => Err(wrong("`prompt` is neither a text nor a list of tokens")),
        };
        match &self.prompt {
            Value::Array(prompts) if prompts.is_empty() => Err(wrong("`prompt` is empty")),
            Value::Array(prompts) if !prompts.iter().any(Value::is_number) => {
                prompts.iter().map(one).collect()
            }
            prompt => Ok(vec![one(prompt)?]),
        }
    }

    /// How the answer is decoded, with at most `n_predict` tokens; and the number of candidates that are explained beside
    /// each token, if tokens are explained.
    ///
    /// # Errors
    ///
    /// See [`ChatRequest::options`].
    pub fn options(
        &self,
        model: &Arc<Model>,
        n_predict: usize,
    ) -> Result<(AnswerOptions, Option<usize>), ApiError> {
        if self.logprobs.is_some_and(|top| top > MAX_TOP_LOGPROBS) {
            let message = format!("`logprobs` is at most {MAX_TOP_LOGPROBS}");
            return Err(ApiError::invalid_field("logprobs", message));
        }
        Ok((self.common.options(model, n_predict)?, self.logprobs))
    }
}
