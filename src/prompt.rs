//! Chat templates: the only place that renders a chat, for training and decoding alike (messages → text → tokens).
//!
//! A model's template is Jinja, written for `transformers`, and is rendered as there: `jinja.rs` has what differs from
//! minijinja. A model without a template, as most models that are not instruction-tuned, gets [`FALLBACK`], and one with the
//! name of a template gets that (`named.rs`). A template that reads a content as a list of parts gets one.
//!
//! A voice does not think before it answers, neither in training nor in decoding, unless [`PromptSettings`] say otherwise: the
//! template is told so by the variables that templates ask for, and a thought that it opens all the same is closed at once.

mod jinja;
mod named;

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::{Environment, context};

use crate::llama::{Boundary, Model, Special, Token};
use crate::message::{Message, Role};
use crate::profile::Example;
use crate::retrieval::Retriever;
use crate::thought::{ThoughtSplitter, ThoughtTags, begins_with_tag, without_thoughts};
use crate::{Error, Result};
pub use minijinja::Value;

/// The template of a model that has none: the name of the speaker on a line, then the message; an answer ends with the
/// end-of-sequence token.
pub const FALLBACK: &str = "\
{{- bos_token }}
{%- for message in messages %}
    {{- message.role | capitalize ~ ':\n' ~ message.content }}
    {%- if message.role == 'assistant' %}{{ eos_token }}{% endif %}
    {{- '\n\n' }}
{%- endfor %}
{{- 'Assistant:\n' }}";

/// The text of a message by which it is seen what a template does with texts. Neither filters nor JSON change it.
const PROBE: &str = "314159265";

/// The longest text of a chat, which no context has room for.
const MAX_TEXT_BYTES: usize = 16 << 20;

/// The tokens that a template adds to a message, or a few more.
const TURN_TOKENS: usize = 8;

/// Whether the model thinks before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thinking {
    /// The answer comes at once.
    #[default]
    Off,
    /// The model may write a thought first.
    On,
}

/// Settings of a prompt besides its messages. The defaults are those with which voices are trained.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptSettings {
    /// Whether the model thinks before it answers.
    pub thinking: Thinking,
    /// Further variables of the template, by their names.
    pub variables: BTreeMap<String, Value>,
}

impl From<Thinking> for PromptSettings {
    fn from(thinking: Thinking) -> Self {
        Self {
            thinking,
            ..Self::default()
        }
    }
}

/// A model's chat template, parsed, and the settings with which it is rendered.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    bos: String,
    eos: String,
    settings: PromptSettings,
    /// The roles whose contents the template reads as lists of parts, as templates of vision models do.
    roles_of_parts: Vec<Role>,
    /// The tag that the template writes at the end of a prompt, and not before an answer that is given, and all after it.
    tag_of_prompts: Option<String>,
}

/// Whether a rendered chat ends with the beginning of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Answer,
    Chat,
}

impl ChatTemplate {
    const NAME: &str = "chat";

    /// Parses `source`, the Jinja text stored in the model or the name of a template, or [`FALLBACK`] for `None` and for an
    /// empty text. `bos` and `eos` are the texts of the tokens that begin and end a sequence, empty if the model has none.
    ///
    /// # Errors
    ///
    /// [`Error::Template`] when `source` is neither valid Jinja nor a name that is known, or leaves out what the user says.
    pub fn new(source: Option<&str>, bos: &str, eos: &str) -> Result<Self> {
        let source = match source.filter(|source| !source.trim().is_empty()) {
            None => FALLBACK.to_owned(),
            Some(source) if source.contains("{{") || source.contains("{%") => source.to_owned(),
            Some(name) => named::template(name.trim()).ok_or_else(|| unknown_name(name))?,
        };
        let mut environment = jinja::environment().map_err(template_error)?;
        environment
            .add_template_owned(Self::NAME, jinja::without_generation_tags(&source))
            .map_err(template_error)?;
        let mut template = Self {
            environment: Arc::new(environment),
            bos: bos.to_owned(),
            eos: eos.to_owned(),
            settings: PromptSettings::default(),
            roles_of_parts: Vec::new(),
            tag_of_prompts: None,
        };
        template.find_roles_of_parts()?;
        template.tag_of_prompts = template.find_tag_of_prompts();
        Ok(template)
    }

    /// The template that is stored in `model`.
    ///
    /// # Errors
    ///
    /// The errors of [`ChatTemplate::new`].
    pub fn of_model(model: &Model) -> Result<Self> {
        let text = |token: Option<Token>| {
            token
                .map(|token| model.token_text(token))
                .unwrap_or_default()
        };
        Self::new(
            model.chat_template().as_deref(),
            &text(model.bos()),
            &text(model.eos()),
        )
    }

    /// The same template with other settings.
    #[must_use]
    pub fn with_settings(&self, settings: impl Into<PromptSettings>) -> Self {
        Self {
            settings: settings.into(),
            ..self.clone()
        }
    }

    /// The text of `messages` up to the beginning of the model's answer. Thoughts in earlier answers are left out.
    ///
    /// # Errors
    ///
    /// [`Error::Template`] when the template refuses the messages (some accept no system message, some require alternating
    /// speakers), uses a function that is not provided here, or opens a thought that nothing is known to close.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let mut text = self.render_as(messages, Ending::Answer)?;
        if self.settings.thinking == Thinking::Off
            && let Some(thought) = self.opened_thought(messages, &text)?
        {
            text.push_str(&thought.empty_thought(&text));
        }
        Ok(text)
    }

    /// Whether the template has the word `name`, without which no variable of this name changes a prompt. (minijinja's list of
    /// a template's variables lacks those that the template gives a default.)
    #[must_use]
    pub fn mentions(&self, name: &str) -> bool {
        let template = self.environment.get_template(Self::NAME);
        let source = template.as_ref().map_or("", |template| template.source());
        let mut words = source.split(|c: char| c != '_' && !c.is_alphanumeric());
        words.any(|word| word == name)
    }

    /// Whether the prompt of a chat depends on [`Thinking`].
    ///
    /// # Errors
    ///
    /// The errors of [`ChatTemplate::render`].
    pub fn offers_thinking(&self) -> Result<bool> {
        let prompt = |thinking: Thinking| {
            let chat = [Message::user("?")];
            self.with_settings(thinking).render(&chat)
        };
        // Where thoughts cannot be left out, there is an error without thinking.
        let with_thinking = prompt(Thinking::On)?;
        Ok(prompt(Thinking::Off).ok() != Some(with_thinking))
    }

    /// A splitter of the answer to `messages` into a thought and the rest. A thought that nothing is known to close is not
    /// told from the rest.
    ///
    /// # Errors
    ///
    /// The errors of [`ChatTemplate::render`].
    pub fn splitter(&self, messages: &[Message]) -> Result<ThoughtSplitter> {
        let opened = match self.settings.thinking {
            Thinking::Off => None,
            Thinking::On => {
                let text = self.render_as(messages, Ending::Answer)?;
                self.opened_thought(messages, &text).unwrap_or_default()
            }
        };
        Ok(ThoughtSplitter::new(opened))
    }

    /// The tokens of `messages` up to the beginning of the answer. If `model` begins sequences with BOS, they begin with
    /// exactly one, whether or not the template writes it too.
    ///
    /// # Errors
    ///
    /// The errors of [`ChatTemplate::render`], and [`Error::Input`] if the text is too long to tokenize.
    pub fn prompt_tokens(&self, model: &Model, messages: &[Message]) -> Result<Vec<Token>> {
        let mut tokens =
            model.tokenize(&self.render(messages)?, Boundary::Omit, Special::ByName)?;
        if let Some(bos) = model.bos()
            && model.adds_bos()
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        Ok(tokens)
    }

    /// Finds the roles whose texts are missing from a chat unless they are parts of a list. A template that fails says why
    /// when a chat is rendered.
    ///
    /// # Errors
    ///
    /// [`Error::Template`] if the user's text is missing in either form.
    fn find_roles_of_parts(&mut self) -> Result<()> {
        let asked = Message::user("?");
        let answered = vec![asked.clone(), Message::assistant(PROBE), asked.clone()];
        for (role, chat) in [
            (Role::User, vec![Message::user(PROBE)]),
            (Role::Assistant, answered),
            (Role::System, vec![Message::system(PROBE), asked]),
        ] {
            let holds = |template: &Self| {
                let text = template.render_as(&chat, Ending::Answer);
                text.map(|text| text.contains(PROBE))
            };
            let as_text = holds(self);
            if matches!(as_text, Ok(true)) {
                continue;
            }
            self.roles_of_parts.push(role);
            if matches!(holds(self), Ok(true)) {
                continue;
            }
            self.roles_of_parts.pop();
            if role == Role::User && as_text.is_ok() {
                return Err(Error::Template(
                    "it leaves out what the user says, so that every prompt would be the same; use a base model with another template".into(),
                ));
            }
        }
        Ok(())
    }

    /// Finds what the template writes after the header of an answer in a prompt alone, if that begins with a tag.
    fn find_tag_of_prompts(&self) -> Option<String> {
        let asked = Message::user("?");
        let chat = self.render_as(std::slice::from_ref(&asked), Ending::Chat);
        let prompt = self.render_as(std::slice::from_ref(&asked), Ending::Answer);
        let answered = self.render_as(&[asked, Message::assistant(PROBE)], Ending::Chat);
        let (chat, prompt, answered) = (chat.ok()?, prompt.ok()?, answered.ok()?);
        let (header, _) = answered.strip_prefix(&chat)?.split_once(PROBE)?;
        let header = Some(header.trim()).filter(|header| !header.is_empty())?;
        let ending = prompt.strip_prefix(&chat)?.trim_start();
        let added = ending.strip_prefix(header)?.trim_start();
        begins_with_tag(added).then(|| added.to_owned())
    }

    fn render_as(&self, messages: &[Message], ending: Ending) -> Result<String> {
        let message = |message: &Message| {
            let thoughtless = match message.role {
                Role::Assistant => without_thoughts(&message.content),
                Role::System | Role::User => None,
            };
            let text = thoughtless.as_deref().unwrap_or(&message.content);
            let content = if self.roles_of_parts.contains(&message.role) {
                Value::from(vec![context! { type => "text", text }])
            } else {
                Value::from(text)
            };
            context! { role => message.role.name(), content }
        };
        let messages: Vec<Value> = messages.iter().map(message).collect();
        let thinks = self.settings.thinking == Thinking::On;
        let variables = context! {
            messages,
            add_generation_prompt => ending == Ending::Answer,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            tools => (),
            documents => (),
            // The names that templates ask for.
            enable_thinking => thinks,
            thinking => thinks,
        };
        let given = Value::from_pairs(self.settings.variables.clone());
        let text = self
            .environment
            .get_template(Self::NAME)
            .and_then(|template| template.render(context! { ..given, ..variables }))
            .map_err(template_error)?;
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::Template(format!(
                "the text of the chat has more than {} MiB",
                MAX_TEXT_BYTES >> 20
            )));
        }
        Ok(text)
    }

    /// The tags of the thought that `text`, the prompt of `messages`, opens for the answer, if it does.
    fn opened_thought(&self, messages: &[Message], text: &str) -> Result<Option<ThoughtTags>> {
        let template = self.environment.get_template(Self::NAME);
        let source = template.as_ref().map_or("", |template| template.source());
        let mentions = |tag: &str| source.contains(tag);
        let left_open = |text: &str| ThoughtTags::left_open(text, mentions);
        let refused = |tag: String| {
            Error::Template(format!(
                "it opens a thought with {tag}, and nothing is known to close it, so that an answer would be a thought; use a base model whose template can leave thoughts out"
            ))
        };
        if let Some(tag) = self.tag_of_prompts.as_deref()
            && text.ends_with(tag)
            && left_open(tag) == Ok(None)
        {
            return ThoughtTags::of_any_name(tag, mentions).map_err(refused);
        }
        // Most prompts leave no tag open anywhere, so that they need not be rendered again.
        if left_open(text) == Ok(None) {
            return Ok(None);
        }
        // A message may speak of tags; only what the template adds after all messages opens a thought.
        let chat = self.render_as(messages, Ending::Chat).ok();
        let last = messages.last().map_or("", |message| message.content.trim());
        let ending = match chat.and_then(|chat| text.strip_prefix(&chat)) {
            Some(ending) if !ending.is_empty() => ending,
            // The template does not tell the ending from the chat.
            _ => text.rfind(last).map_or(text, |at| &text[at + last.len()..]),
        };
        left_open(ending).map_err(refused)
    }
}

/// The tokens of an answer: its text, in which no special token is recognised, and the token that ends a turn.
///
/// # Errors
///
/// [`Error::Input`] if the text is too long to tokenize, or the model has no token that ends a turn or a sequence.
pub fn response_tokens(model: &Model, response: &str) -> Result<Vec<Token>> {
    let end = model.eot().or(model.eos()).ok_or_else(|| {
        Error::input("the model has no token that ends an answer; use another base model")
    })?;
    let mut tokens = model.tokenize(response, Boundary::Omit, Special::Ignored)?;
    tokens.push(end);
    Ok(tokens)
}

/// A chat with items that `retriever` finds before each of the user's messages ([`Retriever::with_items`]): at most `n_items`
/// for each message, and for all together at most a quarter of a context of `n_ctx` tokens.
#[must_use]
pub fn with_retrieved_items(
    messages: &[Message],
    retriever: &Retriever<'_>,
    n_items: usize,
    model: &Model,
    n_ctx: usize,
) -> Vec<Message> {
    // A text that cannot be read costs more than there is. The template adds a few tokens to each message.
    let n_tokens = |text: &str| {
        let tokens = model.tokenize(text, Boundary::Omit, Special::Ignored);
        tokens.map_or(n_ctx, |tokens| tokens.len() + TURN_TOKENS)
    };
    let cost = |item: &Example| {
        let asked = item.prompt.iter().map(|it| n_tokens(&it.content));
        asked.sum::<usize>() + n_tokens(&item.response)
    };
    retriever.with_items(messages, n_items, n_ctx / 4, cost)
}

/// The error for a template that is one word or sentence.
fn unknown_name(name: &str) -> Error {
    let mut name: String = name.trim().chars().take(60).collect();
    name.retain(|c| !c.is_control());
    let known: Vec<_> = named::names().collect();
    Error::Template(format!(
        "{name:?} is neither a template nor the name of one; the known names are {}",
        known.join(", ")
    ))
}

/// minijinja's error on one line, with its detail if it has one.
#[expect(
    clippy::needless_pass_by_value,
    reason = "`map_err` passes errors by value"
)]
fn template_error(error: minijinja::Error) -> Error {
    let reason = error
        .detail()
        .map_or_else(|| error.to_string(), str::to_owned);
    Error::Template(match error.line() {
        Some(line) => format!("{reason} (line {line} of the template)"),
        None => reason,
    })
}
