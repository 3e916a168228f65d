//! Chooses settings on `dev`, one after the other. Each is chosen by the score of the method that depends on it most,
//! so that no method is weakened by a setting that suits another.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::method::Method;
use super::progress::StudyObserver;
use super::run::{Shard, run, units};
use super::store::Store;
use super::study::{Study, StudyLimits};
use super::task_settings::TaskSettings;
use crate::{Error, Result};

/// A setting, by its place in [`TaskSettings`], with the values that are tried and the method whose ROUGE-L decides.
#[derive(Clone, Copy, Debug)]
pub struct TunedSetting {
    /// The setting's place, as a JSON pointer.
    pub setting: &'static str,
    /// The values that are tried beside the present one, as JSON. An object holds fields that change together.
    pub values: &'static [&'static str],
    /// The method whose ROUGE-L decides.
    pub method: Method,
}

/// The settings that are chosen, in this order: a setting comes after those that it builds on.
pub const CHOICES: [TunedSetting; 22] = [
    TunedSetting::new("/items_of_others", &["20", "50", "200"], Method::Tam),
    TunedSetting::new("/task/lora/rank", &["8", "16"], Method::Tam),
    TunedSetting::new(
        "/task/sft/learning_rate",
        &["3e-4", "1e-3", "2e-3"],
        Method::Tam,
    ),
    TunedSetting::new("/task/sft/epochs", &["1", "2", "3"], Method::Tam),
    TunedSetting::new("/no_repeat_ngram", &["3", "4"], Method::Tam),
    TunedSetting::new(
        "/user/sft/learning_rate",
        &["5e-4", "1e-3", "2e-3"],
        Method::Oppu,
    ),
    TunedSetting::new("/user/sft/epochs", &["1", "2", "3"], Method::Oppu),
    TunedSetting::new("/user/mine", MINED, Method::DpoOnly),
    TunedSetting::new("/user/dpo", PREFERRED, Method::DpoOnly),
    TunedSetting::new("/user/dpo/rpo_alpha", &["0.0", "1.0"], Method::DpoOnly),
    TunedSetting::new("/user/dpo/beta", &["1.0", "2.0", "4.0"], Method::DpoOnly),
    TunedSetting::new(
        "/user/dpo/fit",
        &[
            r#"{"learning_rate": 1e-4, "epochs": 1}"#,
            r#"{"learning_rate": 2e-4, "epochs": 1}"#,
        ],
        Method::DpoOnly,
    ),
    TunedSetting::new("/decoding/rag/retrieved", RETRIEVED, Method::Rag),
    TunedSetting::new("/decoding/pag/retrieved", RETRIEVED, Method::Pag),
    TunedSetting::new("/decoding/oppu-rag/retrieved", RETRIEVED, Method::OppuRag),
    TunedSetting::new("/decoding/cope/contrast", CONTRAST, Method::Cope),
    TunedSetting::new("/decoding/cope/plausibility", PLAUSIBILITY, Method::Cope),
    TunedSetting::new(
        "/decoding/contrast-only/contrast",
        CONTRAST,
        Method::ContrastOnly,
    ),
    TunedSetting::new(
        "/decoding/contrast-only/plausibility",
        PLAUSIBILITY,
        Method::ContrastOnly,
    ),
    TunedSetting::new("/decoding/cope-rag/retrieved", RETRIEVED, Method::CopeRag),
    TunedSetting::new("/decoding/cope-rag/contrast", CONTRAST, Method::CopeRag),
    TunedSetting::new(
        "/decoding/cope-rag/plausibility",
        PLAUSIBILITY,
        Method::CopeRag,
    ),
];

/// The paper's pairs, and pairs with samples of the user model in place of the base's.
const MINED: &[&str] = &[
    r#"{"sampler": "base", "preference": "reward", "n_samples": 3, "length_ratio": 1.0}"#,
    r#"{"sampler": "user", "preference": "reward", "n_samples": 3, "length_ratio": 1.0}"#,
];

/// The paper's settings of DPO.
const PREFERRED: &[&str] = &[
    r#"{"fit": {"learning_rate": 1e-4, "epochs": 1}, "beta": 0.1, "length_normalized": false, "rpo_alpha": 0.0}"#,
];

/// Numbers of items before a prompt.
const RETRIEVED: &[&str] = &["1", "2", "4"];

/// Values of α.
const CONTRAST: &[&str] = &["0.0", "0.05", "0.1", "0.2", "0.3", "0.5"];

/// Values of τ.
const PLAUSIBILITY: &[&str] = &["0.05", "0.1", "0.2", "0.3", "0.5"];

/// The result of trying a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The task's name.
    pub task: String,
    /// SHA-256 of the base.
    pub base_sha256: String,
    /// The limits of the study in which it was tried.
    pub limits: StudyLimits,
    /// The setting that was tried.
    pub setting: String,
    /// Its value.
    pub value: Value,
    /// The method that answered.
    pub method: Method,
    /// The mean ROUGE-L of the answers.
    pub rouge_l: f64,
    /// The number of answers.
    pub n_answers: usize,
}

impl TunedSetting {
    const fn new(setting: &'static str, values: &'static [&'static str], method: Method) -> Self {
        Self {
            setting,
            values,
            method,
        }
    }
}

/// Tries all values of `choices` on the first task of `study`, each together with the values that were chosen before
/// it, and leaves the chosen values in the task's settings. `tell` is called with every trial. Answers of earlier
/// trials are reused.
///
/// # Errors
///
/// The errors of [`run`], those of `tell`, and [`Error::Input`] for a choice of a setting that does not exist.
pub fn tune(
    study: &mut Study,
    store: &Store,
    choices: &[TunedSetting],
    stop: &Arc<AtomicBool>,
    observe: StudyObserver,
    tell: &mut dyn FnMut(&Trial) -> Result<()>,
) -> Result<()> {
    for choice in choices {
        let before = study.tasks[0].settings.clone();
        let mut best: Option<(f64, TaskSettings)> = None;
        for value in values(&before, choice)? {
            let settings = with(&before, choice.setting, &value)?;
            study.tasks[0].settings = settings.clone();
            let units = units(study, &[choice.method], Shard::WHOLE);
            run(study, store, &units, stop, observe)?;
            let mut scores = Vec::new();
            for unit in &units {
                let answers = store.answers(&unit.key)?;
                let predictions = answers.into_iter().flat_map(|it| it.predictions);
                scores.extend(predictions.map(|it| it.rouge_l));
            }
            let rouge_l = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
            tell(&Trial {
                task: study.tasks[0].name.clone(),
                base_sha256: study.base.sha256.clone(),
                limits: study.limits,
                setting: choice.setting.to_owned(),
                value,
                method: choice.method,
                rouge_l,
                n_answers: scores.len(),
            })?;
            // The first of equal scores wins; that of the present value comes first.
            if best.as_ref().is_none_or(|(score, _)| rouge_l > *score) {
                best = Some((rouge_l, settings));
            }
        }
        study.tasks[0].settings = best.map_or(before, |(_, settings)| settings);
    }
    Ok(())
}

/// The present value of a setting, and then the others that are to be tried.
fn values(settings: &TaskSettings, choice: &TunedSetting) -> Result<Vec<Value>> {
    let value_of = |settings: &TaskSettings| settings.value().pointer(choice.setting).cloned();
    let unknown = || Error::input(format!("there is no setting {}", choice.setting));
    let mut values = vec![value_of(settings).ok_or_else(unknown)?];
    for text in choice.values {
        let value = serde_json::from_str(text).map_err(Error::input)?;
        // Reading the value back from the settings makes equal numbers equal values.
        let value = value_of(&with(settings, choice.setting, &value)?).ok_or_else(unknown)?;
        if !values.contains(&value) {
            values.push(value);
        }
    }
    Ok(values)
}

/// `settings` with another value of the setting at the JSON pointer `setting`.
fn with(settings: &TaskSettings, setting: &str, value: &Value) -> Result<TaskSettings> {
    let names = setting.rsplit('/').filter(|name| !name.is_empty());
    let changes = names.fold(value.clone(), |inner, name| json!({ name: inner }));
    settings.with(&changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::TrainConfig;

    #[test]
    fn the_papers_pairs_and_dpo_are_tried() {
        let paper = TrainConfig::paper();
        let tried = |setting, value: &str| {
            let value = serde_json::from_str(value).unwrap();
            with(&TaskSettings::default(), setting, &value)
                .unwrap()
                .user
        };
        assert_eq!(tried("/user/mine", MINED[0]).mine, paper.mine);
        assert_eq!(tried("/user/dpo", PREFERRED[0]).dpo, paper.dpo);
    }

    #[test]
    fn every_choice_is_of_a_setting_and_begins_with_its_value() {
        let default = TaskSettings::default();
        for choice in &CHOICES {
            let values = values(&default, choice).unwrap();
            assert!(values.len() > 1, "{}", choice.setting);
            assert_eq!(with(&default, choice.setting, &values[0]).unwrap(), default);
            let others: Vec<_> = values[1..]
                .iter()
                .map(|value| with(&default, choice.setting, value).unwrap())
                .collect();
            assert!(
                others.iter().all(|other| *other != default),
                "{}",
                choice.setting
            );
        }
    }
}
