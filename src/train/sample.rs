//! Sampling from the model in training: many prompts, several samples of each, in one running batch.
//!
//! The first rows of the KV cache hold the prompts' common prefix. A *slot* holds one prompt and its samples: its rows
//! are the rest of the prompt, which the samples share, followed by the rows of each sample. When all samples of a slot
//! have ended, the next prompt moves in, and its tokens join the next pass, so that every pass is as wide as the slots
//! allow. A given response to a prompt is scored in the pass that reads the prompt.

mod cached_pass;

use std::cmp::Reverse;
use std::ops::Range;

use cached_pass::{KvCache, Pass};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

use super::head::gather;
use super::lora::Lora;
use super::model::TrainModel;
use super::ops::vector::softmax;
use super::packing::common_prefix;
use crate::Result;
use crate::llama::Token;

/// Prompts that are sampled at a time: enough for efficient matrix products, few enough for a small KV cache.
pub(super) const SLOTS: usize = 16;

/// The settings of sampling.
#[derive(Clone, Copy, Debug)]
pub struct SampleConfig {
    /// Number of samples for each prompt.
    pub n_samples: usize,
    /// Divisor of the logits; 1 leaves the model's distribution as it is.
    pub temperature: f32,
    /// Nucleus: tokens are drawn from the smallest set with at least this probability; 1 allows all tokens.
    pub top_p: f32,
    /// Seed of the random numbers. Equal seeds give equal samples.
    pub seed: u64,
}

/// A prompt to sample responses to, and a given response to score.
#[derive(Clone, Copy, Debug)]
pub struct SampleRequest<'a> {
    /// Number that selects, with the seed, the random numbers of its samples.
    pub number: usize,
    /// The prompt.
    pub prompt: &'a [Token],
    /// A given response whose log-probability is computed too; may be empty.
    pub response: &'a [Token],
    /// The most tokens of a sample.
    pub max_new_tokens: usize,
}

/// One sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// The tokens, including the end-of-generation token if the sample came to one.
    pub tokens: Vec<Token>,
    /// Sum of the tokens' log-probabilities under the model itself (temperature 1, no nucleus), in nats.
    pub logps: f64,
    /// Whether the sample ended with an end-of-generation token.
    pub finished: bool,
}

/// The result of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampled {
    /// The samples, `[n_samples]`.
    pub samples: Vec<Sample>,
    /// Sum of the log-probabilities of the given response's tokens, in nats.
    pub response_logps: f64,
}

/// Samples from `model`, with an adapter or from the base. `is_eog` says whether a token ends a response; `ended` is
/// called after each pass with the number of requests that are done.
///
/// # Errors
/// A tensor operation failed, or `ended` returned an error.
pub fn sample(
    model: &TrainModel,
    lora: Option<&Lora>,
    requests: &[SampleRequest],
    config: SampleConfig,
    is_eog: &(dyn Fn(Token) -> bool + Sync),
    mut ended: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<Sampled>> {
    let mut run = SampleRun::new(model, lora, requests, config)?;
    let mut results = vec![Sampled::default(); requests.len()];
    let mut done = 0;
    while run.fill_slots() {
        let logits = run.next_logits()?;
        run.draw(&logits, is_eog);
        for (number, sampled) in run.take_ended() {
            results[number] = sampled;
            done += 1;
        }
        ended(done)?;
    }
    Ok(results)
}

/// The state of one call of [`sample`].
struct SampleRun<'a> {
    model: &'a TrainModel,
    lora: Option<Lora>,
    requests: &'a [SampleRequest<'a>],
    config: SampleConfig,
    /// The common prefix of all prompts.
    shared: &'a [Token],
    shared_is_run: bool,
    /// Rows of the cache that each slot has.
    slot_rows: usize,
    slots: Vec<Option<PromptSlot<'a>>>,
    cache: KvCache<'a>,
    /// Indices of the requests that have no slot yet.
    waiting: std::vec::IntoIter<usize>,
}

impl<'a> SampleRun<'a> {
    fn new(
        model: &'a TrainModel,
        lora: Option<&Lora>,
        requests: &'a [SampleRequest<'a>],
        config: SampleConfig,
    ) -> Result<Self> {
        let shared = common_prefix(requests.iter().map(|request| request.prompt));
        let rows = |request: &SampleRequest| {
            let samples = config.n_samples * request.max_new_tokens;
            request.prompt.len() - shared.len() + samples.max(request.response.len())
        };
        let slot_rows = requests.iter().map(rows).max().unwrap_or(0);
        let n_slots = SLOTS.min(requests.len());
        // The longest ones first, so that no request is left to run alone at the end.
        let mut waiting: Vec<usize> = (0..requests.len()).collect();
        waiting.sort_by_key(|&number| Reverse(requests[number].max_new_tokens));
        Ok(Self {
            model,
            lora: lora.map(Lora::frozen),
            requests,
            config,
            shared,
            shared_is_run: false,
            slot_rows,
            slots: (0..n_slots).map(|_| None).collect(),
            cache: KvCache::new(model, shared.len() + n_slots * slot_rows)?,
            waiting: waiting.into_iter(),
        })
    }

    /// Moves waiting requests into free slots. Returns whether any slot is in use.
    fn fill_slots(&mut self) -> bool {
        let n_shared = self.shared.len();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.is_none() {
                *slot = self.waiting.next().map(|number| {
                    let first_row = n_shared + index * self.slot_rows;
                    self.cache.forget(&(first_row..first_row + self.slot_rows));
                    let request = self.requests[number];
                    PromptSlot::new(number, request, n_shared, first_row, self.config)
                });
            }
        }
        self.slots.iter().any(Option::is_some)
    }

    /// Runs the next pass over all slots, and adds up the scores of given responses. Returns the logits that the
    /// running samples' next tokens are drawn from, `[outputs, n_vocab]`.
    fn next_logits(&mut self) -> Result<Vec<f32>> {
        let mut pass = Pass::default();
        if !std::mem::replace(&mut self.shared_is_run, true) && !self.shared.is_empty() {
            pass.push(self.shared, 0, &[], 0);
        }
        for slot in self.slots.iter_mut().flatten() {
            slot.plan(&mut pass);
        }
        let hidden = self.cache.run(self.model, self.lora.as_ref(), &pass)?;
        let logprobs = self.model.head_logprobs(&hidden, &pass.scored)?;
        for slot in self.slots.iter_mut().flatten() {
            slot.response_logps += sum(&logprobs[std::mem::take(&mut slot.scored)]);
        }
        let outputs = gather(&hidden, &pass.outputs, self.model.shape().n_embd);
        self.model.head_logits(outputs)
    }

    /// Draws the next token of every running sample.
    fn draw(&mut self, logits: &[f32], is_eog: &(dyn Fn(Token) -> bool + Sync)) {
        let n_vocab = self.model.shape().n_vocab;
        let slots = self.slots.iter_mut().flatten();
        let mut samples: Vec<_> = slots.flat_map(|slot| &mut slot.samples).collect();
        samples
            .par_iter_mut()
            .filter(|sample| sample.running)
            .for_each(|sample| {
                let row = &logits[sample.output * n_vocab..(sample.output + 1) * n_vocab];
                sample.draw(row, self.config, is_eog);
            });
    }

    /// Frees the slots whose samples have all ended. Returns each one's request, by its index, with its result.
    fn take_ended(&mut self) -> impl Iterator<Item = (usize, Sampled)> {
        self.slots.iter_mut().filter_map(|slot| {
            let has_ended =
                |slot: &mut PromptSlot| slot.samples.iter().all(|sample| !sample.running);
            let slot = slot.take_if(has_ended)?;
            let samples = slot.samples.into_iter().map(|running| running.sample);
            let sampled = Sampled {
                samples: samples.collect(),
                response_logps: slot.response_logps,
            };
            Some((slot.number, sampled))
        })
    }
}

/// A slot with the request that is being sampled in it.
struct PromptSlot<'a> {
    /// Index of the request.
    number: usize,
    request: SampleRequest<'a>,
    /// Number of tokens of the prompt that are in the common prefix.
    n_shared: usize,
    /// The slot's first row of the KV cache.
    first_row: usize,
    /// Whether a pass has read the prompt.
    prefilled: bool,
    /// The range of the pass's log-probabilities that are those of the given response.
    scored: Range<usize>,
    response_logps: f64,
    samples: Vec<Running>,
}

/// A sample that is being drawn.
struct Running {
    sample: Sample,
    random: ChaCha8Rng,
    max_new_tokens: usize,
    /// Whether more tokens will be drawn.
    running: bool,
    /// Row of the pass's logits that the next token is drawn from.
    output: usize,
}

impl<'a> PromptSlot<'a> {
    fn new(
        number: usize,
        request: SampleRequest<'a>,
        n_shared: usize,
        first_row: usize,
        config: SampleConfig,
    ) -> Self {
        let running = |index: usize| {
            // Each sample has a stream of its own, so that it does not depend on what else is in the batch.
            let mut random = ChaCha8Rng::seed_from_u64(config.seed);
            random.set_stream((request.number * config.n_samples + index) as u64);
            Running {
                sample: Sample::default(),
                random,
                max_new_tokens: request.max_new_tokens,
                running: request.max_new_tokens > 0,
                output: 0,
            }
        };
        Self {
            number,
            request,
            n_shared,
            first_row,
            prefilled: false,
            scored: 0..0,
            response_logps: 0.0,
            samples: (0..config.n_samples).map(running).collect(),
        }
    }

    /// Adds to the pass what this slot needs next: its prompt and response, or the newest token of each running sample.
    fn plan(&mut self, pass: &mut Pass) {
        let SampleRequest {
            prompt,
            response,
            max_new_tokens,
            ..
        } = self.request;
        let own = &prompt[self.n_shared..];
        let (shared_rows, own_rows) =
            (0..self.n_shared, self.first_row..self.first_row + own.len());
        let before = [shared_rows.clone(), own_rows.clone()];
        if !self.prefilled {
            self.prefilled = true;
            let prompt_rows = pass.push(own, self.n_shared, &[shared_rows], own_rows.start);
            let output = pass.output(prompt_rows.end - 1);
            for sample in &mut self.samples {
                sample.output = output;
            }
            // The response borrows the samples' rows of the cache, which these need only after this pass.
            let inputs = &response[..response.len().saturating_sub(1)];
            let rows = pass.push(inputs, prompt.len(), &before, own_rows.end);
            self.scored = pass.score(prompt_rows.end - 1, rows, response);
            return;
        }
        for (index, running) in self
            .samples
            .iter_mut()
            .enumerate()
            .filter(|(_, running)| running.running)
        {
            let tokens = &running.sample.tokens;
            let first_row = own_rows.end + index * max_new_tokens;
            let newest = tokens.len() - 1;
            let position = prompt.len() + newest;
            let row = pass.push(&tokens[newest..], position, &before, first_row);
            running.output = pass.output(row.start);
        }
    }
}

impl Running {
    /// Draws the next token from `logits`, `[n_vocab]`.
    fn draw(
        &mut self,
        logits: &[f32],
        config: SampleConfig,
        is_eog: &(dyn Fn(Token) -> bool + Sync),
    ) {
        let mut probabilities = logits.to_vec();
        let log_z = softmax(&mut probabilities);
        if config.temperature.to_bits() != 1f32.to_bits() {
            probabilities.clear();
            probabilities.extend(logits.iter().map(|z| z / config.temperature));
            softmax(&mut probabilities);
        }
        let token = draw(&probabilities, config.top_p, self.random.random::<f32>());
        let sample = &mut self.sample;
        sample.logps += f64::from(logits[token] - log_z);
        sample.tokens.push(token as Token);
        sample.finished = is_eog(token as Token);
        self.running = !sample.finished && sample.tokens.len() < self.max_new_tokens;
    }
}

/// Draws from the smallest set of tokens whose probabilities sum to at least `top_p`. `uniform` is a random number in
/// [0, 1).
fn draw(probabilities: &[f32], top_p: f32, uniform: f32) -> usize {
    // A few tokens carry nearly all the probability. Only those above a threshold are sorted, and a lower threshold is
    // tried if they do not reach `top_p`.
    let likely = |least: f32| {
        let mut tokens: Vec<usize> = (0..probabilities.len())
            .filter(|&token| probabilities[token] >= least)
            .collect();
        tokens.sort_by(|&x, &y| {
            probabilities[y]
                .total_cmp(&probabilities[x])
                .then(x.cmp(&y))
        });
        let mut mass = 0.0;
        let kept = tokens.iter().position(|&token| {
            mass += probabilities[token];
            mass >= top_p
        });
        kept.map(|last| {
            tokens.truncate(last + 1);
            (tokens, mass)
        })
    };
    let all = || {
        (
            (0..probabilities.len()).collect(),
            probabilities.iter().sum(),
        )
    };
    let least = [1e-4, 1e-5, 1e-6, 0.0];
    let (tokens, mass) = least.into_iter().find_map(likely).unwrap_or_else(all);
    let mut rest = uniform * mass;
    let drawn = tokens.iter().find(|&&token| {
        rest -= probabilities[token];
        rest < 0.0
    });
    *drawn.or(tokens.last()).unwrap_or(&0)
}

/// The sum in f64.
fn sum(logprobs: &[f32]) -> f64 {
    logprobs.iter().map(|&logprob| f64::from(logprob)).sum()
}

#[cfg(test)]
mod tests {
    use super::draw;

    #[test]
    fn tokens_are_drawn_only_from_the_nucleus() {
        let probabilities = [0.1, 0.5, 0.05, 0.35];
        let drawn = |uniform| draw(&probabilities, 0.8, uniform);
        assert_eq!(
            (0..100)
                .map(|i| drawn(i as f32 / 100.0))
                .filter(|&t| t == 1)
                .count(),
            59
        );
        assert!((0..100).all(|i| matches!(drawn(i as f32 / 100.0), 1 | 3)));
        assert_eq!(draw(&probabilities, 1.0, 0.999), 2);
    }

    #[test]
    fn a_flat_distribution_is_drawn_from_in_full() {
        let probabilities = vec![1e-5; 100_000];
        let seen: std::collections::BTreeSet<_> = (0..100)
            .map(|i| draw(&probabilities, 1.0, i as f32 / 100.0) / 1_000)
            .collect();
        assert!(seen.len() > 95);
    }
}
