//! What clients are told, as OpenAI's API has it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::decode::{Choice, Finish};
use crate::llama::{Model, Special, Token};

/// What the objects of an answer have in common.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Of the answer.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Whose voice it is in, as the client names it.
    pub model: String,
    /// Which kind of request it answers.
    pub kind: Kind,
}

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For the next message of a chat.
    Chat,
    /// For how a text goes on.
    Completion,
}

impl Kind {
    /// The field of a request that holds what its prompt is made of.
    pub fn prompt_field(self) -> &'static str {
        match self {
            Self::Chat => "messages",
            Self::Completion => "prompt",
        }
    }
}

/// How many tokens there were, and how long they took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Of the prompt.
    pub n_prompt: usize,
    /// Of these, how many had been read before.
    pub n_cached: usize,
    /// Of the answer.
    pub n_completion: usize,
    /// From the request to the first token.
    pub prompt_time: Duration,
    /// From there to the end.
    pub completion_time: Duration,
}

impl Usage {
    /// With that of another answer: to another prompt, or once more to the same, which then counts once.
    #[must_use]
    pub fn and(self, other: Self, is_other_prompt: bool) -> Self {
        let of_prompt = |n: usize| if is_other_prompt { n } else { 0 };
        Self {
            n_prompt: self.n_prompt + of_prompt(other.n_prompt),
            n_cached: self.n_cached + of_prompt(other.n_cached),
            n_completion: self.n_completion + other.n_completion,
            prompt_time: self.prompt_time + other.prompt_time,
            completion_time: self.completion_time + other.completion_time,
        }
    }

    fn json(self) -> Value {
        json!({
            "prompt_tokens": self.n_prompt,
            "completion_tokens": self.n_completion,
            "total_tokens": self.n_prompt + self.n_completion,
            "prompt_tokens_details": { "cached_tokens": self.n_cached },
        })
    }

    /// As llama-server has it; of a prompt what was read.
    fn timings(self) -> Value {
        let n_prompt = self.n_prompt - self.n_cached;
        let per = |n: usize, time: Duration| {
            let (n, ms) = (n as f64, time.as_secs_f64() * 1e3);
            if n > 0.0 && ms > 0.0 {
                (ms / n, n / ms * 1e3)
            } else {
                (0.0, 0.0)
            }
        };
        let prompt = per(n_prompt, self.prompt_time);
        // The first token comes of the prompt's last pass.
        let predicted = per(self.n_completion.saturating_sub(1), self.completion_time);
        json!({
            "cache_n": self.n_cached,
            "prompt_n": n_prompt,
            "prompt_ms": self.prompt_time.as_secs_f64() * 1e3,
            "prompt_per_token_ms": prompt.0,
            "prompt_per_second": prompt.1,
            "predicted_n": self.n_completion,
            "predicted_ms": self.completion_time.as_secs_f64() * 1e3,
            "predicted_per_token_ms": predicted.0,
            "predicted_per_second": predicted.1,
        })
    }
}

/// A part of an answer, or all of it.
#[derive(Clone, Debug, Default)]
pub struct AnswerPart {
    /// Its text.
    pub text: String,
    /// Its tokens, where they are explained.
    pub explained: Option<Vec<Explained>>,
    /// Why the answer ends here, if it does.
    pub finish: Option<Finish>,
}

/// A token, and the best candidates at its place.
#[derive(Clone, Debug)]
pub struct Explained {
    /// What was chosen.
    pub choice: Choice,
    /// The best, the best first.
    pub best: Vec<Choice>,
}

impl Envelope {
    /// A new one.
    pub fn new(kind: Kind, model: String) -> Self {
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
        }
    }

    /// Whole answers, in their order.
    pub fn whole(&self, parts: &[AnswerPart], usage: Usage, model: &Model) -> Value {
        let choice = |(index, part): (usize, &AnswerPart)| {
            let mut choice = self.choice(index, part, model);
            if self.kind == Kind::Chat {
                choice.insert(
                    "message".into(),
                    json!({ "role": "assistant", "content": part.text }),
                );
            }
            Value::Object(choice)
        };
        let object = match self.kind {
            Kind::Chat => "chat.completion",
            Kind::Completion => "text_completion",
        };
        let choices: Vec<_> = parts.iter().enumerate().map(choice).collect();
        let mut whole = self.object(object, &choices);
        whole["usage"] = usage.json();
        whole["timings"] = usage.timings();
        whole
    }

    /// The first object of an answer that comes token by token; of a text there is none.
    pub fn beginning(&self, index: usize) -> Option<Value> {
        let delta = json!({ "role": "assistant", "content": null });
        let choice =
            json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": null });
        (self.kind == Kind::Chat).then(|| self.object("chat.completion.chunk", &[choice]))
    }

    /// More of it.
    pub fn chunk(&self, index: usize, part: &AnswerPart, model: &Model) -> Value {
        let mut choice = self.choice(index, part, model);
        if self.kind == Kind::Completion {
            return self.object("text_completion", &[Value::Object(choice)]);
        }
        let delta = match &part.finish {
            Some(_) if part.text.is_empty() => json!({}),
            _ => json!({ "content": part.text }),
        };
        choice.insert("delta".into(), delta);
        self.object("chat.completion.chunk", &[Value::Object(choice)])
    }

    /// How many tokens there were, after the end of answers that came token by token.
    pub fn usage(&self, usage: Usage) -> Value {
        let object = match self.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Completion => "text_completion",
        };
        let mut last = self.object(object, &[]);
        last["usage"] = usage.json();
        last["timings"] = usage.timings();
        last
    }

    fn object(&self, object: &str, choices: &[Value]) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
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

/// OpenAI's words.
fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::EndOfTurn | Finish::Stop | Finish::Loop => "stop",
        Finish::Length | Finish::ContextFull | Finish::Interrupted => "length",
    }
}

/// `logprob` is that of the user model, or of the one model that speaks; `p_user` and `p_base` are this program's own.
fn chat_logprobs(explained: &[Explained], model: &Model) -> Value {
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
    let content = explained.iter().map(|explained| {
        let mut content = token(&explained.choice);
        content["top_logprobs"] = explained.best.iter().map(token).collect();
        content["changed"] = json!(explained.choice.token != explained.choice.first);
        content
    });
    json!({ "content": content.collect::<Vec<_>>(), "refusal": null })
}

fn text_logprobs(explained: &[Explained], model: &Model) -> Value {
    let text = |token: Token| {
        String::from_utf8_lossy(&model.token_bytes(token, Special::ByName)).into_owned()
    };
    let best = |explained: &Explained| -> Map<String, Value> {
        let best = explained.best.iter();
        best.map(|it| (text(it.token), json!(logprob(it))))
            .collect()
    };
    let chosen = || explained.iter().map(|it| &it.choice);
    json!({
        "tokens": chosen().map(|it| text(it.token)).collect::<Vec<_>>(),
        "token_logprobs": chosen().map(logprob).collect::<Vec<_>>(),
        "top_logprobs": explained.iter().map(best).collect::<Vec<_>>(),
        "p_user": chosen().map(|it| it.p_user).collect::<Vec<_>>(),
        "p_base": chosen().map(|it| it.p_base).collect::<Vec<_>>(),
    })
}

/// Nats; of what a model holds for impossible a number all the same, as JSON has no other.
fn logprob(choice: &Choice) -> f32 {
    choice.p_user.max(f32::MIN_POSITIVE).ln()
}
