//! What is chosen on `dev`, task by task.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::method::Method;
use crate::decode::Contrast;
use crate::train::TrainConfig;
use crate::train::lora::{LoraConfig, TargetModule};
use crate::{Error, Result};

/// Everything that decides a task's answers beside its data and the base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSettings {
    /// How the task's adapter is trained: SFT alone.
    pub task: TrainConfig,
    /// How users' adapters are.
    pub user: TrainConfig,
    /// Newest items of each of the others, for the task's adapter.
    pub items_of_others: usize,
    /// Newest items of a user's history, for the user's adapter; items are retrieved from all.
    pub items: usize,
    /// So many tokens never come twice in the same order within an answer, by whatever method; 0 for no such rule.
    pub no_repeat_ngram: usize,
    /// How the methods decode that have something to choose there.
    pub decoding: BTreeMap<Method, DecodingSettings>,
}

/// How a method decodes; of what it has no use for, it takes no notice.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecodingSettings {
    /// Items before a prompt.
    pub retrieved: usize,
    /// α.
    pub contrast: f32,
    /// τ.
    pub plausibility: f32,
}

impl Default for DecodingSettings {
    fn default() -> Self {
        let contrast = Contrast::default();
        Self {
            retrieved: 4,
            contrast: contrast.contrast(),
            plausibility: contrast.plausibility(),
        }
    }
}

impl DecodingSettings {
    /// α and τ.
    ///
    /// # Errors
    ///
    /// [`Error::Contrast`] when one is out of its range.
    pub fn contrast(self) -> Result<Contrast> {
        Contrast::new(self.contrast, self.plausibility).map_err(Error::from)
    }
}

/// The methods whose decoding is chosen; the controls of CoPe's decode as it does.
const DECIDED: [Method; 6] = [
    Method::Rag,
    Method::Pag,
    Method::Cope,
    Method::ContrastOnly,
    Method::OppuRag,
    Method::CopeRag,
];

impl Default for TaskSettings {
    fn default() -> Self {
        let user = TrainConfig::default();
        let mut task = TrainConfig {
            lora: LoraConfig {
                rank: 16,
                lora_alpha: 32.0,
                target_modules: TargetModule::ALL.to_vec(),
            },
            ..user.clone()
        };
        task.sft.learning_rate = 1e-3;
        task.sft.batch_size = 8;
        Self {
            task,
            user,
            items_of_others: 20,
            items: 100,
            no_repeat_ngram: 0,
            decoding: DECIDED
                .map(|method| (method, DecodingSettings::default()))
                .into(),
        }
    }
}

impl TaskSettings {
    /// How a method decodes.
    #[must_use]
    pub fn decoding_of(&self, method: Method) -> DecodingSettings {
        let of = |method| self.decoding.get(&method).copied().unwrap_or_default();
        match method {
            Method::OtherUser => of(Method::Cope),
            Method::NoContrast => DecodingSettings {
                contrast: 0.0,
                ..of(Method::Cope)
            },
            method => of(method),
        }
    }

    /// What of these settings is not the default, for [`TaskSettings::with`]; and the types of weights in any case, since what
    /// the default is depends on the CPU.
    #[must_use]
    pub fn changes(&self) -> Value {
        let mut default = Self::default().value();
        for config in ["task", "user"] {
            default[config]["weight_type"] = Value::Null;
        }
        difference(&self.value(), &default).unwrap_or_else(|| json!({}))
    }

    /// These settings as JSON, with the numbers as they would be typed: `json!` alone would make 0.05000000074505806 of an
    /// `f32` of 0.05.
    pub(super) fn value(&self) -> Value {
        let text = serde_json::to_string(self).expect("settings have text keys alone");
        serde_json::from_str(&text).expect("it is JSON")
    }

    /// These settings but for what `changes` say, a JSON object of some of the fields, at any depth.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] naming a field that is not known or has a value of another kind or out of its range.
    pub fn with(&self, changes: &Value) -> Result<Self> {
        let mut value = json!(self);
        merge(&mut value, changes)?;
        let settings: Self = serde_json::from_value(value).map_err(not_settings)?;
        for decoding in settings.decoding.values() {
            decoding.contrast().map_err(Error::input)?;
        }
        Ok(settings)
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what `map_err` hands over"
)]
fn not_settings(error: serde_json::Error) -> Error {
    Error::input(format!("the settings of a task: {error}"))
}

fn merge(value: &mut Value, changes: &Value) -> Result<()> {
    match (value, changes) {
        (Value::Object(value), Value::Object(changes)) => {
            for (name, change) in changes {
                let known = value.get_mut(name).ok_or_else(|| {
                    Error::input(format!("the settings of a task have no field {name:?}"))
                })?;
                merge(known, change)?;
            }
        }
        (value, changes) => *value = changes.clone(),
    }
    Ok(())
}

/// What of `value` is not in `default`, if anything.
fn difference(value: &Value, default: &Value) -> Option<Value> {
    match (value, default) {
        (Value::Object(value), Value::Object(default)) => {
            let changed = value.iter().filter_map(|(name, value)| {
                let change = difference(value, default.get(name).unwrap_or(&Value::Null));
                Some((name.clone(), change?))
            });
            let changed: Map<_, _> = changed.collect();
            (!changed.is_empty()).then_some(Value::Object(changed))
        }
        _ => (value != default).then(|| value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_reach_any_depth_and_leave_the_rest() {
        let settings = TaskSettings::default();
        let changes = json!({
            "decoding": { "cope": { "contrast": 0.05 } },
            "task": { "weight_type": "bf16" },
            "user": { "sft": { "epochs": 7 }, "weight_type": "quantized" },
        });
        let changed = settings.with(&changes).unwrap();
        let of_cope = DecodingSettings {
            contrast: 0.05,
            ..DecodingSettings::default()
        };
        let without = DecodingSettings {
            contrast: 0.0,
            ..of_cope
        };
        assert_eq!(changed.decoding_of(Method::Cope), of_cope);
        assert_eq!(changed.decoding_of(Method::OtherUser), of_cope);
        assert_eq!(changed.decoding_of(Method::NoContrast), without);
        let of_rag = changed.decoding_of(Method::CopeRag);
        assert_eq!(of_rag, DecodingSettings::default());
        assert_eq!(changed.user.sft.epochs, 7);
        assert_eq!(changed.changes(), changes);
        let fastest = json!({ "weight_type": settings.user.weight_type });
        let of_default = json!({ "task": fastest, "user": fastest });
        assert_eq!(settings.changes(), of_default);
        let mut back = changed;
        back.decoding.clone_from(&settings.decoding);
        back.task.weight_type = settings.task.weight_type;
        back.user.weight_type = settings.user.weight_type;
        back.user.sft.epochs = settings.user.sft.epochs;
        assert_eq!(back, settings);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (changes, word) in [
            (json!({ "alpha": 1 }), "alpha"),
            (
                json!({ "user": { "dpo": { "fit": { "rate": 1 } } } }),
                "rate",
            ),
            (
                json!({ "decoding": { "cope": { "contrast": "much" } } }),
                "much",
            ),
            (json!({ "decoding": { "tam": {} } }), "tam"),
            (
                json!({ "decoding": { "cope": { "contrast": -1.0 } } }),
                "contrast",
            ),
            (json!({ "user": { "sft": 3 } }), "invalid type"),
        ] {
            let error = TaskSettings::default()
                .with(&changes)
                .unwrap_err()
                .to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
