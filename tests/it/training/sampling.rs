//! Samples and mined pairs of the tiny models, against passes over each sequence by itself.

use cope_llama::train::lora::Lora;
use cope_llama::train::loss::response_logps;
use cope_llama::train::mine::{Found, MineConfig, Miner, Preference, SampleSource};
use cope_llama::train::packing::PackedBatch;
use cope_llama::train::sample::{Sample, SampleConfig, SampleRequest, Sampled, sample};
use cope_llama::train::{Encoded, TrainConfig};

use super::{Tiny, families, full_lora};

/// Calls `check` with a tiny model of each family, without an adapter and with one.
fn with_each_model(check: impl Fn(&Tiny, Option<&Lora>)) {
    for tiny in families() {
        check(&tiny, None);
        check(&tiny, Some(&full_lora(&tiny).frozen()));
    }
}

/// Twenty requests, for the two examples in turn.
fn requests(examples: &[Encoded]) -> Vec<SampleRequest<'_>> {
    let request = |number: usize| SampleRequest {
        number,
        prompt: &examples[number % 2].prompt,
        response: &examples[number % 2].response,
        max_new_tokens: 5 + number % 7,
    };
    (0..20).map(request).collect()
}

/// Three samples for each request, which end with token 2.
fn draw(tiny: &Tiny, lora: Option<&Lora>, requests: &[SampleRequest]) -> Vec<Sampled> {
    let config = SampleConfig {
        n_samples: 3,
        temperature: 1.0,
        top_p: 0.95,
        seed: 9,
    };
    let is_eog = |token| token == 2;
    sample(&tiny.model, lora, requests, config, &is_eog, |_| Ok(())).unwrap()
}

/// Log-probabilities of some responses to a prompt, from one pass over them without a cache.
fn logps(tiny: &Tiny, lora: Option<&Lora>, prompt: &[i32], responses: &[&[i32]]) -> Vec<f64> {
    let mut batch = PackedBatch::default();
    batch.push(prompt, responses.iter().copied());
    let logprobs = tiny.model.logprobs(&batch, lora).unwrap();
    let logps = response_logps(&logprobs, &batch.responses).unwrap();
    let logps = logps.to_vec1::<f32>().unwrap();
    logps.into_iter().map(f64::from).collect()
}

#[test]
fn samples_repeat_and_do_not_depend_on_the_rest_of_their_batch() {
    with_each_model(|tiny, lora| {
        let examples = tiny.examples();
        let requests = requests(&examples);
        let sampled = draw(tiny, lora, &requests);
        assert_eq!(sampled, draw(tiny, lora, &requests));
        let tokens = |sampled: &Sampled| -> Vec<Vec<i32>> {
            let samples = sampled.samples.iter();
            samples.map(|sample| sample.tokens.clone()).collect()
        };
        let alone = draw(tiny, lora, &requests[..1]);
        assert_eq!(tokens(&sampled[0]), tokens(&alone[0]));
        let samples = &sampled[0].samples;
        assert_ne!(samples[0].tokens, samples[1].tokens);
    });
}

#[test]
fn samples_have_the_log_probabilities_of_a_pass_without_a_cache() {
    with_each_model(|tiny, lora| {
        let examples = tiny.examples();
        let requests = requests(&examples);
        for (request, sampled) in requests.iter().zip(draw(tiny, lora, &requests)) {
            let samples = &sampled.samples;
            assert_eq!(samples.len(), 3);
            let mut responses: Vec<&[i32]> = samples.iter().map(|it| &*it.tokens).collect();
            responses.push(request.response);
            let logps = logps(tiny, lora, request.prompt, &responses);
            assert!((sampled.response_logps - logps[3]).abs() < 1e-3);
            for (sample, logps) in samples.iter().zip(logps) {
                assert!((sample.logps - logps).abs() < 1e-3);
            }
        }
    });
}

#[test]
fn samples_end_with_the_end_token_or_at_their_limit() {
    with_each_model(|tiny, lora| {
        let examples = tiny.examples();
        let requests = requests(&examples);
        for (request, sampled) in requests.iter().zip(draw(tiny, lora, &requests)) {
            for sample in &sampled.samples {
                assert_eq!(sample.finished, *sample.tokens.last().unwrap() == 2);
                assert!(sample.finished || sample.tokens.len() == request.max_new_tokens);
            }
        }
    });
}

/// The number of the first example among all examples.
const FIRST: usize = 3;
/// α of the reward.
const BASE_WEIGHT: f64 = 0.5;

/// The tiny model and an adapter to mine with.
struct Mining {
    tiny: Tiny,
    lora: Lora,
}

/// An example with its samples and the pair that mining made of them.
struct Mined {
    example: Encoded,
    number: usize,
    samples: Vec<Sample>,
    found: Option<Found>,
}

/// Whether a token ends a response. Some of an untrained model's samples then end, and some do not.
fn is_eog(token: i32) -> bool {
    token % 11 == 2
}

/// An arbitrary measure of likeness.
fn likeness(number: usize, tokens: &[i32]) -> f64 {
    f64::from(tokens.iter().sum::<i32>() % 97) + number as f64
}

impl Mining {
    fn new() -> Self {
        let tiny = Tiny::new();
        Self {
            lora: full_lora(&tiny),
            tiny,
        }
    }

    /// Mines all examples together, and draws each one's samples again by themselves.
    fn mine(&self, sampler: SampleSource, preference: Preference) -> Vec<Mined> {
        let config = MineConfig {
            sampler,
            preference,
            n_samples: 4,
            base_weight: BASE_WEIGHT as f32,
            length_ratio: 1.5,
            ..TrainConfig::default().mine
        };
        let miner = Miner {
            model: &self.tiny.model,
            lora: &self.lora,
            config: &config,
            seed: 5,
            is_eog: &is_eog,
            likeness: &likeness,
        };
        let examples = self.tiny.examples();
        let numbered: Vec<_> = (FIRST..).zip(&examples).collect();
        let found = miner.mine(&numbered, |_| Ok(())).unwrap();
        let mined = (FIRST..).zip(examples).zip(found);
        mined
            .map(|((number, example), found)| Mined {
                samples: self.sample(number, &example, &config),
                example,
                number,
                found,
            })
            .collect()
    }

    fn sample(&self, number: usize, example: &Encoded, config: &MineConfig) -> Vec<Sample> {
        let len = example.response.len();
        let request = SampleRequest {
            number,
            prompt: &example.prompt,
            response: &example.response,
            max_new_tokens: len * 3 / 2 + len % 2,
        };
        let sampling = SampleConfig {
            n_samples: 4,
            temperature: config.temperature,
            top_p: config.top_p,
            seed: 5,
        };
        let lora = (config.sampler == SampleSource::User).then_some(&self.lora);
        let model = &self.tiny.model;
        let sampled = sample(model, lora, &[request], sampling, &is_eog, |_| Ok(()));
        sampled.unwrap().remove(0).samples
    }

    fn base_logps(&self, example: &Encoded, response: &[i32]) -> f64 {
        logps(&self.tiny, None, &example.prompt, &[response])[0]
    }

    fn reward(&self, example: &Encoded, response: &[i32]) -> f64 {
        let user = self.lora.frozen();
        let user = logps(&self.tiny, Some(&user), &example.prompt, &[response])[0];
        user - BASE_WEIGHT * self.base_logps(example, response)
    }
}

/// The lowest score of all samples.
fn least(samples: &[Sample], score: impl Fn(&[i32]) -> f64) -> f64 {
    let scores = samples.iter().map(|sample| score(&sample.tokens));
    scores.fold(f64::MAX, f64::min)
}

#[test]
fn by_reward_the_users_text_is_preferred_to_the_sample_of_the_lowest_reward() {
    let mining = Mining::new();
    for sampler in [SampleSource::Base, SampleSource::User] {
        for mined in mining.mine(sampler, Preference::Reward) {
            let found = mined.found.expect("a pair for every example");
            assert!(found.chosen.is_none());
            let reward = |tokens: &[i32]| mining.reward(&mined.example, tokens);
            let lowest = least(&mined.samples, reward);
            assert!((reward(&found.rejected.tokens) - lowest).abs() < 1e-3);
        }
    }
}

#[test]
fn by_likeness_the_likest_ended_sample_is_preferred_to_the_least_like_one() {
    let mining = Mining::new();
    for sampler in [SampleSource::Base, SampleSource::User] {
        for mined in mining.mine(sampler, Preference::Likeness) {
            let mut ended = mined.samples.iter().filter(|sample| sample.finished);
            let Some(found) = mined.found else {
                assert!(ended.next().is_none(), "a sample ended and made no pair");
                continue;
            };
            let score = |tokens: &[i32]| likeness(mined.number, tokens);
            let lowest = least(&mined.samples, score);
            assert!((score(&found.rejected.tokens) - lowest).abs() < 1e-3);
            let scores = ended.map(|sample| score(&sample.tokens));
            let highest = scores.fold(f64::MIN, f64::max);
            let chosen = found.chosen.expect("a preferred sample");
            assert!((score(&chosen.tokens) - highest).abs() < 1e-9);
        }
    }
}

#[test]
fn samples_of_the_base_bring_the_log_probabilities_that_dpo_needs() {
    let mining = Mining::new();
    for preference in [Preference::Reward, Preference::Likeness] {
        let mined = mining.mine(SampleSource::Base, preference);
        for (example, found) in mined
            .iter()
            .filter_map(|it| Some((&it.example, it.found.as_ref()?)))
        {
            let [chosen, rejected] = found.base_logps.expect("log-probabilities");
            let preferred = found
                .chosen
                .as_ref()
                .map_or(&example.response, |it| &it.tokens);
            assert!((chosen - mining.base_logps(example, preferred)).abs() < 1e-3);
            let expected = mining.base_logps(example, &found.rejected.tokens);
            assert!((rejected - expected).abs() < 1e-3);
        }
        let mined = mining.mine(SampleSource::User, preference);
        let mut found = mined.iter().filter_map(|it| it.found.as_ref());
        assert!(found.all(|found| found.base_logps.is_none()));
    }
}
