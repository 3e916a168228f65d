//! How a server is run: where it listens, how many contexts it makes, what requests are held to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::llama::ContextOptions;

/// How a server is run.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Where it listens.
    pub address: SocketAddr,
    /// The file of the base.
    pub base: PathBuf,
    /// Layers of it on a GPU; `None` for all.
    pub gpu_layers: Option<u32>,
    /// Of contexts.
    pub settings: EngineSettings,
    /// What requests are held to.
    pub limits: RequestLimits,
    /// The names by which it is called beside its address, as `Host` has them.
    pub hosts: Vec<String>,
    /// The pages of other origins that may use it.
    pub origins: Vec<String>,
    /// What Open WebUI signs with.
    pub open_webui_secret: Option<Vec<u8>>,
}

/// What requests are held to.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// Bytes of a body.
    pub body: usize,
    /// Tokens of an answer.
    pub n_predict: usize,
    /// Requests beside those whose texts are under way.
    pub queue: usize,
    /// From the request to the end of the answer.
    pub time: Duration,
}

/// How contexts are made, and how many.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Of each text.
    pub context: ContextOptions,
    /// Texts at once.
    pub parallel: usize,
    /// Of one user.
    pub parallel_user: usize,
    /// The most bytes of all contexts and adapters together.
    pub memory: u64,
}
