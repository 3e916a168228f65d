//! Measures whether personalisation works: the paper's comparison of methods on real texts, with controls.
//!
//! ```text
//! LaMP files ─→ Study ─→ adapters ─→ answers with scores ─→ Report
//!                 └ TaskSettings, chosen on `dev`
//! ```
//!
//! All methods share one renderer of prompts ([`ChatTemplate`](crate::prompt::ChatTemplate)), one decoding loop
//! ([`Batch`](crate::decode::Batch)) with one guard against repetition, and one rule for which part of an answer is
//! scored ([`LampTask::response`](crate::profile::LampTask::response)). They differ only in [`Method::parts`]: the
//! adapters, the texts put before the prompt, and the contrast. `Batch` is one of the two decoding loops of
//! [`decode`](crate::decode); both end a text by the same rule.

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
mod run;
mod store;
mod study;
mod summary;
mod task_settings;
mod tune;

pub use method::{Augmentation, Decoding, Method, MethodWeights};
pub use progress::{StudyEvent, StudyObserver};
pub use report::{Report, TaskInputs};
pub use run::{Shard, Unit, run, units};
pub use store::{Answers, Prediction, Store};
pub use study::{Source, Split, Study, StudyLimits, StudyTask, Subject};
pub use summary::{COMPARISONS, Comparison, HistoryRange, MethodRow, Summary, TaskSummary};
pub use task_settings::{DecodingSettings, TaskSettings};
pub use tune::{CHOICES, Trial, TunedSetting, tune};
