//! The rule that chooses a setting by its measurements; [`super`] states it.

use crate::home::AdapterSetting;

/// A setting with its measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The setting.
    pub setting: AdapterSetting,
    /// Mean log-probability of the texts' tokens, in nats.
    pub logprob: f64,
    /// Share of the texts' tokens that have the highest score.
    pub accuracy: f64,
    /// Everyday questions that are answered correctly.
    pub n_right: usize,
}

/// The part of the base's right answers that an eligible setting has at least, as numerator and denominator.
pub const KEPT: (usize, usize) = (9, 10);

/// Whether `n_right` answers are so many of the base's that a setting is eligible.
pub fn keeps(n_right: usize, n_right_base: usize) -> bool {
    KEPT.1 * n_right >= KEPT.0 * n_right_base
}

/// The setting that the rule chooses; `None` if there are no settings.
pub fn choose(measured: &[Measured], n_right_base: usize) -> Option<&Measured> {
    let most = measured.iter().map(|it| it.n_right).max()?;
    let is_eligible = |it: &&Measured| it.n_right == most || keeps(it.n_right, n_right_base);
    let eligible = measured.iter().filter(is_eligible);
    eligible.max_by(|x, y| {
        let (a, b) = (x.setting, y.setting);
        x.logprob
            .total_cmp(&y.logprob)
            .then(b.contrast.total_cmp(&a.contrast))
            .then(a.scale.total_cmp(&b.scale))
            .then(a.stage.cmp(&b.stage))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Stage;

    fn measured(scale: f32, contrast: f32, logprob: f64, n_right: usize) -> Measured {
        let setting = AdapterSetting {
            stage: Stage::Dpo,
            scale,
            contrast,
        };
        Measured {
            setting,
            logprob,
            accuracy: 0.5,
            n_right,
        }
    }

    fn chosen(measured: &[Measured], n_right_base: usize) -> (f32, f32) {
        let setting = choose(measured, n_right_base).unwrap().setting;
        (setting.scale, setting.contrast)
    }

    #[test]
    fn the_likeliest_texts_win_among_the_settings_that_keep_what_the_base_knows() {
        let settings = [
            measured(1.0, 0.1, -3.0, 17),
            measured(0.75, 0.1, -3.2, 19),
            measured(0.5, 0.0, -3.4, 21),
            measured(0.25, 0.0, -3.3, 20),
        ];
        assert!(keeps(18, 20) && !keeps(17, 20));
        assert_eq!(chosen(&settings, 20), (0.75, 0.1));
        assert_eq!(chosen(&settings, 18), (1.0, 0.1));
        assert_eq!(chosen(&settings, 0), (1.0, 0.1));
    }

    #[test]
    fn if_none_keeps_enough_the_most_right_answers_come_first() {
        let settings = [
            measured(1.0, 0.1, -3.0, 7),
            measured(0.5, 0.1, -3.5, 12),
            measured(0.5, 0.0, -3.4, 12),
        ];
        assert_eq!(chosen(&settings, 30), (0.5, 0.0));
        assert_eq!(choose(&[], 30), None);
    }

    #[test]
    fn equal_settings_differ_by_contrast_then_by_scale_then_by_stage() {
        let mut settings = vec![
            measured(1.25, 0.1, -3.0, 9),
            measured(0.5, 0.05, -3.0, 9),
            measured(0.75, 0.05, -3.0, 9),
        ];
        assert_eq!(chosen(&settings, 9), (0.75, 0.05));
        settings.reverse();
        assert_eq!(chosen(&settings, 9), (0.75, 0.05));
        let mut sft = measured(0.75, 0.05, -3.0, 9);
        sft.setting.stage = Stage::Sft;
        settings.insert(0, sft);
        settings.push(sft);
        assert_eq!(choose(&settings, 9).unwrap().setting.stage, Stage::Dpo);
    }
}
