//! cope-llama: per-user language models on one's own machine.
//!
//! From what a person wrote, a small LoRA adapter is trained on a quantised GGUF model; while decoding, the adapted
//! model is contrasted with the base, which brings out what is the person's own (CoPe: "Personalized LLM Decoding via
//! Contrasting Personal Preference", EMNLP 2025).
//!
//! # The way of the data
//!
//! One direction, no way back. Between the stages lies a file in the user's folder, so that each can be run again alone,
//! stopped and gone on with, and looked at.
//!
//! ```text
//! history ─→ examples ─→ SFT ─→ mine negatives ─→ DPO ─→ adapter.gguf ─→ twin contexts ─→ contrast ─→ text
//! Profile    Example            Pair                     Adapter          Twin             Contrast     Decoder
//! ```
//!
//! One GGUF file is the base of everything: [`train`] reads its weights, quantisation included, and llama.cpp, behind
//! [`llama`], runs it; both use its tokenizer and its chat template ([`prompt`]). So an adapter is trained against exactly
//! the weights and the prompts that it is used with.
//!
//! A task adapter, trained alike from many users' items, can stand between the model and its users' adapters: the base,
//! in all of the above, is then the model with it.
//!
//! # Where things are
//!
//! | module | what it holds |
//! |---|---|
//! | [`home`] | every path on disk, users' folders, the manifest |
//! | [`bases`] | the base models that can be pulled, by name and SHA-256 |
//! | [`message`], [`profile`] | a user's history, and the files that it is imported from |
//! | [`prompt`] | the only renderer of chat templates |
//! | [`train`] | SFT, mining and DPO in candle |
//! | [`llama`] | models, adapters, contexts and samplers of llama.cpp |
//! | [`bundle`] | a user's model as a folder for other programs and machines |
//! | [`decode`] | the decoding loop, and the schedules of its passes |
//! | [`eval`] | the paper's methods on real texts, scored and compared |
//! | [`serve`] | OpenAI's API for other programs, by users |
//! | `cope_contrast` | the contrast: a kernel, and a sampler for other programs of llama.cpp |
//! | `cope_convert` | GGUF files and adapters, believing nothing that they say |
//!
//! # Invariants
//!
//! `tests/it/tidy.rs` holds the tree to those that can be read off it.
//!
//! - Only `llama/` and the C interface name llama.cpp; only `train/` names candle; `cope_convert` names neither, and needs
//!   no C++. Only `home` joins data paths. Only the program prints.
//! - llama.cpp is never given a file that has not been checked, since it answers some bad files by ending the process.
//!   Files of users never panic.
//! - A file is written beside its place and renamed into it: nothing half-written ever has its final name.
//! - A KV cache belongs to one (base, adapter, scale), which a context never changes.
//! - The contrast does no I/O, and allocates nothing for a token.
//! - All arms (base, user, CoPe) go through one decoding loop. Every schedule of passes gives the tokens of the naive one,
//!   up to llama.cpp's own rounding.
//! - Equal seeds give equal bytes: adapters, pairs and texts, also across a stop.
//! - `unsafe` lives in `llama/`, in `train/ops` and in the C interface, each block with the reason why it is sound.

#![deny(unsafe_code)]

pub mod bases;
pub mod bundle;
pub mod decode;
pub mod error;
#[cfg(feature = "train")]
pub mod eval;
#[cfg(any(feature = "serve", feature = "train"))]
mod hash;
pub mod home;
pub mod llama;
pub mod message;
pub mod profile;
pub mod prompt;
#[cfg(feature = "train")]
pub mod rouge;
#[cfg(feature = "serve")]
pub mod serve;
#[cfg(feature = "train")]
pub mod train;
pub mod voice;

pub use error::{Error, Fault, Result};
