use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use super::*;
use crate::decode::sampling::best;
use crate::decode::test_kit::{ENDING, ENDLESS, Table, TableSequences, Words, by_last, limit};
use crate::decode::{Contrast, Decoder};

/// Endless words, but c is followed by logits that are not numbers.
fn broken_after_c(tokens: &[Token]) -> Vec<f32> {
    match tokens {
        [.., 2] => vec![f32::NAN; 4],
        _ => by_last(ENDLESS)(tokens),
    }
}

fn llama_error() -> Error {
    Error::Llama {
        operation: "decode".into(),
        reason: "no memory".into(),
    }
}

/// A pass over a sequence whose prompt is [c, c, a] fails once three tokens follow the prompt.
fn fails_in_the_middle(tokens: &[Token]) -> crate::Result<()> {
    if tokens.starts_with(&[2, 2, 0]) && tokens.len() == 6 {
        return Err(llama_error());
    }
    Ok(())
}

fn request(prompt: &[Token], policy: Policy<ModelId>, options: AnswerOptions) -> TextRequest {
    TextRequest {
        prompt: prompt.to_vec(),
        base_prompt: None,
        policy,
        options,
        explained: None,
        explains_prompt: false,
        owner: None,
    }
}

/// The tokens of a text that ended, or the message of its error.
type Outcome = std::result::Result<Vec<Token>, String>;

/// Runs all texts of `batch` to their ends. The outcomes are in the order of the texts.
fn outcomes(batch: &mut Batch<TableSequences, Words>) -> Vec<Outcome> {
    let mut outcomes: Vec<(TextId, Outcome)> = Vec::new();
    for event in batch.by_ref() {
        match event.unwrap() {
            (id, BatchEvent::Finished { response, .. }) => outcomes.push((id, Ok(response))),
            (id, BatchEvent::Failed(error)) => outcomes.push((id, Err(error.to_string()))),
            _ => {}
        }
    }
    outcomes.sort_by_key(|it| it.0);
    outcomes.into_iter().map(|it| it.1).collect()
}

/// The text that the endless model alone gives after `prompt`.
fn alone(prompt: &[Token], options: AnswerOptions) -> Vec<Token> {
    let mut model = Table::new(by_last(ENDLESS));
    let mut decoder =
        Decoder::new(Policy::Plain(&mut model), &Words, prompt, options.into()).unwrap();
    decoder.by_ref().for_each(|piece| drop(piece.unwrap()));
    decoder.response().to_vec()
}

/// Passes one by one and side by side, and passes over all texts.
const SCHEDULES: [PassSchedule; 2] = [
    PassSchedule::NAIVE,
    PassSchedule {
        side_by_side: true,
        lean: true,
        ..PassSchedule::NAIVE
    },
];

#[test]
fn only_the_last_part_of_a_prompt_has_logits() {
    let lens = Arc::new(Mutex::new(Vec::new()));
    let computed = Arc::clone(&lens);
    let next = move |tokens: &[Token]| {
        computed.lock().unwrap().push(tokens.len());
        by_last(ENDLESS)(tokens)
    };
    let mut batch = Batch::new(Words, PassSchedule::NAIVE, 1);
    let model = Policy::Plain(batch.add(TableSequences::new(1, next)));
    lens.lock().unwrap().clear();
    batch.push(request(&[0; 150], model, limit(3))).unwrap();
    assert_eq!(outcomes(&mut batch), [Ok(alone(&[0], limit(3)))]);
    assert_eq!(*lens.lock().unwrap(), [150, 151, 152]);
}

#[test]
fn a_prompt_that_goes_on_from_all_that_was_read_keeps_all_of_it() {
    let mut batch = Batch::new(Words, PassSchedule::NAIVE, 1);
    let model = Policy::Plain(batch.add(TableSequences::new(1, by_last(ENDLESS))));
    let mut answer = |prompt: &[Token]| {
        let request = TextRequest {
            owner: Some(1),
            ..request(prompt, model, limit(4))
        };
        batch.push(request).unwrap();
        let end = batch.find_map(|event| match event.unwrap().1 {
            BatchEvent::Finished {
                response, n_kept, ..
            } => Some((response, n_kept)),
            _ => None,
        });
        end.unwrap()
    };
    let first = [0; 20];
    let (response, n_kept) = answer(&first);
    assert_eq!(n_kept, 0);
    let second = [&first[..], &response, &[1; 40]].concat();
    // The last token of an answer is chosen and not read.
    assert_eq!(answer(&second).1, 20 + 3);
    // The same prompt once more ends in the same pass.
    assert_eq!(answer(&second).1, 32);
    // A prompt that parts from what was read keeps a multiple of the grain.
    let other = [&second[..50], &[0; 40]].concat();
    assert_eq!(answer(&other).1, 32);
}

#[test]
fn the_tokens_of_a_prompt_are_explained_like_choices() {
    let prompt = [0, 1, 0, 2, 2, 1, 0, 0, 1];
    let contrast = Contrast::new(0.5, 0.1).unwrap();
    for schedule in SCHEDULES {
        let mut batch = Batch::new(Words, schedule, 1);
        let user = batch.add(TableSequences::new(1, by_last(ENDLESS)));
        let base = batch.add(TableSequences::new(1, by_last(ENDING)));
        let policy = Policy::Cope {
            base,
            user,
            contrast,
        };
        // The second time, nothing of the first is in the cache.
        for n_predict in [2, 0] {
            let request = TextRequest {
                explained: Some(2),
                explains_prompt: true,
                owner: Some(1),
                ..request(&prompt, policy, limit(n_predict))
            };
            batch.push(request).unwrap();
            let mut told = Vec::new();
            let mut n_chosen = 0;
            for event in batch.by_ref() {
                match event.unwrap().1 {
                    BatchEvent::Prompt(choice, best) => {
                        assert_eq!(n_chosen, 0, "the prompt comes first");
                        told.push((choice, best));
                    }
                    BatchEvent::Choice(..) => n_chosen += 1,
                    BatchEvent::Finished { n_kept, .. } => assert_eq!(n_kept, 0),
                    BatchEvent::Text(_) => {}
                    BatchEvent::Failed(error) => panic!("{error}"),
                }
            }
            assert_eq!((told.len(), n_chosen), (prompt.len() - 1, n_predict));
            for (pair, (choice, best)) in prompt.windows(2).zip(told) {
                let p = |rows: [[f32; 4]; 4]| {
                    let weights = rows[pair[0] as usize].map(f32::exp);
                    weights[pair[1] as usize] / weights.iter().sum::<f32>()
                };
                assert_eq!(choice.token, pair[1]);
                assert!((choice.p_user - p(ENDLESS)).abs() < 1e-6, "{choice:?}");
                assert!(
                    (choice.p_base.unwrap() - p(ENDING)).abs() < 1e-6,
                    "{choice:?}"
                );
                assert_eq!(best.len(), 2);
                assert!(best[0].score >= best[1].score);
            }
        }
    }
}

#[test]
fn the_first_token_is_told_before_the_second_is_computed() {
    for schedule in SCHEDULES {
        let mut batch = Batch::new(Words, schedule, usize::MAX);
        let id = batch.add(TableSequences::new(2, by_last(ENDLESS)));
        for prompt in [[0, 1], [1, 1]] {
            let model = Policy::Plain(id);
            let text = batch.push(request(&prompt, model, limit(8))).unwrap();
            let first = batch.find(|event| event.as_ref().unwrap().0 == text);
            assert!(matches!(first, Some(Ok((_, BatchEvent::Text(_))))));
            let sequences = (0..2).map(|it| batch.model(id).tokens(it));
            assert!(sequences.into_iter().any(|tokens| tokens == prompt));
        }
    }
}

#[test]
fn a_text_without_a_candidate_left_fails_alone() {
    // After a and b, c and the end are left, and both are banned.
    let banned = AnswerOptions {
        no_repeat_ngram: 1,
        logit_bias: vec![(2, f32::NEG_INFINITY), (3, f32::NEG_INFINITY)],
        ..limit(9)
    };
    for schedule in SCHEDULES {
        let mut batch = Batch::new(Words, schedule, usize::MAX);
        let model = Policy::Plain(batch.add(TableSequences::new(3, by_last(ENDLESS))));
        batch.push(request(&[0], model, limit(8))).unwrap();
        batch.push(request(&[0], model, banned.clone())).unwrap();
        batch.push(request(&[1], model, limit(5))).unwrap();
        let outcomes = outcomes(&mut batch);
        assert_eq!(outcomes[0], Ok(alone(&[0], limit(8))));
        let message = outcomes[1].clone().unwrap_err();
        assert!(message.contains("every token is banned"), "{message}");
        assert_eq!(outcomes[2], Ok(alone(&[1], limit(5))));
        assert_eq!((batch.n_running(), batch.n_waiting()), (0, 0));
    }
}

#[test]
fn a_text_whose_logits_are_not_numbers_fails_alone_and_tells_what_it_had() {
    let bias = AnswerOptions {
        no_repeat_ngram: 1,
        ..limit(9)
    };
    for schedule in SCHEDULES {
        let mut batch = Batch::new(Words, schedule, usize::MAX);
        let model = Policy::Plain(batch.add(TableSequences::new(3, broken_after_c)));
        batch.push(request(&[0], model, limit(8))).unwrap();
        let failing = batch.push(request(&[0], model, bias.clone())).unwrap();
        batch.push(request(&[1], model, limit(5))).unwrap();
        let mut shown = String::new();
        let mut error = None;
        let mut finished = Vec::new();
        for event in &mut batch {
            match event.unwrap() {
                (id, BatchEvent::Text(text)) if id == failing => shown += &text,
                (id, BatchEvent::Failed(failed)) if id == failing => error = Some(failed),
                (_, BatchEvent::Finished { response, .. }) => finished.push(response),
                _ => {}
            }
        }
        assert_eq!(shown, "bac");
        assert!(matches!(error, Some(Error::Contrast(_))), "{error:?}");
        assert_eq!(finished, [alone(&[1], limit(5)), alone(&[0], limit(8))]);
    }
}

#[test]
fn a_failed_pass_ends_the_texts_that_it_reads_and_no_others() {
    for (schedule, is_shared) in SCHEDULES.into_iter().zip([true, false]) {
        let mut batch = Batch::new(Words, schedule, usize::MAX);
        let failing = TableSequences::new(3, by_last(ENDLESS)).failing(fails_in_the_middle);
        let failing = Policy::Plain(batch.add(failing));
        let sound = Policy::Plain(batch.add(TableSequences::new(3, by_last(ENDLESS))));
        batch.push(request(&[0], failing, limit(8))).unwrap();
        batch.push(request(&[2, 2, 0], failing, limit(8))).unwrap();
        batch.push(request(&[1, 0], sound, limit(8))).unwrap();
        let outcomes = outcomes(&mut batch);
        let failed = Err(llama_error().to_string());
        assert_eq!(outcomes[1], failed);
        assert_eq!(outcomes[2], Ok(alone(&[1, 0], limit(8))));
        // The naive schedule reads both texts of the failing model in one pass.
        let other = if is_shared {
            failed
        } else {
            Ok(alone(&[0], limit(8)))
        };
        assert_eq!(outcomes[0], other);
    }
}

#[test]
fn a_failed_pass_of_a_base_ends_the_texts_that_are_contrasted_with_it() {
    for schedule in SCHEDULES {
        let mut batch = Batch::new(Words, schedule, usize::MAX);
        let base = TableSequences::new(3, by_last(ENDLESS)).failing(fails_in_the_middle);
        let base = batch.add(base);
        let user = batch.add(TableSequences::new(3, by_last(ENDLESS)));
        let contrast = Contrast::new(0.9, 0.1).unwrap();
        let cope = Policy::Cope {
            base,
            user,
            contrast,
        };
        batch.push(request(&[2, 2, 0], cope, limit(8))).unwrap();
        batch
            .push(request(&[0], Policy::Plain(user), limit(8)))
            .unwrap();
        batch
            .push(request(&[1], Policy::Plain(user), limit(8)))
            .unwrap();
        let outcomes = outcomes(&mut batch);
        assert_eq!(outcomes[0], Err(llama_error().to_string()));
        assert_eq!(outcomes[1], Ok(alone(&[0], limit(8))));
        assert_eq!(outcomes[2], Ok(alone(&[1], limit(8))));
        assert!(batch.remove(base).is_some() && batch.remove(user).is_some());
    }
}

#[test]
fn a_prompt_that_cannot_be_read_ends_its_text_and_its_sequence_is_used_again() {
    let refuses = |tokens: &[Token]| match tokens {
        [1, 1] => Err(llama_error()),
        _ => Ok(()),
    };
    let mut batch = Batch::new(Words, PassSchedule::NAIVE, 1);
    let model = TableSequences::new(1, by_last(ENDLESS)).failing(refuses);
    let model = Policy::Plain(batch.add(model));
    for prompt in [&[0][..], &[1, 1], &[1]] {
        batch.push(request(prompt, model, limit(4))).unwrap();
    }
    let expected = [
        Ok(alone(&[0], limit(4))),
        Err(llama_error().to_string()),
        Ok(alone(&[1], limit(4))),
    ];
    assert_eq!(outcomes(&mut batch), expected);
}

#[test]
fn an_interrupt_ends_all_texts() {
    let interrupted = |tokens: &[Token]| match tokens.len() {
        4 => Err(Error::Interrupted),
        _ => Ok(()),
    };
    for schedule in SCHEDULES {
        let mut batch = Batch::new(Words, schedule, usize::MAX);
        let model = TableSequences::new(2, by_last(ENDLESS)).failing(interrupted);
        let model = Policy::Plain(batch.add(model));
        for prompt in [0, 1, 0] {
            batch.push(request(&[prompt], model, limit(9))).unwrap();
        }
        let error = batch.find_map(crate::Result::err);
        assert!(matches!(error, Some(Error::Interrupted)), "{error:?}");
        assert!(batch.next().is_none());
        assert_eq!((batch.n_running(), batch.n_waiting()), (0, 0));
    }
}

/// Endless logits that depend on all tokens before and on `seed`.
fn by_all(seed: u64) -> impl Fn(&[Token]) -> Vec<f32> + Send + Sync + Copy {
    move |tokens| {
        let logit = |word: Token| {
            let mut hasher = DefaultHasher::new();
            (seed, tokens, word).hash(&mut hasher);
            (hasher.finish() % 1000) as f32 / 250.0
        };
        vec![logit(0), logit(1), logit(2), -99.0]
    }
}

/// A prompt of `len` words in no order.
fn words(len: usize) -> Vec<Token> {
    (0..len).map(|it| (it * it % 7 % 3) as Token).collect()
}

/// An α with which the base often decides.
const STRONG: f32 = 0.9;

/// The seeds of the logits of the base and of the user model.
const SEEDS: [u64; 2] = [1, 2];

/// The response of the naive loop, in which each model computes its logits anew from its own prompt and the response so
/// far.
fn naive(base_prompt: &[Token], prompt: &[Token], n_predict: usize) -> Vec<Token> {
    let [base, user] = SEEDS.map(by_all);
    let contrast = Contrast::new(STRONG, 0.1).unwrap();
    let (mut candidates, mut scratch) = (Vec::new(), Vec::new());
    let mut response = Vec::new();
    while response.len() < n_predict {
        let user = user(&[prompt, &response].concat());
        let base = base(&[base_prompt, &response].concat());
        contrast
            .score(&user, &base, &mut candidates, &mut scratch)
            .unwrap();
        response.push(best(&candidates).token);
    }
    response
}

/// A batch of a base and a user model whose logits depend on all tokens, and the policy of their contrast.
fn contrasted(schedule: PassSchedule) -> (Batch<TableSequences, Words>, Policy<ModelId>) {
    let mut batch = Batch::new(Words, schedule, usize::MAX);
    let [base, user] = SEEDS.map(|seed| batch.add(TableSequences::new(3, by_all(seed))));
    let policy = Policy::Cope {
        base,
        user,
        contrast: Contrast::new(STRONG, 0.1).unwrap(),
    };
    (batch, policy)
}

#[test]
fn a_base_with_a_prompt_of_its_own_is_contrasted_as_in_the_naive_loop() {
    // Lengths on both sides of a pass and of the part of a prompt that can be kept; with the other texts, some wait.
    let lens = [(70, 3), (3, 70), (33, 32), (200, 1), (5, 5), (9, 4)];
    for schedule in SCHEDULES {
        let (mut batch, cope) = contrasted(schedule);
        let mut expected = Vec::new();
        let mut n_other = 0;
        for (len, base_len) in lens {
            let (prompt, base_prompt) = (words(len), words(base_len));
            let shared = request(&prompt, cope, limit(20));
            batch.push(shared.clone()).unwrap();
            let own = TextRequest {
                base_prompt: Some(base_prompt.clone()),
                ..shared
            };
            batch.push(own).unwrap();
            let shared = naive(&prompt, &prompt, 20);
            let own = naive(&base_prompt, &prompt, 20);
            n_other += usize::from(shared != own);
            expected.extend([Ok(shared), Ok(own)]);
        }
        assert_eq!(n_other, 5, "only equal prompts give the same text");
        assert_eq!(outcomes(&mut batch), expected);
    }
}

#[test]
fn each_model_keeps_what_it_has_read_for_the_owners_next_text() {
    let (mut batch, cope) = contrasted(PassSchedule::NAIVE);
    let request = TextRequest {
        base_prompt: Some(words(40)),
        owner: Some(7),
        ..request(&words(70), cope, limit(9))
    };
    let mut ends = Vec::new();
    for _ in 0..2 {
        batch.push(request.clone()).unwrap();
        for event in &mut batch {
            if let (
                _,
                BatchEvent::Finished {
                    response, n_kept, ..
                },
            ) = event.unwrap()
            {
                ends.push((response, n_kept));
            }
        }
    }
    let [(first, 0), (second, 32)] = &ends[..] else {
        panic!("{ends:?}");
    };
    assert_eq!(first, second);
}

#[test]
fn a_bases_prompt_has_to_fit_and_fills_its_context() {
    let (mut batch, cope) = contrasted(PassSchedule::NAIVE);
    let with_base = |len| TextRequest {
        base_prompt: Some(words(len)),
        ..request(&[0], cope, limit(20))
    };
    let empty = batch.push(with_base(0)).unwrap_err();
    assert!(matches!(&empty, Error::Input(message) if message.contains("the prompt is empty")));
    let long = batch.push(with_base(257)).unwrap_err();
    let too_long = Error::PromptTooLong {
        n_prompt: 257,
        n_ctx: 256,
    };
    assert_eq!(long.to_string(), too_long.to_string());
    batch.push(with_base(250)).unwrap();
    let end = batch.find_map(|event| match event.unwrap() {
        (
            _,
            BatchEvent::Finished {
                response, finish, ..
            },
        ) => Some((response.len(), finish)),
        _ => None,
    });
    // Six tokens fit after the base's prompt, and the seventh is chosen without being read.
    assert_eq!(end, Some((7, Finish::ContextFull)));
}
