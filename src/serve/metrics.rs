//! The metrics at `/metrics`, in the text format of Prometheus. They name no user.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::usage::Usage;

type Requests = Family<Vec<(String, String)>, Counter>;

/// The engine's state at this moment, which its thread writes and `/metrics` reads.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Texts that are being decoded.
    pub running: AtomicUsize,
    /// Texts that wait for a sequence, or for memory.
    pub waiting: AtomicUsize,
    /// Models that are loaded: the base, and users' adapters on it.
    pub models: AtomicUsize,
    /// Bytes of their contexts and adapters.
    pub bytes: AtomicU64,
}

/// Counters since the start of the server, and gauges.
#[derive(Debug)]
pub struct ServerMetrics {
    registry: Registry,
    requests: Requests,
    prompt_tokens: Counter,
    completion_tokens: Counter,
    running: Gauge,
    waiting: Gauge,
    models: Gauge,
    bytes: Gauge<u64, AtomicU64>,
}

impl Default for ServerMetrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("cope_llama"),
            requests: Requests::default(),
            prompt_tokens: Counter::default(),
            completion_tokens: Counter::default(),
            running: Gauge::default(),
            waiting: Gauge::default(),
            models: Gauge::default(),
            bytes: Gauge::default(),
        };
        metrics.registered()
    }
}

impl ServerMetrics {
    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register(
            "requests",
            "Requests, by route and status",
            self.requests.clone(),
        );
        registry.register(
            "prompt_tokens",
            "Tokens of prompts",
            self.prompt_tokens.clone(),
        );
        registry.register(
            "completion_tokens",
            "Tokens of answers",
            self.completion_tokens.clone(),
        );
        registry.register(
            "texts_running",
            "Texts that are being decoded",
            self.running.clone(),
        );
        registry.register(
            "texts_waiting",
            "Texts that wait for a place or for memory",
            self.waiting.clone(),
        );
        registry.register(
            "models_loaded",
            "Loaded models: the base, and users' adapters on it",
            self.models.clone(),
        );
        registry.register(
            "models_bytes",
            "Bytes of the contexts and adapters of loaded models",
            self.bytes.clone(),
        );
        self
    }

    /// Counts an answered request.
    pub fn count_request(&self, route: &str, status: u16) {
        let labels = vec![
            ("route".to_owned(), route.to_owned()),
            ("status".to_owned(), status.to_string()),
        ];
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts the tokens of a finished text.
    pub fn count_text(&self, usage: Usage) {
        self.prompt_tokens.inc_by(usage.n_prompt as u64);
        self.completion_tokens.inc_by(usage.n_completion as u64);
    }

    /// All metrics as text, with the engine's gauges once there is an engine.
    pub fn text(&self, gauges: Option<&Gauges>) -> String {
        if let Some(gauges) = gauges {
            self.running.set(gauges.running.load(Relaxed) as i64);
            self.waiting.set(gauges.waiting.load(Relaxed) as i64);
            self.models.set(gauges.models.load(Relaxed) as i64);
            self.bytes.set(gauges.bytes.load(Relaxed));
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        encode(&mut text, &self.registry).unwrap_or_default();
        text
    }
}
