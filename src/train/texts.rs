//! The texts of a training, encoded: those that are trained on, those that calibration chooses on, and those that the stages
//! are measured on.

use super::encoder::{Encoded, Encoder};
use super::hold_out::HoldOut;
use super::train_event::{TrainEvent, TrainObserver};
use crate::error::Missing;
use crate::home::AdapterFolder;
use crate::profile::Profile;
use crate::{Error, Result};

/// The texts of a user that fit into the model's context.
pub(super) struct Texts {
    /// The texts themselves. The history has only those that are trained on.
    pub profile: Profile,
    /// The history that is trained on.
    pub examples: Vec<Encoded>,
    /// The newest texts of the history, which are held out for calibration.
    pub calibration: Vec<Encoded>,
    /// The held-out texts that the user imported.
    pub held_out: Vec<Encoded>,
}

impl Texts {
    /// Reads and encodes the texts in `folder`, and leaves out those of more than `n_ctx` tokens, which `observe` is told.
    ///
    /// # Errors
    /// The history is empty, no text is left to train on, a file cannot be read, or the observer stopped the work.
    pub fn load(
        folder: &AdapterFolder,
        encoder: &Encoder,
        hold_out: HoldOut,
        n_ctx: usize,
        observe: TrainObserver,
    ) -> Result<Self> {
        let mut profile = folder.profile()?;
        if profile.history.is_empty() {
            let user = folder.name().to_string();
            return Err(Missing::History { user }.into());
        }
        let (mut examples, of_history) = encoder.fitting(&mut profile.history)?;
        let (held_out, of_held_out) = encoder.fitting(&mut profile.held_out)?;
        if examples.len() <= hold_out.n_texts() {
            return Err(Error::input(format_args!(
                "{}: {} texts fit into the model's context of {n_ctx} tokens and {} are held out, so that none is left to train on; import shorter texts, or train on a model with a longer context",
                folder.history().display(),
                examples.len(),
                hold_out.n_texts(),
            )));
        }
        for (file, lines) in [
            (folder.history(), of_history),
            (folder.held_out(), of_held_out),
        ] {
            if !lines.is_empty() {
                observe(TrainEvent::LeftOut { file, lines, n_ctx })?;
            }
        }
        let n_trained = examples.len() - hold_out.n_texts();
        let calibration = examples.split_off(n_trained);
        profile.history.truncate(n_trained);
        Ok(Self {
            profile,
            examples,
            calibration,
            held_out,
        })
    }
}
