//! The record of how the scale of a user's adapter and its contrast were chosen.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Stage;
use crate::estimate::Estimate;

/// A setting with which a user's model can answer: an adapter, its scale, and the contrast.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterSetting {
    /// The stage that wrote the adapter: SFT or DPO.
    pub stage: Stage,
    /// The factor of the adapter's `lora_alpha`.
    pub scale: f32,
    /// The contrast α.
    pub contrast: f32,
}

/// A setting with its scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettingScores {
    /// The setting.
    #[serde(flatten)]
    pub setting: AdapterSetting,
    /// Mean log-probability of the texts' tokens, in nats, by the normalised contrasted distribution. The interval is that
    /// of a bootstrap over texts.
    pub logprob: Estimate,
    /// Share of the texts' tokens that have the highest contrasted score of all plausible tokens, with such an interval.
    pub accuracy: Estimate,
    /// Everyday questions that are answered correctly.
    pub n_right: usize,
    /// Mean log-probability, in nats, of the tokens of the answers that the base has right; `None` if it has none right,
    /// and in records of versions that did not measure it.
    #[serde(default)]
    pub logprob_of_base_answers: Option<f64>,
}

/// The choice of scale and contrast for a user's `adapter.gguf`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The setting of `adapter.gguf`.
    pub chosen: AdapterSetting,
    /// The reason of the choice.
    pub basis: CalibrationBasis,
    /// The gain over the base; `None` without any text to measure it on.
    pub gain: Option<GainOverBase>,
}

impl Calibration {
    /// Number of texts of the history that were held out for the choice, and not trained on.
    #[must_use]
    pub fn n_texts(&self) -> usize {
        match &self.basis {
            CalibrationBasis::Defaults(_) => 0,
            CalibrationBasis::Scores(scores) => scores.n_texts,
        }
    }
}

/// The reason of a choice of scale and contrast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationBasis {
    /// Nothing was measured, for this reason, and the defaults are used.
    Defaults(NoCalibration),
    /// Scores on texts that were not trained on.
    Scores(Box<CalibrationScores>),
}

/// The reason why no texts were held out to calibrate on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoCalibration {
    /// The history has too few texts to do without some of them.
    TooFewTexts {
        /// Texts of the history.
        n_texts: usize,
    },
    /// The settings say to hold out none.
    TurnedOff,
    /// A version without calibration has trained on all texts.
    OlderTraining,
}

/// The scores of the most interesting settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationScores {
    /// Texts of the user that were not trained on, on which the settings were measured.
    pub n_texts: usize,
    /// Everyday questions.
    pub n_questions: usize,
    /// Everyday questions that the base answers correctly.
    pub n_right_base: usize,
    /// Mean log-probability of the tokens of these answers by the base, in nats.
    #[serde(default)]
    pub logprob_base: Option<f64>,
    /// Whether any setting keeps enough of the base's right answers.
    pub any_keeps: bool,
    /// The chosen setting.
    pub chosen: SettingScores,
    /// The default: the adapter after DPO at scale 1, with the default contrast.
    pub default: SettingScores,
    /// The chosen setting without contrast.
    pub without_contrast: SettingScores,
    /// The best setting of the adapter after DPO.
    pub best_dpo: SettingScores,
}

/// How much likelier a user's texts are than under the base: mean log-probabilities of a token, in nats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GainOverBase {
    /// The texts.
    pub texts: GainTexts,
    /// Number of texts.
    pub n_texts: usize,
    /// The base's.
    pub base: f64,
    /// The chosen setting's.
    pub chosen: f64,
}

impl fmt::Display for GainOverBase {
    /// The gain as a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            texts,
            n_texts,
            base,
            chosen,
        } = self;
        let plural = if *n_texts == 1 { "" } else { "s" };
        let texts = match texts {
            GainTexts::HeldOut => format!("on the {n_texts} held-out text{plural}"),
            GainTexts::Calibration => {
                format!("on the {n_texts} text{plural} that it was chosen on")
            }
        };
        let times = (chosen - base).exp();
        let (nearer, times) = if chosen > base {
            ("nearer", format!("{times:.1}"))
        } else {
            ("no nearer", format!("{times:.2}"))
        };
        write!(
            f,
            "The model is {nearer} to the user's texts than the base: {texts}, a token is {times} times as likely ({base:.3} → {chosen:.3} nats)."
        )
    }
}

/// The texts on which the gain over the base was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GainTexts {
    /// The held-out texts that the user imported.
    HeldOut,
    /// The texts that the setting was chosen on.
    Calibration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gain_names_its_texts() {
        let gain = GainOverBase {
            texts: GainTexts::Calibration,
            n_texts: 10,
            base: -4.5,
            chosen: -3.5,
        };
        assert_eq!(
            gain.to_string(),
            "The model is nearer to the user's texts than the base: on the 10 texts that it was chosen on, a token is 2.7 times as likely (-4.500 → -3.500 nats)."
        );
        let gain = GainOverBase {
            texts: GainTexts::HeldOut,
            n_texts: 1,
            chosen: -4.6,
            ..gain
        };
        assert_eq!(
            gain.to_string(),
            "The model is no nearer to the user's texts than the base: on the 1 held-out text, a token is 0.90 times as likely (-4.500 → -4.600 nats)."
        );
    }
}
