use std::hash::{DefaultHasher, Hash, Hasher};

use super::*;
use crate::decode::test_kit::{Table, limit};
use crate::decode::{
    AnswerOptions, Contrast, Decoder, DecoderOptions, Finish, Sampling, Vocabulary,
};

const N_VOCAB: usize = 12;
/// The token that ends a text.
const END: Token = 11;

/// Logits that depend on the last two tokens alone, so that texts repeat themselves after a while.
fn logits(seed: u64, tokens: &[Token]) -> Vec<f32> {
    let last = &tokens[tokens.len().saturating_sub(2)..];
    let noise = |seed, token| {
        let mut hasher = DefaultHasher::new();
        (seed, last, token).hash(&mut hasher);
        (hasher.finish() >> 40) as f32 / (1 << 24) as f32
    };
    // Half of the logits of the base (an odd seed) are those of the user's model.
    let logit = |token| 4.0 * noise(seed & !1, token) + 4.0 * noise(seed, token);
    let end = if seed.is_multiple_of(5) { 6.0 } else { -9.0 };
    (0..N_VOCAB as Token)
        .map(|token| if token == END { end } else { logit(token) })
        .collect()
}

/// The user's model and the base.
fn models(seed: u64, max_rows: usize) -> [Table; 2] {
    [2 * seed, 2 * seed + 1].map(|seed| {
        let mut table = Table::new(move |tokens| logits(seed, tokens));
        (table.n_ctx, table.max_rows) = (512, max_rows);
        table
    })
}

struct Words;

impl Vocabulary for Words {
    fn token_bytes(&self, _: Token) -> Vec<u8> {
        b"x".into()
    }

    fn is_eog(&self, token: Token) -> bool {
        token == END
    }
}

/// Whether the last `n` tokens of `text` occur in it before.
fn repeats(text: &[Token], n: usize) -> bool {
    let first = text.len().saturating_sub(n);
    n > 0
        && text[..text.len() - 1]
            .windows(n)
            .any(|gram| *gram == text[first..])
}

/// The text by the definition of the contrast, computed naively; no n-gram of `no_repeat_ngram` tokens occurs twice.
fn by_definition(
    seed: u64,
    contrast: Contrast,
    prompt: &[Token],
    sampling: &Sampling,
    no_repeat_ngram: usize,
) -> Vec<Token> {
    let mut sampler = sampling.sampler(N_VOCAB, 512).unwrap();
    let mut text = prompt.to_vec();
    prompt
        .iter()
        .for_each(|&token| sampler.accept_prompt(token));
    while text.len() < prompt.len() + LEN {
        let (mut user, base) = (logits(2 * seed, &text), logits(2 * seed + 1, &text));
        for (token, logit) in (0..).zip(&mut user) {
            if repeats(&[&text[prompt.len()..], &[token]].concat(), no_repeat_ngram) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let max = user.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let candidates: Vec<Candidate> = (0..)
            .zip(std::iter::zip(user, base))
            .filter(|(_, (user, _))| *user >= max + contrast.plausibility().ln())
            .map(|(token, (user, base))| Candidate {
                token,
                score: user - contrast.contrast() * base,
            })
            .collect();
        let token = sampler.choose(&candidates, text.len());
        if token == END {
            break;
        }
        sampler.accept(token).unwrap();
        text.push(token);
    }
    text.split_off(prompt.len())
}

/// The most tokens of a text.
const LEN: usize = 80;

fn decode(
    [user, base]: &mut [Table; 2],
    contrast: Contrast,
    prompt: &[Token],
    sampling: &Sampling,
    schedule: PassSchedule,
) -> (Vec<Token>, Statistics) {
    let answer = AnswerOptions {
        sampling: *sampling,
        ..limit(LEN)
    };
    let options = DecoderOptions {
        answer,
        schedule,
        ..DecoderOptions::default()
    };
    decode_by([user, base], contrast, prompt, options)
}

fn decode_by(
    [user, base]: [&mut Table; 2],
    contrast: Contrast,
    prompt: &[Token],
    options: DecoderOptions,
) -> (Vec<Token>, Statistics) {
    let policy = Policy::Cope {
        base,
        user,
        contrast,
    };
    let mut decoder = Decoder::new(policy, &Words, prompt, options).unwrap();
    decoder.by_ref().for_each(|piece| drop(piece.unwrap()));
    (decoder.response().to_vec(), *decoder.statistics())
}

fn schedules() -> Vec<PassSchedule> {
    let mut schedules = vec![
        PassSchedule::fastest(Processor::Cpu { n_threads: 1 }),
        PassSchedule::fastest(Processor::Cpu { n_threads: 2 }),
        PassSchedule::fastest(Processor::Gpu),
    ];
    for bits in 0..8 {
        for speculate in [0, 1, 5] {
            for draft in [0, 4] {
                schedules.push(PassSchedule {
                    side_by_side: bits & 1 != 0,
                    lean: bits & 2 != 0,
                    lazy: bits & 4 != 0,
                    speculate,
                    draft,
                });
            }
        }
    }
    schedules
}

fn samplings() -> [Sampling; 3] {
    let greedy = Sampling::default();
    let drawn = Sampling {
        temperature: 0.7,
        ..greedy
    };
    let penalised = Sampling {
        repeat_penalty: 1.3,
        presence_penalty: 0.5,
        repeat_last_n: 5,
        ..drawn
    };
    [greedy, drawn, penalised]
}

#[test]
fn every_schedule_gives_the_text_of_the_definition() {
    let prompt = [1, 2, 3, 4, 5];
    let mut total = Statistics::default();
    for seed in 0..12 {
        let contrast = Contrast::new(0.5, [0.1, 0.5, 0.02][seed as usize % 3]).unwrap();
        for sampling in samplings() {
            let expected = by_definition(seed, contrast, &prompt, &sampling, 0);
            for schedule in schedules() {
                for max_rows in [1, 8] {
                    let mut models = models(seed, max_rows);
                    let (text, statistics) =
                        decode(&mut models, contrast, &prompt, &sampling, schedule);
                    assert_eq!(text, expected, "seed {seed}, {sampling:?}, {schedule:?}");
                    total.n_guess_accepted += statistics.n_guess_accepted;
                    total.n_draft_accepted += statistics.n_draft_accepted;
                    total.user.n_rollbacks += statistics.user.n_rollbacks;
                    total.base.n_rollbacks += statistics.base.n_rollbacks;
                }
            }
        }
    }
    assert!(total.n_guess_accepted > 0 && total.n_draft_accepted > 0);
    assert!(total.user.n_rollbacks > 0 && total.base.n_rollbacks > 0);
}

#[test]
fn no_schedule_repeats_an_n_gram_where_that_is_banned() {
    let prompt = [1, 2, 3, 4, 5];
    let contrast = Contrast::new(0.5, 0.1).unwrap();
    let mut n_guess_accepted = 0;
    for (seed, no_repeat_ngram) in (0..12).zip([2, 3].into_iter().cycle()) {
        let [sampling, ..] = samplings();
        let expected = by_definition(seed, contrast, &prompt, &sampling, no_repeat_ngram);
        let repeated = (1..=expected.len()).any(|len| repeats(&expected[..len], no_repeat_ngram));
        assert!(!repeated, "{expected:?}");
        for schedule in schedules() {
            let answer = AnswerOptions {
                sampling,
                no_repeat_ngram,
                ..limit(LEN)
            };
            let options = DecoderOptions {
                answer,
                schedule,
                ..DecoderOptions::default()
            };
            let mut models = models(seed, 8);
            let (text, statistics) = decode_by(models.each_mut(), contrast, &prompt, options);
            assert_eq!(text, expected, "seed {seed}, {schedule:?}");
            n_guess_accepted += statistics.n_guess_accepted;
        }
    }
    // Drafts would repeat n-grams, so that only guesses are accepted.
    assert!(n_guess_accepted > 0);
}

#[test]
fn every_schedule_knows_what_the_user_model_alone_would_have_chosen() {
    let prompt = [1, 2, 3, 4, 5];
    let contrast = Contrast::new(0.5, 0.1).unwrap();
    let mut n_changed = 0;
    for seed in 0..4 {
        for (sampling, schedule) in
            (samplings().into_iter()).flat_map(|it| schedules().into_iter().map(move |by| (it, by)))
        {
            let [mut user, mut base] = models(seed, 8);
            let policy = Policy::Cope {
                base: &mut base,
                user: &mut user,
                contrast,
            };
            let answer = AnswerOptions {
                sampling,
                ..limit(LEN)
            };
            let options = DecoderOptions {
                schedule,
                ..answer.into()
            };
            let mut decoder = Decoder::new(policy, &Words, &prompt, options).unwrap();
            decoder.by_ref().for_each(|piece| drop(piece.unwrap()));

            let mut sampler = sampling.sampler(N_VOCAB, 512).unwrap();
            prompt
                .iter()
                .for_each(|&token| sampler.accept_prompt(token));
            let mut text = prompt.to_vec();
            for steered in decoder.steered() {
                let user = logits(2 * seed, &text);
                let max = user.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let candidates: Vec<Candidate> = (0..)
                    .zip(user)
                    .filter(|(_, score)| *score >= max + contrast.plausibility().ln())
                    .map(|(token, score)| Candidate { token, score })
                    .collect();
                let alone = sampler.choose(&candidates, text.len());
                assert_eq!(steered.alone, alone, "{seed}, {sampling:?}, {schedule:?}");
                n_changed += usize::from(steered.is_changed());
                sampler.accept(steered.token).unwrap();
                text.push(steered.token);
            }
            let n_chosen = decoder.statistics().n_chosen;
            assert_eq!(decoder.steered().len(), n_chosen);
        }
    }
    assert!(n_changed > 0);
}

#[test]
fn the_naive_schedule_reads_each_token_once_with_each_model() {
    let contrast = Contrast::default();
    let mut models = models(1, 1);
    let sampling = Sampling::default();
    let (text, statistics) = decode(
        &mut models,
        contrast,
        &[1, 2],
        &sampling,
        PassSchedule::NAIVE,
    );
    assert_eq!(text.len(), LEN);
    for passes in [statistics.user, statistics.base] {
        assert_eq!((passes.n_passes, passes.n_tokens), (LEN, LEN + 1));
    }
    assert_eq!(statistics.n_chosen, LEN);
}

#[test]
fn a_lazy_base_waits_and_reads_the_missed_tokens_in_one_pass() {
    // With τ = 1, `V_head` always has one token.
    let contrast = Contrast::new(0.5, 1.0).unwrap();
    let lazy = PassSchedule {
        lazy: true,
        ..PassSchedule::NAIVE
    };
    let mut models = models(1, 4);
    let sampling = Sampling::default();
    let (_, statistics) = decode(&mut models, contrast, &[1, 2], &sampling, lazy);
    assert_eq!((statistics.n_undecided, statistics.base.n_passes), (0, 0));

    let contrast = Contrast::new(0.5, 0.5).unwrap();
    let mut models = self::models(1, 4);
    let (_, statistics) = decode(&mut models, contrast, &[1, 2], &sampling, lazy);
    assert!(statistics.n_undecided < LEN && statistics.base.n_passes == statistics.n_undecided);
    assert!(models[1].tokens.len() <= models[0].tokens.len());
}

#[test]
fn guesses_save_passes_of_the_base() {
    // Without contrast every guess is right.
    let contrast = Contrast::new(0.0, 0.1).unwrap();
    let ahead = PassSchedule {
        speculate: 5,
        ..PassSchedule::NAIVE
    };
    let mut models = models(1, 8);
    let sampling = Sampling::default();
    let (_, statistics) = decode(&mut models, contrast, &[1, 2], &sampling, ahead);
    assert!(statistics.base.n_passes <= LEN / 5, "{statistics:?}");
    assert_eq!(statistics.user.n_rollbacks, 0);
}

#[test]
fn a_copied_text_is_read_in_few_passes() {
    // Each of ten words is followed by the next, in a circle.
    let round = |tokens: &[Token]| {
        let mut logits = vec![0.0; N_VOCAB];
        logits[(tokens[tokens.len() - 1] as usize + 1) % 10] = 9.0;
        logits
    };
    let mut models = [Table::new(round), Table::new(round)];
    for model in &mut models {
        (model.n_ctx, model.max_rows) = (512, 8);
    }
    let drafting = PassSchedule {
        draft: 7,
        ..PassSchedule::NAIVE
    };
    let sampling = Sampling::default();
    let (text, statistics) = decode(
        &mut models,
        Contrast::default(),
        &[0, 1, 2, 3],
        &sampling,
        drafting,
    );
    assert!(text.is_sorted_by(|x, y| *y == (x + 1) % 10));
    assert!(statistics.user.n_passes < LEN / 2, "{statistics:?}");
    assert!(statistics.base.n_passes < LEN / 2, "{statistics:?}");
}

#[test]
fn a_full_context_shifts_alike_under_every_schedule() {
    let run = |schedule| {
        let [mut user, mut base] = models(1, 8);
        (user.n_ctx, base.n_ctx) = (24, 24);
        let policy = Policy::Cope {
            base: &mut base,
            user: &mut user,
            contrast: Contrast::default(),
        };
        let options = DecoderOptions {
            n_keep: 2,
            schedule,
            ..limit(60).into()
        };
        let mut decoder = Decoder::new(policy, &Words, &[1, 2, 3], options).unwrap();
        decoder.by_ref().for_each(|piece| drop(piece.unwrap()));
        assert_eq!(decoder.finish(), Some(Finish::Length));
        decoder.response().to_vec()
    };
    let expected = run(PassSchedule::NAIVE);
    for schedule in schedules() {
        assert_eq!(run(schedule), expected, "{schedule:?}");
    }
}
