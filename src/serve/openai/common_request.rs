//! The fields that chat and completion requests share: the voice, how tokens are chosen, the form of the answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::decode::{AnswerOptions, Sampling};
use crate::llama::{Boundary, Grammar, Model, Special, Token};
use crate::serve::api_error::ApiError;
use crate::serve::fields::{Field, FieldType, Fields};
use crate::serve::harmless::Harmless;
use crate::serve::voice_request::VoiceFields;
use crate::{Error, Fault};

/// The most answers of one request.
const MAX_ANSWERS: usize = 8;
/// The most strings that end an answer.
const MAX_STOPS: usize = 16;
/// The longest string that ends an answer, in bytes.
const MAX_STOP_BYTES: usize = 1 << 10;

/// The schema of an answer that is any JSON object.
const ANY_OBJECT: &str = r#"{"type": "object"}"#;

/// The fields that chat and completion requests share.
#[derive(Debug)]
pub struct CommonRequest {
    /// The voice of the answer.
    pub voice: VoiceFields,
    /// Whether the answer is sent part by part, as server-sent events.
    pub stream: bool,
    /// Whether the last chunk of such a stream has the numbers of tokens.
    pub include_usage: bool,
    n: Option<usize>,
    best_of: Option<usize>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    n_predict: Option<i64>,
    temperature: Option<f32>,
    top_k: Option<i64>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    repeat_penalty: Option<f32>,
    repeat_last_n: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    seed: Option<i64>,
    regenerate: Option<i64>,
    no_repeat_ngram: Option<i64>,
    loop_guard: Option<bool>,
    stop: Vec<String>,
    logit_bias: Option<Value>,
    ignore_eos: bool,
    form: Option<Form>,
}

/// The form that an answer has to have, with the field that gives it.
#[derive(Debug)]
enum Form {
    /// A JSON schema, as the client wrote it: an object's keys come in the order of the schema.
    Schema(&'static str, String),
    /// A grammar in GBNF.
    Grammar(String),
}

impl CommonRequest {
    /// Reads the fields, and leaves those of the one kind of request.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when one has another type, or asks for something that this server does not do.
    pub fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        refuse_tools(fields)?;
        let suffix = fields.read::<String>("suffix")?.unwrap_or_default();
        if !suffix.is_empty() {
            let message = "this server does not fill in the middle of a text";
            return Err(ApiError::invalid_field("suffix", message));
        }
        let options = fields.take("stream_options");
        Ok(Self {
            voice: VoiceFields::read(fields)?,
            stream: fields.read("stream")?.unwrap_or_default(),
            include_usage: options.as_ref().map_or(Ok(false), include_usage)?,
            n: fields.read("n")?,
            best_of: fields.read("best_of")?,
            max_tokens: fields.read("max_tokens")?,
            max_completion_tokens: fields.read("max_completion_tokens")?,
            n_predict: fields.read("n_predict")?,
            temperature: fields.read("temperature")?,
            top_k: fields.read("top_k")?,
            top_p: fields.read("top_p")?,
            min_p: fields.read("min_p")?,
            typical_p: typical_p(fields)?,
            repeat_penalty: fields.read("repeat_penalty")?,
            repeat_last_n: fields.read("repeat_last_n")?,
            presence_penalty: fields.read("presence_penalty")?,
            frequency_penalty: fields.read("frequency_penalty")?,
            seed: fields.read("seed")?,
            regenerate: fields.read("regenerate")?,
            no_repeat_ngram: fields.read("no_repeat_ngram")?,
            loop_guard: fields.read("loop_guard")?,
            stop: fields.take("stop").as_ref().map_or(Ok(Vec::new()), stops)?,
            logit_bias: fields.take("logit_bias").map(|it| it.value()).transpose()?,
            ignore_eos: fields.read("ignore_eos")?.unwrap_or_default(),
            form: form(fields)?,
        })
    }

    /// The number of answers to each of `n_prompts` prompts.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when there are none or too many, or only the best of several is wanted.
    pub fn n(&self, n_prompts: usize) -> Result<usize, ApiError> {
        let n = self.n.unwrap_or(1);
        if self.best_of.is_some_and(|best_of| best_of != n) {
            let message =
                "`best_of` has to be equal to `n`: all answers are given, not the best of several";
            return Err(ApiError::invalid_field("best_of", message));
        }
        if n == 0 || n.saturating_mul(n_prompts) > MAX_ANSWERS {
            let message = format!("a request has 1 to {MAX_ANSWERS} answers, over all its prompts");
            return Err(ApiError::invalid_field("n", message));
        }
        Ok(n)
    }

    /// How the answer is decoded, with at most `n_predict` tokens.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when a field is out of its range, or asks for something that this server does not do.
    pub fn options(&self, model: &Arc<Model>, n_predict: usize) -> Result<AnswerOptions, ApiError> {
        let options = AnswerOptions::recommended().with_form(self.grammar(model)?);
        let no_repeat_ngram = match self.no_repeat_ngram {
            None => options.no_repeat_ngram,
            Some(n) => usize::try_from(n).map_err(|_| not_a_count("no_repeat_ngram"))?,
        };
        Ok(AnswerOptions {
            sampling: self.sampling(options.sampling)?,
            n_predict: Some(self.n_predict(n_predict)?),
            stop: self.stop.clone(),
            loop_guard: self.loop_guard.unwrap_or(options.loop_guard),
            no_repeat_ngram,
            logit_bias: self.logit_bias(model)?,
            ..options
        })
    }

    /// The settings of the request over the defaults. A seed that is not given, or negative, is drawn. If the answer is not
    /// the first one to its prompt, [`Sampling::again`] changes the settings.
    fn sampling(&self, default: Sampling) -> Result<Sampling, ApiError> {
        // −1 stands for all: every token of the vocabulary, or of the context.
        let count = |param, value: Option<i64>, default: u32, all: u32| match value {
            None => Ok(default),
            Some(-1) => Ok(all),
            Some(value) => u32::try_from(value).map_err(|_| not_a_count(param)),
        };
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(default.temperature),
            top_k: count("top_k", self.top_k, default.top_k, 0)?,
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            typical: self.typical_p.unwrap_or(default.typical),
            repeat_penalty: self.repeat_penalty.unwrap_or(default.repeat_penalty),
            repeat_last_n: count(
                "repeat_last_n",
                self.repeat_last_n,
                default.repeat_last_n,
                u32::MAX,
            )?,
            presence_penalty: self.presence_penalty.unwrap_or(default.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(default.frequency_penalty),
            // Every negative seed stands for a random one, as −1 does in llama.cpp.
            seed: match self.seed {
                Some(seed @ 0..) => (seed % i64::from(u32::MAX)) as u32,
                None | Some(_) => Sampling::new_seed(),
            },
        };
        check_each(sampling)?;
        let n_answers = self.regenerate.unwrap_or_default();
        Ok(match u32::try_from(n_answers) {
            Ok(0) => sampling,
            Ok(n_answers) => sampling.again(n_answers, Sampling::AGAIN_TEMPERATURE),
            Err(_) => return Err(not_a_count("regenerate")),
        })
    }

    fn n_predict(&self, most: usize) -> Result<usize, ApiError> {
        let fields = [
            ("max_completion_tokens", self.max_completion_tokens),
            ("max_tokens", self.max_tokens),
            ("n_predict", self.n_predict),
        ];
        match one_of(&fields)? {
            None | Some((_, -1)) => Ok(most),
            Some((param, value)) => match usize::try_from(value) {
                Ok(value) => Ok(value.min(most)),
                Err(_) => Err(not_a_count(param)),
            },
        }
    }

    /// The biases of tokens: OpenAI's map from tokens to biases, or llama-server's list of pairs, in which a text stands
    /// for its tokens and `false` for −∞.
    fn logit_bias(&self, model: &Model) -> Result<Vec<(Token, f32)>, ApiError> {
        let token = |token: i64| {
            let token = Token::try_from(token).ok();
            token
                .filter(|token| model.contains(*token))
                .ok_or_else(not_a_bias)
        };
        let mut biases = BTreeMap::new();
        match &self.logit_bias {
            None => {}
            Some(Value::Object(map)) => {
                for (name, value) in map {
                    let number = name.parse().map_err(|_| not_a_bias())?;
                    biases.insert(token(number)?, bias(value)?);
                }
            }
            Some(Value::Array(pairs)) => {
                for pair in pairs {
                    let pair = pair.as_array().map(Vec::as_slice);
                    let Some([what, value]) = pair else {
                        return Err(not_a_bias());
                    };
                    let tokens = match what {
                        Value::String(text) => {
                            model.tokenize(text, Boundary::Omit, Special::Ignored)?
                        }
                        what => vec![token(i64::of(what).ok_or_else(not_a_bias)?)?],
                    };
                    for token in tokens {
                        biases.insert(token, bias(value)?);
                    }
                }
            }
            Some(_) => return Err(not_a_bias()),
        }
        // The ban of the end tokens comes last: no bias of theirs lifts it.
        if self.ignore_eos {
            biases.extend(model.eog_tokens().map(|token| (token, f32::NEG_INFINITY)));
        }
        let n_banned = biases.values().filter(|it| **it == f32::NEG_INFINITY);
        if n_banned.count() >= model.n_vocab() {
            let message = "`logit_bias` bans every token of the model";
            return Err(ApiError::invalid_field("logit_bias", message));
        }
        Ok(biases.into_iter().collect())
    }

    fn grammar(&self, model: &Arc<Model>) -> Result<Option<Grammar>, ApiError> {
        let (param, grammar) = match &self.form {
            None => return Ok(None),
            Some(Form::Schema(param, schema)) => (*param, Grammar::from_json_schema(model, schema)),
            Some(Form::Grammar(grammar)) => ("grammar", Grammar::new(model, grammar)),
        };
        grammar.map(Some).map_err(|error| fault_of(param, error))
    }
}

/// Refuses tools, unless the request says that none is to be called.
fn refuse_tools(fields: &mut Fields) -> Result<(), ApiError> {
    let tools = fields.take("tools").map(|it| it.items()).transpose()?;
    let choice = fields.take("tool_choice");
    let said = choice.as_ref().map(Field::value).transpose()?;
    let said = said.as_ref().map(Value::as_str);
    if said == Some(Some("none")) {
        return Ok(());
    }
    if tools.is_some_and(|tools| !tools.is_empty()) {
        let message =
            "this server does not call tools: leave `tools` out, or send `tool_choice` as `none`";
        return Err(ApiError::invalid_field("tools", message));
    }
    match choice {
        Some(choice) if said != Some(Some("auto")) => {
            Err(choice.wrong("can only be `none` or `auto`: this server does not call tools"))
        }
        _ => Ok(()),
    }
}

/// The locally typical sampling of llama-server's requests, which its page sends under another name.
fn typical_p(fields: &mut Fields) -> Result<Option<f32>, ApiError> {
    let given = [
        ("typical_p", fields.read("typical_p")?),
        ("typ_p", fields.read("typ_p")?),
    ];
    Ok(one_of(&given)?.map(|(_, value)| value))
}

/// The value that fields of one meaning give, with the name of the first that is given.
fn one_of<T: Copy + PartialEq>(
    fields: &[(&'static str, Option<T>)],
) -> Result<Option<(&'static str, T)>, ApiError> {
    let given = |(name, value): &(&'static str, Option<T>)| value.map(|value| (*name, value));
    let mut given = fields.iter().filter_map(given);
    let Some((name, value)) = given.next() else {
        return Ok(None);
    };
    match given.find(|(_, other)| *other != value) {
        None => Ok(Some((name, value))),
        Some((other, _)) => {
            let message = format!(
                "`{other}` has another value than `{name}`, and both mean the same: leave out one"
            );
            Err(ApiError::invalid_field(other, message))
        }
    }
}

fn include_usage(options: &Field) -> Result<bool, ApiError> {
    let mut options = options.fields()?;
    let wanted = options.read("include_usage")?;
    options.finish(&Harmless::STREAM_OPTIONS)?;
    Ok(wanted.unwrap_or_default())
}

/// The strings that end the answer: one, or a list. Empty ones are left out.
fn stops(field: &Field) -> Result<Vec<String>, ApiError> {
    let mut stops = match field.value()? {
        Value::String(stop) => vec![stop],
        Value::Array(_) => {
            let stops = field.items()?;
            stops.iter().map(Field::read).collect::<Result<_, _>>()?
        }
        other => return Err(field.not_a("a text or a list of texts", &other)),
    };
    stops.retain(|stop| !stop.is_empty());
    if stops.len() > MAX_STOPS || stops.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
        let what = format!("holds at most {MAX_STOPS} texts of {MAX_STOP_BYTES} bytes");
        return Err(field.wrong(what));
    }
    Ok(stops)
}

/// The form of the answer, which one field at most gives.
fn form(fields: &mut Fields) -> Result<Option<Form>, ApiError> {
    let of_format = match fields.take("response_format") {
        Some(format) => schema_of(&format)?.map(|it| Form::Schema("response_format", it)),
        None => None,
    };
    let schema = fields.take("json_schema");
    let schema = schema.map(|it| Form::Schema("json_schema", it.text().to_owned()));
    let grammar = fields.read::<String>("grammar")?;
    let grammar = grammar.filter(|it| !it.is_empty()).map(Form::Grammar);
    let mut forms = [of_format, schema, grammar].into_iter().flatten();
    let (form, other) = (forms.next(), forms.next());
    match other {
        None => Ok(form),
        Some(other) => {
            let param = match other {
                Form::Schema(param, _) => param,
                Form::Grammar(_) => "grammar",
            };
            let message = "a request has one form: a grammar or a JSON schema, not both or two";
            Err(ApiError::invalid_field(param, message))
        }
    }
}

/// The JSON schema of a `response_format`: in llama-server's form in `schema`, in OpenAI's in `json_schema.schema`.
fn schema_of(format: &Field) -> Result<Option<String>, ApiError> {
    let mut fields = format.fields()?;
    let kind = fields.need("type")?;
    let mut schema = fields.take("schema").map(|it| it.text().to_owned());
    if let Some(named) = fields.take("json_schema") {
        let mut named = named.fields()?;
        let inner = named.take("schema").map(|it| it.text().to_owned());
        named.finish(&Harmless::JSON_SCHEMA)?;
        if inner.is_some() && schema.is_some() && inner != schema {
            return Err(format.wrong("has two schemas, `schema` and `json_schema.schema`"));
        }
        schema = inner.or(schema);
    }
    fields.finish(&Harmless::NONE)?;
    match (kind.read::<String>()?.as_str(), schema) {
        ("text", None) => Ok(None),
        ("text", Some(_)) => Err(kind.wrong("is `text`, which has no schema")),
        ("json_object", schema) => Ok(Some(schema.unwrap_or_else(|| ANY_OBJECT.to_owned()))),
        ("json_schema", Some(schema)) => Ok(Some(schema)),
        ("json_schema", None) => Err(format.wrong("has no `json_schema.schema`")),
        (kind_name, _) => Err(kind.wrong(format!(
            "{kind_name:?} is not known: use `text`, `json_object` or `json_schema`"
        ))),
    }
}

/// Checks each field of `sampling` alone, so that the error names it.
fn check_each(sampling: Sampling) -> Result<(), ApiError> {
    let default = Sampling::default();
    let fields = [
        (
            "temperature",
            Sampling {
                temperature: sampling.temperature,
                ..default
            },
        ),
        (
            "top_p",
            Sampling {
                top_p: sampling.top_p,
                ..default
            },
        ),
        (
            "min_p",
            Sampling {
                min_p: sampling.min_p,
                ..default
            },
        ),
        (
            "typical_p",
            Sampling {
                typical: sampling.typical,
                ..default
            },
        ),
        (
            "repeat_penalty",
            Sampling {
                repeat_penalty: sampling.repeat_penalty,
                ..default
            },
        ),
        (
            "presence_penalty",
            Sampling {
                presence_penalty: sampling.presence_penalty,
                ..default
            },
        ),
        (
            "frequency_penalty",
            Sampling {
                frequency_penalty: sampling.frequency_penalty,
                ..default
            },
        ),
    ];
    for (param, field) in fields {
        field.check().map_err(|error| fault_of(param, error))?;
    }
    Ok(())
}

/// The error of a field: the caller's fault is that field's, any other is what it is.
fn fault_of(param: &'static str, error: Error) -> ApiError {
    match error.fault() {
        Fault::Input => ApiError::invalid_field(param, error),
        _ => error.into(),
    }
}

fn not_a_count(param: &'static str) -> ApiError {
    ApiError::invalid_field(
        param,
        format!("`{param}` has to be a whole number from 0 on"),
    )
}

fn not_a_bias() -> ApiError {
    let message = "`logit_bias` maps tokens of the model to numbers, or is a list of such pairs";
    ApiError::invalid_field("logit_bias", message)
}

fn bias(value: &Value) -> Result<f32, ApiError> {
    match value {
        Value::Bool(false) => Ok(f32::NEG_INFINITY),
        value => value
            .as_f64()
            .map(|bias| bias as f32)
            .filter(|bias| *bias < f32::INFINITY)
            .ok_or_else(not_a_bias),
    }
}
