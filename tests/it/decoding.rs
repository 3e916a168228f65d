//! Decoding by the three arms in llama.cpp, on the tiny model.

mod batch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cope_llama::Error;
use cope_llama::decode::{
    AnswerOptions, Arm, Contrast, Decoder, DecoderOptions, Finish, PassSchedule, Piece, Processor,
    Sampling,
};
use cope_llama::llama::{Boundary, Context, Rows, Special, Token, Twin};

use crate::fixture::{Decoded, Fixture, adapter, best, decode, greedy, limit, zero_adapter};
use crate::tiny::{FAMILIES, TinyModel, family_adapter, queries_and_values};

fn cope(contrast: f32, plausibility: f32) -> Arm {
    Arm::Cope(Contrast::new(contrast, plausibility).unwrap())
}

fn response(twin: &mut Twin, arm: Arm, prompt: &[Token]) -> Vec<Token> {
    decode(twin, arm, prompt, limit(48)).tokens
}

#[test]
fn without_contrast_the_text_is_that_of_the_user_model() {
    let tiny = Fixture::new();
    let mut twin = tiny.twin(&adapter(), 1.0);
    let expected = greedy(&mut twin.user, &tiny.prompt(), 48);
    assert_eq!(expected.len(), 48);
    assert_eq!(
        response(&mut twin, cope(0.0, 0.1), &tiny.prompt()),
        expected
    );
    assert_eq!(response(&mut twin, Arm::User, &tiny.prompt()), expected);
    assert_ne!(response(&mut twin, Arm::Base, &tiny.prompt()), expected);
    assert_ne!(
        response(&mut twin, cope(0.5, 0.1), &tiny.prompt()),
        expected
    );
}

#[test]
fn an_adapter_of_zeros_gives_the_text_of_the_base_at_any_contrast() {
    let tiny = Fixture::new();
    let mut twin = tiny.twin(&zero_adapter(), 1.0);
    let expected = greedy(&mut twin.base, &tiny.prompt(), 48);
    for contrast in [0.0, 0.3, 0.9] {
        assert_eq!(
            response(&mut twin, cope(contrast, 0.1), &tiny.prompt()),
            expected
        );
    }
    assert_eq!(response(&mut twin, Arm::Base, &tiny.prompt()), expected);
}

#[test]
fn every_choice_has_the_highest_contrasted_score_among_the_plausible_tokens() {
    let tiny = Fixture::new();
    let prompt = tiny.prompt();
    for (contrast, plausibility) in [(0.3, 0.1), (1.0, 0.3), (3.0, 0.01)] {
        let mut twin = tiny.twin(&adapter(), 1.0);
        let chosen = response(&mut twin, cope(contrast, plausibility), &prompt);
        let (mut base, mut user) = (twin.base, twin.user);
        base.truncate(0);
        user.truncate(0);
        base.extend(&prompt, 1, Rows::Full).unwrap();
        user.extend(&prompt, 1, Rows::Full).unwrap();
        for token in chosen {
            let max = user.logits()[best(user.logits()) as usize];
            let is_plausible = |logit: f32| logit >= max + plausibility.ln();
            let scores: Vec<f32> = std::iter::zip(user.logits(), base.logits())
                .map(|(&user, &base)| {
                    if is_plausible(user) {
                        user - contrast * base
                    } else {
                        f32::NEG_INFINITY
                    }
                })
                .collect();
            assert_eq!(token, best(&scores), "α = {contrast}, τ = {plausibility}");
            base.extend(&[token], 1, Rows::Full).unwrap();
            user.extend(&[token], 1, Rows::Full).unwrap();
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let tiny = Fixture::new();
    let draw = |seed| {
        let sampling = Sampling {
            temperature: 1.0,
            seed,
            ..Sampling::default()
        };
        let options = AnswerOptions {
            sampling,
            ..limit(32)
        };
        decode(
            &mut tiny.twin(&adapter(), 1.0),
            cope(0.3, 0.01),
            &tiny.prompt(),
            options,
        )
        .tokens
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

/// Passes over one token and over several round differently in the last bits of f32; no choice in this test is that close.
#[test]
fn every_schedule_gives_the_naive_text() {
    let schedules = [
        PassSchedule::default(),
        PassSchedule::fastest(Processor::Cpu { n_threads: 1 }),
        PassSchedule::fastest(Processor::Gpu),
        PassSchedule {
            lean: true,
            draft: 0,
            ..PassSchedule::fastest(Processor::Gpu)
        },
    ];
    for architecture in FAMILIES {
        let tiny = Fixture::of(TinyModel {
            architecture,
            ..TinyModel::default()
        });
        for temperature in [0.0, 0.8] {
            let text = |schedule, seed| {
                let answer = AnswerOptions {
                    sampling: Sampling {
                        temperature,
                        ..Sampling::default()
                    },
                    ..limit(100)
                };
                let options = DecoderOptions {
                    answer,
                    schedule,
                    ..DecoderOptions::default()
                };
                let adapter =
                    family_adapter(architecture, seed, 4, queries_and_values(architecture));
                let mut twin = tiny.twin(&adapter, 1.0);
                decode(&mut twin, cope(0.5, 0.1), &tiny.prompt(), options).tokens
            };
            // Some random adapters soon end a text.
            let mut answers = (7..20).map(|seed| (seed, text(PassSchedule::NAIVE, seed)));
            let long = answers.find(|(_, tokens)| tokens.len() > 20);
            let (seed, naive) = long.expect("a long text");
            for schedule in schedules {
                let tokens = text(schedule, seed);
                assert_eq!(tokens, naive, "{architecture}: {schedule:?}");
            }
        }
    }
}

#[test]
fn a_second_turn_reuses_the_cache_of_the_first_and_gives_the_text_of_a_fresh_chat() {
    for architecture in ["llama", "gemma4", "lfm2", "qwen35"] {
        check_turns(architecture);
    }
}

fn check_turns(architecture: &'static str) {
    let tiny = Fixture::of(TinyModel {
        architecture,
        ..TinyModel::default()
    });
    let adapter = family_adapter(architecture, 7, 4, &["attn_q", "attn_v"]);
    let mut chat = tiny.twin(&adapter, 1.0);
    let mut prompt = tiny.prompt();
    let first = response(&mut chat, cope(0.3, 0.1), &prompt);
    prompt.extend(first.iter().take(20));
    prompt.extend(
        tiny.model
            .tokenize(" and thanks", Boundary::Omit, Special::ByName)
            .unwrap(),
    );
    let second = response(&mut chat, cope(0.3, 0.1), &prompt);
    let mut fresh = tiny.twin(&adapter, 1.0);
    assert_eq!(second, response(&mut fresh, cope(0.3, 0.1), &prompt));
    assert_eq!(
        second,
        response(&mut chat, cope(0.3, 0.1), &prompt),
        "the same turn again"
    );
    assert_eq!(chat.base.tokens(), chat.user.tokens());
}

#[test]
fn a_full_context_is_shifted_alike_in_both_models() {
    let tiny = Fixture::new();
    let mut twin = tiny.twin(&adapter(), 1.0);
    let prompt: Vec<Token> = (0..250).map(|n| 20 + n * 7 % 300).collect();
    let model = Arc::clone(&tiny.model);
    let options = DecoderOptions {
        n_keep: 10,
        ..limit(60).into()
    };
    let mut decoder = Decoder::new(twin.policy(cope(0.3, 0.1)), &*model, &prompt, options).unwrap();
    let pieces: Vec<Piece> = decoder.by_ref().collect::<Result<_, _>>().unwrap();
    let shifts: Vec<_> = pieces
        .iter()
        .filter(|piece| matches!(piece, Piece::Shifted(_)))
        .collect();
    assert_eq!(
        shifts,
        [&Piece::Shifted(123)],
        "half of the 246 tokens after the first 10"
    );
    assert_eq!(
        (decoder.response().len(), decoder.finish()),
        (60, Some(Finish::Length))
    );
    let generated = decoder.response()[..59].to_vec();
    drop(decoder);
    let expected: Vec<Token> = prompt[..10]
        .iter()
        .chain(&prompt[133..])
        .chain(&generated)
        .copied()
        .collect();
    assert_eq!(twin.base.tokens(), expected);
    assert_eq!(twin.user.tokens(), expected);
}

#[test]
fn a_prompt_beyond_the_context_is_refused_with_both_numbers() {
    let tiny = Fixture::new();
    let mut twin = tiny.twin(&adapter(), 1.0);
    let model = Arc::clone(&tiny.model);
    let refusal = Decoder::new(twin.policy(Arm::User), &*model, &[20; 257], limit(1).into()).err();
    let message = refusal.unwrap().to_string();
    assert!(
        message.contains("257") && message.contains("256"),
        "{message}"
    );
}

#[test]
fn an_interrupt_stops_a_pass_and_leaves_the_cache_unchanged() {
    let tiny = Fixture::new();
    let flag = Arc::new(AtomicBool::new(false));
    let mut twin = tiny.twin(&adapter(), 1.0);
    twin.set_interrupt(&flag);
    let prompt = tiny.prompt();
    let expected = response(&mut twin, Arm::User, &prompt);
    let before = twin.user.tokens().to_vec();

    flag.store(true, Ordering::Relaxed);
    assert!(matches!(
        twin.user.extend(&[20; 100], 1, Rows::Full),
        Err(Error::Interrupted)
    ));
    assert_eq!(twin.user.tokens(), before);
    assert_eq!(
        decode(&mut twin, Arm::User, &prompt, limit(8)),
        Decoded {
            tokens: vec![],
            finish: Some(Finish::Interrupted),
            n_changed: 0
        }
    );

    flag.store(false, Ordering::Relaxed);
    assert_eq!(response(&mut twin, Arm::User, &prompt), expected);
}

#[test]
fn explained_choices_have_the_tokens_of_the_text_and_the_probabilities_of_the_models() {
    let tiny = Fixture::new();
    let prompt = tiny.prompt();
    let mut twin = tiny.twin(&adapter(), 1.0);
    let expected = response(&mut twin, cope(0.5, 0.1), &prompt);
    let model = Arc::clone(&tiny.model);
    let options = DecoderOptions {
        explain: true,
        ..limit(48).into()
    };
    let mut twin = tiny.twin(&adapter(), 1.0);
    let mut decoder = Decoder::new(twin.policy(cope(0.5, 0.1)), &*model, &prompt, options).unwrap();
    decoder.by_ref().for_each(|piece| drop(piece.unwrap()));
    let choices = decoder.choices().to_vec();
    drop(decoder);
    let tokens: Vec<Token> = choices.iter().map(|choice| choice.token).collect();
    assert_eq!(tokens, expected);

    let Twin { mut base, mut user } = twin;
    base.truncate(0);
    user.truncate(0);
    base.extend(&prompt, 1, Rows::Full).unwrap();
    user.extend(&prompt, 1, Rows::Full).unwrap();
    let softmax = |logits: &[f32], token: Token| {
        let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
        logits[token as usize].exp() / sum
    };
    let mut n_contrasts = 0;
    for choice in choices {
        let token = choice.token;
        let [user_logits, base_logits] = [&user, &base].map(Context::logits);
        assert!((choice.p_user - softmax(user_logits, token)).abs() < 1e-4);
        assert!((choice.p_base.unwrap() - softmax(base_logits, token)).abs() < 1e-4);
        let score = user_logits[token as usize] - 0.5 * base_logits[token as usize];
        assert!((choice.score - score).abs() < 1e-3);
        assert_eq!(choice.first, best(user_logits));
        let max = user_logits[choice.first as usize];
        let is_plausible = |logit: &&f32| **logit >= max + 0.1_f32.ln();
        assert_eq!(
            choice.n_plausible,
            user_logits.iter().filter(is_plausible).count()
        );
        n_contrasts += usize::from(choice.first != token);
        base.extend(&[token], 1, Rows::Full).unwrap();
        user.extend(&[token], 1, Rows::Full).unwrap();
    }
    assert!(n_contrasts > 0);
}
