//! The stages of a training, each from the files of the user's folder to the next.

use std::path::Path;
use std::sync::Arc;

use cope_convert::Adapter;
use cope_convert::gguf::Gguf;
use serde_json::json;

use super::Training;
use super::checkpoint::Checkpoint;
use super::config::TrainConfig;
use super::dpo::{self, Dpo, ScoredPairs};
use super::examples::{Encoded, EncodedPair, Encoder};
use super::family::Family;
use super::fit::fit;
use super::generate::Sample;
use super::lora::Lora;
use super::memory::MemoryEstimate;
use super::mine::{Found, Miner};
use super::mining_journal::MiningJournal;
use super::model::TrainModel;
use super::ops::linear::WeightType;
use super::progress::{Figures, LogLine, StepMetrics, TrainEvent, TrainObserver};
use super::sft::{self, Sft};
use super::shape::Shape;
use crate::error::Missing;
use crate::hash::digest;
use crate::home::{AdapterFolder, BaseRef, Stage, read_jsonl, write_jsonl};
use crate::profile::feedback::Verdicts;
use crate::profile::{BaseLogps, Example, Pair, Profile};
use crate::rouge::Rouge;
use crate::{Error, Result, decode, llama};

/// What the stages share.
pub(super) struct Recipe<'a> {
    folder: &'a AdapterFolder,
    base: &'a BaseRef,
    config: &'a TrainConfig,
    gguf: Gguf,
    model: TrainModel,
    vocabulary: Arc<llama::Model>,
    profile: Profile,
    /// The history, encoded.
    examples: Vec<Encoded>,
    /// The held-out texts, encoded.
    held_out: Vec<Encoded>,
}

impl<'a> Recipe<'a> {
    pub(super) fn load(training: Training<'a>, observe: TrainObserver) -> Result<Self> {
        let Training {
            folder,
            base_path,
            base,
            config,
            stages,
        } = training;
        let profile = folder.profile()?;
        if profile.history.is_empty() {
            let user = folder.name().to_string();
            return Err(Missing::History { user }.into());
        }
        let gpu = match config.device.gpu()? {
            Some(gpu) => Some((
                gpu,
                config.device.dtype(config.weight_type, config.recompute)?,
            )),
            None => None,
        };
        let gguf = Gguf::open(base_path)?;
        let task = task_adapter(folder, base, &gguf)?;
        let vocabulary = llama::Model::load_vocabulary(base_path)?;
        let shape = Shape::read(&gguf, Family::of(&gguf)?)?;
        let encoder = Encoder::new(&vocabulary, shape.n_ctx)?;
        let examples = encoder.examples(&profile.history, &folder.history())?;
        let load = |weight_type| TrainModel::load_with_task(&gguf, weight_type, task.as_ref());
        let model = if let Some((gpu, dtype)) = gpu {
            load(WeightType::Quantized)?.on_candle(&gpu, dtype)?
        } else {
            let file = std::fs::metadata(base_path).map_err(Error::io("read", base_path))?;
            let embedding = gguf.tensor("token_embd.weight");
            let untied = gguf.tensor("output.weight").and(embedding);
            let estimate = MemoryEstimate {
                shape: &shape,
                file_bytes: file.len(),
                table_bytes: untied.map_or(0, |table| table.n_bytes),
                config,
                stages,
                examples: &examples,
            };
            let bytes = estimate.bytes();
            observe(TrainEvent::Memory { bytes })?;
            load(config.weight_type)?.recomputing(config.recompute)
        };
        let held_out = encoder.examples(&profile.held_out, &folder.held_out())?;
        Ok(Self {
            folder,
            base,
            config,
            gguf,
            model,
            vocabulary,
            profile,
            examples,
            held_out,
        })
    }

    pub(super) fn sft(&self, inputs: &str, observe: TrainObserver) -> Result<Figures> {
        let lora = self.model.lora(&self.config.lora, self.config.seed)?;
        let mut checkpoint = Checkpoint::at(&self.folder.checkpoint(), inputs);
        let mut observe = self.logged(observe);
        let objective = Sft {
            model: &self.model,
            examples: &self.examples,
            held_out: &self.held_out,
        };
        fit(
            &objective,
            &lora,
            &self.config.sft,
            self.config.seed,
            &mut checkpoint,
            &mut observe,
        )?;
        self.save(&lora, &self.folder.sft())?;
        let measure = |lora| sft::mean_logprob(&self.model, lora, &self.held_out);
        let mut figures = Figures::new();
        if !self.held_out.is_empty() {
            figures.insert("held_out/logprob_before", measure(None)?);
            figures.insert("held_out/logprob", measure(Some(&lora))?);
        }
        Ok(figures)
    }

    pub(super) fn mine(&self, inputs: &str, observe: TrainObserver) -> Result<Figures> {
        let lora = self.adapter(&self.folder.sft())?;
        let encoder = self.encoder()?;
        let liked = self.verdicts()?.liked();
        let originals: Vec<_> = self
            .profile
            .history
            .iter()
            .chain(&liked)
            .chain(&self.profile.held_out)
            .collect();
        let liked_examples = encoder.examples(&liked, &self.folder.feedback_path())?;
        let examples = [&*self.examples, &liked_examples, &self.held_out].concat();
        let likeness = |number: usize, tokens: &[llama::Token]| {
            let own = &originals[number].response;
            Rouge::new(&encoder.text(tokens), own).rouge_l
        };
        let is_eog = |token| decode::Vocabulary::is_eog(&*self.vocabulary, token);
        let miner = Miner {
            model: &self.model,
            lora: &lora,
            config: &self.config.mine,
            seed: self.config.seed,
            is_eog: &is_eog,
            likeness: &likeness,
        };
        let mut mined = MiningJournal::open(&self.folder.mined(), inputs)?;
        let (stage, total, done) = (Stage::Mine, examples.len(), mined.pairs().len());
        observe(TrainEvent::Started { stage, total, done })?;
        for first in (done..total).step_by(MiningJournal::PART) {
            let part = first..total.min(first + MiningJournal::PART);
            let mut ended = |done| {
                observe(TrainEvent::Step {
                    stage,
                    done: first + done,
                    metrics: StepMetrics::new(),
                })
            };
            let found = miner.mine(&examples[part.clone()], first, &mut ended)?;
            let pair =
                |(example, found): (&&Example, Option<Found>)| self.pair(&encoder, example, found?);
            mined.add(originals[part].iter().zip(found).map(pair).collect())?;
        }
        let n_learnt = self.profile.history.len() + liked.len();
        let (history, held_out) = mined.pairs().split_at(n_learnt);
        let found = |pairs: &[Option<Pair>]| pairs.iter().flatten().cloned().collect::<Vec<_>>();
        let (history, held_out) = (found(history), found(held_out));
        write_jsonl(&self.folder.held_out_pairs(), &held_out)?;
        write_jsonl(&self.folder.pairs(), &history)?;
        mined.remove()?;
        Ok([("pairs", history.len() as f64)].into())
    }

    pub(super) fn dpo(&self, inputs: &str, observe: TrainObserver) -> Result<Figures> {
        let lora = self.adapter(&self.folder.sft())?;
        let mined: Vec<Pair> = read_jsonl(&self.folder.pairs())?;
        let judged = self.verdicts()?.pairs();
        let n_judged = judged.len();
        let pairs = self.pairs(&self.folder.pairs(), mined)?;
        let pairs = pairs.and(self.pairs(&self.folder.feedback_path(), judged)?);
        if pairs.pairs.is_empty() {
            // Texts longer than any sample may be, for example: there is nothing to prefer.
            self.save(&lora, &self.folder.adapter())?;
            return Ok(Figures::new());
        }
        let config = &self.config.dpo;
        let path = self.folder.held_out_pairs();
        let held_out_pairs = self.pairs(&path, read_jsonl(&path)?)?;
        let measure = |lora: &Lora| -> Result<_> {
            Ok((
                sft::mean_logprob(&self.model, Some(lora), &self.held_out)?,
                dpo::mean_margin(&self.model, lora, &held_out_pairs, config)?,
            ))
        };
        let (logprob_before, margin_before) = measure(&lora)?;
        let mut checkpoint = Checkpoint::at(&self.folder.checkpoint(), inputs);
        let mut observe = self.logged(observe);
        let objective = Dpo {
            model: &self.model,
            config,
            pairs: &pairs,
            held_out: &held_out_pairs,
        };
        fit(
            &objective,
            &lora,
            &config.fit,
            self.config.seed,
            &mut checkpoint,
            &mut observe,
        )?;
        self.save(&lora, &self.folder.adapter())?;
        let mut figures = Figures::new();
        if n_judged > 0 {
            figures.insert("feedback/pairs", n_judged as f64);
        }
        if !self.held_out.is_empty() {
            let (logprob, margin) = measure(&lora)?;
            figures.insert("held_out/logprob_before", logprob_before);
            figures.insert("held_out/logprob", logprob);
            figures.insert("held_out/margin_before", margin_before);
            figures.insert("held_out/margin", margin);
        }
        Ok(figures)
    }

    fn encoder(&self) -> Result<Encoder<'_>> {
        Encoder::new(&self.vocabulary, self.model.shape().n_ctx)
    }

    /// What mining found, with the base's log-probabilities where the pair has the same tokens as text.
    fn pair(&self, encoder: &Encoder, example: &Example, found: Found) -> Option<Pair> {
        let Found {
            chosen,
            rejected,
            base_logps,
        } = found;
        let text = |sample: &Sample| encoder.text(&sample.tokens);
        let own = example.response.clone();
        let preferred = chosen.as_ref().map_or(own, text);
        let mut pair = Pair::new(
            &example.prompt,
            preferred,
            text(&rejected),
            rejected.finished,
        )?;
        // What does not fit the model's context is DPO's to report, which knows the line.
        let encoded = encoder.pairs(std::slice::from_ref(&pair), Path::new(""));
        let encoded = encoded.ok().and_then(|mut encoded| encoded.pop());
        let is_same = |encoded: &EncodedPair| {
            let is_same_chosen = chosen.as_ref().is_none_or(|it| it.tokens == encoded.chosen);
            is_same_chosen && encoded.rejected == rejected.tokens
        };
        if let Some(encoded) = encoded.filter(is_same) {
            pair.base_logps = base_logps.map(|[chosen, rejected]| BaseLogps {
                chosen: chosen as f32,
                rejected: rejected as f32,
                of: self.pair_digest(&encoded),
            });
        }
        Some(pair)
    }

    /// What the user has said of answers.
    fn verdicts(&self) -> Result<Verdicts> {
        Ok(Verdicts::of(&self.folder.feedback()?))
    }

    /// Pairs that `path` holds line by line, scored.
    fn pairs(&self, path: &Path, pairs: Vec<Pair>) -> Result<ScoredPairs> {
        let encoded = self.encoder()?.pairs(&pairs, path)?;
        let known = |(encoded, pair): (EncodedPair, Pair)| {
            let known = pair.base_logps;
            let known = known.filter(|known| known.of == self.pair_digest(&encoded));
            (encoded, known.map(|known| [known.chosen, known.rejected]))
        };
        ScoredPairs::new(
            &self.model,
            encoded.into_iter().zip(pairs).map(known).collect(),
        )
    }

    /// Names the base as this training sees it, and a pair's tokens.
    fn pair_digest(&self, pair: &EncodedPair) -> String {
        let EncodedPair {
            prompt,
            chosen,
            rejected,
        } = pair;
        let BaseRef {
            sha256,
            task_sha256,
            ..
        } = self.base;
        let TrainConfig {
            device,
            weight_type,
            ..
        } = self.config;
        digest(&json!([
            sha256,
            task_sha256,
            device,
            weight_type,
            prompt,
            chosen,
            rejected
        ]))
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
            task_sha256: self.base.task_sha256.clone(),
            contrast: Some(contrast.contrast()),
            plausibility: Some(contrast.plausibility()),
            name: Some(self.folder.name().to_string()),
            tensors: lora.to_tensors()?,
        };
        Ok(adapter.write_gguf(path)?)
    }

    /// `observe`, with a line in the user's log for every step that has figures.
    fn logged<'o>(
        &'o self,
        observe: TrainObserver<'o>,
    ) -> impl FnMut(TrainEvent) -> Result<()> + 'o {
        move |event| {
            if let TrainEvent::Step {
                stage,
                done,
                metrics,
            } = &event
            {
                self.folder.log_training(&LogLine {
                    stage: *stage,
                    step: *done,
                    metrics,
                })?;
            }
            observe(event)
        }
    }
}

/// The task adapter that `base` speaks of, from the user's folder.
fn task_adapter(folder: &AdapterFolder, base: &BaseRef, gguf: &Gguf) -> Result<Option<Adapter>> {
    let Some(expected) = &base.task_sha256 else {
        return Ok(None);
    };
    let path = folder.known_task(expected)?;
    let adapter = Adapter::read_gguf(&path)?;
    adapter.check_fits(gguf, &base.sha256)?;
    Ok(Some(adapter))
}
