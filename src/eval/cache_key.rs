//! The names of results: hashes of everything that a result depends on, so that the name is known before the result is
//! computed.

use serde_json::{Value, json};

use super::answerer::{N_CTX, N_SEQUENCES};
use super::method::{Augmentation, Decoding, Method, MethodWeights};
use super::store::QueryRun;
use super::study::{Study, StudyTask, Subject};
use crate::digest::digest;
use crate::train::TrainConfig;

/// The version of the code's results. Raise it when a change of the code changes the results of the same inputs.
const PROTOCOL: u32 = 5;

impl Study {
    /// The name of a task adapter.
    pub(super) fn task_key(&self, task: &StudyTask) -> String {
        digest(&json!([
            PROTOCOL,
            self.base.sha256,
            task.others_digest,
            task.settings.items_of_others,
            sft_settings(&task.settings.task)
        ]))
    }

    /// The name of the adapters that answer for a user; `None` for a method without adapters.
    pub(super) fn adapter_key(
        &self,
        task: &StudyTask,
        user: usize,
        weights: MethodWeights,
    ) -> Option<String> {
        let config = &task.settings.user;
        let sft = |user: usize| {
            let history = &task.users[user].history_digest;
            json!([
                self.task_key(task),
                history,
                task.n_items(),
                sft_settings(config)
            ])
        };
        let dpo = |user| json!([sft(user), config.mine, config.dpo]);
        match weights {
            MethodWeights::Base => None,
            MethodWeights::Task => Some(self.task_key(task)),
            MethodWeights::Sft => Some(digest(&sft(user))),
            MethodWeights::Dpo => Some(digest(&dpo(user))),
            MethodWeights::OthersDpo => Some(digest(&dpo(task.other_user(user)))),
        }
    }

    /// The record of a task's settings with which its `query` items are answered.
    pub(super) fn query_run(&self, task: &StudyTask) -> QueryRun {
        QueryRun {
            task: task.name.clone(),
            base_sha256: self.base.sha256.clone(),
            settings: digest(&json!([PROTOCOL, task.settings])),
        }
    }

    /// The name of the description of a user that the base writes.
    pub(super) fn description_key(&self, user: &Subject) -> String {
        let history = &user.history_digest;
        digest(&json!([
            PROTOCOL,
            self.base.sha256,
            N_CTX,
            N_SEQUENCES,
            "description",
            history
        ]))
    }

    /// The name of a method's answers to a user's queries.
    ///
    /// The machine that computes them is not part of the name, although a GPU rounds differently. So a study that was
    /// begun on one machine can be continued and reported on another, if its settings name the device and the type of
    /// the weights that adapters are trained on. [`Answers::device`](super::Answers) records the device that answered.
    pub(super) fn answers_key(&self, task: &StudyTask, user: usize, method: Method) -> String {
        let (weights, augmentation, decoding) = method.parts();
        let subject = &task.users[user];
        let settings = task.settings.decoding_for(method);
        let items = || json!([subject.history_digest, settings.retrieved]);
        let augmentation = match augmentation {
            Augmentation::Nothing => Value::Null,
            Augmentation::Items => items(),
            Augmentation::DescriptionAndItems => json!([items(), self.description_key(subject)]),
        };
        let decoding = match decoding {
            Decoding::Alone => Value::Null,
            _ => json!([settings.contrast, settings.plausibility]),
        };
        digest(&json!([
            PROTOCOL,
            self.base.sha256,
            N_CTX,
            N_SEQUENCES,
            task.name,
            subject.id,
            method,
            self.adapter_key(task, user, weights),
            augmentation,
            decoding,
            task.task.n_predict(),
            task.settings.no_repeat_ngram,
            subject.queries_digest,
        ]))
    }
}

/// The settings on which the result of SFT depends.
fn sft_settings(config: &TrainConfig) -> Value {
    let TrainConfig {
        lora,
        sft,
        device,
        weight_type,
        seed,
        ..
    } = config;
    json!([lora, sft, device, weight_type, seed])
}
