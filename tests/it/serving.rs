//! The server, in this process, on tiny models: its answers, who gets them, and its errors.

mod access;
mod answers;
mod beginnings;
mod faults;
mod fields;
mod forms;
mod keepsakes;
mod load;
mod ollama;
mod page;
mod responses;
mod retrieval;
mod scores;
mod shapes;
mod tasks;
mod thoughts;
mod uploads;

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use cope_convert::Adapter;
use cope_llama::bases::Places;
use cope_llama::home::{Home, UserFolder, UserName};
use cope_llama::llama::Token;
use cope_llama::serve::{EngineSettings, RequestLimits, ServeOptions, serve};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use ureq::http::Response;

use crate::fixture::{Fixture, exact};
use crate::tiny::tiny_adapter;

/// A server on the tiny model with two users, ann and bob, whose adapters differ.
pub struct Server {
    // The fields are dropped in this order: the server stops before its folder is deleted.
    running: Running,
    pub fixture: Fixture,
    pub home: Home,
}

impl Deref for Server {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

/// A running server, which stops when it is dropped.
pub struct Running {
    address: SocketAddr,
    /// Whether a request was refused because the base was still being loaded.
    pub was_loading: bool,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<cope_llama::Result<()>>>,
}

/// A response: status, headers and body.
pub struct Reply {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub text: String,
}

/// The parts of an error that a client reads.
pub struct Refusal<'a> {
    pub status: u16,
    pub kind: &'a str,
    pub code: Option<&'a str>,
    pub param: Option<&'a str>,
    /// A part of the message.
    pub message: &'a str,
    pub retry_after: Option<&'a str>,
}

impl<'a> Refusal<'a> {
    /// An error without code, field and time to retry.
    pub fn new(status: u16, kind: &'a str, message: &'a str) -> Self {
        Self {
            status,
            kind,
            code: None,
            param: None,
            message,
            retry_after: None,
        }
    }
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Checks that this is the error `expected`, in OpenAI's envelope.
    pub fn assert_refused(&self, expected: &Refusal) {
        assert_eq!(self.status, expected.status, "{}", self.text);
        let message = self.error();
        assert!(message.contains(expected.message), "{message}");
        let error = &self.json()["error"];
        assert_eq!(error["type"], expected.kind, "{error}");
        assert_eq!(error["code"], json!(expected.code), "{error}");
        assert_eq!(error["param"], json!(expected.param), "{error}");
        let retry_after = self.headers.get("retry-after");
        let retry_after = retry_after.map(|it| it.to_str().unwrap());
        assert_eq!(retry_after, expected.retry_after, "{error}");
    }

    /// The message of an error in OpenAI's envelope.
    pub fn error(&self) -> String {
        let body = self.json();
        for name in ["type", "param", "code"] {
            assert!(body["error"].get(name).is_some(), "{}", self.text);
        }
        body["error"]["message"].as_str().unwrap().to_owned()
    }
}

pub fn ann() -> Adapter {
    tiny_adapter(7, 4, &["attn_q", "attn_v"])
}

pub fn bob() -> Adapter {
    tiny_adapter(8, 4, &["attn_q", "attn_v", "ffn_up"])
}

/// Writes a user's adapter, like the end of a training.
pub fn train(home: &Home, fixture: &Fixture, name: &str, adapter: &Adapter) -> UserFolder {
    let folder = home.create_user(UserName::new(name).unwrap()).unwrap();
    let adapter = Adapter {
        base_sha256: Some(fixture.base_sha256.clone()),
        contrast: Some(0.5),
        plausibility: Some(0.1),
        ..adapter.clone()
    };
    adapter.write_gguf(&folder.adapter()).unwrap();
    folder
}

impl Server {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut ServeOptions)) -> Self {
        Self::of(Fixture::new(), change)
    }

    /// A server with the model of `fixture`.
    pub fn of(fixture: Fixture, change: impl FnOnce(&mut ServeOptions)) -> Self {
        let home = Home::at(fixture.folder.path().join("home"));
        train(&home, &fixture, "ann", &ann());
        train(&home, &fixture, "bob", &bob());
        let mut options = options(&fixture.path);
        change(&mut options);
        Self {
            running: Running::start(&home, options),
            fixture,
            home,
        }
    }

    /// The tokens of the prompt of [`chat`](Running::chat).
    pub fn chat_prompt(&self) -> Vec<Token> {
        let template = cope_llama::prompt::ChatTemplate::of_model(&self.fixture.model).unwrap();
        let messages = [cope_llama::message::Message::user("hello alice")];
        template
            .prompt_tokens(&self.fixture.model, &messages)
            .unwrap()
    }
}

impl Running {
    /// A server whose base is loaded.
    pub fn start(home: &Home, options: ServeOptions) -> Self {
        let mut server = Self::start_without_base(home, options);
        server.wait_for_base();
        server
    }

    /// A server whose base need not be loaded.
    pub fn start_without_base(home: &Home, options: ServeOptions) -> Self {
        let (listening, address) = channel();
        let (stop, stopped) = oneshot::channel();
        let served = home.clone();
        let thread = std::thread::spawn(move || {
            let stopped = async {
                let _ = stopped.await;
            };
            serve(&served, options, |it| listening.send(it).unwrap(), stopped)
        });
        Self {
            address: address.recv().unwrap(),
            was_loading: false,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn wait_for_base(&mut self) {
        let loading = Refusal {
            code: Some("model_loading"),
            retry_after: Some("1"),
            ..Refusal::new(503, "unavailable_error", "the model is still being loaded")
        };
        loop {
            let health = self.get("/health", None);
            if health.status == 200 {
                return;
            }
            health.assert_refused(&loading);
            self.was_loading = true;
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn get(&self, path: &str, key: Option<&str>) -> Reply {
        let mut request = agent().get(self.url(path));
        if let Some(key) = key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        reply(request.call().unwrap())
    }

    pub fn post(&self, path: &str, body: &Value, key: Option<&str>) -> Reply {
        let mut request = agent().post(self.url(path));
        if let Some(key) = key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        reply(request.send_json(body).unwrap())
    }

    /// Asks `model` one message of a chat, with the fields `more`.
    pub fn chat(&self, model: &str, more: &Value) -> Reply {
        let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": "hello alice" }], "max_tokens": 12 });
        merge(&mut body, more);
        self.post("/v1/chat/completions", &body, None)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        let result = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            result.unwrap().unwrap();
        }
    }
}

pub fn options(base: &Path) -> ServeOptions {
    ServeOptions {
        address: ([127, 0, 0, 1], 0).into(),
        base: Some(base.to_owned()),
        gpu_layers: None,
        settings: EngineSettings {
            context: exact(),
            parallel: 4,
            parallel_user: 2,
            memory: 1 << 30,
        },
        limits: RequestLimits {
            body: 1 << 16,
            uploads: 1 << 20,
            n_predict: 64,
            queue: 8,
            time: Duration::from_secs(60),
        },
        retrieve: 0,
        task_arm: None,
        hosts: Vec::new(),
        origins: Vec::new(),
        places: Places::default(),
        open_webui_secret: None,
    }
}

/// A client that takes responses of any status, each on a connection of its own.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_idle_connections(0)
        .build()
        .into()
}

pub fn reply(mut response: Response<ureq::Body>) -> Reply {
    Reply {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.body_mut().read_to_string().unwrap(),
    }
}

pub fn merge(body: &mut Value, more: &Value) {
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
}

/// The chunks of a stream, which ends with `[DONE]`.
pub fn events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let data: Vec<_> = data.collect();
    assert_eq!(*data.last().unwrap(), "[DONE]");
    data[..data.len() - 1]
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
