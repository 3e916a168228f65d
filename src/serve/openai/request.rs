//! The bodies of chat and completion requests, in the forms of OpenAI and llama-server, and how they become prompts.

use std::sync::Arc;

use serde_json::Value;

use super::common_request::CommonRequest;
use super::prompt_settings::{KWARGS, prompt_settings};
use super::task_prompt::is_task;
use crate::decode::AnswerOptions;
use crate::home::UserName;
use crate::llama::{Boundary, Model, Special, Token};
use crate::message::{Message, Role};
use crate::prompt::{ChatTemplate, PromptSettings, Thinking, with_retrieved_items};
use crate::retrieval::Retriever;
use crate::serve::api_error::ApiError;
use crate::serve::fields::{Field, FieldType, Fields, FromFields};
use crate::serve::harmless::Harmless;
use crate::serve::settings::ServeOptions;
use crate::thought::ThoughtSplitter;

/// The most candidates that are explained beside each token.
const MAX_TOP_LOGPROBS: usize = 20;

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
    /// The same request with `text` as the system's message before the others, unless it is empty.
    #[must_use]
    pub fn with_system(mut self, text: String) -> Self {
        if !text.is_empty() {
            self.messages.insert(0, Message::system(text));
        }
        self
    }

    /// Whether it is one of Open WebUI's tasks around a chat, such as its title.
    pub fn is_task(&self) -> bool {
        is_task(&self.messages)
    }

    /// The number of items that are retrieved for each message, `default` unless the request says another, in the voice of a
    /// user or, without one, of the base, which has no items.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when the request wants more than [`ServeOptions::MAX_RETRIEVED`], or some of the base.
    pub fn n_retrieved(&self, default: usize, user: Option<&UserName>) -> Result<usize, ApiError> {
        let most = ServeOptions::MAX_RETRIEVED;
        let wrong = |what: String| Err(ApiError::invalid_field("retrieve", what));
        match self.retrieve {
            Some(n) if n > most => wrong(format!("`retrieve` is at most {most}, not {n}")),
            Some(1..) if user.is_none() => wrong(
                "`retrieve` is for a user's model, since the base has no history: name a user as the model".into(),
            ),
            Some(n) => Ok(n),
            None => Ok(user.map_or(0, |_| default)),
        }
    }

    /// The turns, of which `template` makes a prompt. If the last message is the assistant's, the answer continues it, as in
    /// llama-server.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when the messages cannot be used, the template cannot ask for the thought that is wanted,
    /// or it has no variable that is set.
    pub fn turns(&self, template: &ChatTemplate) -> Result<ChatTurns, ApiError> {
        let settings = &self.settings;
        if settings.thinking == Thinking::On && !template.offers_thinking()? {
            let message = "`chat_template_kwargs` switches thoughts on, which this model's chat template cannot ask for";
            return Err(ApiError::invalid_field(KWARGS, message));
        }
        let mut names = settings.variables.keys();
        if let Some(name) = names.find(|name| !template.mentions(name)) {
            let message = format!(
                "`chat_template_kwargs` sets `{name}`, and this model's chat template has no such variable"
            );
            return Err(ApiError::invalid_field(KWARGS, message));
        }
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
    let role = match role.read::<String>()?.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        name => {
            return Err(role.wrong(format!(
                "{name:?} is not known: use `system`, `user` or `assistant`"
            )));
        }
    };
    let content = match role {
        // Clients send an answer back that had a thought alone.
        Role::Assistant => fields.take("content"),
        Role::System | Role::User => Some(fields.need("content")?),
    };
    fields.finish(&Harmless::MESSAGE)?;
    let content = content.as_ref().map_or(Ok(String::new()), content_text)?;
    Ok(Message { role, content })
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
        // A part of an input, and one of an output, in `/v1/responses`.
        if !["text", "input_text", "output_text"].contains(&name.as_str()) {
            return Err(kind.wrong(format!("{name:?} cannot be read, only `text` can")));
        }
    }
    let text = fields.need("text")?.read()?;
    fields.finish(&Harmless::PART)?;
    Ok(text)
}

impl CompletionRequest {
    /// The prompts. A prompt is a text, or a list of tokens and texts; several prompts are a list of these.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when there is no prompt, or one is empty or has another form.
    pub fn prompts(&self, model: &Model) -> Result<Vec<CompletionPrompt>, ApiError> {
        let one = |prompt: &Value| CompletionPrompt::new(prompt, model);
        match &self.prompt {
            Value::Array(prompts) if prompts.is_empty() => Err(wrong_prompt("is empty")),
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

/// A prompt of a completion.
pub struct CompletionPrompt {
    /// Its tokens, at least one.
    pub tokens: Vec<Token>,
    /// Its text as the client wrote it, with the texts of tokens that the client gave as numbers.
    pub text: String,
}

impl CompletionPrompt {
    fn new(prompt: &Value, model: &Model) -> Result<Self, ApiError> {
        let parts = match prompt {
            Value::String(_) => std::slice::from_ref(prompt),
            Value::Array(parts) => parts,
            _ => return Err(wrong_prompt("is neither a text nor a list of tokens")),
        };
        let (mut tokens, mut text) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                Value::String(part) => {
                    let boundary = if tokens.is_empty() {
                        Boundary::Add
                    } else {
                        Boundary::Omit
                    };
                    tokens.extend(model.tokenize(part, boundary, Special::ByName)?);
                    text.extend(part.as_bytes());
                }
                Value::Number(_) => {
                    let token = i64::of(part).and_then(|it| Token::try_from(it).ok());
                    let token = token
                        .filter(|token| model.contains(*token))
                        .ok_or_else(|| {
                            wrong_prompt("holds a number that is not a token of the model")
                        })?;
                    tokens.push(token);
                    text.extend(model.token_bytes(token, Special::ByName));
                }
                _ => {
                    return Err(wrong_prompt(
                        "holds something that is neither a text nor a token's number",
                    ));
                }
            }
        }
        if tokens.is_empty() {
            return Err(wrong_prompt("is empty"));
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok(Self { tokens, text })
    }
}

fn wrong_prompt(what: &str) -> ApiError {
    ApiError::invalid_field("prompt", format!("`prompt` {what}"))
}
