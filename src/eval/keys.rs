//! The names of results: hashes of all that they depend on, so that they are known before anything is computed.

use serde_json::{Value, json};

use super::method::{Before, Decoding, Method, Weights};
use super::study::{Study, StudyTask};
use crate::hash::digest;
use crate::profile::Example;
use crate::train::TrainConfig;

/// To be raised where a change of the code changes what comes of the same inputs.
const PROTOCOL: u32 = 1;

impl Study {
    /// The name of a task's adapter.
    pub(super) fn task_key(&self, task: &StudyTask) -> String {
        let config = &task.settings.task;
        digest(&json!([
            PROTOCOL,
            self.base.sha256,
            of_items(&task.others),
            of_sft(config)
        ]))
    }

    /// The name of the adapters that answer for a user; null without any.
    pub(super) fn adapter_key(&self, task: &StudyTask, user: usize, weights: Weights) -> Value {
        let config = &task.settings.user;
        let sft = |user| {
            let items = of_items(task.training_items(user));
            json!([self.task_key(task), items, of_sft(config)])
        };
        let dpo = |user| json!([sft(user), config.mine, config.dpo]);
        let key = match weights {
            Weights::Base => return Value::Null,
            Weights::Task => return json!(self.task_key(task)),
            Weights::Sft => sft(user),
            Weights::Dpo => dpo(user),
            Weights::OthersDpo => dpo(task.other_user(user)),
        };
        json!(digest(&key))
    }

    /// The name of what the base says of a user.
    pub(super) fn description_key(&self, task: &StudyTask, user: usize) -> String {
        let history = of_items(&task.users[user].history);
        digest(&json!([
            PROTOCOL,
            self.base.sha256,
            "description",
            history,
            task.settings.repeat_penalty
        ]))
    }

    /// The name of a method's answers to a user's queries.
    pub(super) fn answers_key(&self, task: &StudyTask, user: usize, method: Method) -> String {
        let (weights, before, decoding) = method.parts();
        let subject = &task.users[user];
        let items = || json!([of_items(&subject.history), task.settings.retrieved]);
        let before = match before {
            Before::Nothing => Value::Null,
            Before::Items => items(),
            Before::DescriptionAndItems => json!([items(), self.description_key(task, user)]),
        };
        let decoding = match decoding {
            Decoding::Alone => Value::Null,
            _ => json!([
                task.settings.contrast_of(method),
                task.settings.plausibility
            ]),
        };
        let queries = subject.queries.iter();
        let queries: Vec<_> = queries.map(|it| json!([it.id, it.example])).collect();
        digest(&json!([
            PROTOCOL,
            self.base.sha256,
            self.adapter_key(task, user, weights),
            before,
            decoding,
            task.settings.repeat_penalty,
            task.task.n_predict(),
            queries,
        ]))
    }
}

fn of_items(items: &[Example]) -> String {
    digest(&json!(items))
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
