use super::*;
use crate::decode::test_kit::{ENDING, ENDLESS, Rows4, Table, Words, by_last, limit};
use crate::decode::{AnswerOptions, Contrast, Sampling};

fn words(rows: Rows4) -> Table {
    Table::new(by_last(rows))
}

fn ending() -> Table {
    words(ENDING)
}

fn endless() -> Table {
    words(ENDLESS)
}

fn run(
    policy: Policy<&mut Table>,
    prompt: &[Token],
    options: impl Into<DecoderOptions>,
) -> (Vec<Piece>, Vec<Token>, Option<Finish>) {
    let mut decoder = Decoder::new(policy, &Words, prompt, options.into()).unwrap();
    let pieces = decoder.by_ref().collect::<Result<_>>().unwrap();
    (pieces, decoder.response().to_vec(), decoder.finish())
}

fn texts(texts: &[&str]) -> Vec<Piece> {
    texts
        .iter()
        .map(|text| Piece::Text((*text).to_owned()))
        .collect()
}

#[test]
fn an_end_token_ends_a_text() {
    let (pieces, response, finish) =
        run(Policy::Plain(&mut ending()), &[0], AnswerOptions::default());
    assert_eq!(pieces, texts(&["b", "c"]));
    assert_eq!((response, finish), (vec![1, 2], Some(Finish::EndOfTurn)));
}

#[test]
fn the_contrast_avoids_the_token_that_the_base_is_surer_of() {
    // In both models b follows a; the base is surer of it, so that the contrast chooses c.
    let mut base = words([
        [0., 4., 0., -9.],
        [2., 0., 1., -9.],
        [2., 0., 0., -9.],
        [0.; 4],
    ]);
    let mut user = endless();
    let contrast = Contrast::new(0.5, 0.1).unwrap();
    let policy = Policy::Cope {
        base: &mut base,
        user: &mut user,
        contrast,
    };
    assert_eq!(run(policy, &[0], limit(4)).1, [2, 0, 2, 0]);
    assert_eq!(base.tokens, user.tokens);
}

#[test]
fn a_text_of_one_model_is_not_steered() {
    let mut model = endless();
    let sampling = Sampling {
        temperature: 2.0,
        ..Sampling::default()
    };
    let options = AnswerOptions {
        sampling,
        ..limit(8)
    };
    let mut decoder =
        Decoder::new(Policy::Plain(&mut model), &Words, &[0], options.into()).unwrap();
    decoder.by_ref().for_each(|piece| drop(piece.unwrap()));
    assert_eq!(decoder.steered().len(), 8);
    assert!(!decoder.steered().iter().any(|it| it.is_changed()));
}

#[test]
fn no_contrast_and_a_contrast_with_itself_give_the_text_of_the_user_model() {
    let alone = run(Policy::Plain(&mut endless()), &[0], limit(6)).1;
    let contrast = Contrast::new(0.0, 0.1).unwrap();
    let (base, user) = (&mut ending(), &mut endless());
    assert_eq!(
        run(
            Policy::Cope {
                base,
                user,
                contrast
            },
            &[0],
            limit(6)
        )
        .1,
        alone
    );
    let contrast = Contrast::new(0.9, 0.1).unwrap();
    let (base, user) = (&mut endless(), &mut endless());
    assert_eq!(
        run(
            Policy::Cope {
                base,
                user,
                contrast
            },
            &[0],
            limit(6)
        )
        .1,
        alone
    );
}

#[test]
fn length_and_stop_strings_end_a_text() {
    let plain = |options: AnswerOptions| {
        let (pieces, _, finish) = run(Policy::Plain(&mut endless()), &[0], options);
        (pieces, finish)
    };
    assert_eq!(
        plain(limit(3)),
        (texts(&["b", "a", "b"]), Some(Finish::Length))
    );
    assert_eq!(plain(limit(0)), (texts(&[]), Some(Finish::Length)));
    let stop = AnswerOptions {
        stop: vec!["ab".into()],
        ..AnswerOptions::default()
    };
    assert_eq!(plain(stop), (texts(&["b"]), Some(Finish::Stop)));
    let held = AnswerOptions {
        stop: vec!["bac".into()],
        ..limit(4)
    };
    assert_eq!(plain(held), (texts(&["ba", "ba"]), Some(Finish::Length)));
}

#[test]
fn a_full_context_removes_the_same_middle_from_both_models_and_says_so() {
    let (mut base, mut user) = (endless(), endless());
    let options = DecoderOptions {
        n_keep: 2,
        ..limit(20).into()
    };
    let policy = Policy::Cope {
        base: &mut base,
        user: &mut user,
        contrast: Contrast::default(),
    };
    let (pieces, response, finish) = run(policy, &[2, 2, 0], options);
    assert_eq!((response.len(), finish), (20, Some(Finish::Length)));
    // 16 tokens fill the context: 3 of the prompt and 13 generated; the 14th is yet to be seen.
    assert_eq!(pieces[14], Piece::Shifted(7));
    assert_eq!(pieces.len(), 21);
    assert_eq!(base.tokens, user.tokens);
    assert_eq!(user.tokens[..2], [2, 2], "the first are kept");
}

#[test]
fn a_full_context_ends_the_text_if_it_may_not_shift() {
    let options = DecoderOptions {
        context_shift: false,
        ..DecoderOptions::default()
    };
    let (pieces, response, finish) = run(Policy::Plain(&mut endless()), &[0], options);
    assert_eq!((response.len(), finish), (16, Some(Finish::ContextFull)));
    assert_eq!(pieces.len(), 16);
}

#[test]
fn a_prompt_prefix_in_the_cache_is_not_recomputed() {
    let mut model = endless();
    run(Policy::Plain(&mut model), &[2, 1, 0], limit(3));
    assert_eq!(
        (model.tokens.as_slice(), model.n_evaluated),
        (&[2, 1, 0, 1, 0][..], 5)
    );
    run(Policy::Plain(&mut model), &[2, 1, 0, 1, 2, 0], limit(1));
    assert_eq!(
        (model.tokens.as_slice(), model.n_evaluated),
        (&[2, 1, 0, 1, 2, 0][..], 7)
    );
    // For the same prompt again, only the last token is read, for the logits.
    run(Policy::Plain(&mut model), &[2, 1, 0, 1, 2, 0], limit(1));
    assert_eq!(model.n_evaluated, 8);
}

#[test]
fn an_interrupt_ends_the_text_and_keeps_its_tokens() {
    let flag = AtomicBool::new(false);
    let mut model = endless();
    let mut decoder = Decoder::new(
        Policy::Plain(&mut model),
        &Words,
        &[0],
        DecoderOptions::default(),
    )
    .unwrap()
    .interruptible(&flag);
    assert_eq!(decoder.next().unwrap().unwrap(), Piece::Text("b".into()));
    flag.store(true, Ordering::Relaxed);
    assert!(decoder.next().is_none());
    assert_eq!(
        (decoder.finish(), decoder.response()),
        (Some(Finish::Interrupted), &[1][..])
    );
}

#[test]
fn empty_and_too_long_prompts_are_refused() {
    let refusal = |prompt: &[Token]| {
        let mut model = endless();
        let policy = Policy::Plain(&mut model);
        Decoder::new(policy, &Words, prompt, DecoderOptions::default())
            .err()
            .unwrap()
            .to_string()
    };
    let message = refusal(&[0; 17]);
    assert!(
        message.contains("17 tokens") && message.contains("context 16"),
        "{message}"
    );
    assert!(refusal(&[]).contains("empty"));
    assert_eq!(
        run(Policy::Plain(&mut endless()), &[0; 16], limit(1)).1,
        [1]
    );
}

#[test]
fn logits_that_are_not_numbers_are_an_error_and_the_end() {
    let mut broken = words([[f32::NAN; 4]; 4]);
    let policy = Policy::Plain(&mut broken);
    let mut decoder = Decoder::new(policy, &Words, &[0], DecoderOptions::default()).unwrap();
    assert!(matches!(decoder.next(), Some(Err(Error::Contrast(_)))));
    assert!(decoder.next().is_none());
    assert_eq!(decoder.finish(), None);
}

#[test]
fn a_seed_repeats_its_text() {
    let draw = |seed| {
        let sampling = Sampling {
            temperature: 1.0,
            seed,
            ..Sampling::default()
        };
        let options = AnswerOptions {
            sampling,
            ..limit(12)
        };
        run(Policy::Plain(&mut endless()), &[0], options).1
    };
    assert_eq!(draw(1), draw(1));
    assert!((2..10).any(|seed| draw(seed) != draw(1)));
}
