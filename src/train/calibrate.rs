//! Calibration, the last stage: the adapter's scale and the contrast are chosen on texts of the user that no stage has
//! trained on.
//!
//! How strong the contrast should be depends on the user and on the training: a well trained adapter wants nearly none,
//! a weak one wants more, or to be scaled up. So every scale of [`SCALES`] and every contrast of [`CONTRASTS`] is
//! measured, for the adapter after DPO and for the one after SFT. On each text the base runs once and the user model
//! once for each scale and stage; the contrasts are computed from their logits ([`score`]). Nothing is decoded.
//!
//! # The rule
//!
//! A voice should also keep what the base knows. The everyday questions ([`everyday`]) measure that: their answers are
//! simple facts, and an answer is right if each of its tokens has the highest score after those before it.
//!
//! - A setting is *eligible* if it has at least nine tenths of the base's right answers: with a few dozen of them, a
//!   smaller difference cannot be told from chance, and costs much of the voice. If no setting has, those with
//!   the most right answers are eligible.
//! - Of the eligible settings, the one is chosen under which the user's texts have the highest mean log-probability a
//!   token. Of equal ones it is the one with the smaller contrast, then the one with the larger scale.
//!
//! So the adapter after SFT is used if DPO has made the texts less likely, unless the settings keep DPO's.
//!
//! Without texts to choose on, the default is used: the adapter after DPO at scale 1, with the default contrast. The
//! imported held-out texts choose nothing. They are for the report: how much likelier they are than under the base.

mod bootstrap_texts;
pub mod everyday;
pub(super) mod measurer;
pub mod rule;
pub mod score;

use bootstrap_texts::intervals;
use measurer::Measurer;
use rule::Measured;
use score::TextScore;

use super::encoder::Encoded;
use super::hold_out::HoldOut;
use super::lora::Lora;
use crate::decode::Contrast;
use crate::home::{
    AdapterSetting, Calibration, CalibrationBasis, CalibrationScores, GainOverBase, GainTexts,
    SettingScores, Stage,
};
use crate::{Error, Result};

/// The scales of the adapter that are tried: factors of its `lora_alpha`.
pub const SCALES: [f32; 5] = [0.25, 0.5, 0.75, 1.0, 1.25];

/// The contrasts α that are tried. The default is among them.
pub const CONTRASTS: [f32; 6] = [0.0, 0.05, 0.1, 0.2, 0.3, 0.5];

/// Texts that the models run on in one pass.
pub(super) const TEXTS: usize = 8;

/// Everyday questions that the models run on in one pass. They are short, and share the beginning of their prompts, which
/// a pass computes once.
pub(super) const QUESTIONS: usize = 40;

/// Tokens of an everyday question beyond the shared beginning, for the estimate of memory.
pub(super) const QUESTION: usize = 40;

/// The most models that run on a text: the base, and two adapters at each scale.
pub(super) const MODELS: usize = 1 + 2 * SCALES.len();

/// The setting without calibration.
fn default_setting() -> AdapterSetting {
    AdapterSetting {
        stage: Stage::Dpo,
        scale: 1.0,
        contrast: Contrast::default().contrast(),
    }
}

/// The adapters and texts of a calibration.
pub(super) struct Calibrator<'a> {
    /// The adapters, each with the stage that made it; that of DPO is among them.
    pub adapters: &'a [(Stage, Lora)],
    /// Whether there are texts to choose on.
    pub hold_out: HoldOut,
    /// The texts that the setting is chosen on.
    pub texts: &'a [Encoded],
    /// The everyday questions.
    pub questions: &'a [Encoded],
    /// The imported held-out texts.
    pub held_out: &'a [Encoded],
    /// Seed of the bootstrap.
    pub seed: u64,
}

/// A setting with the scores of the texts under it.
struct GridPoint<'a> {
    setting: AdapterSetting,
    texts: &'a [TextScore],
    questions: &'a [TextScore],
}

impl Calibrator<'_> {
    /// The number of passes of each part that is measured, in order: the texts and the questions under all settings, then
    /// the held-out texts under the chosen one.
    pub fn parts(&self) -> Vec<usize> {
        let parts = |n_texts: usize, per_pass, passes| {
            std::iter::repeat_n(passes, n_texts.div_ceil(per_pass))
        };
        let all_settings = 1 + self.adapters.len() * SCALES.len();
        let (n_texts, n_questions) = match self.hold_out {
            HoldOut::Texts(_) => (self.texts.len(), self.questions.len()),
            HoldOut::Nothing(_) => (0, 0),
        };
        parts(n_texts, TEXTS, all_settings)
            .chain(parts(n_questions, QUESTIONS, all_settings))
            .chain(parts(self.held_out.len(), TEXTS, 2))
            .collect()
    }

    /// Measures all settings and chooses one. Returns the choice, and the measurements in the order of stages, scales
    /// and contrasts. Without texts to choose on, the default setting is the choice.
    ///
    /// # Errors
    /// A tensor operation failed, the journal cannot be written, or the observer stopped the work.
    pub fn calibrate(&self, measurer: &mut Measurer) -> Result<(Calibration, Vec<Measured>)> {
        match self.hold_out {
            HoldOut::Texts(_) => self.choose(measurer),
            HoldOut::Nothing(reason) => {
                let chosen = default_setting();
                let calibration = Calibration {
                    chosen,
                    basis: CalibrationBasis::Defaults(reason),
                    gain: self.gain_on_held_out(chosen, measurer)?,
                };
                Ok((calibration, Vec::new()))
            }
        }
    }

    fn choose(&self, measurer: &mut Measurer) -> Result<(Calibration, Vec<Measured>)> {
        let scaled = |(stage, lora): &(Stage, Lora)| {
            let (stage, lora) = (*stage, lora.clone());
            SCALES.map(move |scale| (stage, scale, lora.scaled(scale)))
        };
        let adapters: Vec<_> = self.adapters.iter().flat_map(scaled).collect();
        let loras: Vec<_> = adapters.iter().map(|(_, _, lora)| lora.clone()).collect();
        let contrasts = CONTRASTS
            .map(contrast)
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let texts = measurer.measure((self.texts, TEXTS), &loras, &contrasts)?;
        let questions = measurer.measure((self.questions, QUESTIONS), &loras, &contrasts)?;

        let mut points = Vec::new();
        let scores = texts.contrasted.iter().zip(&questions.contrasted);
        for (&(stage, scale, _), (texts, questions)) in adapters.iter().zip(scores) {
            for (contrast, (texts, questions)) in CONTRASTS.iter().zip(texts.iter().zip(questions))
            {
                let setting = AdapterSetting {
                    stage,
                    scale,
                    contrast: *contrast,
                };
                points.push(GridPoint {
                    setting,
                    texts,
                    questions,
                });
            }
        }
        let measured: Vec<_> = points.iter().map(GridPoint::measured).collect();
        let scores = self.scores(&points, &measured, &questions.base)?;
        let chosen = scores.chosen.setting;
        let on_texts = GainOverBase {
            texts: GainTexts::Calibration,
            n_texts: self.texts.len(),
            base: score::mean_logprob(&texts.base),
            chosen: scores.chosen.logprob.value,
        };
        let gain = self.gain_on_held_out(chosen, measurer)?.or(Some(on_texts));
        let basis = CalibrationBasis::Scores(Box::new(scores));
        Ok((
            Calibration {
                chosen,
                basis,
                gain,
            },
            measured,
        ))
    }

    /// The scores of the settings that are recorded.
    fn scores(
        &self,
        points: &[GridPoint],
        measured: &[Measured],
        base: &[TextScore],
    ) -> Result<CalibrationScores> {
        let n_right_base = n_right(base);
        let of = |setting: AdapterSetting| {
            let point = points.iter().find(|point| point.setting == setting);
            point
                .map(|point| point.scores(self.seed, base))
                .ok_or_else(missing)
        };
        let by_dpo = |it: &&Measured| it.setting.stage == Stage::Dpo;
        let by_dpo: Vec<_> = measured.iter().filter(by_dpo).copied().collect();
        let best = |measured: &[Measured]| {
            let best = rule::choose(measured, n_right_base);
            best.map(|it| it.setting).ok_or_else(missing)
        };
        let chosen = best(measured)?;
        let without_contrast = AdapterSetting {
            contrast: 0.0,
            ..chosen
        };
        Ok(CalibrationScores {
            n_texts: self.texts.len(),
            n_questions: self.questions.len(),
            n_right_base,
            logprob_base: logprob_of_right(base, base),
            any_keeps: measured
                .iter()
                .any(|it| rule::keeps(it.n_right, n_right_base)),
            chosen: of(chosen)?,
            default: of(default_setting())?,
            without_contrast: of(without_contrast)?,
            best_dpo: of(best(&by_dpo)?)?,
        })
    }

    /// How much likelier the held-out texts are than under the base; `None` without any.
    fn gain_on_held_out(
        &self,
        chosen: AdapterSetting,
        measurer: &mut Measurer,
    ) -> Result<Option<GainOverBase>> {
        if self.held_out.is_empty() {
            return Ok(None);
        }
        let adapter = self
            .adapters
            .iter()
            .find(|(stage, _)| *stage == chosen.stage);
        let (_, lora) = adapter.ok_or_else(missing)?;
        let (lora, contrast) = (lora.scaled(chosen.scale), contrast(chosen.contrast)?);
        let measured = measurer.measure((self.held_out, TEXTS), &[lora], &[contrast])?;
        let of_chosen = measured.contrasted.iter().flatten().flatten().copied();
        Ok(Some(GainOverBase {
            texts: GainTexts::HeldOut,
            n_texts: self.held_out.len(),
            base: score::mean_logprob(&measured.base),
            chosen: score::mean_logprob(&of_chosen.collect::<Vec<_>>()),
        }))
    }
}

impl GridPoint<'_> {
    fn measured(&self) -> Measured {
        Measured {
            setting: self.setting,
            logprob: score::mean_logprob(self.texts),
            accuracy: score::accuracy(self.texts),
            n_right: n_right(self.questions),
        }
    }

    fn scores(&self, seed: u64, base: &[TextScore]) -> SettingScores {
        let [logprob, accuracy] = intervals(self.texts, seed);
        SettingScores {
            setting: self.setting,
            logprob,
            accuracy,
            n_right: n_right(self.questions),
            logprob_of_base_answers: logprob_of_right(self.questions, base),
        }
    }
}

/// The contrast α with the default τ.
fn contrast(alpha: f32) -> Result<Contrast> {
    Ok(Contrast::new(alpha, Contrast::default().plausibility())?)
}

/// Mean log-probability of the tokens of those answers that `base` has right, in nats; `None` if it has none right.
fn logprob_of_right(questions: &[TextScore], base: &[TextScore]) -> Option<f64> {
    let both = std::iter::zip(questions, base);
    let of_right = both.filter_map(|(score, base)| base.is_right().then_some(*score));
    let of_right: Vec<_> = of_right.collect();
    (!of_right.is_empty()).then(|| score::mean_logprob(&of_right))
}

/// Number of questions whose answers are right.
fn n_right(questions: &[TextScore]) -> usize {
    questions.iter().filter(|it| it.is_right()).count()
}

fn missing() -> Error {
    Error::bug("calibration lacks a setting")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(logprob: f64, n_best: usize, n_tokens: usize) -> TextScore {
        TextScore {
            logprob,
            n_best,
            n_tokens,
        }
    }

    #[test]
    fn only_the_answers_that_the_base_has_right_count_for_their_log_probability() {
        let base = [answer(-0.1, 1, 1), answer(-9.0, 1, 3), answer(-0.5, 2, 2)];
        let user = [answer(-1.0, 0, 1), answer(-6.0, 3, 3), answer(-2.0, 2, 2)];
        assert_eq!(logprob_of_right(&user, &base), Some(-1.0));
        assert_eq!(logprob_of_right(&user, &base[1..2]), None);
    }
}
