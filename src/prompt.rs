//! Chat templates: the only place that renders a chat, for training and decoding alike (messages → text → tokens).
//!
//! A model's template is Jinja, written for `transformers`, and is rendered here with the same settings (`trim_blocks`,
//! `lstrip_blocks`, Python's string methods, `tools` and `documents` none). A model without a template, as most models that
//! are not instruction-tuned, gets [`FALLBACK`].

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};

use crate::llama::{Boundary, Model, Special, Token};
use crate::message::Message;
use crate::profile::Example;
use crate::retrieval::Retriever;
use crate::{Error, Result};

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

/// The tokens that a template adds to a message, or a few more.
const TURN_TOKENS: usize = 8;

/// A model's chat template, parsed.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    const NAME: &str = "chat";

    /// Parses `source`, the Jinja text stored in the model, or [`FALLBACK`] for `None`. `bos` and `eos` are the texts of the
    /// tokens that begin and end a sequence, empty if the model has none.
    ///
    /// # Errors
    ///
    /// [`Error::Template`] when `source` is not valid Jinja.
    pub fn new(source: Option<&str>, bos: &str, eos: &str) -> Result<Self> {
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        environment.set_syntax(syntax.build().map_err(template_error)?);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        let source = without_generation_tags(source.unwrap_or(FALLBACK));
        environment
            .add_template_owned(Self::NAME, source)
            .map_err(template_error)?;
        Ok(Self {
            environment,
            bos: bos.to_owned(),
            eos: eos.to_owned(),
        })
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

    /// The text of `messages` up to the beginning of the model's answer.
    ///
    /// # Errors
    ///
    /// [`Error::Template`] when the template refuses the messages (some accept no system message, some require alternating
    /// speakers) or uses a function that is not provided here.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| context! { role => message.role.name(), content => message.content.as_str() })
            .collect();
        self.environment
            .get_template(Self::NAME)
            .and_then(|template| {
                template.render(context! {
                    messages,
                    add_generation_prompt => true,
                    bos_token => self.bos.as_str(),
                    eos_token => self.eos.as_str(),
                    tools => (),
                    documents => (),
                })
            })
            .map_err(template_error)
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

/// Removes the tags by which templates for `transformers` mark the model's answers for training masks; they change no text.
fn without_generation_tags(source: &str) -> String {
    let mut source = source.to_owned();
    for opening in ["{%", "{%-"] {
        source = source.replace(
            &format!("{opening} generation "),
            &format!("{opening} if true "),
        );
        source = source.replace(
            &format!("{opening} endgeneration "),
            &format!("{opening} endif "),
        );
    }
    source
}

/// The function that templates call to refuse messages that they cannot express.
fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// The templates' function `strftime_now(format)`, which always formats midnight of Friday 26 July 2024, the date that Llama
/// 3's template falls back to. With today's date, prompts would differ from those that an adapter was trained on.
fn strftime_now(format: &str) -> Result<String, minijinja::Error> {
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        text.push_str(match rest.next() {
            Some('Y') => "2024",
            Some('y') => "24",
            Some('m') => "07",
            Some('B') => "July",
            Some('b') => "Jul",
            Some('d') => "26",
            Some('A') => "Friday",
            Some('a') => "Fri",
            Some('H' | 'M' | 'S') => "00",
            Some('%') => "%",
            _ => {
                let reason = format!("strftime_now: unknown format {format:?}");
                return Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason));
            }
        });
    }
    Ok(text)
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
