//! The measuring of a calibration, part by part: what a run before has measured is taken from the journal.

use super::score::{TextScores, measure};
use crate::Result;
use crate::decode::Contrast;
use crate::home::Stage;
use crate::train::encoder::Encoded;
use crate::train::journal::Journal;
use crate::train::lora::Lora;
use crate::train::model::TrainModel;
use crate::train::train_event::{StepMetrics, TrainEvent, TrainObserver};

const STAGE: Stage = Stage::Calibrate;

/// Measures texts, keeps the scores of each part in the journal, and tells the observer every pass.
pub(in crate::train) struct Measurer<'a> {
    model: &'a TrainModel,
    journal: Journal<TextScores>,
    /// Number of parts that have their scores.
    n_parts: usize,
    /// Number of passes that have run, now or before.
    n_passes: usize,
    observe: TrainObserver<'a>,
}

impl<'a> Measurer<'a> {
    /// Goes on from what the journal holds. `passes` has the number of passes of each part, in order.
    ///
    /// # Errors
    /// The observer stopped the work.
    pub fn begin(
        model: &'a TrainModel,
        passes: &[usize],
        journal: Journal<TextScores>,
        observe: TrainObserver<'a>,
    ) -> Result<Self> {
        let n_passes = passes[..journal.len()].iter().sum();
        if !passes.is_empty() {
            observe(TrainEvent::Started {
                stage: STAGE,
                total: passes.iter().sum(),
                done: n_passes,
            })?;
        }
        Ok(Self {
            model,
            journal,
            n_parts: 0,
            n_passes,
            observe,
        })
    }

    /// Scores `texts`, of which `per_pass` are a part, as [`measure`] does.
    ///
    /// # Errors
    /// Those of [`measure`], or the journal cannot be written.
    pub fn measure(
        &mut self,
        (texts, per_pass): (&[Encoded], usize),
        adapters: &[Lora],
        contrasts: &[Contrast],
    ) -> Result<TextScores> {
        let mut scores = TextScores::new(adapters.len(), contrasts.len());
        for part in texts.chunks(per_pass) {
            let of_part = match self.journal.get(self.n_parts) {
                Some(known) => known.clone(),
                None => self.measure_part(part, adapters, contrasts)?,
            };
            self.n_parts += 1;
            scores.append(of_part);
        }
        Ok(scores)
    }

    fn measure_part(
        &mut self,
        part: &[Encoded],
        adapters: &[Lora],
        contrasts: &[Contrast],
    ) -> Result<TextScores> {
        let (n_passes, observe) = (&mut self.n_passes, &mut self.observe);
        let mut ended = || {
            *n_passes += 1;
            observe(TrainEvent::Step {
                stage: STAGE,
                done: *n_passes,
                metrics: StepMetrics::new(),
            })
        };
        let whole = (part, part.len());
        let scores = measure(self.model, whole, adapters, contrasts, &mut ended)?;
        self.journal.add([(self.n_parts, scores.clone())])?;
        (self.observe)(TrainEvent::Saved { stage: STAGE })?;
        Ok(scores)
    }

    /// Removes the journal, once the scores are not needed any more.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn end(self) -> Result<()> {
        self.journal.remove()
    }
}
