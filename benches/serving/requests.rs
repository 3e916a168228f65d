//! The requests of the load's clients, and how their streams are read.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use ureq::Body;
use ureq::http::Response;

use super::server::Server;

pub const USERS: [&str; 4] = ["ann", "bob", "cid", "dan"];

/// α and τ of all requests.
pub const CONTRAST: f32 = 0.3;
pub const PLAUSIBILITY: f32 = 0.1;

/// The number of different requests. Equal requests have equal answers.
pub const KINDS: usize = 40;

/// The number of candidates beside each token that is explained.
const ALTERNATIVES: usize = 20;

/// One of [`KINDS`] requests.
#[derive(Clone, Copy)]
pub struct Kind {
    number: usize,
    /// The most tokens of its answer.
    pub n_predict: usize,
}

impl Kind {
    /// The kind of the request with this number, whose answer has 12 to 35 tokens.
    pub fn of(number: usize) -> Self {
        let number = number % KINDS;
        Self {
            number,
            n_predict: 12 + number % 24,
        }
    }

    /// The same kind with an answer of `n_predict` tokens.
    pub fn short(self, n_predict: usize) -> Self {
        Self { n_predict, ..self }
    }

    pub fn number(self) -> usize {
        self.number
    }

    /// The index in [`USERS`] of the user whose voice is asked for.
    pub fn user(self) -> usize {
        self.number % USERS.len()
    }

    pub fn question(self) -> String {
        let question = [
            "Reply to: Are you free on Friday?",
            "Thank Ines for the ladder.",
            "What did the rain do?",
        ][self.number % 3];
        format!("{question} ({})", self.number)
    }

    fn body(self, explained: bool) -> Value {
        let mut body = json!({
            "model": USERS[self.user()],
            "messages": [{ "role": "user", "content": self.question() }],
            "max_tokens": self.n_predict,
            "contrast": CONTRAST,
            "plausibility": PLAUSIBILITY,
            "ignore_eos": true,
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        if explained {
            body["logprobs"] = json!(true);
            body["top_logprobs"] = json!(ALTERNATIVES);
        }
        body
    }
}

/// A token with its contrasted score.
pub struct Scored {
    /// The bytes of the token.
    pub token: Vec<u8>,
    pub score: f64,
    /// The user model's log-probability, in nats.
    pub logprob: f64,
}

impl Scored {
    fn of(token: &Value) -> Option<Self> {
        let p = |name: &str| token[name].as_f64().map(|p| p.max(f64::MIN_POSITIVE).ln());
        let logprob = p("p_user")?;
        Some(Self {
            token: serde_json::from_value(token["bytes"].clone()).ok()?,
            score: logprob - f64::from(CONTRAST) * p("p_base")?,
            logprob,
        })
    }
}

/// A token, and the best candidates at its position.
pub struct Explained {
    pub chosen: Scored,
    best: Vec<Scored>,
}

impl Explained {
    /// The score of a candidate.
    pub fn score_of(&self, token: &[u8]) -> Option<f64> {
        let candidate = self.best.iter().find(|it| it.token == token);
        candidate.map(|it| it.score)
    }

    /// The differences between the candidates' scores here and in `other`.
    pub fn moved(&self, other: &Self) -> impl Iterator<Item = f64> {
        let pairs = self
            .best
            .iter()
            .map(|it| (it.score, other.score_of(&it.token)));
        pairs.filter_map(|(score, other)| Some((score - other?).abs()))
    }

    /// The least log-probability that is plausible.
    pub fn border(&self) -> f64 {
        let logprobs = self.best.iter().map(|it| it.logprob);
        logprobs.fold(f64::MIN, f64::max) + f64::from(PLAUSIBILITY).ln()
    }
}

#[derive(Default)]
pub struct Answer {
    pub n_tokens: usize,
    /// The time from the request to the first token.
    pub first: Duration,
    /// The tokens, if they are explained.
    pub explained: Vec<Explained>,
}

/// How a request ended.
pub enum Reply {
    Whole(Answer),
    /// The server answered 429.
    Busy,
    /// The client abandoned the request.
    Left,
}

pub fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.build().into()
}

/// The objects of a stream, as they come.
pub fn events(response: &mut Response<Body>) -> impl Iterator<Item = Result<Value>> {
    let lines = BufReader::new(response.body_mut().as_reader()).lines();
    let event = |line: std::io::Result<String>| {
        let data = |line: String| {
            let data = line.strip_prefix("data: ").filter(|it| *it != "[DONE]")?;
            Some(serde_json::from_str(data).map_err(Into::into))
        };
        line.map(data).map_err(Into::into).transpose()
    };
    lines.filter_map(event).map(Result::flatten)
}

/// Asks for a stream; a client that `leaves` abandons it after the first text.
pub fn ask(
    agent: &ureq::Agent,
    server: &Server,
    kind: Kind,
    explained: bool,
    leaves: bool,
) -> Result<Reply> {
    let started = Instant::now();
    let mut response = agent
        .post(format!("{}/v1/chat/completions", server.url))
        .send_json(kind.body(explained))?;
    let status = response.status().as_u16();
    if status == 429 {
        return Ok(Reply::Busy);
    }
    ensure!(status == 200, "{}", response.body_mut().read_to_string()?);
    let mut answer = Answer::default();
    for event in events(&mut response) {
        let event = event?;
        ensure!(event.get("error").is_none(), "{event}");
        let choice = &event["choices"][0];
        let text = choice["delta"]["content"].as_str().unwrap_or_default();
        if !text.is_empty() && answer.first.is_zero() {
            answer.first = started.elapsed();
            if leaves {
                return Ok(Reply::Left);
            }
        }
        for token in choice["logprobs"]["content"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let best = token["top_logprobs"].as_array().context("candidates")?;
            let best = best.iter().filter_map(Scored::of).collect();
            let chosen = Scored::of(token).context("a token with its probabilities")?;
            answer.explained.push(Explained { chosen, best });
        }
        if let Some(n_tokens) = event["usage"]["completion_tokens"].as_u64() {
            answer.n_tokens = n_tokens as usize;
        }
    }
    Ok(Reply::Whole(answer))
}
