//! Calibration on the tiny model: what it holds out, what it records, and the adapter of the training before.

use std::fs;

use cope_convert::Adapter;
use cope_llama::Error;
use cope_llama::error::Missing;
use cope_llama::home::{
    AdapterSetting, Calibration, CalibrationBasis, GainTexts, NoCalibration, Stage,
};
use cope_llama::profile::{Example, Profile};
use cope_llama::train::calibrate::rule::{Measured, choose};
use cope_llama::train::calibrate::{CONTRASTS, SCALES};
use cope_llama::train::{TrainConfig, TrainEvent};

use super::{STAGES, Setting, lines};

/// The settings of a training that holds out so many texts.
fn holding_out(n_texts: usize) -> TrainConfig {
    TrainConfig {
        hold_out: Some(n_texts),
        ..Setting::config()
    }
}

fn calibration(setting: &Setting) -> Calibration {
    let manifest = setting.folder.manifest().unwrap().unwrap();
    manifest.adapter.unwrap().calibration.unwrap()
}

/// The measurements in the training's log, without a look at the code that made them.
fn measured(setting: &Setting) -> Vec<Measured> {
    let log = lines(&setting.folder.train_log()).into_iter();
    log.filter(|line| line["stage"] == "calibrate")
        .map(|line| Measured {
            setting: serde_json::from_value(line["setting"].clone()).unwrap(),
            logprob: line["logprob"].as_f64().unwrap(),
            accuracy: line["accuracy"].as_f64().unwrap(),
            n_right: line["n_right"].as_u64().unwrap() as usize,
        })
        .collect()
}

#[test]
fn the_chosen_setting_is_in_the_adapter_and_in_the_manifest() {
    let setting = Setting::new();
    let mut told = None;
    setting
        .observed(&holding_out(2), &STAGES, &mut |event| {
            if let TrainEvent::Calibrated(calibration) = event {
                told = Some(*calibration);
            }
            Ok(())
        })
        .unwrap();
    let calibration = calibration(&setting);
    assert_eq!(told.as_ref(), Some(&calibration));
    let CalibrationBasis::Scores(scores) = &calibration.basis else {
        panic!("{calibration:?}");
    };
    assert_eq!(
        (scores.n_texts, scores.chosen.setting),
        (2, calibration.chosen)
    );
    let default = AdapterSetting {
        stage: Stage::Dpo,
        scale: 1.0,
        contrast: 0.1,
    };
    assert_eq!(scores.default.setting, default);
    let without_contrast = AdapterSetting {
        contrast: 0.0,
        ..calibration.chosen
    };
    assert_eq!(scores.without_contrast.setting, without_contrast);
    for scores in [scores.chosen, scores.default, scores.without_contrast] {
        for it in [scores.logprob, scores.accuracy] {
            assert!(it.low <= it.value && it.value <= it.high, "{it:?}");
        }
    }
    // The imported held-out text is for the report alone.
    let gain = calibration.gain.unwrap();
    assert_eq!((gain.texts, gain.n_texts), (GainTexts::HeldOut, 1));

    let chosen = calibration.chosen;
    let path = match chosen.stage {
        Stage::Sft => setting.folder.sft(),
        _ => setting.folder.dpo(),
    };
    let read = |path| Adapter::read_gguf(path).unwrap();
    let (before, adapter) = (read(&path), read(&setting.folder.adapter()));
    assert_eq!(adapter.tensors, before.tensors);
    let lora_alpha = before.lora_alpha * chosen.scale;
    assert_eq!(adapter.lora_alpha.to_bits(), lora_alpha.to_bits());
    assert_eq!(adapter.contrast, Some(chosen.contrast));

    // Every setting was measured, and the rule chooses the same from the log.
    let measured = measured(&setting);
    assert_eq!(measured.len(), 2 * SCALES.len() * CONTRASTS.len());
    let by_rule = choose(&measured, scores.n_right_base).unwrap();
    assert_eq!(by_rule.setting, chosen);
    assert!((by_rule.logprob - scores.chosen.logprob.value).abs() < 1e-12);
}

#[test]
fn dpo_is_kept_if_the_settings_say_so() {
    let setting = Setting::new();
    let mut config = holding_out(2);
    setting.train(&config, &STAGES).unwrap();
    config.keep_dpo = true;
    assert_eq!(setting.train(&config, &STAGES).unwrap(), [Stage::Calibrate]);
    assert_eq!(calibration(&setting).chosen.stage, Stage::Dpo);
    let again = &measured(&setting)[2 * SCALES.len() * CONTRASTS.len()..];
    assert_eq!(again.len(), SCALES.len() * CONTRASTS.len());
    assert!(again.iter().all(|it| it.setting.stage == Stage::Dpo));
}

#[test]
fn texts_that_are_held_out_are_never_trained_on() {
    let (held_out, shorter, other) = (Setting::new(), Setting::new(), Setting::new());
    held_out.train(&holding_out(2), &STAGES).unwrap();
    // A history without the newest two texts, or with two other ones in their place, gives the same adapters and pairs.
    let mut profile = shorter.folder.profile().unwrap();
    profile.history.truncate(3);
    shorter.folder.save_profile(&profile).unwrap();
    shorter.train(&holding_out(0), &STAGES).unwrap();
    profile.history.push(Example::new("wine", "the wine"));
    profile.history.push(Example::new("alice", "dear alice"));
    other.folder.save_profile(&profile).unwrap();
    other.train(&holding_out(2), &STAGES).unwrap();

    let files = held_out.files();
    assert_eq!(shorter.files()[..3], files[..3]);
    assert_eq!(other.files()[..3], files[..3]);
    let steps = |setting: &Setting| {
        let log = lines(&setting.folder.train_log());
        log.iter().filter(|line| line["stage"] == "sft").count()
    };
    // Three texts make two steps of two texts in each of two epochs.
    assert_eq!(steps(&held_out), 4);
}

#[test]
fn another_number_of_texts_to_hold_out_is_another_training() {
    let setting = Setting::new();
    setting.train(&holding_out(2), &STAGES).unwrap();
    assert_eq!(setting.train(&holding_out(2), &STAGES).unwrap(), []);
    assert_eq!(setting.train(&holding_out(1), &STAGES).unwrap(), STAGES);
    // Of five texts, none are held out unless a number is given.
    assert_eq!(setting.train(&holding_out(0), &STAGES).unwrap(), STAGES);
    assert_eq!(setting.train(&Setting::config(), &STAGES).unwrap(), []);
}

#[test]
fn without_texts_to_choose_on_the_default_is_used_with_the_reason() {
    for (config, reason) in [
        (Setting::config(), NoCalibration::TooFewTexts { n_texts: 5 }),
        (holding_out(0), NoCalibration::TurnedOff),
    ] {
        let setting = Setting::new();
        setting.train(&config, &STAGES).unwrap();
        let calibration = calibration(&setting);
        assert_eq!(calibration.basis, CalibrationBasis::Defaults(reason));
        let chosen = calibration.chosen;
        assert_eq!((chosen.scale, chosen.contrast), (1.0, 0.1));
        assert_eq!(setting.files()[2], setting.files()[3]);
    }
}

/// A setting whose history is long enough for texts to be held out.
fn with_long_history() -> Setting {
    let setting = Setting::new();
    let example = |n| Example::new(format!("note {n}"), "fine wine and thanks");
    let history = (0..40).map(example).collect();
    let held_out = Vec::new();
    setting
        .folder
        .save_profile(&Profile { history, held_out })
        .unwrap();
    setting
}

/// Makes the folder one of a version without calibration, whose DPO wrote `adapter.gguf`.
fn age(setting: &Setting) {
    let folder = &setting.folder;
    let mut manifest = folder.manifest().unwrap().unwrap();
    manifest.stages.remove(&Stage::Calibrate);
    (manifest.adapter, manifest.previous) = (None, None);
    for record in manifest.stages.values_mut() {
        let settings = record.settings.as_object_mut().unwrap();
        settings.remove("hold_out");
        settings.remove("replay");
    }
    folder.save_manifest(&manifest).unwrap();
    fs::rename(folder.dpo(), folder.adapter()).unwrap();
}

#[test]
fn a_training_of_an_older_version_is_not_repeated_until_something_changes() {
    let setting = with_long_history();
    let mut config = Setting::config();
    config.mine.max_new_tokens = 4;
    let all = TrainConfig {
        hold_out: Some(0),
        ..config.clone()
    };
    config.replay = None;
    setting.train(&all, &STAGES).unwrap();
    age(&setting);
    let before = fs::read(setting.folder.adapter()).unwrap();
    assert_eq!(setting.train(&config, &STAGES).unwrap(), [Stage::Calibrate]);
    let older = CalibrationBasis::Defaults(NoCalibration::OlderTraining);
    assert_eq!(calibration(&setting).basis, older);
    assert_eq!(fs::read(setting.folder.adapter()).unwrap(), before);
    assert_eq!(fs::read(setting.folder.dpo()).unwrap(), before);
    assert_eq!(setting.train(&config, &STAGES).unwrap(), []);

    let mut profile = setting.folder.profile().unwrap();
    profile.history.push(Example::new("wine", "dear alice"));
    setting.folder.save_profile(&profile).unwrap();
    assert_eq!(setting.train(&config, &STAGES).unwrap(), STAGES);
    let CalibrationBasis::Scores(scores) = calibration(&setting).basis else {
        panic!("{:?}", calibration(&setting));
    };
    assert_eq!(scores.n_texts, 8);
    let gain = calibration(&setting).gain.unwrap();
    assert_eq!((gain.texts, gain.n_texts), (GainTexts::Calibration, 8));
    // The adapter of the older version can be put back.
    assert_eq!(fs::read(setting.folder.previous_adapter()).unwrap(), before);
}

#[test]
fn all_texts_are_trained_on_only_while_the_settings_say_so() {
    let setting = with_long_history();
    let mut config = holding_out(0);
    config.mine.max_new_tokens = 4;
    setting.train(&config, &[Stage::Sft]).unwrap();
    config.hold_out = None;
    assert_eq!(setting.train(&config, &[Stage::Sft]).unwrap(), [Stage::Sft]);
}

#[test]
fn the_adapter_of_the_training_before_can_be_put_back() {
    let setting = Setting::new();
    let missing = |setting: &Setting| {
        let lock = setting.folder.lock().unwrap();
        let error = setting.folder.restore_previous(&lock).unwrap_err();
        matches!(&error, Error::Missing(Missing::PreviousAdapter { user }) if user == "alice")
    };
    assert!(missing(&setting));
    let first_config = holding_out(2);
    setting.train(&first_config, &STAGES).unwrap();
    assert!(missing(&setting));
    let first = (
        fs::read(setting.folder.adapter()).unwrap(),
        calibration(&setting),
    );
    let second_config = TrainConfig {
        seed: 1,
        ..first_config
    };
    setting.train(&second_config, &STAGES).unwrap();
    let second = (
        fs::read(setting.folder.adapter()).unwrap(),
        calibration(&setting),
    );
    assert_ne!(first.0, second.0);
    assert_eq!(
        fs::read(setting.folder.previous_adapter()).unwrap(),
        first.0
    );

    let lock = setting.folder.lock().unwrap();
    setting.folder.restore_previous(&lock).unwrap();
    drop(lock);
    let now = (
        fs::read(setting.folder.adapter()).unwrap(),
        calibration(&setting),
    );
    assert_eq!(now, first);
    assert!(missing(&setting));
    // Only calibration is needed to have the newer one again.
    let ran = setting.train(&second_config, &STAGES).unwrap();
    assert_eq!(ran, [Stage::Calibrate]);
    let now = (
        fs::read(setting.folder.adapter()).unwrap(),
        calibration(&setting),
    );
    assert_eq!(now, second);
    assert_eq!(
        fs::read(setting.folder.previous_adapter()).unwrap(),
        first.0
    );
}

#[test]
fn a_stopped_calibration_keeps_what_it_has_measured_and_the_adapter_before() {
    let config = holding_out(2);
    let other_seed = TrainConfig {
        seed: 1,
        ..config.clone()
    };
    let (whole, stopped) = (Setting::new(), Setting::new());
    for setting in [&whole, &stopped] {
        setting.train(&config, &STAGES).unwrap();
    }
    let first = fs::read(whole.folder.adapter()).unwrap();
    whole.train(&other_seed, &STAGES).unwrap();
    let stop = stopped.observed(&other_seed, &STAGES, &mut |event| match event {
        TrainEvent::Saved {
            stage: Stage::Calibrate,
        } => Err(Error::Interrupted),
        _ => Ok(()),
    });
    assert!(matches!(stop, Err(Error::Interrupted)));
    assert_eq!(fs::read(stopped.folder.adapter()).unwrap(), first);
    let (mut ran, mut passes) = (Vec::new(), Vec::new());
    stopped
        .observed(&other_seed, &STAGES, &mut |event| {
            match event {
                TrainEvent::Started { total, done, .. } => passes.extend([done, total]),
                TrainEvent::Step { done, .. } => passes.push(done),
                TrainEvent::Ended { stage, .. } => ran.push(stage),
                _ => {}
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(ran, [Stage::Calibrate]);
    // The two texts are measured under the base and ten settings before the stop, two parts of the questions after it.
    let resumed: Vec<usize> = (12..=33).collect();
    assert_eq!(passes[..2], [11, 35]);
    assert_eq!(passes[2..24], resumed);
    assert_eq!(stopped.files(), whole.files());
    assert_eq!(calibration(&stopped), calibration(&whole));

    // A process that is killed when it has written the adapter, and not yet the manifest, loses nothing either.
    let folder = &stopped.folder;
    let ended = folder.manifest().unwrap().unwrap();
    let mut killed = ended.clone();
    killed.stages.remove(&Stage::Calibrate);
    killed.adapter = None;
    folder.save_manifest(&killed).unwrap();
    stopped.train(&other_seed, &STAGES).unwrap();
    let again = folder.manifest().unwrap().unwrap();
    assert_eq!(
        (&again.adapter, &again.previous),
        (&ended.adapter, &ended.previous)
    );
    assert_eq!(fs::read(folder.previous_adapter()).unwrap(), first);
}
