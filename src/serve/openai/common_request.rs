//! The fields that chat and completion requests share: the voice, how tokens are chosen, the form of the answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::decode::{AnswerOptions, Sampling};
use crate::llama::{Boundary, Grammar, Model, Special, Token};
use crate::serve::api_error::ApiError;
use crate::serve::voice_request::VoiceFields;
use crate::{Error, Fault};

/// The most answers of one request.
const MAX_ANSWERS: usize = 8;
/// The most strings that end an answer.
const MAX_STOPS: usize = 16;
/// The longest string that ends an answer, in bytes.
const MAX_STOP_BYTES: usize = 1 << 10;

/// The fields that chat and completion requests share.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct CommonRequest {
    /// The voice of the answer.
    #[serde(flatten)]
    pub voice: VoiceFields,
    /// Whether the answer is sent part by part, as server-sent events.
    pub stream: Option<bool>,
    /// Options of such a stream.
    pub stream_options: Option<StreamOptions>,
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
    stop: Option<OneOrMany>,
    logit_bias: Option<Value>,
    ignore_eos: Option<bool>,
    response_format: Option<ResponseFormat>,
    json_schema: Option<Value>,
    grammar: Option<String>,
    tools: Option<Vec<Value>>,
    suffix: Option<String>,
}

/// Options of an answer that is sent part by part.
#[derive(Debug, Default, Deserialize)]
pub struct StreamOptions {
    /// Whether a last chunk has the numbers of tokens.
    #[serde(default)]
    pub include_usage: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// OpenAI's form of a JSON schema, and llama-server's.
#[derive(Debug, Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
    /// The schema in llama-server's form.
    schema: Option<Value>,
    /// The schema in OpenAI's form.
    json_schema: Option<NamedSchema>,
}

#[derive(Debug, Deserialize)]
struct NamedSchema {
    schema: Option<Value>,
}

impl CommonRequest {
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
        self.refuse_unsupported()?;
        let options = AnswerOptions::recommended().with_form(self.grammar(model)?);
        let no_repeat_ngram = match self.no_repeat_ngram {
            None => options.no_repeat_ngram,
            Some(n) => usize::try_from(n).map_err(|_| not_a_count("no_repeat_ngram"))?,
        };
        Ok(AnswerOptions {
            sampling: self.sampling(options.sampling)?,
            n_predict: Some(self.n_predict(n_predict)?),
            stop: self.stops()?,
            loop_guard: self.loop_guard.unwrap_or(options.loop_guard),
            no_repeat_ngram,
            logit_bias: self.logit_bias(model)?,
            ..options
        })
    }

    fn refuse_unsupported(&self) -> Result<(), ApiError> {
        if self.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
            let message = "this server does not call tools";
            return Err(ApiError::invalid_field("tools", message));
        }
        let suffix = self.suffix.as_deref().unwrap_or_default();
        if !suffix.is_empty() {
            let message = "this server does not fill in the middle of a text";
            return Err(ApiError::invalid_field("suffix", message));
        }
        Ok(())
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
        let given = fields.into_iter().find(|(_, value)| value.is_some());
        match given {
            None | Some((_, None | Some(-1))) => Ok(most),
            Some((param, Some(value))) => match usize::try_from(value) {
                Ok(value) => Ok(value.min(most)),
                Err(_) => Err(not_a_count(param)),
            },
        }
    }

    fn stops(&self) -> Result<Vec<String>, ApiError> {
        let mut stops = match &self.stop {
            None => Vec::new(),
            Some(OneOrMany::One(stop)) => vec![stop.clone()],
            Some(OneOrMany::Many(stops)) => stops.clone(),
        };
        stops.retain(|stop| !stop.is_empty());
        if stops.len() > MAX_STOPS || stops.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
            let message =
                format!("`stop` holds at most {MAX_STOPS} texts of {MAX_STOP_BYTES} bytes");
            return Err(ApiError::invalid_field("stop", message));
        }
        Ok(stops)
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
            None | Some(Value::Null) => {}
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
                        what => vec![token(what.as_i64().ok_or_else(not_a_bias)?)?],
                    };
                    for token in tokens {
                        biases.insert(token, bias(value)?);
                    }
                }
            }
            Some(_) => return Err(not_a_bias()),
        }
        // The ban of the end tokens comes last: no bias of theirs lifts it.
        if self.ignore_eos.unwrap_or_default() {
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
        let grammar = self.grammar.as_deref().filter(|it| !it.is_empty());
        match (self.schema()?, grammar) {
            (Some(_), Some(_)) => Err(ApiError::invalid_field(
                "grammar",
                "a request has a grammar or a JSON schema, not both",
            )),
            (Some((param, schema)), None) => Grammar::from_json_schema(model, &schema.to_string())
                .map(Some)
                .map_err(|error| fault_of(param, error)),
            (None, Some(grammar)) => Grammar::new(model, grammar)
                .map(Some)
                .map_err(|error| fault_of("grammar", error)),
            (None, None) => Ok(None),
        }
    }

    /// The JSON schema of the answer, with the field that it comes from.
    fn schema(&self) -> Result<Option<(&'static str, Value)>, ApiError> {
        const PARAM: &str = "response_format";
        let Some(format) = &self.response_format else {
            return Ok(self.json_schema.clone().map(|it| ("json_schema", it)));
        };
        match format.kind.as_str() {
            "text" => Ok(None),
            "json_object" => {
                let any_object = || json!({ "type": "object" });
                let schema = format.schema.clone().unwrap_or_else(any_object);
                Ok(Some((PARAM, schema)))
            }
            "json_schema" => {
                let schema = format.json_schema.as_ref().and_then(|it| it.schema.clone());
                match schema.or_else(|| format.schema.clone()) {
                    Some(schema) => Ok(Some((PARAM, schema))),
                    None => Err(ApiError::invalid_field(
                        PARAM,
                        "`response_format` has no `json_schema.schema`",
                    )),
                }
            }
            kind => Err(ApiError::invalid_field(
                PARAM,
                format!(
                    "the type {kind:?} is not known: use `text`, `json_object` or `json_schema`"
                ),
            )),
        }
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
