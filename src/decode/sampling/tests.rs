use super::*;
use crate::llama::test_kit::candidates;

/// The tokens at the first hundred positions.
fn draws(sampling: &Sampling, scores: &[f32]) -> Vec<Token> {
    let mut sampler = sampling.sampler(scores.len(), 256).unwrap();
    let draw = |position| {
        let token = sampler.choose(&candidates(scores), position);
        sampler.accept(token).unwrap();
        token
    };
    (0..100).map(draw).collect()
}

#[test]
fn the_default_is_greedy_and_penalises_nothing() {
    assert_eq!(draws(&Sampling::default(), &[1.0, 2.0, 2.0, 0.0]), [1; 100]);
}

#[test]
fn a_seed_repeats_its_draws() {
    let seeded = |seed| Sampling {
        temperature: 1.0,
        seed,
        ..Sampling::default()
    };
    let scores = [1.0, 2.0, 1.5, 0.0];
    assert_eq!(draws(&seeded(3), &scores), draws(&seeded(3), &scores));
    assert_ne!(draws(&seeded(3), &scores), draws(&seeded(4), &scores));
}

#[test]
fn another_answer_has_another_seed_and_is_drawn() {
    let of = |temperature, seed, n_answers| {
        let sampling = Sampling {
            temperature,
            seed,
            ..Sampling::default()
        };
        let again = sampling.again(n_answers, 0.9);
        (again.temperature, again.seed)
    };
    assert_eq!(of(0.0, 42, 1), (0.9, 43));
    assert_eq!(of(0.3, 42, 3), (0.3, 45));
    assert_eq!(of(0.0, 42, 0), (0.9, 43));
    // The largest number stands for any seed: it is never come to, and stays where it is asked for.
    assert_eq!(of(0.0, u32::MAX - 1, 1), (0.9, 0));
    assert_eq!(of(0.0, u32::MAX, 5), (0.9, u32::MAX));
}

#[test]
fn a_draw_depends_on_its_position_alone() {
    let sampling = Sampling {
        temperature: 1.0,
        ..Sampling::default()
    };
    let scores = [1.0, 2.0, 1.5, 0.0];
    let in_order = draws(&sampling, &scores);
    let mut sampler = sampling.sampler(4, 256).unwrap();
    for position in (0..100).rev() {
        let token = sampler.choose(&candidates(&scores), position);
        assert_eq!(token, in_order[position]);
    }
}

#[test]
fn draws_follow_the_probabilities() {
    let sampling = Sampling {
        temperature: 0.5,
        top_k: 0,
        top_p: 1.0,
        ..Sampling::default()
    };
    let scores = [0.25_f32, 0.5, 0.75, 0.0].map(f32::ln);
    let mut sampler = sampling.sampler(4, 256).unwrap();
    let mut counts = [0; 4];
    for position in 0..14_000 {
        counts[sampler.choose(&candidates(&scores), position) as usize] += 1;
    }
    // At a temperature of ½ the weights are the squares, 1 : 4 : 9.
    for (count, expected) in std::iter::zip(counts, [1000, 4000, 9000, 0]) {
        assert!(i32::abs(count - expected) < 200, "{counts:?}");
    }
}

#[test]
fn a_logit_bias_is_added_before_plausible_tokens_are_found() {
    let head = |logit_bias| {
        let sampler = Sampling::default().sampler(4, 256).unwrap();
        let mut candidates = Vec::new();
        sampler
            .with_logit_bias(logit_bias)
            .head(&[1.0, 2.0, 1.5, 0.0], 0.5, &mut candidates)
            .unwrap();
        candidates
    };
    let scored = |pairs: &[(Token, f32)]| -> Vec<Candidate> {
        let candidate = |&(token, score)| Candidate { token, score };
        pairs.iter().map(candidate).collect()
    };
    assert_eq!(head(vec![]), scored(&[(1, 2.0), (2, 1.5)]));
    assert_eq!(head(vec![(3, 9.0)]), scored(&[(3, 9.0)]));
    let banned = vec![(1, f32::NEG_INFINITY)];
    assert_eq!(head(banned), scored(&[(0, 1.0), (2, 1.5)]));
}

#[test]
fn no_n_gram_is_repeated_where_that_is_banned() {
    let mut sampler = Sampling::default().sampler(3, 256).unwrap();
    sampler = sampler.with_no_repeat_ngram(2);
    let mut say = || {
        let mut candidates = Vec::new();
        sampler
            .head(&[9.0, 1.0, 0.5], 0.1, &mut candidates)
            .unwrap();
        let token = sampler.choose(&candidates, 0);
        sampler.accept(token).unwrap();
        token
    };
    let text: Vec<Token> = (0..6).map(|_| say()).collect();
    assert_eq!(text, [0, 0, 1, 0, 2, 0]);
}

#[test]
fn a_penalty_makes_a_greedy_choice_move_on() {
    let sampling = Sampling {
        repeat_penalty: 2.0,
        repeat_last_n: 1,
        ..Sampling::default()
    };
    assert_eq!(draws(&sampling, &[2.0, 1.5, 0.0])[..4], [0, 1, 0, 1]);
    let huge = Sampling {
        repeat_last_n: u32::MAX,
        presence_penalty: 9.0,
        ..Sampling::default()
    };
    assert_eq!(draws(&huge, &[2.0, 1.5, 0.0])[..4], [0, 1, 2, 0]);
}

#[test]
fn settings_out_of_range_are_refused() {
    let bad = [
        Sampling {
            temperature: -1.0,
            ..Sampling::default()
        },
        Sampling {
            temperature: f32::NAN,
            ..Sampling::default()
        },
        Sampling {
            top_p: 1.5,
            ..Sampling::default()
        },
        Sampling {
            typical: -0.5,
            ..Sampling::default()
        },
        Sampling {
            min_p: -0.5,
            ..Sampling::default()
        },
        Sampling {
            repeat_penalty: 0.0,
            ..Sampling::default()
        },
        Sampling {
            presence_penalty: f32::INFINITY,
            ..Sampling::default()
        },
        Sampling {
            frequency_penalty: f32::NAN,
            ..Sampling::default()
        },
    ];
    for sampling in bad {
        assert!(
            matches!(sampling.sampler(4, 256), Err(Error::Input(_))),
            "{sampling:?}"
        );
    }
}
