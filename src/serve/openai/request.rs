//! The bodies of chat and completion requests, in the forms of OpenAI and llama-server, and how they become prompts.

use std::sync::Arc;

use serde_json::Value;

use super::common_request::CommonRequest;
use super::prompt_settings::{KWARGS, prompt_settings};
use crate::decode::AnswerOptions;
use crate::llama::{Boundary, Model, Special, Token};
use crate::message::{Message, Role};
use crate::prompt::{ChatTemplate, PromptSettings, Thinking, with_retrieved_items};
use crate::retrieval::Retriever;
use crate::serve::api_error::ApiError;
use crate::serve::fields::{Field, FieldType, Fields, FromFields};
use crate::serve::harmless::Harmless;
use crate::thought::ThoughtSplitter;

/// The most candidates that are explained beside each token.
const MAX_TOP_LOGPROBS: usize = 20;

/// The most items that are retrieved for a message.
const MAX_RETRIEVED: usize = 16;

/// A request for the next message of a chat.
#[derive(Debug)]
pub struct ChatRequest {
    /// The messages of the chat so far.
    messages: Vec<Message>,
    /// Whether each token is explained with its probability.
    logprobs: bool,
    /// The number of best candidates that are explained beside each token.
    top_logprobs: usize,
    /// The number of items of the user's history that are put before each of the user's messages.
    retrieve: Option<usize>,
    continue_final_message: Option<bool>,
    add_generation_prompt: Option<bool>,
    /// The settings of the prompt, by `chat_template_kwargs`.
    settings: PromptSettings,
    /// The fields that both kinds of requests share.
    pub common: CommonRequest,
}

impl FromFields for ChatRequest {
    fn from_fields(mut fields: Fields) -> Result<Self, ApiError> {
        let request = Self {
            messages: messages(&fields.need("messages")?)?,
            logprobs: fields.read("logprobs")?.unwrap_or_default(),
            top_logprobs: fields.read("top_logprobs")?.unwrap_or_default(),
            retrieve: fields.read("retrieve")?,
            continue_final_message: fields.read("continue_final_message")?,
            add_generation_prompt: fields.read("add_generation_prompt")?,
            settings: prompt_settings(fields.take(KWARGS))?,
            common: CommonRequest::read(&mut fields)?,
        };
        fields.finish(&Harmless::REQUEST)?;
        Ok(request)
    }
}

/// A request for the continuation of a text.
#[derive(Debug)]
pub struct CompletionRequest {
    /// A text, its tokens, or a list of such prompts.
    prompt: Value,
    /// Whether each token is explained, and the number of best candidates beside it.
    logprobs: Option<usize>,
    /// Whether the answer begins with the prompt.
    pub echo: bool,
    /// The fields that both kinds of requests share.
    pub common: CommonRequest,
}

impl FromFields for CompletionRequest {
    fn from_fields(mut fields: Fields) -> Result<Self, ApiError> {
        let request = Self {
            prompt: fields.need("prompt")?.value()?,
            logprobs: fields.read("logprobs")?,
            echo: fields.read("echo")?.unwrap_or_default(),
            common: CommonRequest::read(&mut fields)?,
        };
        fields.finish(&Harmless::REQUEST)?;
        Ok(request)
    }
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
        let settings = &self.settings;
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
        let mut messages = self.messages.clone();
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
            (_, Some(false)) if n_last == 0 => wrong(
                "add_generation_prompt",
                "`add_generation_prompt` can only be false after a last message of the assistant's",
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
        let top = self.top_logprobs;
        if top > MAX_TOP_LOGPROBS {
            let message = format!("`top_logprobs` is at most {MAX_TOP_LOGPROBS}, not {top}");
            return Err(ApiError::invalid_field("top_logprobs", message));
        }
        if top > 0 && !self.logprobs {
            return Err(ApiError::invalid_field(
                "top_logprobs",
                "`top_logprobs` needs `logprobs`",
            ));
        }
        let options = self.common.options(model, n_predict)?;
        Ok((options, self.logprobs.then_some(top)))
    }
}

/// The messages of a chat.
fn messages(field: &Field) -> Result<Vec<Message>, ApiError> {
    let items = field.items()?;
    if items.is_empty() {
        return Err(field.wrong("is empty: there are no messages"));
    }
    items.iter().map(message).collect()
}

fn message(field: &Field) -> Result<Message, ApiError> {
    let mut fields = field.fields()?;
    let role = fields.need("role")?;
    let content = fields.take("content");
    fields.finish(&Harmless::MESSAGE)?;
    let content = content.as_ref().map_or(Ok(String::new()), content_text)?;
    match role.read::<String>()?.as_str() {
        "system" | "developer" => Ok(Message::system(content)),
        "user" => Ok(Message::user(content)),
        "assistant" => Ok(Message::assistant(content)),
        name => Err(role.wrong(format!(
            "{name:?} is not known: use `system`, `user` or `assistant`"
        ))),
    }
}

/// The text of a message: a string, or the parts of one joined.
fn content_text(field: &Field) -> Result<String, ApiError> {
    match field.value()? {
        Value::String(text) => Ok(text),
        Value::Array(_) => field.items()?.iter().map(part_text).collect(),
        other => Err(field.not_a("a text or a list of texts", &other)),
    }
}

fn part_text(field: &Field) -> Result<String, ApiError> {
    let mut fields = field.fields()?;
    if let Some(kind) = fields.take("type") {
        let name = kind.read::<String>()?;
        if name != "text" {
            return Err(kind.wrong(format!("{name:?} cannot be read, only `text` can")));
        }
    }
    let text = fields.need("text")?.read()?;
    fields.finish(&Harmless::PART)?;
    Ok(text)
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
            let token = i64::of(value).and_then(|it| Token::try_from(it).ok());
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
