//! The audit of an adapter: how much of the texts that it was trained on does it give away, to somebody who has the adapter
//! and the base? Three questions are asked of the user model, of CoPe, and of the base for comparison:
//!
//! - *Given back* ([`given_back`]): where does greedy decoding write a part of a text as it stands there?
//! - *Membership* ([`membership`]): can it be told from the probabilities whether a text was trained on?
//! - *Canaries* ([`canary`]): how well is something remembered that stands in one text, once? A second training answers this,
//!   with invented numbers among the user's texts. It takes as long as the first.
//!
//! Nothing is decoded: the models run over the texts, and a token is written by greedy decoding where it has the highest
//! score of all plausible tokens after those before it.

pub mod canary;
pub mod given_back;
pub mod membership;

use canary::Canaries;

use super::calibrate::score::{TokenScore, measure_tokens};
use super::config::TrainConfig;
use super::encoder::Encoded;
use super::lora::Lora;
use super::recipe::Recipe;
use super::record::{Records, inputs};
use super::train_event::{TrainEvent, TrainObserver};
use super::{Training, start_threads, train_locked};
use crate::decode::Contrast;
use crate::home::{AuditRecord, ByArm, CanaryRecord, Stage, UserFolder};
use crate::{Error, Result};

/// Texts that the models run on in one pass.
const TEXTS: usize = 8;

/// An audit to do.
#[derive(Clone, Copy, Debug)]
pub struct Audit<'a> {
    /// The user whose adapter is audited.
    pub user: &'a UserFolder,
    /// The training that made the adapter: its folder is the user's, and its stages are all.
    pub training: Training<'a>,
    /// The number of canaries, at most [`canary::MAX`]; without any there is no second training.
    pub n_canaries: usize,
}

/// Audits the adapter with which chats answer, and records the findings beside it. Tells `observe` of every pass, and of the
/// events of the second training.
///
/// # Errors
///
/// [`Error::Locked`] when another process works in the folder; [`crate::error::Missing::Adapter`] when the user is not
/// trained; [`Error::Input`] when texts or settings have changed since the training; those of [`train`](super::train); or
/// the observer stopped the work.
pub fn audit(audit: Audit, observe: TrainObserver) -> Result<AuditRecord> {
    start_threads()?;
    let _lock = audit.user.lock()?;
    // A parallel loop starts faster from a thread of rayon's pool.
    let record = rayon::scope(|_| audit.of_texts(observe))?;
    let canaries = match audit.n_canaries {
        0 => None,
        _ => Some(audit.of_canaries(observe)?),
    };
    let record = AuditRecord { canaries, ..record };
    audit.user.save_audit_record(&record)?;
    audit.user.remove_audit_training()?;
    Ok(record)
}

impl Audit<'_> {
    /// The findings about the texts that the adapter was trained on.
    fn of_texts(&self, observe: TrainObserver) -> Result<AuditRecord> {
        let subject = AuditedModel::load(self.training, observe)?;
        let texts = &subject.recipe.texts;
        let trained = &texts.examples;
        let untrained = [texts.calibration.as_slice(), &texts.held_out].concat();
        let mut passes = AuditPasses::new(&[trained.len(), untrained.len()], observe);
        let of_trained = subject.measure(trained, &mut passes)?;
        let of_untrained = subject.measure(&untrained, &mut passes)?;
        let seed = self.training.config.seed;
        Ok(AuditRecord {
            adapter_sha256: cope_convert::sha256(&self.user.adapter())?,
            trained: given_back::count(trained, &of_trained),
            untrained: given_back::count(&untrained, &of_untrained),
            membership: membership::membership(&of_trained, &of_untrained, seed),
            canaries: None,
        })
    }

    /// Trains a second adapter with canaries among the texts, and measures it. A stopped audit goes on from its folder.
    fn of_canaries(&self, observe: TrainObserver) -> Result<CanaryRecord> {
        let Training { base, config, .. } = self.training;
        let n_held_out = Records::open(self.user, base)?.hold_out(config)?.n_texts();
        let canaries = Canaries::new(self.n_canaries, config.seed);
        let mut profile = self.user.profile()?;
        let n_trained = profile.history.len().saturating_sub(n_held_out);
        canaries.plant(&mut profile.history, n_trained);
        // They would only be measured on.
        profile.held_out.clear();
        let folder = self.user.audit_training()?;
        folder.save_profile(&profile)?;
        if let Some(sha256) = &base.task_sha256 {
            folder.add_task(&self.user.known_task(sha256)?)?;
        }
        let config = TrainConfig {
            // As many as without the canaries.
            hold_out: Some(n_held_out),
            // The folder of another user is found beside the user's own alone.
            start: None,
            ..config.clone()
        };
        let training = Training {
            folder: &folder,
            config: &config,
            ..self.training
        };
        train_locked(&folder.lock()?, training, observe)?;
        rayon::scope(|_| {
            let subject = AuditedModel::load(training, observe)?;
            let encoder = subject.recipe.encoder()?;
            let encoded = canaries.encoded(&encoder)?;
            let mut passes =
                AuditPasses::new(&vec![CanaryRecord::N_NUMBERS; encoded.len()], observe);
            let measure = |texts: &Vec<Encoded>| subject.measure(texts, &mut passes);
            let scores = encoded.iter().map(measure).collect::<Result<Vec<_>>>()?;
            Ok(canary::record(&scores))
        })
    }
}

/// A model with the adapter that is audited.
struct AuditedModel<'a> {
    recipe: Recipe<'a>,
    lora: Lora,
    /// Those of the user model and of CoPe.
    contrasts: [Contrast; 2],
}

/// The scores of a text's tokens by each arm.
type Scored = ByArm<Vec<TokenScore>>;

impl<'a> AuditedModel<'a> {
    /// # Errors
    /// Those of [`audit`].
    fn load(training: Training<'a>, observe: TrainObserver) -> Result<Self> {
        let Training {
            folder,
            base,
            config,
            ..
        } = training;
        let path = folder.trained_adapter()?;
        let records = Records::open(folder, base)?;
        let hold_out = records.hold_out(config)?;
        let of_now = inputs(folder, base, config, Stage::Calibrate, hold_out)?;
        if records.current(Stage::Calibrate, &of_now).is_none() {
            return Err(Error::input(format_args!(
                "{}'s texts have changed since the training, or it has not ended: which of them the adapter was trained on is not known",
                folder.name()
            )));
        }
        let recipe = Recipe::load(training, hold_out, observe)?;
        let adapter = cope_convert::Adapter::read_gguf(&path)?;
        let default = Contrast::default();
        let plausibility = adapter.plausibility.unwrap_or(default.plausibility());
        let own = adapter.contrast.unwrap_or(default.contrast());
        Ok(Self {
            lora: recipe.adapter(&path)?,
            recipe,
            contrasts: [
                Contrast::new(0.0, plausibility)?,
                Contrast::new(own, plausibility)?,
            ],
        })
    }

    fn measure(&self, texts: &[Encoded], passes: &mut AuditPasses) -> Result<Vec<Scored>> {
        let (model, contrasts) = (&self.recipe.model, &self.contrasts);
        let mut ended = || passes.end();
        let scores = measure_tokens(model, (texts, TEXTS), &self.lora, contrasts, &mut ended)?;
        let by_arm = scores.into_iter().map(|it| {
            let mut arms = [it.base].into_iter().chain(it.contrasted);
            ByArm::new(|_| arms.next().unwrap_or_default())
        });
        Ok(by_arm.collect())
    }
}

/// The passes of an audit, of which the observer is told.
struct AuditPasses<'a> {
    done: usize,
    total: usize,
    observe: TrainObserver<'a>,
}

impl<'a> AuditPasses<'a> {
    /// The passes of both models over so many texts.
    fn new(n_texts: &[usize], observe: TrainObserver<'a>) -> Self {
        let n_passes = n_texts.iter().map(|n| 2 * n.div_ceil(TEXTS));
        Self {
            done: 0,
            total: n_passes.sum(),
            observe,
        }
    }

    fn end(&mut self) -> Result<()> {
        self.done += 1;
        (self.observe)(TrainEvent::Audit {
            done: self.done,
            total: self.total,
        })
    }
}
