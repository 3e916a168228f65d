//! The server, in this process, on tiny models: what it answers, to whom, and when it does not.

mod access;
mod answers;
mod load;
mod page;
mod shapes;

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use cope_convert::Adapter;
use cope_llama::home::{Home, UserFolder, UserName};
use cope_llama::llama::Token;
use cope_llama::serve::{EngineSettings, RequestLimits, ServeOptions, serve};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use ureq::http::Response;

use crate::fixture::{Fixture, exact};
use crate::tiny::tiny_adapter;

/// A server on the tiny model with two users, ann and bob, of different adapters.
pub struct Server {
    // It stops before its folder goes.
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

/// A server until it is dropped.
pub struct Running {
    address: SocketAddr,
    /// Whether anybody was told that the base is being loaded.
    pub was_loading: bool,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<cope_llama::Result<()>>>,
}

/// An answer: status and body.
pub struct Reply {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The message of an error, which has OpenAI's envelope.
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

/// Writes a user's adapter, as the end of a training does.
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
        let fixture = Fixture::new();
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
    pub fn start(home: &Home, options: ServeOptions) -> Self {
        let (listening, address) = channel();
        let (stop, stopped) = oneshot::channel();
        let served = home.clone();
        let thread = std::thread::spawn(move || {
            let stopped = async {
                let _ = stopped.await;
            };
            serve(&served, options, |it| listening.send(it).unwrap(), stopped)
        });
        let mut server = Self {
            address: address.recv().unwrap(),
            was_loading: false,
            stop: Some(stop),
            thread: Some(thread),
        };
        while server.get("/health", None).status == 503 {
            server.was_loading = true;
            std::thread::sleep(Duration::from_millis(10));
        }
        server
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

    /// A chat of one message, with other fields.
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
        base: base.to_owned(),
        gpu_layers: None,
        settings: EngineSettings {
            context: exact(),
            parallel: 4,
            parallel_user: 2,
            memory: 1 << 30,
        },
        limits: RequestLimits {
            body: 1 << 16,
            n_predict: 64,
            queue: 8,
            time: Duration::from_secs(60),
        },
        hosts: Vec::new(),
        origins: Vec::new(),
        open_webui_secret: None,
    }
}

/// A client that takes answers of any status, each on a connection of its own.
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

/// The objects of a stream, which ends with `[DONE]`.
pub fn events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let data: Vec<_> = data.collect();
    assert_eq!(*data.last().unwrap(), "[DONE]");
    data[..data.len() - 1]
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
