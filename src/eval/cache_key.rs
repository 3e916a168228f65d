//! The names of results: hashes of all that they depend on, so that they are known before anything is computed.

use serde_json::{Value, json};

use super::answerer::{N_CTX, N_SEQUENCES};
use super::method::{Before, Decoding, Method, MethodWeights};
use super::store::QueryRun;
use super::study::{Study, StudyTask, Subject};
use crate::hash::digest;
use crate::train::TrainConfig;

/// To be raised where a change of the code changes what comes of the same inputs.
const PROTOCOL: u32 = 5;

impl Study {
    /// The name of a task's adapter.
    pub(super) fn task_key(&self, task: &StudyTask) -> String {
        digest(&json!([
            PROTOCOL,
            self.base.sha256,
            task.others_digest,
            task.settings.items_of_others,
            of_sft(&task.settings.task)
        ]))
    }

    /// The name of the adapters that answer for a user; none without any.
    pub(super) fn adapter_key(
        &self,
        task: &StudyTask,
        user: usize,
        weights: MethodWeights,
    ) -> Option<String> {
        let config = &task.settings.user;
        let sft = |user: usize| {
            let history = &task.users[user].history_digest;
            json!([self.task_key(task), history, task.n_items(), of_sft(config)])
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

    /// A task's settings with which `query` is answered.
    pub(super) fn query_run(&self, task: &StudyTask) -> QueryRun {
        QueryRun {
            task: task.name.clone(),
            base_sha256: self.base.sha256.clone(),
            settings: digest(&json!([PROTOCOL, task.settings])),
        }
    }

    /// The name of what the base says of a user.
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

    /// The name of a method's answers to a user's queries. Where they are computed is none of it, though a GPU rounds
    /// otherwise: a study begun on one machine is gone on with, and reported, on another, if its settings name the device
    /// and the type of the weights that adapters are trained on. [`Answers::device`](super::Answers) says where.
    pub(super) fn answers_key(&self, task: &StudyTask, user: usize, method: Method) -> String {
        let (weights, before, decoding) = method.parts();
        let subject = &task.users[user];
        let settings = task.settings.decoding_of(method);
        let items = || json!([subject.history_digest, settings.retrieved]);
        let before = match before {
            Before::Nothing => Value::Null,
            Before::Items => items(),
            Before::DescriptionAndItems => json!([items(), self.description_key(subject)]),
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
            before,
            decoding,
            task.task.n_predict(),
            task.settings.no_repeat_ngram,
            subject.queries_digest,
        ]))
    }
}

fn of_sft(config: &TrainConfig) -> Value {
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
