//! An estimate of a training's peak memory on the CPU, made before it starts.
//!
//! The frozen weights, the adapter, its gradient and AdamW's moments are held throughout. To them comes the largest of
//! what each stage holds for a while: the activations of its largest step, which grow with the step's tokens (those of
//! all blocks, or with recomputation of one block, and every block's inputs), or the KV cache that mining samples with.

use cope_convert::gguf::Gguf;

use super::calibrate;
use super::config::TrainConfig;
use super::encoder::Encoded;
use super::family::Family;
use super::fit::FitConfig;
use super::head;
use super::hold_out::HoldOut;
use super::layer_inputs;
use super::lora::TargetModule;
use super::ops::attention::QUERIES;
use super::ops::linear::WeightType;
use super::replay;
use super::sample::SLOTS;
use super::shape::{AttentionShape, MixerShape, Shape};
use crate::error::MemoryUser;
use crate::home::Stage;
use crate::{Error, Result, llama};

/// Bytes for the program itself, its temporary buffers, and freed memory that the allocator keeps.
const PROGRAM: u64 = 30 << 20;
/// Bytes of llama.cpp's vocabulary for each token.
const TOKEN: u64 = 200;

/// Refuses a training that takes `bytes` at its peak if less memory is free. The system would end it on the way.
///
/// # Errors
/// [`Error::NoRoom`] if less is free.
pub(super) fn check(bytes: u64) -> Result<()> {
    match llama::free_memory() {
        Some(free) if bytes > free => Err(Error::NoRoom {
            user: MemoryUser::Training,
            needed: bytes,
            free,
        }),
        _ => Ok(()),
    }
}

/// The number of texts of a usual training, and the tokens of their prompts and responses.
const USUAL: (usize, usize, usize) = (100, 40, 160);

/// About the bytes that a usual training of a model takes at its peak: with the default settings, on 100 texts of 200
/// tokens each.
///
/// # Errors
/// The model cannot be trained, for the reason that the error gives.
pub fn usual_memory(gguf: &Gguf) -> Result<u64> {
    let shape = Shape::read(gguf, Family::of(gguf)?)?;
    let config = TrainConfig::default();
    let (n_texts, n_prompt, n_response) = USUAL;
    let example = Encoded {
        prompt: vec![0; n_prompt],
        response: vec![0; n_response],
    };
    let examples = vec![example; n_texts];
    let hold_out = HoldOut::new(config.hold_out, n_texts)?;
    let n_replayed = replay::n_items(&config, hold_out, n_texts);
    let estimate = MemoryEstimate::of(gguf, &shape, &config, &Stage::ALL, &examples, n_replayed)?;
    Ok(estimate.bytes())
}

/// The quantities that a training's memory depends on.
pub(super) struct MemoryEstimate<'a> {
    pub shape: &'a Shape,
    /// Size in bytes of the model's file, without the table that stays in it.
    pub file_bytes: u64,
    /// Size in bytes of the token embedding in the file, if the head is another tensor; else 0.
    pub table_bytes: u64,
    pub config: &'a TrainConfig,
    /// The stages that will run.
    pub stages: &'a [Stage],
    pub examples: &'a [Encoded],
    /// Number of replayed answers.
    pub n_replayed: usize,
}

impl<'a> MemoryEstimate<'a> {
    /// The estimate for a model with this header and shape.
    ///
    /// # Errors
    /// A file of the model is gone.
    pub fn of(
        gguf: &Gguf,
        shape: &'a Shape,
        config: &'a TrainConfig,
        stages: &'a [Stage],
        examples: &'a [Encoded],
        n_replayed: usize,
    ) -> Result<Self> {
        let embedding = gguf.tensor("token_embd.weight");
        let untied = gguf.tensor("output.weight").and(embedding);
        let left = gguf.tensor(layer_inputs::TABLE);
        let n_left = left.map_or(0, |table| table.n_bytes);
        Ok(Self {
            shape,
            file_bytes: gguf.n_file_bytes()?.saturating_sub(n_left),
            table_bytes: untied.map_or(0, |table| table.n_bytes),
            config,
            stages,
            examples,
            n_replayed,
        })
    }

    /// The estimated peak in bytes.
    pub fn bytes(&self) -> u64 {
        let stage = |stage: &Stage| match stage {
            Stage::Sft => {
                let tokens = |x: &Encoded| x.prompt.len() + x.response.len();
                let replayed = std::iter::repeat_n(replay::ITEM, self.n_replayed);
                let lengths = self.examples.iter().map(tokens).chain(replayed);
                self.largest_step(&self.config.sft, &lengths.collect::<Vec<_>>())
            }
            Stage::Mine => self.sampling(),
            Stage::Dpo => {
                let tokens = |x: &Encoded| {
                    let sample = self.sample_len(x);
                    x.prompt.len() + sample.max(x.response.len()) + sample
                };
                let lengths: Vec<usize> = self.examples.iter().map(tokens).collect();
                self.largest_step(&self.config.dpo.fit, &lengths)
            }
            Stage::Calibrate => self.calibration(),
        };
        let temporary = self.stages.iter().map(stage).max().unwrap_or(0);
        let vocabulary = TOKEN * self.shape.n_vocab as u64;
        PROGRAM + vocabulary + self.weights() + 4 * (self.adapter() + temporary)
    }

    /// Bytes of the frozen weights.
    fn weights(&self) -> u64 {
        let shape = self.shape;
        let linears = shape.linears(&TargetModule::ALL);
        let blocks: u64 = linears.map(|(n_out, n_in)| (n_out * n_in) as u64).sum();
        let head = (shape.n_vocab * shape.n_embd) as u64;
        let of_inputs = (shape.n_layer * shape.n_input.unwrap_or(0) * shape.n_embd) as u64;
        let others = match self.config.weight_type {
            WeightType::F32 => 4 * (blocks + head) + self.table_bytes,
            WeightType::Bf16 => 2 * (blocks + head) + self.table_bytes,
            WeightType::Quantized => self.file_bytes,
        };
        others + 4 * of_inputs
    }

    /// Number of values of the adapter, its gradient, its two moments, and two temporary copies.
    fn adapter(&self) -> u64 {
        let lora = &self.config.lora;
        let linears = self.shape.linears(&lora.target_modules);
        let values: usize = linears
            .map(|(n_out, n_in)| lora.rank * (n_out + n_in))
            .sum();
        6 * values as u64
    }

    /// Number of activations of the largest step, or micro-batch, of a fit on items of these lengths in tokens.
    fn largest_step(&self, fit: &FitConfig, lengths: &[usize]) -> u64 {
        let at_a_time = match fit.micro_batch_size {
            0 => fit.batch_size.max(1),
            micro => micro,
        };
        let batches = fit.batches(lengths.len(), self.config.seed);
        let parts = batches.iter().flat_map(|batch| batch.chunks(at_a_time));
        let step = |part: &[usize]| {
            let lengths: Vec<usize> = part.iter().map(|&item| lengths[item]).collect();
            self.step(&lengths)
        };
        parts.map(step).max().unwrap_or(0)
    }

    /// Number of activations of a step over texts of these lengths in tokens.
    fn step(&self, lengths: &[usize]) -> u64 {
        let shape = self.shape;
        let blocks = (0..shape.n_layer).map(|layer| self.kept(layer));
        let kept: usize = if self.config.recompute {
            blocks.max().unwrap_or(0)
        } else {
            blocks.sum()
        };
        let temporary = 8 * shape.n_embd + 5 * self.widest() + shape.temporary_of_mixers();
        let inputs = shape.n_layer * shape.n_input.unwrap_or(0);
        let a_token = kept + temporary + inputs + shape.n_layer * shape.n_embd;
        let logits = head::ROWS * shape.n_vocab;
        // The gradients of the keys and values that each block of queries sees, which are half of all on average.
        let seen = |length: &usize| length * length.div_ceil(QUERIES);
        let queries = self.attention().map(AttentionShape::query_width);
        let attention = queries.max().unwrap_or(0) * lengths.iter().map(seen).sum::<usize>();
        let tokens: usize = lengths.iter().sum();
        (tokens * a_token + logits + attention) as u64
    }

    /// Number of values that the forward pass of a block keeps of a token.
    fn kept(&self, layer: usize) -> usize {
        let shape = self.shape;
        let of_mixer = match shape.mixers[layer] {
            MixerShape::Attention(attention) => {
                let own = usize::from(attention.has_own_keys());
                2 * attention.query_width() + 2 * own * attention.key_width()
            }
            MixerShape::ShortConv { .. } => 4 * shape.n_embd,
            MixerShape::DeltaNet(shape) => shape.kept(),
        };
        let of_input = shape.n_input.map_or(0, |n_input| n_input + shape.n_embd);
        of_mixer + of_input + shape.n_embd + 2 * shape.n_ff[layer]
    }

    /// Number of features of the widest feed-forward layers.
    fn widest(&self) -> usize {
        self.shape.n_ff.iter().copied().max().unwrap_or(0)
    }

    /// The attention of all blocks that have it.
    fn attention(&self) -> impl Iterator<Item = &AttentionShape> {
        (0..self.shape.n_layer).filter_map(|layer| self.shape.attention(layer))
    }

    /// Number of values in the KV cache of the samples, and in their logits.
    fn sampling(&self) -> u64 {
        let (shape, mine) = (self.shape, &self.config.mine);
        let slots = SLOTS.min(self.examples.len());
        let rows = |x: &Encoded| x.prompt.len() + mine.n_samples * self.sample_len(x);
        let rows: usize = self.longest(slots, rows).iter().sum();
        let own = self
            .attention()
            .filter(|attention| attention.has_own_keys());
        let row: usize = own.map(|attention| 2 * attention.key_width()).sum();
        // The states of the samples, of the prompt and of the given response.
        let states = slots * (mine.n_samples + 2) * shape.states();
        (rows * row + states + slots * mine.n_samples * shape.n_vocab) as u64
    }

    /// Number of values that calibration holds of some texts: their states under every model, the temporary values of
    /// a pass, and the logits of two models and of their contrasts.
    fn calibration(&self) -> u64 {
        let shape = self.shape;
        let tokens = |x: &Encoded| x.prompt.len() + x.response.len();
        let texts: usize = self.longest(calibrate::TEXTS, tokens).iter().sum();
        let tokens = texts.max(calibrate::QUESTIONS * calibrate::QUESTION);
        let a_token = (calibrate::MODELS + 8) * shape.n_embd + 5 * self.widest();
        (tokens * a_token + 4 * head::ROWS * shape.n_vocab) as u64
    }

    /// The most tokens of a sample for this example.
    fn sample_len(&self, example: &Encoded) -> usize {
        self.config.mine.sample_len(&example.response)
    }

    /// The `n` largest values of `length`.
    fn longest(&self, n: usize, length: impl Fn(&Encoded) -> usize) -> Vec<usize> {
        let mut lengths: Vec<usize> = self.examples.iter().map(length).collect();
        lengths.sort_unstable_by(|x, y| y.cmp(x));
        lengths.truncate(n);
        lengths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_that_takes_more_than_all_memory_is_refused() {
        check(1 << 20).unwrap();
        let needed = 1 << 60;
        let error = check(needed).unwrap_err();
        assert!(
            matches!(&error, Error::NoRoom { user: MemoryUser::Training, needed: it, .. } if *it == needed),
            "{error}"
        );
        let message = error.to_string();
        assert!(
            message.starts_with("the training takes 1099511627776 MiB, and "),
            "{message}"
        );
    }
}
