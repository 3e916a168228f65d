//! Replay on the tiny model: the base's own answers are learnt beside the user's texts.

use std::fs;

use cope_llama::Error;
use cope_llama::home::Stage;
use cope_llama::train::{TrainConfig, TrainEvent};

use super::{Setting, lines};

fn replaying(replay: f32) -> TrainConfig {
    TrainConfig {
        replay: Some(replay),
        ..Setting::config()
    }
}

/// The number of steps that SFT takes.
fn n_steps(setting: &Setting) -> usize {
    let log = lines(&setting.folder.train_log()).into_iter();
    log.filter(|line| line["stage"] == "sft").count()
}

#[test]
fn replayed_answers_are_further_items_of_sft() {
    let (without, with) = (Setting::new(), Setting::new());
    without.train(&replaying(0.0), &[Stage::Sft]).unwrap();
    with.train(&replaying(1.0), &[Stage::Sft]).unwrap();
    // Five texts in batches of two, and five replayed answers.
    let epochs = Setting::config().sft.epochs;
    assert_eq!(
        [n_steps(&without), n_steps(&with)],
        [3 * epochs, 5 * epochs]
    );
    let adapter = |setting: &Setting| fs::read(setting.folder.sft()).unwrap();
    assert_ne!(adapter(&without), adapter(&with));

    let again = Setting::new();
    again.train(&replaying(1.0), &[Stage::Sft]).unwrap();
    assert_eq!(adapter(&with), adapter(&again));
}

#[test]
fn another_number_of_replayed_answers_is_another_training() {
    let setting = Setting::new();
    let sft = [Stage::Sft];
    assert_eq!(setting.train(&replaying(0.0), &sft).unwrap(), sft);
    assert_eq!(setting.train(&replaying(0.0), &sft).unwrap(), []);
    assert_eq!(setting.train(&replaying(0.4), &sft).unwrap(), sft);
    assert_eq!(setting.train(&replaying(0.4), &sft).unwrap(), []);
}

#[test]
fn a_training_can_be_stopped_while_the_base_answers() {
    let (stopped, whole) = (Setting::new(), Setting::new());
    let config = replaying(1.0);
    let mut answered = Vec::new();
    let result = stopped.observed(&config, &[Stage::Sft], &mut |event| match event {
        TrainEvent::Replay { done: 2.., .. } => Err(Error::Interrupted),
        TrainEvent::Replay { done, total } => {
            answered.push((done, total));
            Ok(())
        }
        _ => Ok(()),
    });
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    assert_eq!(answered[0], (0, 5));
    assert!(
        answered.iter().all(|it| *it == (0, 5) || *it == (1, 5)),
        "{answered:?}"
    );
    assert!(!stopped.folder.sft().exists());

    stopped.train(&config, &[Stage::Sft]).unwrap();
    whole.train(&config, &[Stage::Sft]).unwrap();
    let adapter = |setting: &Setting| fs::read(setting.folder.sft()).unwrap();
    assert_eq!(adapter(&stopped), adapter(&whole));
}
