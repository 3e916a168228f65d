//! Does it work? The paper's comparison on real texts, with controls.
//!
//! ```text
//! LaMP files ─→ Study ─→ adapters ─→ answers, scored ─→ Report
//!                 └ Settings, chosen on `dev`
//! ```
//!
//! All methods go through one renderer of prompts, one decoding loop with one guard against loops, and one rule of what
//! counts of an answer; they differ in what [`Method::parts`] says and in nothing else.

mod adapters;
mod answerer;
mod augment;
pub mod bootstrap;
mod cache_key;
pub mod families;
pub mod figures;
mod markdown;
mod method;
mod progress;
mod report;
mod retrieve;
mod run;
mod settings;
mod store;
mod study;
mod summary;
mod tune;

pub use method::{Before, Decoding, Method, MethodWeights};
pub use progress::{StudyEvent, StudyObserver};
pub use report::{Report, TaskInputs};
pub use retrieve::Retriever;
pub use run::{Shard, Unit, run, units};
pub use settings::{DecodingSettings, TaskSettings};
pub use store::{Answers, Prediction, Store};
pub use study::{Source, Split, Study, StudyLimits, StudyTask, Subject};
pub use summary::{COMPARISONS, Comparison, HistoryRange, MethodRow, Summary, TaskSummary};
pub use tune::{CHOICES, Trial, TunedSetting, tune};
