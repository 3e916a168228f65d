//! What `/metrics` shows, in the text format of Prometheus. It names no user.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::engine::Gauges;
use super::openai::response::Usage;

type Requests = Family<Vec<(String, String)>, Counter>;

/// Counters since the start, and gauges.
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
        registry.register("texts_running", "Texts under way", self.running.clone());
        registry.register("texts_waiting", "Texts that wait", self.waiting.clone());
        registry.register(
            "models_loaded",
            "Contexts of the base and of users",
            self.models.clone(),
        );
        registry.register("models_bytes", "Their memory", self.bytes.clone());
        self
    }

    /// Counts a request.
    pub fn count_request(&self, route: &str, status: u16) {
        let labels = vec![
            ("route".to_owned(), route.to_owned()),
            ("status".to_owned(), status.to_string()),
        ];
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts the tokens of a text that has ended.
    pub fn count_text(&self, usage: Usage) {
        self.prompt_tokens.inc_by(usage.n_prompt as u64);
        self.completion_tokens.inc_by(usage.n_completion as u64);
    }

    /// All of it, with what the engine is at.
    pub fn text(&self, gauges: Option<&Gauges>) -> String {
        if let Some(gauges) = gauges {
            self.running.set(gauges.running.load(Relaxed) as i64);
            self.waiting.set(gauges.waiting.load(Relaxed) as i64);
            self.models.set(gauges.models.load(Relaxed) as i64);
            self.bytes.set(gauges.bytes.load(Relaxed));
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        encode(&mut text, &self.registry).unwrap_or_default();
        text
    }
}
