//! The stages of a training: each reads the files of the stages before from the user's folder, and makes its own.

use std::path::Path;
use std::sync::Arc;

use cope_convert::Adapter;
use cope_convert::gguf::Gguf;
use serde_json::json;

use super::Training;
use super::calibrate::measurer::Measurer;
use super::calibrate::{Calibrator, everyday};
use super::checkpoint::Checkpoint;
use super::config::TrainConfig;
use super::dpo::{self, Dpo, ScoredPairs};
use super::encoder::{Encoded, EncodedPair, Encoder};
use super::family::Family;
use super::fit::fit;
use super::hold_out::HoldOut;
use super::journal::Journal;
use super::lora::Lora;
use super::memory::{self, MemoryEstimate};
use super::mine::{Found, Miner};
use super::model::TrainModel;
use super::ops::linear::WeightType;
use super::replay;
use super::sample::{SLOTS, Sample};
use super::sft::{self, Sft};
use super::shape::Shape;
use super::start::read_adapter;
use super::stop_flag::StopFlag;
use super::texts::Texts;
use super::train_event::{Figures, LogLine, SettingLine, StepMetrics, TrainEvent, TrainObserver};
use crate::digest::digest;
use crate::home::{AdapterFolder, BaseRef, Calibration, Stage, read_jsonl, write_jsonl};
use crate::profile::feedback::Verdicts;
use crate::profile::{BaseLogps, Example, Pair};
use crate::rouge::Rouge;
use crate::{Result, decode, llama};

/// The base, the texts and the settings that all stages share, loaded once.
pub(super) struct Recipe<'a> {
    folder: &'a AdapterFolder,
    base: &'a BaseRef,
    config: &'a TrainConfig,
    gguf: Gguf,
    pub(super) model: TrainModel,
    vocabulary: Arc<llama::Model>,
    hold_out: HoldOut,
    pub(super) texts: Texts,
}

impl<'a> Recipe<'a> {
    /// Loads the model and encodes the texts of `training`, of whose history the newest are held out for calibration.
    /// Tells `observe` how much memory a training on the CPU takes.
    ///
    /// # Errors
    /// The history is empty, none of its texts is short enough for the model, the base cannot be trained on or read, the device is not
    /// there, or the observer stopped the work.
    pub(super) fn load(
        training: Training<'a>,
        hold_out: HoldOut,
        observe: TrainObserver,
    ) -> Result<Self> {
        let Training {
            folder,
            base_path,
            base,
            config,
            ..
        } = training;
        let gpu = match config.device.gpu()? {
            Some(gpu) => Some((
                gpu,
                config.device.dtype(config.weight_type, config.recompute)?,
            )),
            None => None,
        };
        let gguf = Gguf::open(base_path)?;
        let task = task_adapter(folder, base, &gguf)?;
        let vocabulary = llama::Model::load_without_weights(base_path)?;
        let shape = Shape::read(&gguf, Family::of(&gguf)?)?;
        let encoder = Encoder::new(&vocabulary, shape.n_ctx)?;
        let texts = Texts::load(folder, &encoder, hold_out, shape.n_ctx, observe)?;
        let load = |weight_type, observe: TrainObserver| {
            let (task, rope_factors) = (task.as_ref(), config.rope_factors);
            let mut read = || observe(TrainEvent::Pass);
            TrainModel::load_with_task(&gguf, weight_type, task, rope_factors, &mut read)
        };
        let model = if let Some((gpu, dtype)) = gpu {
            load(WeightType::Quantized, observe)?.on_candle(&gpu, dtype)?
        } else {
            let n_replayed = replay::n_items(config, hold_out, texts.examples.len());
            let (stages, examples) = (training.stages, &texts.examples);
            let estimate = MemoryEstimate::of(&gguf, &shape, config, stages, examples, n_replayed)?;
            let bytes = estimate.bytes();
            observe(TrainEvent::Memory { bytes })?;
            memory::check(bytes)?;
            load(config.weight_type, observe)?.recomputing(config.recompute)
        };
        let model = model.stopped_by(StopFlag::new(training.stop));
        Ok(Self {
            folder,
            base,
            config,
            gguf,
            model,
            vocabulary,
            hold_out,
            texts,
        })
    }

    /// Fits a fresh adapter, or a copy of another user's, to the history and to replayed answers of the base, and writes it
    /// to `sft.gguf`. `inputs` is the hash of what the stage depends on.
    ///
    /// # Errors
    /// Those of [`fit`] and of [`replay::answers`], the other user's adapter is gone or does not fit, or the adapter cannot
    /// be written.
    pub(super) fn sft(&self, inputs: &str, observe: TrainObserver) -> Result<Figures> {
        let lora = match &self.config.start {
            Some(start) => self.adapter(&self.folder.known_start(start)?)?,
            None => self.model.lora(&self.config.lora, self.config.seed)?,
        };
        let mut checkpoint = Checkpoint::at(&self.folder.checkpoint(), inputs);
        let replayed = self.replayed(observe)?;
        let objective = Sft {
            model: &self.model,
            examples: &[&*self.texts.examples, &replayed].concat(),
            held_out: &self.texts.held_out,
        };
        fit(
            &objective,
            &lora,
            &self.config.sft,
            self.config.seed,
            &mut checkpoint,
            &mut self.logged(observe),
        )?;
        self.save(&lora, &self.folder.sft())?;
        let mut ended = || observe(TrainEvent::Pass);
        let mut measure =
            |lora| sft::mean_logprob(&self.model, lora, &self.texts.held_out, &mut ended);
        let mut figures = Figures::new();
        if !self.texts.held_out.is_empty() {
            figures.insert("held_out/logprob_before", measure(None)?);
            figures.insert("held_out/logprob", measure(Some(&lora))?);
        }
        Ok(figures)
    }

    /// The replayed answers beside the history that is trained on.
    fn replayed(&self, observe: TrainObserver) -> Result<Vec<Encoded>> {
        let n_items = replay::n_items(self.config, self.hold_out, self.texts.examples.len());
        if n_items == 0 {
            return Ok(Vec::new());
        }
        let is_eog = |token| decode::Vocabulary::is_eog(&*self.vocabulary, token);
        replay::answers(&self.model, &self.encoder()?, n_items, &is_eog, observe)
    }

    /// Samples responses to all prompts (the history's, those of liked answers, and the held-out ones), and writes the
    /// pairs that they make to `pairs.jsonl`, and the pairs of the held-out texts to a file of their own.
    ///
    /// # Errors
    /// The adapter of SFT cannot be read or does not fit the base, a tensor operation failed, a file cannot be written, or the observer stopped the work.
    pub(super) fn mine(&self, inputs: &str, observe: TrainObserver) -> Result<Figures> {
        let lora = self.adapter(&self.folder.sft())?;
        let encoder = self.encoder()?;
        let mut liked = self.verdicts()?.liked();
        let (liked_examples, _) = encoder.fitting(&mut liked)?;
        let originals: Vec<_> = self
            .texts
            .profile
            .history
            .iter()
            .chain(&liked)
            .chain(&self.texts.profile.held_out)
            .collect();
        let examples = [&*self.texts.examples, &liked_examples, &self.texts.held_out].concat();
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
        let pair = |number: usize, found: Found| self.pair(&encoder, originals[number], found);
        let mined = self.mine_in_parts(&miner, &examples, &pair, inputs, observe)?;
        let n_learnt = self.texts.profile.history.len() + liked.len();
        let in_order = mined.in_order();
        let (history, held_out) = in_order.split_at(n_learnt);
        let pairs = |mined: &[(usize, Option<Pair>)]| -> Vec<Pair> {
            let pairs = mined.iter().filter_map(|(_, pair)| pair.clone());
            pairs.collect()
        };
        let (history, held_out) = (pairs(history), pairs(held_out));
        write_jsonl(&self.folder.held_out_pairs(), &held_out)?;
        write_jsonl(&self.folder.pairs(), &history)?;
        mined.remove()?;
        Ok([("pairs", history.len() as f64)].into())
    }

    /// Mines `examples` part by part, and keeps each part in the journal. `pair` turns what was found for an example, by its
    /// number, into text.
    fn mine_in_parts(
        &self,
        miner: &Miner,
        examples: &[Encoded],
        pair: &dyn Fn(usize, Found) -> Option<Pair>,
        inputs: &str,
        observe: TrainObserver,
    ) -> Result<Journal<Option<Pair>>> {
        let order = miner.order(examples);
        let mut mined = Journal::open(&self.folder.mined(), inputs, &order)?;
        let (stage, total) = (Stage::Mine, examples.len());
        let done = mined.len();
        observe(TrainEvent::Started { stage, total, done })?;
        // The parts do not depend on where the work was stopped, since the other texts of a batch can change the last bits of
        // a sample.
        for part in order[done..].chunks(SLOTS) {
            let done = mined.len();
            let mut ended = |n| {
                observe(TrainEvent::Step {
                    stage,
                    done: done + n,
                    metrics: StepMetrics::new(),
                })
            };
            let numbered: Vec<_> = part.iter().map(|&it| (it, &examples[it])).collect();
            let found = miner.mine(&numbered, &mut ended)?;
            let found = part.iter().zip(found);
            mined.add(found.map(|(&it, found)| (it, found.and_then(|found| pair(it, found)))))?;
            observe(TrainEvent::Saved { stage })?;
        }
        Ok(mined)
    }

    /// Trains the adapter of SFT on the mined pairs and on those from the user's feedback, and writes it to `dpo.gguf`.
    ///
    /// # Errors
    /// A file of an earlier stage cannot be read, a pair is malformed or too long, those of [`fit`], or the adapter
    /// cannot be written.
    pub(super) fn dpo(&self, inputs: &str, observe: TrainObserver) -> Result<Figures> {
        let lora = self.adapter(&self.folder.sft())?;
        let mined: Vec<Pair> = read_jsonl(&self.folder.pairs())?;
        let judged = self.verdicts()?.pairs();
        let n_judged = judged.len();
        let pairs = self.pairs(&self.folder.pairs(), mined, observe)?;
        let pairs = pairs.and(self.pairs(&self.folder.feedback_path(), judged, observe)?);
        if pairs.pairs.is_empty() {
            // No example gave a pair, for instance because all texts are longer than a sample may be. The adapter then
            // stays what SFT made.
            self.save(&lora, &self.folder.dpo())?;
            return Ok(Figures::new());
        }
        let config = &self.config.dpo;
        let path = self.folder.held_out_pairs();
        let held_out_pairs = self.pairs(&path, read_jsonl(&path)?, observe)?;
        let measure = |lora: &Lora, observe: TrainObserver| -> Result<_> {
            let mut ended = || observe(TrainEvent::Pass);
            let (model, texts) = (&self.model, &self.texts.held_out);
            Ok((
                sft::mean_logprob(model, Some(lora), texts, &mut ended)?,
                dpo::mean_margin(model, lora, &held_out_pairs, config, &mut ended)?,
            ))
        };
        let (logprob_before, margin_before) = measure(&lora, observe)?;
        let mut checkpoint = Checkpoint::at(&self.folder.checkpoint(), inputs);
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
            &mut self.logged(observe),
        )?;
        self.save(&lora, &self.folder.dpo())?;
        let mut figures = Figures::new();
        if n_judged > 0 {
            figures.insert("feedback/pairs", n_judged as f64);
        }
        if !self.texts.held_out.is_empty() {
            let (logprob, margin) = measure(&lora, observe)?;
            figures.insert("held_out/logprob_before", logprob_before);
            figures.insert("held_out/logprob", logprob);
            figures.insert("held_out/margin_before", margin_before);
            figures.insert("held_out/margin", margin);
        }
        Ok(figures)
    }

    /// Chooses scale and contrast on the texts that are held out for calibration, and keeps what is measured in a journal.
    /// Returns the adapter that is to become `adapter.gguf`. `inputs` is the hash of what the stage depends on.
    ///
    /// # Errors
    /// An adapter of an earlier stage cannot be read or does not fit the base, a tensor operation failed, a file cannot be
    /// written, or the observer stopped the work.
    pub(super) fn calibrate(
        &self,
        inputs: &str,
        observe: TrainObserver,
    ) -> Result<(Adapter, Calibration)> {
        let (sft, dpo) = (
            self.read(&self.folder.sft())?,
            self.read(&self.folder.dpo())?,
        );
        let lora = |adapter: &Adapter| Lora::from_adapter(adapter, self.model.shape());
        let mut adapters = vec![(Stage::Dpo, lora(&dpo)?)];
        // Without pairs, DPO leaves the adapter as it is.
        if !self.config.keep_dpo && sft.tensors != dpo.tensors {
            adapters.push((Stage::Sft, lora(&sft)?));
        }
        let calibrator = Calibrator {
            adapters: &adapters,
            hold_out: self.hold_out,
            texts: &self.texts.calibration,
            questions: &everyday::encoded(&self.encoder()?)?,
            held_out: &self.texts.held_out,
            seed: self.config.seed,
        };
        let parts = calibrator.parts();
        let order: Vec<_> = (0..parts.len()).collect();
        let journal = Journal::open(&self.folder.measured(), inputs, &order)?;
        let mut measurer = Measurer::begin(&self.model, &parts, journal, observe)?;
        let (calibration, measured) = calibrator.calibrate(&mut measurer)?;
        for it in measured {
            self.folder.log_training(&SettingLine {
                stage: Stage::Calibrate,
                setting: it.setting,
                logprob: it.logprob,
                accuracy: it.accuracy,
                n_right: it.n_right,
            })?;
        }
        measurer.end()?;
        let chosen = calibration.chosen;
        let adapter = if chosen.stage == Stage::Sft { sft } else { dpo };
        let adapter = Adapter {
            lora_alpha: adapter.lora_alpha * chosen.scale,
            contrast: Some(chosen.contrast),
            ..adapter
        };
        Ok((adapter, calibration))
    }

    /// An encoder for texts beside the history: pairs, and liked answers.
    pub(super) fn encoder(&self) -> Result<Encoder<'_>> {
        Encoder::new(&self.vocabulary, self.model.shape().n_ctx)
    }

    /// A found pair as text. It keeps the base's log-probabilities if encoding the text gives the same tokens again,
    /// since these are what DPO will train on.
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
        // A pair that does not fit the model's context is an error of DPO, which can name its line.
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

    /// The user's feedback on answers.
    fn verdicts(&self) -> Result<Verdicts> {
        Ok(Verdicts::from_feedback(&self.folder.feedback()?))
    }

    /// Encodes the pairs that `path` holds line by line, and adds the base's log-probabilities: those of mining, where
    /// they are of this base and these tokens, or new ones.
    fn pairs(&self, path: &Path, pairs: Vec<Pair>, observe: TrainObserver) -> Result<ScoredPairs> {
        let encoded = self.encoder()?.pairs(&pairs, path)?;
        let known = |(encoded, pair): (EncodedPair, Pair)| {
            let known = pair.base_logps;
            let known = known.filter(|known| known.of == self.pair_digest(&encoded));
            (encoded, known.map(|known| [known.chosen, known.rejected]))
        };
        ScoredPairs::new(
            &self.model,
            encoded.into_iter().zip(pairs).map(known).collect(),
            &mut || observe(TrainEvent::Pass),
        )
    }

    /// SHA-256 over the base as this training computes it, and a pair's tokens: what the base's log-probabilities
    /// depend on.
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

    /// Reads the adapter of an earlier stage or of another user, to train it on or to measure it.
    pub(super) fn adapter(&self, path: &Path) -> Result<Lora> {
        Lora::from_adapter(&self.read(path)?, self.model.shape())
    }

    /// Reads the adapter of an earlier stage.
    fn read(&self, path: &Path) -> Result<Adapter> {
        read_adapter(path, &self.gguf, self.base)
    }

    /// Writes the adapter, with the base that it is for and the default settings of the contrast.
    fn save(&self, lora: &Lora, path: &Path) -> Result<()> {
        let contrast = decode::Contrast::default();
        let adapter = Adapter {
            architecture: self.base.architecture.clone(),
            lora_alpha: lora.lora_alpha(),
            base_sha256: Some(self.base.sha256.clone()),
            task_sha256: self.base.task_sha256.clone(),
            contrast: Some(contrast.contrast()),
            plausibility: Some(contrast.plausibility()),
            rope_factors: self.model.rope_factors(),
            name: Some(self.folder.name().to_string()),
            tensors: lora.to_tensors()?,
        };
        Ok(adapter.write_gguf(path)?)
    }

    /// `observe`, which now also adds a line to the user's training log after each step.
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

/// Reads the task adapter that is part of `base`, from the user's folder. `None` if `base` has no task adapter.
fn task_adapter(folder: &AdapterFolder, base: &BaseRef, gguf: &Gguf) -> Result<Option<Adapter>> {
    let Some(expected) = &base.task_sha256 else {
        return Ok(None);
    };
    let path = folder.known_task(expected)?;
    let adapter = Adapter::read_gguf(&path)?;
    adapter.check_fits(gguf, &base.sha256)?;
    Ok(Some(adapter))
}
