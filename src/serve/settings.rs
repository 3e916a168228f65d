//! The options of a server: where it listens, how many contexts it makes, which limits requests have.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::bases::Places;
use crate::decode::ArmKind;
use crate::llama::ContextOptions;

/// The options of a server.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The address to listen at; port 0 stands for any free port.
    pub address: SocketAddr,
    /// The GGUF file of the base; `None` to let the page choose one.
    pub base: Option<PathBuf>,
    /// Number of the base's layers that a GPU computes; `None` for all.
    pub gpu_layers: Option<u32>,
    /// The contexts that the engine makes.
    pub settings: EngineSettings,
    /// The limits of each request.
    pub limits: RequestLimits,
    /// The number of items of a user's history that are put before each message of a chat, unless the request says another.
    pub retrieve: usize,
    /// The arm that answers Open WebUI's tasks around a chat, such as its title, in a user's voice, unless the request says
    /// another; `None` for that of other requests.
    pub task_arm: Option<ArmKind>,
    /// Names that a `Host` header may have beside the server's address.
    pub hosts: Vec<String>,
    /// Origins of other sites whose pages may use the server.
    pub origins: Vec<String>,
    /// The folders of models of other programs, which the administrator can choose on the page.
    pub places: Places,
    /// The secret with which Open WebUI signs its users' identities.
    pub open_webui_secret: Option<Vec<u8>>,
}

impl ServeOptions {
    /// The most items of a history that can be put before a message.
    pub const MAX_RETRIEVED: usize = 16;
}

/// The limits of each request.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// The longest body, in bytes, except of an upload.
    pub body: usize,
    /// The most bytes of a user's uploads together.
    pub uploads: u64,
    /// The longest answer, in tokens.
    pub n_predict: usize,
    /// Number of texts that may wait while [`EngineSettings::parallel`] others are decoded.
    pub queue: usize,
    /// The longest time from a request to the end of its answer.
    pub time: Duration,
}

/// How many contexts the engine makes, and of which kind.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Options of each text's context.
    pub context: ContextOptions,
    /// Number of texts that are decoded at once.
    pub parallel: usize,
    /// Number of texts that are decoded at once in one user's voice.
    pub parallel_user: usize,
    /// The most bytes that all contexts and adapters may take together.
    pub memory: u64,
}
