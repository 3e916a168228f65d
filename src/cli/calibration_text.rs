//! Sentences about the choice of calibration.

use cope_llama::estimate::Estimate;
use cope_llama::home::{
    Calibration, CalibrationBasis, CalibrationScores, NoCalibration, SettingScores, Stage,
};

/// The lines about the choice of scale and contrast.
pub fn choice(calibration: &Calibration) -> Vec<String> {
    match &calibration.basis {
        CalibrationBasis::Defaults(reason) => vec![defaults(calibration, *reason)],
        CalibrationBasis::Scores(scores) => measured(scores),
    }
}

fn defaults(calibration: &Calibration, reason: NoCalibration) -> String {
    let reason = match reason {
        NoCalibration::TooFewTexts { n_texts } => {
            format!("{n_texts} texts are too few to hold some of them out (--hold-out)")
        }
        NoCalibration::TurnedOff => "no texts were held out (--hold-out)".into(),
        NoCalibration::OlderTraining => {
            "an earlier version trained on all texts (--hold-out trains anew)".into()
        }
    };
    let chosen = calibration.chosen;
    format!(
        "{reason}, so the default scale {} and contrast {} are used",
        chosen.scale, chosen.contrast
    )
}

fn measured(scores: &CalibrationScores) -> Vec<String> {
    let CalibrationScores {
        n_texts,
        n_questions,
        n_right_base,
        logprob_base,
        any_keeps,
        chosen,
        default,
        best_dpo,
        ..
    } = scores;
    let setting = chosen.setting;
    let adapter = match setting.stage {
        Stage::Sft => " of the adapter without DPO",
        _ => "",
    };
    let mut lines = vec![
        format!(
            "scale {}{adapter} and contrast {}, chosen on {n_texts} texts: {}; by default {}",
            setting.scale,
            setting.contrast,
            both(chosen),
            both(default)
        ),
        format!(
            "right answers to {n_questions} everyday questions: {}; the base {n_right_base}, by default {}",
            chosen.n_right, default.n_right
        ),
    ];
    if let (Some(chosen), Some(base)) = (chosen.logprob_of_base_answers, logprob_base) {
        lines.push(format!(
            "answers that the base has right: log-probability {chosen:.3} nats per token; by the base {base:.3}"
        ));
    }
    if !any_keeps {
        lines.push(
            "no setting keeps nine tenths of the base's right answers, so one with the most right answers was chosen"
                .into(),
        );
    }
    if setting.stage == Stage::Sft {
        lines.push(format!(
            "DPO made the texts less likely ({:.3} with it at best, {:.3} without), so it is left out; --keep-dpo keeps it",
            best_dpo.logprob.value, chosen.logprob.value
        ));
    }
    lines
}

/// Both scores of a setting.
fn both(scores: &SettingScores) -> String {
    let Estimate { value, low, high } = scores.logprob;
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    let accuracy = scores.accuracy;
    format!(
        "log-probability {value:.3} ({low:.3} to {high:.3}) nats per token, {} % ({} to {}) of next tokens right",
        percent(accuracy.value),
        percent(accuracy.low),
        percent(accuracy.high)
    )
}

#[cfg(test)]
mod tests {
    use cope_llama::home::AdapterSetting;

    use super::*;

    fn scores(stage: Stage, logprob: f64, n_right: usize) -> SettingScores {
        let interval = |value: f64| Estimate {
            value,
            low: value - 0.1,
            high: value + 0.1,
        };
        SettingScores {
            setting: AdapterSetting {
                stage,
                scale: 0.75,
                contrast: 0.05,
            },
            logprob: interval(logprob),
            accuracy: interval(0.4),
            n_right,
            logprob_of_base_answers: Some(-0.4),
        }
    }

    fn calibration(chosen: SettingScores, any_keeps: bool) -> Calibration {
        let dpo = scores(Stage::Dpo, -3.7, 9);
        Calibration {
            chosen: chosen.setting,
            basis: CalibrationBasis::Scores(Box::new(CalibrationScores {
                n_texts: 10,
                n_questions: 46,
                n_right_base: 30,
                logprob_base: Some(-0.2),
                any_keeps,
                chosen,
                default: dpo,
                without_contrast: chosen,
                best_dpo: dpo,
            })),
            gain: None,
        }
    }

    #[test]
    fn the_choice_is_one_line_and_a_stage_that_is_left_out_another() {
        let dpo = choice(&calibration(scores(Stage::Dpo, -3.6, 29), true));
        assert_eq!(
            dpo,
            [
                "scale 0.75 and contrast 0.05, chosen on 10 texts: log-probability -3.600 (-3.700 to -3.500) nats per token, 40.0 % (30.0 to 50.0) of next tokens right; by default log-probability -3.700 (-3.800 to -3.600) nats per token, 40.0 % (30.0 to 50.0) of next tokens right",
                "right answers to 46 everyday questions: 29; the base 30, by default 9",
                "answers that the base has right: log-probability -0.400 nats per token; by the base -0.200",
            ]
        );
        let sft = choice(&calibration(scores(Stage::Sft, -3.5, 12), false));
        assert!(sft[0].starts_with("scale 0.75 of the adapter without DPO and contrast 0.05"));
        assert!(
            sft[3].starts_with("no setting keeps nine tenths"),
            "{sft:?}"
        );
        assert_eq!(
            sft[4],
            "DPO made the texts less likely (-3.700 with it at best, -3.500 without), so it is left out; --keep-dpo keeps it"
        );
    }

    #[test]
    fn the_default_is_used_for_a_reason() {
        for (reason, word) in [
            (
                NoCalibration::TooFewTexts { n_texts: 5 },
                "5 texts are too few",
            ),
            (NoCalibration::TurnedOff, "no texts were held out"),
            (NoCalibration::OlderTraining, "an earlier version"),
        ] {
            let mut calibration = calibration(scores(Stage::Dpo, -3.5, 29), true);
            calibration.basis = CalibrationBasis::Defaults(reason);
            let lines = choice(&calibration);
            assert!(lines.len() == 1 && lines[0].starts_with(word), "{lines:?}");
            assert!(lines[0].ends_with("scale 0.75 and contrast 0.05 are used"));
        }
    }
}
