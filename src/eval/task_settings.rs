//! The settings of a task, which are chosen on `dev`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::method::Method;
use crate::decode::Contrast;
use crate::train::TrainConfig;
use crate::train::lora::{LoraConfig, TargetModule};
use crate::{Error, Result};

/// The settings of a task. Together with its data and the base they decide its answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSettings {
    /// The training of the task adapter, which has only SFT.
    pub task: TrainConfig,
    /// The training of users' adapters.
    pub user: TrainConfig,
    /// The number of items of each other user, the newest, on which the task adapter is trained.
    pub items_of_others: usize,
    /// The number of items of a user's history, the newest, on which the user's adapter is trained. Retrieval uses all
    /// items.
    pub items: usize,
    /// The length of the runs of tokens that may not occur twice in an answer of any method; 0 for no such limit.
    pub no_repeat_ngram: usize,
    /// The decoding of each method that has settings for it.
    pub decoding: BTreeMap<Method, DecodingSettings>,
}

/// The settings of a method's decoding. A method ignores those that it has no use for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecodingSettings {
    /// The number of retrieved items before a prompt.
    pub retrieved: usize,
    /// The contrast α.
    pub contrast: f32,
    /// The plausibility threshold τ.
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
    /// The contrast with these α and τ.
    ///
    /// # Errors
    ///
    /// [`Error::Contrast`] when α or τ is out of its range.
    pub fn contrast(self) -> Result<Contrast> {
        Contrast::new(self.contrast, self.plausibility).map_err(Error::from)
    }
}

/// The methods whose decoding settings are chosen. The controls of CoPe use its settings, and CoPe + RAG has the same
/// settings whatever its base reads.
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
    /// The decoding settings of a method.
    #[must_use]
    pub fn decoding_for(&self, method: Method) -> DecodingSettings {
        let settings = |method| self.decoding.get(&method).copied().unwrap_or_default();
        match method {
            Method::OtherUser => settings(Method::Cope),
            Method::CopeRagBareBase => settings(Method::CopeRag),
            Method::NoContrast => DecodingSettings {
                contrast: 0.0,
                ..settings(Method::Cope)
            },
            method => settings(method),
        }
    }

    /// The settings that differ from the default, as [`TaskSettings::with`] takes them. The types of weights are always
    /// among them, since their default depends on the CPU.
    #[must_use]
    pub fn changes(&self) -> Value {
        let mut default = Self::default().value();
        for config in ["task", "user"] {
            default[config]["weight_type"] = Value::Null;
        }
        difference(&self.value(), &default).unwrap_or_else(|| json!({}))
    }

    /// These settings as JSON, with numbers as a person would write them: `json!` alone would turn an `f32` of 0.05
    /// into 0.05000000074505806.
    pub(super) fn value(&self) -> Value {
        let text = serde_json::to_string(self).expect("settings have text keys alone");
        serde_json::from_str(&text).expect("it is JSON")
    }

    /// These settings with `changes`, a JSON object that holds some of the fields, at any depth.
    ///
    /// # Errors
    ///
    /// [`Error::Input`], which names a field that does not exist, or whose value has another type or is out of its
    /// range.
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
    reason = "`map_err` passes the error by value"
)]
fn not_settings(error: serde_json::Error) -> Error {
    Error::input(format!("the settings of a task: {error}"))
}

/// Overwrites fields of `value` with those of `changes`.
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

/// The fields of `value` that differ from `default`; `None` if all are equal.
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
        let cope = DecodingSettings {
            contrast: 0.05,
            ..DecodingSettings::default()
        };
        let without = DecodingSettings {
            contrast: 0.0,
            ..cope
        };
        assert_eq!(changed.decoding_for(Method::Cope), cope);
        assert_eq!(changed.decoding_for(Method::OtherUser), cope);
        assert_eq!(changed.decoding_for(Method::NoContrast), without);
        let cope_rag = changed.decoding_for(Method::CopeRag);
        assert_eq!(cope_rag, DecodingSettings::default());
        let strong = json!({ "decoding": { "cope-rag": { "contrast": 0.7 } } });
        let strong = settings.with(&strong).unwrap();
        let bare = strong.decoding_for(Method::CopeRagBareBase);
        assert_eq!(bare, strong.decoding_for(Method::CopeRag));
        assert_ne!(bare, DecodingSettings::default());
        assert_eq!(changed.user.sft.epochs, 7);
        assert_eq!(changed.changes(), changes);
        let fastest = json!({ "weight_type": settings.user.weight_type });
        let default_changes = json!({ "task": fastest, "user": fastest });
        assert_eq!(settings.changes(), default_changes);
        let mut back = changed;
        back.decoding.clone_from(&settings.decoding);
        back.task.weight_type = settings.task.weight_type;
        back.user.weight_type = settings.user.weight_type;
        back.user.sft.epochs = settings.user.sft.epochs;
        assert_eq!(back, settings);
    }

    #[test]
    fn unknown_fields_and_values_out_of_range_are_refused() {
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
