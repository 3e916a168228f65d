//! How much memory a training takes, told before it starts.
//!
//! Held all the time: the frozen weights, and the adapter with its gradient and AdamW's moments. On top of them comes
//! the largest of what the stages hold for a while: a step's activations, which grow with its tokens (one block's
//! inputs each, or with recomputation one value a feature), or the cache that mining samples into.

use super::config::TrainConfig;
use super::examples::Encoded;
use super::fit::FitConfig;
use super::generate::SLOTS;
use super::head;
use super::lora::TargetModule;
use super::ops::attention::QUERIES;
use super::ops::linear::WeightType;
use super::shape::Shape;
use crate::home::Stage;

/// The program itself, buffers that come and go, and what the allocator keeps of them.
const PROGRAM: u64 = 30 << 20;
/// What llama.cpp's vocabulary takes for a token.
const TOKEN: u64 = 200;

/// What a training of some examples takes.
pub(super) struct MemoryEstimate<'a> {
    pub shape: &'a Shape,
    /// Bytes of the model's file.
    pub file_bytes: u64,
    /// Bytes that an embedding has there which is not the head too.
    pub table_bytes: u64,
    pub config: &'a TrainConfig,
    /// Those that are to run.
    pub stages: &'a [Stage],
    pub examples: &'a [Encoded],
}

impl MemoryEstimate<'_> {
    /// The peak in bytes.
    pub fn bytes(&self) -> u64 {
        let stage = |stage: &Stage| match stage {
            Stage::Sft => {
                let tokens = |x: &Encoded| x.prompt.len() + x.response.len();
                self.largest_step(&self.config.sft, tokens)
            }
            Stage::Mine => self.sampling(),
            Stage::Dpo => {
                let tokens = |x: &Encoded| {
                    let sample = self.sample_len(x);
                    x.prompt.len() + sample.max(x.response.len()) + sample
                };
                self.largest_step(&self.config.dpo.fit, tokens)
            }
        };
        let passing = self.stages.iter().map(stage).max().unwrap_or(0);
        let vocabulary = TOKEN * self.shape.n_vocab as u64;
        PROGRAM + vocabulary + self.weights() + 4 * (self.adapter() + passing)
    }

    fn weights(&self) -> u64 {
        let shape = self.shape;
        let linear = |target| {
            let (n_out, n_in) = shape.linear(target);
            (n_out * n_in) as u64
        };
        let blocks = TargetModule::ALL.map(linear).iter().sum::<u64>() * shape.n_layer as u64;
        let head = (shape.n_vocab * shape.n_embd) as u64;
        match self.config.weight_type {
            WeightType::F32 => 4 * (blocks + head) + self.table_bytes,
            WeightType::Bf16 => 2 * (blocks + head) + self.table_bytes,
            WeightType::Quantized => self.file_bytes,
        }
    }

    /// The adapter, its gradient, two moments, and copies on the way between them.
    fn adapter(&self) -> u64 {
        let lora = &self.config.lora;
        let values = |&target: &TargetModule| {
            let (n_out, n_in) = self.shape.linear(target);
            (lora.rank * (n_out + n_in)) as u64
        };
        let values: u64 = lora.target_modules.iter().map(values).sum();
        6 * values * self.shape.n_layer as u64
    }

    /// Activations of the largest of a fit's steps, or of the parts that they are computed in.
    fn largest_step(&self, fit: &FitConfig, tokens: impl Fn(&Encoded) -> usize) -> u64 {
        let lengths: Vec<usize> = self.examples.iter().map(tokens).collect();
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

    /// Activations of a step of texts of so many tokens.
    fn step(&self, lengths: &[usize]) -> u64 {
        let shape = self.shape;
        let (q, kv) = (
            shape.heads.n_head * shape.heads.head_dim,
            shape.heads.n_head_kv * shape.heads.head_dim,
        );
        let kept = 2 * q + 2 * kv + shape.n_embd + 2 * shape.n_ff;
        let passing = 8 * shape.n_embd + 5 * shape.n_ff;
        let blocks = if self.config.recompute {
            1
        } else {
            shape.n_layer
        };
        let a_token = blocks * kept + passing + shape.n_layer * shape.n_embd;
        let logits = head::ROWS * shape.n_vocab;
        // Gradients of the keys and values that each block of queries sees, half of all.
        let seen = |length: &usize| length * length.div_ceil(QUERIES);
        let attention = q * lengths.iter().map(seen).sum::<usize>();
        let tokens: usize = lengths.iter().sum();
        (tokens * a_token + logits + attention) as u64
    }

    /// The cache of the samples, and their logits.
    fn sampling(&self) -> u64 {
        let (shape, mine) = (self.shape, &self.config.mine);
        let slots = SLOTS.min(self.examples.len());
        let rows = |x: &Encoded| x.prompt.len() + mine.n_samples * self.sample_len(x);
        let rows: usize = self.longest(slots, rows).iter().sum();
        let row = 2 * shape.n_layer * shape.heads.n_head_kv * shape.heads.head_dim;
        (rows * row + slots * mine.n_samples * shape.n_vocab) as u64
    }

    /// The most tokens of a sample.
    fn sample_len(&self, example: &Encoded) -> usize {
        self.config.mine.sample_len(&example.response)
    }

    /// The `n` largest lengths.
    fn longest(&self, n: usize, length: impl Fn(&Encoded) -> usize) -> Vec<usize> {
        let mut lengths: Vec<usize> = self.examples.iter().map(length).collect();
        lengths.sort_unstable_by(|x, y| y.cmp(x));
        lengths.truncate(n);
        lengths
    }
}
