//! The JSON of answers, in the form of OpenAI's API.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::decode::{Choice, Finish, Sampling};
use crate::llama::{Model, Special, Token};
use crate::serve::usage::Usage;

/// The fields that all objects of an answer share.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The identifier of the answer.
    pub id: String,
    /// The time of the request, in seconds since 1970.
    pub created: u64,
    /// The voice, by the name that the client gave.
    pub model: String,
    /// The kind of request that it answers.
    pub kind: Kind,
    /// The settings of the first answer; further answers have the next seeds.
    pub sampling: Sampling,
}

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request for the next message of a chat.
    Chat,
    /// A request for the continuation of a text.
    Completion,
}

impl Kind {
    /// The field of a request from which its prompt is made.
    pub fn prompt_field(self) -> &'static str {
        match self {
            Self::Chat => "messages",
            Self::Completion => "prompt",
        }
    }
}

/// A part of an answer, or the whole answer.
#[derive(Clone, Debug, Default)]
pub struct AnswerPart {
    /// The text of the part.
    pub text: String,
    /// The text of the thought before the answer, in a chat.
    pub thought: String,
    /// The tokens of the part, if the client wants them explained.
    pub explained: Option<Vec<Explained>>,
    /// The reason why the answer ends with this part, if it does.
    pub finish: Option<Finish>,
}

/// A token of an answer, or of the prompt with which the answer begins.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The token.
    pub token: Token,
    /// The number of characters of the text before it.
    pub offset: usize,
    /// Its explanation, and the best candidates at its position, the best first; `None` for the first token of a prompt.
    pub told: Option<(Choice, Vec<Choice>)>,
}

impl Envelope {
    /// An envelope with a new identifier.
    pub fn new(kind: Kind, model: String, sampling: Sampling) -> Self {
        let id: u128 = rand::random();
        let prefix = match kind {
            Kind::Chat => "chatcmpl",
            Kind::Completion => "cmpl",
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            id: format!("{prefix}-{id:032x}"),
            created: now.map_or(0, |it| it.as_secs()),
            model,
            kind,
            sampling,
        }
    }

    /// The one object of a response that is not a stream, with the answers in their order.
    pub fn whole(&self, parts: &[AnswerPart], usage: Usage, model: &Model) -> Value {
        let choice = |(index, part): (usize, &AnswerPart)| {
            let mut choice = self.choice(index, part, model);
            if self.kind == Kind::Chat {
                let mut message = json!({ "role": "assistant", "content": part.text });
                if !part.thought.is_empty() {
                    message["reasoning_content"] = json!(part.thought);
                }
                choice.insert("message".into(), message);
            }
            Value::Object(choice)
        };
        let object = match self.kind {
            Kind::Chat => "chat.completion",
            Kind::Completion => "text_completion",
        };
        let choices: Vec<_> = parts.iter().enumerate().map(choice).collect();
        let mut whole = self.object(object, &choices);
        whole["usage"] = usage_json(usage);
        whole["timings"] = timings_json(usage);
        whole
    }

    /// The first chunk of a chat's stream; a completion's stream has no such chunk.
    pub fn beginning(&self, index: usize) -> Option<Value> {
        let delta = json!({ "role": "assistant", "content": null });
        let choice =
            json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": null });
        (self.kind == Kind::Chat).then(|| self.object("chat.completion.chunk", &[choice]))
    }

    /// The chunk of one part of the answer with this index.
    pub fn chunk(&self, index: usize, part: &AnswerPart, model: &Model) -> Value {
        let mut choice = self.choice(index, part, model);
        if self.kind == Kind::Completion {
            return self.object("text_completion", &[Value::Object(choice)]);
        }
        let mut delta = Map::new();
        if !part.thought.is_empty() {
            delta.insert("reasoning_content".into(), json!(part.thought));
        }
        if !part.text.is_empty() || (delta.is_empty() && part.finish.is_none()) {
            delta.insert("content".into(), json!(part.text));
        }
        choice.insert("delta".into(), Value::Object(delta));
        self.object("chat.completion.chunk", &[Value::Object(choice)])
    }

    /// The last chunk of a stream, with the numbers of tokens.
    pub fn usage(&self, usage: Usage) -> Value {
        let object = match self.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Completion => "text_completion",
        };
        let mut last = self.object(object, &[]);
        last["usage"] = usage_json(usage);
        last["timings"] = timings_json(usage);
        last
    }

    fn object(&self, object: &str, choices: &[Value]) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "seed": self.sampling.seed,
            "temperature": shortest(self.sampling.temperature),
            "system_fingerprint": concat!("cope-llama-", env!("CARGO_PKG_VERSION")),
            "choices": choices,
        })
    }

    fn choice(&self, index: usize, part: &AnswerPart, model: &Model) -> Map<String, Value> {
        let explained = part.explained.as_deref();
        let logprobs = match (self.kind, explained) {
            (_, None) => Value::Null,
            (Kind::Chat, Some(explained)) => chat_logprobs(explained, model),
            (Kind::Completion, Some(explained)) => text_logprobs(explained, model),
        };
        let mut choice = Map::new();
        choice.insert("index".into(), json!(index));
        choice.insert("logprobs".into(), logprobs);
        choice.insert(
            "finish_reason".into(),
            json!(part.finish.map(finish_reason)),
        );
        if self.kind == Kind::Completion {
            choice.insert("text".into(), json!(part.text));
        }
        choice
    }
}

/// The number whose digits are the fewest that stand for `x`: 0.7 and not 0.699999988, which the same `f32` is in `f64`.
pub fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

/// The counts in OpenAI's form.
fn usage_json(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.n_prompt,
        "completion_tokens": usage.n_completion,
        "total_tokens": usage.n_prompt + usage.n_completion,
        "prompt_tokens_details": { "cached_tokens": usage.n_cached },
    })
}

/// The times in llama-server's form. Its numbers of a prompt leave out the tokens that came from the cache.
fn timings_json(usage: Usage) -> Value {
    let n_prompt = usage.n_prompt - usage.n_cached;
    // Milliseconds per token, and tokens per second.
    let rates = |n: usize, time: Duration| {
        let (n, ms) = (n as f64, time.as_secs_f64() * 1e3);
        if n > 0.0 && ms > 0.0 {
            (ms / n, n / ms * 1e3)
        } else {
            (0.0, 0.0)
        }
    };
    let prompt = rates(n_prompt, usage.prompt_time);
    // The first token comes from the last pass over the prompt, before this time begins.
    let predicted = rates(usage.n_completion.saturating_sub(1), usage.completion_time);
    json!({
        "cache_n": usage.n_cached,
        "prompt_n": n_prompt,
        "prompt_ms": usage.prompt_time.as_secs_f64() * 1e3,
        "prompt_per_token_ms": prompt.0,
        "prompt_per_second": prompt.1,
        "predicted_n": usage.n_completion,
        "predicted_ms": usage.completion_time.as_secs_f64() * 1e3,
        "predicted_per_token_ms": predicted.0,
        "predicted_per_second": predicted.1,
    })
}

/// The reason of an end in OpenAI's words.
pub fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::EndOfTurn | Finish::Stop | Finish::Loop => "stop",
        Finish::Length | Finish::ContextFull | Finish::Interrupted => "length",
    }
}

/// The log-probabilities of a chat's tokens. `logprob` is the user model's, or that of the one model of another arm;
/// `p_user` and `p_base` are this program's own fields.
pub fn chat_logprobs(explained: &[Explained], model: &Model) -> Value {
    let token = |choice: &Choice| {
        let bytes = model.token_bytes(choice.token, Special::ByName);
        json!({
            "token": String::from_utf8_lossy(&bytes),
            "bytes": bytes,
            "logprob": logprob(choice),
            "p_user": choice.p_user,
            "p_base": choice.p_base,
        })
    };
    let told = explained.iter().filter_map(|it| it.told.as_ref());
    let content = told.map(|(choice, best)| {
        let mut content = token(choice);
        content["top_logprobs"] = best.iter().map(token).collect();
        content["changed"] = json!(choice.token != choice.first);
        content
    });
    json!({ "content": content.collect::<Vec<_>>(), "refusal": null })
}

/// The log-probabilities of a completion's tokens, in the older form of OpenAI's API. The first token of a prompt has none.
fn text_logprobs(explained: &[Explained], model: &Model) -> Value {
    let text = |token: Token| {
        String::from_utf8_lossy(&model.token_bytes(token, Special::ByName)).into_owned()
    };
    let best = |best: &[Choice]| -> Map<String, Value> {
        let best = best.iter();
        best.map(|it| (text(it.token), json!(logprob(it))))
            .collect()
    };
    let told = || explained.iter().map(|it| it.told.as_ref());
    let chosen = || told().map(|it| it.map(|(choice, _)| choice));
    json!({
        "tokens": explained.iter().map(|it| text(it.token)).collect::<Vec<_>>(),
        "token_logprobs": chosen().map(|it| it.map(logprob)).collect::<Vec<_>>(),
        "top_logprobs": told().map(|it| it.map(|it| best(&it.1))).collect::<Vec<_>>(),
        "text_offset": explained.iter().map(|it| it.offset).collect::<Vec<_>>(),
        "p_user": chosen().map(|it| it.map(|it| it.p_user)).collect::<Vec<_>>(),
        "p_base": chosen().map(|it| it.and_then(|it| it.p_base)).collect::<Vec<_>>(),
    })
}

/// The log-probability in nats. JSON has no −∞, so a token of probability 0 gets that of the smallest float.
fn logprob(choice: &Choice) -> f32 {
    choice.p_user.max(f32::MIN_POSITIVE).ln()
}
