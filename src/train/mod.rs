//! From a user's history to their adapter, in three stages, with a file in the user's folder after each:
//!
//! ```text
//! history.jsonl ─ SFT ─→ sft.gguf ─ mine ─→ pairs.jsonl ─ DPO ─→ adapter.gguf
//! ```
//!
//! A stage runs when what it depends on has changed since it last ended, and not otherwise: the base, the history, the
//! settings, and the files of the stages before. The manifest records all of these, and the figures.

pub mod batch;
mod checkpoint;
mod config;
pub mod dpo;
mod examples;
pub mod fit;
pub mod generate;
pub mod lora;
pub mod loss;
pub mod mine;
pub mod model;
pub mod ops;
mod optimizer;
mod progress;
mod record;
pub mod sft;
mod weights;

use std::path::Path;
use std::time::Instant;

use cope_convert::Adapter;
use cope_convert::gguf::Gguf;

pub use checkpoint::Checkpoint;
pub use config::TrainConfig;
pub use examples::{Encoded, EncodedPair, Encoder, Pair};
pub use optimizer::AdamW;
pub use progress::{Event, Figures, Metrics, Observer, Stage};
pub use record::StageRecord;
pub use weights::Weights;

use crate::home::{BaseRef, UserFolder, read_jsonl, write_jsonl};
use crate::profile::Profile;
use crate::{Error, Result, decode, llama};
use lora::Lora;
use model::Model;
use record::Records;

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Train(error.to_string())
    }
}

/// Brings `stages` of a user's training up to date, in their order. `base` describes the file at `base_path`.
///
/// # Errors
/// The history is empty or holds an item that is too long, the base cannot be trained on, a file of an earlier stage is
/// missing, the loss is not finite, or the observer stopped the work. Stages that had ended stay done.
pub fn train(
    folder: &UserFolder,
    base_path: &Path,
    base: &BaseRef,
    config: &TrainConfig,
    stages: &[Stage],
    observe: Observer,
) -> Result<()> {
    let _lock = folder.lock()?;
    let mut records = Records::open(folder, base)?;
    let mut recipe = None;
    for &stage in stages {
        let inputs = record::inputs(folder, base, config, stage)?;
        if let Some(record) = records.current(stage, &inputs) {
            observe(Event::UpToDate {
                stage,
                figures: record.figures.clone(),
            })?;
            continue;
        }
        let recipe = match &mut recipe {
            Some(recipe) => recipe,
            none => none.insert(Recipe::load(folder, base_path, base, config)?),
        };
        let started = Instant::now();
        let figures = match stage {
            Stage::Sft => recipe.sft(&inputs, observe)?,
            Stage::Mine => recipe.mine(observe)?,
            Stage::Dpo => recipe.dpo(&inputs, observe)?,
        };
        records.add(
            stage,
            StageRecord::new(inputs, config, stage, &figures, started.elapsed()),
        )?;
        Checkpoint::remove(&folder.checkpoint())?;
        observe(Event::Ended { stage, figures })?;
    }
    Ok(())
}

/// What the stages share.
struct Recipe<'a> {
    folder: &'a UserFolder,
    base: &'a BaseRef,
    config: &'a TrainConfig,
    gguf: Gguf,
    model: Model,
    vocabulary: std::sync::Arc<llama::Model>,
    profile: Profile,
}

impl<'a> Recipe<'a> {
    fn load(
        folder: &'a UserFolder,
        base_path: &Path,
        base: &'a BaseRef,
        config: &'a TrainConfig,
    ) -> Result<Self> {
        let profile = folder.profile()?;
        if profile.history.is_empty() {
            let name = folder.name();
            let advice = format!("`cope-llama user import {name} FILE` adds to it");
            return Err(Error::Input(format!(
                "{name} has no history to train on; {advice}"
            )));
        }
        let gguf = Gguf::open(base_path)?;
        let vocabulary = llama::Model::load_vocabulary(base_path)?;
        Ok(Self {
            folder,
            base,
            config,
            model: Model::load(&gguf)?,
            gguf,
            vocabulary,
            profile,
        })
    }

    fn sft(&self, inputs: &str, observe: Observer) -> Result<Figures> {
        let examples = self.history()?;
        let lora = self.model.lora(&self.config.lora, self.config.seed)?;
        let mut checkpoint = Checkpoint::at(&self.folder.checkpoint(), inputs);
        let mut observe = self.logged(observe);
        sft::sft(
            &self.model,
            &lora,
            &examples,
            &self.config.sft,
            self.config.seed,
            &mut checkpoint,
            &mut observe,
        )?;
        self.save(&lora, &self.folder.sft())?;
        let kept_apart = self.kept_apart()?;
        let mut figures = Figures::new();
        if !kept_apart.is_empty() {
            figures.insert(
                "kept_apart/base_logprob",
                sft::mean_logprob(&self.model, None, &kept_apart)?,
            );
            figures.insert(
                "kept_apart/logprob",
                sft::mean_logprob(&self.model, Some(&lora), &kept_apart)?,
            );
        }
        Ok(figures)
    }

    fn mine(&self, observe: Observer) -> Result<Figures> {
        let lora = self.adapter(&self.folder.sft())?;
        let encoder = self.encoder()?;
        let mut examples = self.history()?;
        let n_history = examples.len();
        examples.extend(self.kept_apart()?);
        let is_eog = |token| decode::Vocabulary::is_eog(&*self.vocabulary, token);
        let (mine, seed) = (&self.config.mine, self.config.seed);
        let negatives = mine::mine(&self.model, &lora, &examples, mine, seed, &is_eog, observe)?;
        let originals = self.profile.history.iter().chain(&self.profile.kept_apart);
        let pairs: Vec<Option<Pair>> = originals
            .zip(negatives)
            .map(|(example, negative)| {
                let negative = negative?;
                Some(Pair::new(
                    example,
                    encoder.text(&negative.tokens),
                    negative.finished,
                ))
            })
            .collect();
        let (history, kept_apart) = pairs.split_at(n_history);
        let found = |pairs: &[Option<Pair>]| pairs.iter().flatten().cloned().collect::<Vec<_>>();
        let (history, kept_apart) = (found(history), found(kept_apart));
        write_jsonl(&self.folder.kept_apart_pairs(), &kept_apart)?;
        write_jsonl(&self.folder.pairs(), &history)?;
        Ok([("pairs", history.len() as f64)].into())
    }

    fn dpo(&self, inputs: &str, observe: Observer) -> Result<Figures> {
        let lora = self.adapter(&self.folder.sft())?;
        let pairs = self.pairs(&self.folder.pairs())?;
        if pairs.is_empty() {
            return Err(Error::input(
                "there are no pairs to train on; run the stage `mine` first",
            ));
        }
        let kept_apart = self.pairs(&self.folder.kept_apart_pairs())?;
        let config = &self.config.dpo;
        let measure = |lora: &Lora| dpo::measure_rewards(&self.model, lora, &kept_apart, config);
        let before = measure(&lora)?;
        let mut checkpoint = Checkpoint::at(&self.folder.checkpoint(), inputs);
        let mut observe = self.logged(observe);
        dpo::dpo(
            &self.model,
            &lora,
            &pairs,
            config,
            self.config.seed,
            &mut checkpoint,
            &mut observe,
        )?;
        self.save(&lora, &self.folder.adapter())?;
        let mut figures = Figures::new();
        if !kept_apart.is_empty() {
            let after = measure(&lora)?;
            figures.insert("kept_apart/margin_before", before["rewards/margins"]);
            figures.insert("kept_apart/margin", after["rewards/margins"]);
            figures.insert(
                "kept_apart/logprob",
                sft::mean_logprob(&self.model, Some(&lora), &self.kept_apart()?)?,
            );
        }
        Ok(figures)
    }

    fn encoder(&self) -> Result<Encoder<'_>> {
        Encoder::new(&self.vocabulary, self.model.shape().n_ctx)
    }

    fn history(&self) -> Result<Vec<Encoded>> {
        self.encoder()?
            .examples(&self.profile.history, &self.folder.history())
    }

    fn kept_apart(&self) -> Result<Vec<Encoded>> {
        self.encoder()?
            .examples(&self.profile.kept_apart, &self.folder.kept_apart())
    }

    fn pairs(&self, path: &Path) -> Result<Vec<EncodedPair>> {
        self.encoder()?.pairs(&read_jsonl(path)?, path)
    }

    /// The adapter of an earlier stage.
    fn adapter(&self, path: &Path) -> Result<Lora> {
        let adapter = Adapter::read_gguf(path)?;
        adapter.check_fits(&self.gguf, &self.base.sha256)?;
        Lora::from_adapter(&adapter, self.model.shape().n_layer)
    }

    fn save(&self, lora: &Lora, path: &Path) -> Result<()> {
        let contrast = decode::Contrast::default();
        let adapter = Adapter {
            architecture: self.base.architecture.clone(),
            lora_alpha: lora.lora_alpha(),
            base_sha256: Some(self.base.sha256.clone()),
            contrast: Some(contrast.contrast()),
            plausibility: Some(contrast.plausibility()),
            name: Some(self.folder.name().to_string()),
            tensors: lora.to_tensors()?,
        };
        Ok(adapter.write_gguf(path)?)
    }

    /// `observe`, with a line in the user's log for every step that has figures.
    fn logged<'o>(&'o self, observe: Observer<'o>) -> impl FnMut(Event) -> Result<()> + 'o {
        move |event| {
            if let Event::Step {
                stage,
                done,
                metrics,
            } = &event
            {
                self.folder.log_training(&progress::LogLine {
                    stage: *stage,
                    step: *done,
                    metrics,
                })?;
            }
            observe(event)
        }
    }
}
