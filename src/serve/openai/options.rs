//! How a request wants its answer: whose voice, how the tokens are chosen, in which form.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::decode::{AnswerOptions, ArmKind, Sampling};
use crate::llama::{Boundary, Grammar, Model, Special, Token};
use crate::serve::error::ApiError;

/// The most answers of one request.
const MAX_ANSWERS: usize = 8;
/// The most strings that end an answer, and the longest of them in bytes.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 1 << 10;

/// What both kinds of requests have.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct CommonRequest {
    /// Whose voice: a user, or the base.
    pub model: Option<String>,
    /// The same, where `model` names nobody.
    pub user: Option<String>,
    /// The same, as llama-server has it.
    pub lora: Option<Vec<LoraRequest>>,
    /// Which of the models: `base`, `user` or `cope`.
    pub arm: Option<ArmKind>,
    /// α.
    pub contrast: Option<f32>,
    /// τ.
    pub plausibility: Option<f32>,
    /// Whether the answer comes token by token.
    pub stream: Option<bool>,
    /// How.
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
    stop: Option<OneOrMany>,
    logit_bias: Option<Value>,
    ignore_eos: Option<bool>,
    response_format: Option<ResponseFormat>,
    json_schema: Option<Value>,
    grammar: Option<String>,
    tools: Option<Vec<Value>>,
    suffix: Option<String>,
}

/// An adapter by its number in the list of adapters.
#[derive(Debug, Deserialize)]
pub struct LoraRequest {
    /// Its number.
    pub id: usize,
    /// 0 switches it off.
    #[serde(default = "whole")]
    pub scale: f32,
}

fn whole() -> f32 {
    1.0
}

/// How an answer comes token by token.
#[derive(Debug, Default, Deserialize)]
pub struct StreamOptions {
    /// Whether the numbers of tokens come at the end.
    #[serde(default)]
    pub include_usage: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
    /// Where llama-server has it.
    schema: Option<Value>,
    json_schema: Option<NamedSchema>,
}

#[derive(Debug, Deserialize)]
struct NamedSchema {
    schema: Option<Value>,
}

impl CommonRequest {
    /// How many answers are wanted to each of `n_prompts` prompts.
    ///
    /// # Errors
    ///
    /// There are too many, or the best of several.
    pub fn n(&self, n_prompts: usize) -> Result<usize, ApiError> {
        let n = self.n.unwrap_or(1);
        if self.best_of.is_some_and(|best_of| best_of != n) {
            let what = "answers are not chosen among more than are given";
            return Err(ApiError::invalid_field("best_of", what));
        }
        if n == 0 || n.saturating_mul(n_prompts) > MAX_ANSWERS {
            let what = format!("a request has 1 to {MAX_ANSWERS} answers, over all its prompts");
            return Err(ApiError::invalid_field("n", what));
        }
        Ok(n)
    }

    /// `n_predict` is the most tokens that the server gives.
    ///
    /// # Errors
    ///
    /// A field is out of its range, or asks for what there is not.
    pub fn options(&self, model: &Arc<Model>, n_predict: usize) -> Result<AnswerOptions, ApiError> {
        self.check_what_is_not_there()?;
        Ok(AnswerOptions {
            sampling: self.sampling()?,
            n_predict: Some(self.n_predict(n_predict)?),
            stop: self.stops()?,
            logit_bias: self.logit_bias(model)?,
            grammar: self.grammar(model)?,
            ..AnswerOptions::default()
        })
    }

    fn check_what_is_not_there(&self) -> Result<(), ApiError> {
        if self.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
            return Err(ApiError::invalid_field("tools", "tools are not there"));
        }
        if self
            .suffix
            .as_ref()
            .is_some_and(|suffix| !suffix.is_empty())
        {
            return Err(ApiError::invalid_field(
                "suffix",
                "texts are not filled in in the middle",
            ));
        }
        Ok(())
    }

    fn sampling(&self) -> Result<Sampling, ApiError> {
        let default = Sampling::default();
        let count = |param, value: Option<i64>, default: u32| match value {
            None | Some(-1) => Ok(default),
            Some(value) => u32::try_from(value)
                .map_err(|_| ApiError::invalid_field(param, "is a number from 0 on")),
        };
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(default.temperature),
            top_k: count("top_k", self.top_k, default.top_k)?,
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            typical: self.typical_p.unwrap_or(default.typical),
            repeat_penalty: self.repeat_penalty.unwrap_or(default.repeat_penalty),
            repeat_last_n: count("repeat_last_n", self.repeat_last_n, default.repeat_last_n)?,
            presence_penalty: self.presence_penalty.unwrap_or(default.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(default.frequency_penalty),
            // As llama.cpp's −1, every negative one stands for a new seed.
            seed: match self.seed {
                None => default.seed,
                Some(seed) => u32::try_from(seed & i64::from(u32::MAX)).unwrap_or(u32::MAX),
            },
        };
        Ok(sampling)
    }

    fn n_predict(&self, most: usize) -> Result<usize, ApiError> {
        let asked = self
            .max_completion_tokens
            .or(self.max_tokens)
            .or(self.n_predict);
        match asked {
            None | Some(-1) => Ok(most),
            Some(asked) => match usize::try_from(asked) {
                Ok(asked) => Ok(asked.min(most)),
                Err(_) => Err(ApiError::invalid_field(
                    "max_tokens",
                    "is a number from 0 on",
                )),
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
            let what = format!("holds at most {MAX_STOPS} texts of {MAX_STOP_BYTES} bytes");
            return Err(ApiError::invalid_field("stop", what));
        }
        Ok(stops)
    }

    /// A map from tokens to biases, or as llama-server has it a list of pairs, in which a text stands for its tokens and
    /// `false` for −∞.
    fn logit_bias(&self, model: &Model) -> Result<Vec<(Token, f32)>, ApiError> {
        let wrong = || {
            let what = "maps tokens of the model to numbers, or is a list of such pairs";
            ApiError::invalid_field("logit_bias", what)
        };
        let bias = |value: &Value| match value {
            Value::Bool(false) => Ok(f32::NEG_INFINITY),
            value => value.as_f64().map(|bias| bias as f32).ok_or_else(wrong),
        };
        let token = |token: i64| {
            let token = Token::try_from(token).ok();
            token
                .filter(|token| model.contains(*token))
                .ok_or_else(wrong)
        };
        let mut biases = BTreeMap::new();
        match &self.logit_bias {
            None | Some(Value::Null) => {}
            Some(Value::Object(map)) => {
                for (name, value) in map {
                    let number = name.parse().map_err(|_| wrong())?;
                    biases.insert(token(number)?, bias(value)?);
                }
            }
            Some(Value::Array(pairs)) => {
                for pair in pairs {
                    let [what, value] = pair.as_array().map(Vec::as_slice).unwrap_or_default()
                    else {
                        return Err(wrong());
                    };
                    let tokens = match what {
                        Value::String(text) => {
                            model.tokenize(text, Boundary::Omit, Special::Ignored)?
                        }
                        what => vec![token(what.as_i64().ok_or_else(wrong)?)?],
                    };
                    for token in tokens {
                        biases.insert(token, bias(value)?);
                    }
                }
            }
            Some(_) => return Err(wrong()),
        }
        // Whatever else is said of them.
        if self.ignore_eos.unwrap_or_default() {
            biases.extend(model.eog_tokens().map(|token| (token, f32::NEG_INFINITY)));
        }
        Ok(biases.into_iter().collect())
    }

    fn grammar(&self, model: &Arc<Model>) -> Result<Option<Grammar>, ApiError> {
        let schema = match &self.response_format {
            None => self.json_schema.clone(),
            Some(format) => match format.kind.as_str() {
                "text" => None,
                "json_object" => Some(
                    format
                        .schema
                        .clone()
                        .unwrap_or_else(|| serde_json::json!({ "type": "object" })),
                ),
                "json_schema" => {
                    let schema = format.json_schema.as_ref().and_then(|it| it.schema.clone());
                    let schema = schema.or_else(|| format.schema.clone());
                    Some(schema.ok_or_else(|| {
                        ApiError::invalid_field("response_format", "has no `json_schema.schema`")
                    })?)
                }
                kind => {
                    let what = format!(
                        "the type {kind:?} is not known: text, json_object, json_schema are"
                    );
                    return Err(ApiError::invalid_field("response_format", what));
                }
            },
        };
        let grammar = match (schema, &self.grammar) {
            (Some(_), Some(grammar)) if !grammar.is_empty() => {
                return Err(ApiError::invalid_field(
                    "grammar",
                    "and a JSON schema cannot both be obeyed",
                ));
            }
            (Some(schema), _) => Grammar::from_json_schema(model, &schema.to_string())
                .map_err(|error| ApiError::invalid_field("response_format", error))?,
            (None, Some(grammar)) if !grammar.is_empty() => Grammar::new(model, grammar)
                .map_err(|error| ApiError::invalid_field("grammar", error))?,
            (None, _) => return Ok(None),
        };
        Ok(Some(grammar))
    }
}
