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
mod before;
pub mod bootstrap;
pub mod families;
pub mod figures;
mod keys;
mod method;
mod report;
mod retrieve;
mod run;
mod settings;
mod store;
mod study;
mod summary;
mod table;
mod tune;
mod writer;

pub use method::{Before, Decoding, Method, Weights};
pub use report::{Report, TaskInputs};
pub use retrieve::Retriever;
pub use run::{Event, Observer, Shard, Unit, run, units};
pub use settings::{DecodingSettings, Settings};
pub use store::{Answers, Prediction, Store};
pub use study::{Limits, Source, Split, Study, StudyTask, Subject};
pub use summary::{COMPARISONS, Comparison, HistoryRange, Row, Summary, TaskSummary};
pub use tune::{CHOICES, Choice, Trial, tune};
