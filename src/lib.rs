//! cope-llama: per-user language models on one's own machine.
//!
//! A person's own texts train a small LoRA adapter on a quantised GGUF model. While decoding, the adapted model is
//! contrasted with the base, which brings out what is the person's own (CoPe: "Personalized LLM Decoding via
//! Contrasting Personal Preference", EMNLP 2025, arXiv 2506.12109).
//!
//! # The way of the data
//!
//! Data flow in one direction. After each stage there is a file in the user's folder, so that a stage can be run again
//! alone, stopped and resumed, and its result looked at.
//!
//! ```text
//! history ─→ examples ─→ SFT ─→ mine negatives ─→ DPO ─→ calibrate ─→ adapter.gguf ─→ twin contexts ─→ contrast ─→ text
//! Profile    Example            Pair                     Calibration  Adapter          Twin             Contrast     Decoder
//! ```
//!
//! One GGUF file is the base of everything: [`train`] reads its weights, quantisation included, and llama.cpp, behind
//! [`llama`], runs it. Both use its tokenizer and its chat template ([`prompt`]). So an adapter is trained against
//! exactly the weights and the prompts that it is used with.
//!
//! # Modules
//!
//! | module | content |
//! |---|---|
//! | [`message`], [`profile`] | chat messages; a user's history, and the importers of files |
//! | [`retrieval`] | the items of a history that are most like a question |
//! | [`home`] | every path on disk: users' folders, manifests, caches |
//! | [`bases`] | the base models that can be downloaded, by name and SHA-256 |
//! | [`llama`] | models, adapters, contexts and samplers of llama.cpp |
//! | [`prompt`] | chat templates: from messages to tokens |
//! | [`train`] | SFT, mining, DPO and calibration in candle (feature `train`) |
//! | [`decode`] | from tokens to text, by one model or by the contrast of two |
//! | [`voice`] | which adapters and which contrast a request means |
//! | [`bundle`] | a user's model as a folder for other programs and machines |
//! | [`eval`] | the paper's methods on real texts, scored and compared (feature `train`) |
//! | [`serve`] | an HTTP server with OpenAI's API and Ollama's, and users (feature `serve`) |
//! | [`estimate`] | figures with their intervals |
//! | [`error`] | the one error type, with variants by whose fault it is |
//! | `cope_contrast` | the contrast of two models' logits |
//! | `cope_convert` | reads, checks, converts and merges GGUF files and adapters |
//!
//! # Glossary
//!
//! - **base**: the model that adapters are trained on, in one GGUF file. With a task adapter, the base is the model
//!   with that adapter.
//! - **task adapter**: an adapter trained from many users' items, which can stand between the model and its users'
//!   adapters.
//! - **voice**: whose texts an answer should sound like: a base, an optional task adapter, an optional user adapter,
//!   and the contrast α with its plausibility threshold τ.
//! - **arm**: one of the three ways to decode that are compared: *base*, *user* (the user's model alone) or *CoPe* (the
//!   user's model contrasted with the base).
//! - **held-out texts**: texts of a user that no training sees. They choose the best checkpoint and measure success.
//! - **pair**: a prompt with a preferred and a rejected response, on which DPO trains. Mining finds the rejected one.
//! - **twin**: the two contexts of contrastive decoding, base and user, over one copy of the weights.
//! - **head**: the model's output projection, from a hidden state to one logit for each token of the vocabulary.
//! - **plausible set**: the tokens that the user's model finds at least τ times as probable as its likeliest one. Only
//!   these can be chosen. The paper calls it `V_head`.
//! - **pass**: one run of a model over some tokens.
//! - **schedule**: which passes run, and when. It changes the speed of decoding, not the text.
//!
//! # Example
//!
//! The contrast on a vocabulary of four words:
//!
//! ```
//! use cope_llama::decode::Contrast;
//!
//! let words = ["Dear", "Hello", "Ahoy", "7"];
//! let user = [0.5_f32, 0.15, 0.3, 0.05].map(f32::ln);
//! let base = [0.75_f32, 0.199, 0.05, 0.001].map(f32::ln);
//!
//! let contrast = Contrast::new(0.5, 0.2)?; // α and τ
//! let (mut candidates, mut scratch) = (Vec::new(), Vec::new());
//! contrast.score(&user, &base, &mut candidates, &mut scratch)?;
//!
//! // "7" is not plausible: 0.05 < 0.2 · 0.5. Of the others, "Ahoy" gains the most over the base: 0.3 / √0.05.
//! let best = candidates.iter().max_by(|x, y| x.score.total_cmp(&y.score));
//! assert_eq!(best.map(|it| words[it.token as usize]), Some("Ahoy"));
//! # Ok::<(), cope_llama::Error>(())
//! ```
//!
//! `examples/` has whole programs: `generate`, `contrast` and `train`.
//!
//! # Invariants
//!
//! `tests/tidy/lib.rs` holds the tree to those that can be read off it.
//!
//! - Only `llama/` and the C interface name llama.cpp; only `train/` names candle; `cope_convert` names neither, and
//!   needs no C++. Only `home` joins data paths. Only the program prints.
//! - llama.cpp is never given a file that has not been checked, since some bad files make it end the process. No file
//!   of a user causes a panic.
//! - A file is written under a temporary name and then renamed, so a half-written file never has the final name.
//! - A KV cache belongs to one (base, adapter, scale), which a context never changes.
//! - The contrast does no I/O, and allocates nothing for a token.
//! - There are two decoding loops, [`decode::Decoder`] for one text and [`decode::Batch`] for many, and one rule for
//!   the choice of a token and the end of a text. All arms go through them. Every schedule of passes gives the tokens
//!   of the simplest one, up to llama.cpp's own rounding.
//! - Equal seeds give equal bytes, of adapters, pairs and texts, also when the work was stopped and resumed.
//! - `unsafe` code is only in `llama/`, in `train/ops` and in the C interface, and each block says why it is sound.

#![deny(unsafe_code)]

pub mod bases;
pub mod bundle;
pub mod decode;
#[cfg(any(feature = "serve", feature = "train"))]
mod digest;
pub mod error;
pub mod estimate;
#[cfg(feature = "train")]
pub mod eval;
pub mod home;
pub mod llama;
pub mod message;
pub mod profile;
pub mod prompt;
pub mod retrieval;
#[cfg(feature = "train")]
pub mod rouge;
#[cfg(feature = "serve")]
pub mod serve;
pub mod thought;
#[cfg(feature = "train")]
pub mod train;
pub mod voice;

pub use error::{Error, Fault, Result};
