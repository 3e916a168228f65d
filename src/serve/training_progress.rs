//! How far a training is, as the page shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::{Value, json};

use crate::home::Stage;
use crate::train::TrainEvent;

/// How far a training is.
#[derive(Debug)]
pub struct TrainingProgress {
    /// The stage that runs, or ran last.
    stage: Option<Stage>,
    /// The stages that are up to date.
    ended: BTreeSet<Stage>,
    /// Whether the base answers prompts whose answers SFT learns.
    is_replaying: bool,
    /// Steps of the stage that are done.
    done: usize,
    /// Steps of the stage.
    total: usize,
    /// When this session of the stage began, and the steps that were done then.
    began: (Instant, usize),
    /// The loss of each step, by stage.
    losses: BTreeMap<String, Vec<f64>>,
    /// Seconds that each stage took the last time, on the same base.
    seconds_before: BTreeMap<Stage, f64>,
}

impl TrainingProgress {
    /// A training that has not begun, of which some stages have taken so many seconds before.
    pub fn new(seconds_before: BTreeMap<Stage, f64>) -> Self {
        Self {
            stage: None,
            ended: BTreeSet::new(),
            is_replaying: false,
            done: 0,
            total: 0,
            began: (Instant::now(), 0),
            losses: BTreeMap::new(),
            seconds_before,
        }
    }

    /// Takes note of an event.
    pub fn update(&mut self, event: &TrainEvent) {
        match event {
            TrainEvent::Started { stage, total, done } => {
                self.is_replaying = false;
                self.begin(*stage, *total, *done);
            }
            TrainEvent::Replay { done: 0, total } => {
                self.is_replaying = true;
                self.begin(Stage::Sft, *total, 0);
            }
            TrainEvent::Replay { done, .. } => self.done = *done,
            TrainEvent::Step {
                stage,
                done,
                metrics,
            } => {
                self.done = *done;
                if let Some(loss) = metrics.get("loss") {
                    let losses = self.losses.entry(stage.to_string());
                    losses.or_default().push(*loss);
                }
            }
            TrainEvent::UpToDate { stage, .. } | TrainEvent::Ended { stage, .. } => {
                self.ended.insert(*stage);
                (self.done, self.total) = (0, 0);
            }
            _ => {}
        }
    }

    fn begin(&mut self, stage: Stage, total: usize, done: usize) {
        (self.stage, self.total, self.done) = (Some(stage), total, done);
        self.began = (Instant::now(), done);
    }

    /// The fields of the page's API; `is_running` says whether the training goes on.
    pub fn json(&self, is_running: bool) -> Value {
        let running = self.running().filter(|_| is_running);
        let state = |stage: &Stage| {
            if self.ended.contains(stage) {
                "done"
            } else if running == Some(*stage) {
                "running"
            } else {
                "waiting"
            }
        };
        let stages = Stage::ALL.iter();
        let stages = stages.map(|it| json!({ "name": it.name(), "state": state(it) }));
        json!({
            "stage": running.or(self.stage).map(Stage::name),
            "stages": stages.collect::<Vec<_>>(),
            "done": self.done,
            "total": self.total,
            "stage_seconds_left": running.and_then(|_| self.stage_seconds_left()),
            "seconds_left": running.and_then(|stage| self.seconds_left(stage)),
            "losses": self.losses,
        })
    }

    /// The first stage that is not up to date.
    fn running(&self) -> Option<Stage> {
        let mut stages = Stage::ALL.into_iter();
        stages.find(|stage| !self.ended.contains(stage))
    }

    /// An estimate of the seconds until the stage is done; `None` before its first step.
    fn stage_seconds_left(&self) -> Option<f64> {
        let (began, done_before) = self.began;
        let n = self.done.checked_sub(done_before).filter(|n| *n > 0)?;
        let left = self.total.saturating_sub(self.done);
        Some(began.elapsed().as_secs_f64() / n as f64 * left as f64)
    }

    /// An estimate of the seconds until the training is done: that of the running stage, and the seconds that the stages after
    /// it took the last time. `None` where one of them has not run before.
    fn seconds_left(&self, running: Stage) -> Option<f64> {
        let seconds_before = |stage: Stage| self.seconds_before.get(&stage).copied();
        let has_begun = self.stage == Some(running) && !self.is_replaying;
        let own = self.stage_seconds_left().filter(|_| has_begun);
        let mut waiting = Stage::ALL.into_iter().filter(|stage| *stage > running);
        let own = own.or_else(|| seconds_before(running))?;
        waiting.try_fold(own, |sum, stage| Some(sum + seconds_before(stage)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(progress: &TrainingProgress) -> Vec<String> {
        let json = progress.json(true);
        let stages = json["stages"].as_array().unwrap().iter();
        stages
            .map(|it| it["state"].as_str().unwrap().to_owned())
            .collect()
    }

    fn step(stage: Stage, done: usize) -> TrainEvent {
        TrainEvent::Step {
            stage,
            done,
            metrics: [("loss", 2.5)].into(),
        }
    }

    #[test]
    fn the_stages_go_from_waiting_over_running_to_done() {
        let mut progress = TrainingProgress::new(BTreeMap::new());
        assert_eq!(
            states(&progress),
            ["running", "waiting", "waiting", "waiting"]
        );
        for stage in [Stage::Sft, Stage::Mine] {
            let figures = BTreeMap::new();
            progress.update(&TrainEvent::UpToDate { stage, figures });
        }
        // DPO has not begun its steps, and says so.
        assert_eq!(states(&progress), ["done", "done", "running", "waiting"]);
        let json = progress.json(true);
        assert_eq!((&json["stage"], &json["total"]), (&json!("dpo"), &json!(0)));
        let (stage, total, done) = (Stage::Dpo, 4, 0);
        progress.update(&TrainEvent::Started { stage, total, done });
        progress.update(&step(stage, 1));
        let json = progress.json(true);
        assert_eq!((&json["stage"], &json["done"]), (&json!("dpo"), &json!(1)));
        assert_eq!(json["losses"], json!({ "dpo": [2.5] }));
        let json = progress.json(false);
        assert_eq!(json["stages"][2]["state"], "waiting");
        assert_eq!(json["stage_seconds_left"], Value::Null);
    }

    #[test]
    fn the_time_left_is_that_of_the_stage_and_of_those_after_it_as_far_as_they_ran_before() {
        let (stage, total, done) = (Stage::Dpo, 4, 0);
        let started = TrainEvent::Started { stage, total, done };
        let left = |seconds_before: &[(Stage, f64)], events: &[TrainEvent]| {
            let mut progress = TrainingProgress::new(seconds_before.iter().copied().collect());
            for stage in [Stage::Sft, Stage::Mine] {
                let figures = BTreeMap::new();
                progress.update(&TrainEvent::UpToDate { stage, figures });
            }
            events.iter().for_each(|event| progress.update(event));
            let json = progress.json(true);
            (
                json["stage_seconds_left"].as_f64(),
                json["seconds_left"].as_f64(),
            )
        };
        let both = [(Stage::Dpo, 30.0), (Stage::Calibrate, 1000.0)];
        assert_eq!(left(&both, &[]), (None, Some(1030.0)));
        assert_eq!(
            left(&both, std::slice::from_ref(&started)),
            (None, Some(1030.0))
        );
        let (of_stage, whole) = left(&both, &[started.clone(), step(stage, 1)]);
        // A few microseconds a step.
        assert!(of_stage.unwrap() < 10.0);
        assert!((1000.0..1010.0).contains(&whole.unwrap()), "{whole:?}");
        assert_eq!(left(&both[..1], &[started]), (None, None));
    }
}
