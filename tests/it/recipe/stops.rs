//! Trainings that are stopped, and go on from where they were.

use super::*;

#[test]
fn a_training_stopped_after_any_step_ends_with_the_same_bytes() {
    let new = |config: &TrainConfig| (Setting::new(), config.clone());
    assert_eq!(
        stop_at_every_step(|| new(&Setting::config())),
        6 + 2 + 3 + 2
    );
    // Again with everything that a checkpoint can hold.
    let mut config = Setting::config();
    config.hold_out = Some(1);
    for fit in [&mut config.sft, &mut config.dpo.fit] {
        fit.epochs = 6;
        fit.patience = 1;
        fit.dropout = 0.2;
        fit.micro_batch_size = 1;
        fit.schedule = LrSchedule::Cosine;
    }
    stop_at_every_step(|| new(&config));
}

/// Trains in a new setting without a stop and in another with a stop after every step, and checks that both leave the
/// same files. Returns the number of stops.
pub fn stop_at_every_step(new: impl Fn() -> (Setting, TrainConfig)) -> usize {
    let (whole, config) = new();
    whole.train(&config, &STAGES).unwrap();
    let (stopped, config) = new();
    let (mut stops, mut mining, mut calibrating) = (0, true, true);
    loop {
        // SFT and DPO stop after every step, mining and calibration after every part. These two also stop once within a part.
        let result = stopped.observed(&config, &STAGES, &mut |event| match event {
            TrainEvent::Step {
                stage: Stage::Mine,
                done: 1..,
                ..
            } if std::mem::take(&mut mining) => Err(Error::Interrupted),
            TrainEvent::Step {
                stage: Stage::Calibrate,
                done: 2,
                ..
            } if std::mem::take(&mut calibrating) => Err(Error::Interrupted),
            TrainEvent::Step {
                stage: Stage::Sft | Stage::Dpo,
                ..
            }
            | TrainEvent::Saved { .. } => Err(Error::Interrupted),
            _ => Ok(()),
        });
        match result {
            Ok(()) => break,
            Err(Error::Interrupted) => stops += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(stops < 50, "no progress");
    }
    assert_eq!(stopped.files(), whole.files());
    let folder = &stopped.folder;
    for path in [folder.checkpoint(), folder.mined(), folder.measured()] {
        assert!(!path.exists(), "{}", path.display());
    }
    stops
}

#[test]
fn a_training_can_be_stopped_at_each_pass_beside_its_steps_and_loses_no_step() {
    let (whole, stopped, config) = (Setting::new(), Setting::new(), Setting::config());
    whole.train(&config, &STAGES).unwrap();
    let (mut n_passes, mut n_before_dpo) = (0, 0);
    let mut is_kept: BTreeMap<Stage, usize> = BTreeMap::new();
    for stop_at in 1.. {
        // Each run stops one pass later than the one before.
        let (mut passed, mut is_dpo_next) = (0, false);
        let result = stopped.observed(&config, &STAGES, &mut |event| {
            match event {
                TrainEvent::Pass => {
                    passed += 1;
                    n_before_dpo += usize::from(is_dpo_next);
                    if passed == stop_at {
                        return Err(Error::Interrupted);
                    }
                }
                TrainEvent::Started { stage, done, .. } if stage != Stage::Calibrate => {
                    is_dpo_next = false;
                    assert_eq!(done, is_kept.get(&stage).copied().unwrap_or(0), "{stage}");
                }
                TrainEvent::Step { stage, done, .. } => {
                    is_kept.insert(stage, done);
                }
                TrainEvent::UpToDate { stage, .. } | TrainEvent::Ended { stage, .. } => {
                    is_dpo_next = stage == Stage::Mine;
                }
                _ => {}
            }
            Ok(())
        });
        match result {
            Ok(()) => break,
            Err(Error::Interrupted) => n_passes += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(
        n_passes > 4 && n_before_dpo > 0,
        "{n_passes}, {n_before_dpo}"
    );
    assert_eq!(stopped.files(), whole.files());
}

#[test]
fn a_flag_ends_the_pass_that_runs_and_loses_no_step_that_was_told() {
    let (whole, stopped, mut config) = (Setting::new(), Setting::new(), Setting::config());
    config.sft.patience = 1;
    whole.train(&config, &STAGES).unwrap();
    let (mut n_stops, mut n_told) = (0, 0);
    for stop_at in 1.. {
        // Each run sets the flag one event later than the one before, and lets the event pass.
        let (flag, mut n_events) = (Arc::new(AtomicBool::new(false)), 0);
        let set = Arc::clone(&flag);
        let result = stopped.stopped_by(Some(&flag), &config, &STAGES, &mut |event| {
            n_events += 1;
            match event {
                TrainEvent::Started {
                    stage: Stage::Sft,
                    done,
                    ..
                } => assert_eq!(done, n_told),
                TrainEvent::Step { stage, done, .. } => {
                    assert!(!set.load(Ordering::Relaxed), "step {done} of {stage}");
                    if stage == Stage::Sft {
                        n_told = done;
                    }
                }
                _ => {}
            }
            set.fetch_or(n_events == stop_at, Ordering::Relaxed);
            Ok(())
        });
        match result {
            Ok(()) => break,
            Err(Error::Interrupted) => n_stops += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(n_stops > 10, "{n_stops}");
    assert_eq!(stopped.files(), whole.files());
}
