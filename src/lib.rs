//! cope-llama: per-user language models on one's own machine.
//!
//! One direction, no way back; between the stages lies a file in the user's folder:
//!
//! ```text
//! history ─→ examples ─→ SFT ─→ mine negatives ─→ DPO ─→ adapter.gguf ─→ twin contexts ─→ contrast ─→ text
//! Profile    Example            Pair                     Adapter          Twin             Contrast     Decoder
//! ```

pub mod bases;
pub mod decode;
pub mod error;
pub mod home;
pub mod llama;
pub mod profile;
pub mod prompt;
pub mod task;
pub mod train;

pub use error::{Error, Result};
