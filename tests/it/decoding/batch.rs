//! Many texts at once in llama.cpp, on the tiny model.

use std::sync::Arc;

use cope_llama::decode::{
    AnswerOptions, Arm, Batch, BatchEvent, Contrast, PassSchedule, Policy, Sampling, TextId,
    TextRequest,
};
use cope_llama::llama::{Boundary, Model, Rows, Sequences, Special, Token, Twin};

use crate::fixture::{Decoded, Fixture, adapter, decode, exact, limit};
use crate::tiny::{TinyModel, family_adapter};

/// Sequences of each model in the first test: fewer than texts, so that some wait.
const N_SEQUENCES: usize = 3;

const TEXTS: [&str; 7] = [
    "hello",
    "dear alice, thanks for the wine and the letter",
    "so",
    "the red one was good",
    "wine, wine",
    "good morning to you all",
    "a",
];

fn contrast() -> Contrast {
    Contrast::new(0.5, 0.1).unwrap()
}

/// Options of the text of this number: another length for each, greedy for even numbers.
fn options(number: u32) -> AnswerOptions {
    AnswerOptions {
        sampling: Sampling {
            temperature: if number.is_multiple_of(2) { 0.0 } else { 0.9 },
            seed: number,
            ..Sampling::default()
        },
        ..limit(10 + 9 * number as usize)
    }
}

fn prompt(tiny: &Fixture, text: &str) -> Vec<Token> {
    let model = &tiny.model;
    model
        .tokenize(text, Boundary::Add, Special::ByName)
        .unwrap()
}

/// Runs `batch` to its end. The results are the shown texts and the decoded ones, in the order of `ids`.
fn run(
    batch: &mut Batch<Sequences, Arc<Model>>,
    ids: &[TextId],
) -> (Vec<String>, Vec<Option<Decoded>>) {
    let mut shown = vec![String::new(); ids.len()];
    let mut decoded = vec![None; ids.len()];
    for event in batch {
        let (id, event) = event.unwrap();
        let number = ids.iter().position(|it| *it == id).unwrap();
        match event {
            BatchEvent::Prompt(..) | BatchEvent::Choice(..) => {
                unreachable!("nothing is explained")
            }
            BatchEvent::Failed(error) => panic!("a text failed: {error}"),
            BatchEvent::Text(text) => shown[number].push_str(&text),
            BatchEvent::Finished {
                response,
                finish,
                n_changed,
                ..
            } => {
                decoded[number] = Some(Decoded {
                    tokens: response,
                    finish: Some(finish),
                    n_changed,
                });
            }
        }
    }
    (shown, decoded)
}

#[test]
fn texts_of_a_batch_equal_the_texts_decoded_alone() {
    for architecture in ["llama", "gemma4", "lfm2", "qwen35"] {
        check_batch(architecture);
    }
}

fn check_batch(architecture: &'static str) {
    let tiny = Fixture::of(TinyModel {
        architecture,
        ..TinyModel::default()
    });
    let adapter = family_adapter(architecture, 7, 4, &["attn_q", "attn_v"]);
    let prompts = TEXTS.map(|text| prompt(&tiny, text));
    let alone: Vec<_> = (0..)
        .zip(&prompts)
        .map(|(number, prompt)| {
            let mut twin = tiny.twin(&adapter, 1.0);
            let text = decode(&mut twin, Arm::Cope(contrast()), prompt, options(number));
            Some(text)
        })
        .collect();
    let changed = |text: &Decoded| text.n_changed > 0;
    assert!(alone.iter().flatten().any(changed));

    let loaded = tiny.load(&adapter).unwrap();
    let sequences = |adapter| Sequences::new(&tiny.model, adapter, &exact(), N_SEQUENCES).unwrap();
    for n_prompt in [1, usize::MAX] {
        let mut batch = Batch::new(Arc::clone(&tiny.model), PassSchedule::default(), n_prompt);
        let base = batch.add(sequences(None));
        let user = batch.add(sequences(Some((Arc::clone(&loaded), 1.0))));
        let requests = (0..).zip(&prompts).map(|(number, prompt)| TextRequest {
            prompt: prompt.clone(),
            base_prompt: None,
            policy: Policy::Cope {
                base,
                user,
                contrast: contrast(),
            },
            options: options(number),
            explained: None,
            explains_prompt: false,
            owner: None,
        });
        let ids: Vec<_> = requests.map(|it| batch.push(it).unwrap()).collect();
        let (shown, together) = run(&mut batch, &ids);
        assert_eq!(together, alone, "{architecture}");
        for (shown, text) in shown.iter().zip(together.iter().flatten()) {
            let bytes = text
                .tokens
                .iter()
                .flat_map(|&token| tiny.model.token_bytes(token, Special::Ignored));
            assert_eq!(*shown, String::from_utf8_lossy(&bytes.collect::<Vec<_>>()));
        }
        for model in [base, user] {
            let sequences = batch.remove(model).unwrap();
            assert!((0..N_SEQUENCES).all(|it| sequences.tokens(it).is_empty()));
        }
    }
}

/// A prefix that was read for an owner is reused by the owner's next text and by no other owner's.
#[test]
fn a_batch_reuses_a_cached_prefix_for_its_owner_alone() {
    let tiny = Fixture::new();
    let sequences = Sequences::new(&tiny.model, None, &exact(), 2).unwrap();
    let mut batch = Batch::new(Arc::clone(&tiny.model), PassSchedule::NAIVE, usize::MAX);
    let model = batch.add(sequences);
    let mut answer = |text: &str, owner| {
        batch
            .push(TextRequest {
                prompt: prompt(&tiny, text),
                base_prompt: None,
                policy: Policy::Plain(model),
                options: limit(8),
                explained: None,
                explains_prompt: false,
                owner,
            })
            .unwrap();
        let mut answer = Vec::new();
        for event in &mut batch {
            if let (_, BatchEvent::Finished { response, .. }) = event.unwrap() {
                answer = response;
            }
        }
        let kept = (0..2).map(|it| batch.model(model).tokens(it).len());
        (answer, kept.collect::<Vec<_>>())
    };
    let alone = answer("dear alice, thanks", None);
    assert_eq!(alone.1, [0, 0]);
    let first = answer("dear alice, thanks", Some(1));
    assert!(first.1.iter().any(|len| *len > 0));
    // The text of another owner takes the empty sequence, and that of the owner resumes from the cached prefix.
    assert_eq!(answer("dear alice, thanks", Some(2)).0, alone.0);
    assert_eq!(answer("dear alice, thanks", Some(1)).0, alone.0);
    batch.forget(1);
    let kept = (0..2).filter(|it| !batch.model(model).tokens(*it).is_empty());
    assert_eq!(kept.count(), 1);
}

#[test]
fn texts_of_several_users_share_a_base_and_can_be_cancelled() {
    let tiny = Fixture::new();
    let loaded = tiny.load(&adapter()).unwrap();
    let sequences = |adapter, n| Sequences::new(&tiny.model, adapter, &exact(), n).unwrap();
    let mut batch = Batch::new(Arc::clone(&tiny.model), PassSchedule::default(), 4);
    let base = batch.add(sequences(None, 3));
    let users = [1.0, -1.0].map(|scale| {
        let adapter = (Arc::clone(&loaded), scale);
        batch.add(sequences(Some(adapter), 2))
    });
    let prompt = prompt(&tiny, "dear alice");
    let request = |user| TextRequest {
        prompt: prompt.clone(),
        base_prompt: None,
        policy: Policy::Cope {
            base,
            user: users[user],
            contrast: contrast(),
        },
        options: limit(12),
        explained: None,
        explains_prompt: false,
        owner: None,
    };
    let ids: Vec<_> = [0, 1, 0, 1, 0, 1]
        .map(|user| batch.push(request(user)).unwrap())
        .into();
    let mut answers = vec![None; ids.len()];
    while let Some(event) = batch.next() {
        let (id, event) = event.unwrap();
        assert!(batch.n_running() <= 3);
        let number = ids.iter().position(|it| *it == id).unwrap();
        // One text that runs, and one that waits.
        if number == 0 {
            batch.cancel(ids[1]);
            batch.cancel(ids[5]);
        }
        if let BatchEvent::Finished { response, .. } = event {
            answers[number] = Some(response);
        }
    }
    for (number, answer) in answers.iter().enumerate() {
        let scale = if number % 2 == 0 { 1.0 } else { -1.0 };
        let mut twin = tiny.twin(&adapter(), scale);
        let alone = decode(&mut twin, Arm::Cope(contrast()), &prompt, limit(12)).tokens;
        let expected = (number != 1 && number != 5).then_some(alone);
        assert_eq!(*answer, expected, "text {number}");
    }
    for model in [base, users[0], users[1]] {
        assert!(batch.remove(model).is_some());
    }
}

/// The greedy response of the naive loop, in which each context of `twin` reads its own prompt and then each token.
fn naive(twin: &mut Twin, base_prompt: &[Token], prompt: &[Token], n_predict: usize) -> Vec<Token> {
    twin.base.extend(base_prompt, 1, Rows::Full).unwrap();
    twin.user.extend(prompt, 1, Rows::Full).unwrap();
    let (mut candidates, mut scratch) = (Vec::new(), Vec::new());
    let mut response = Vec::new();
    loop {
        let (user, base) = (twin.user.logits(), twin.base.logits());
        contrast()
            .score(user, base, &mut candidates, &mut scratch)
            .unwrap();
        let best = candidates.iter().max_by(|x, y| x.score.total_cmp(&y.score));
        let token = best.unwrap().token;
        if twin.user.model().is_eog(token) {
            return response;
        }
        response.push(token);
        if response.len() == n_predict {
            return response;
        }
        for context in [&mut twin.base, &mut twin.user] {
            context.extend(&[token], 1, Rows::Full).unwrap();
        }
    }
}

#[test]
fn a_base_with_a_prompt_of_its_own_gives_the_texts_of_two_separate_contexts() {
    let tiny = Fixture::new();
    let loaded = tiny.load(&adapter()).unwrap();
    let sequences = |adapter| Sequences::new(&tiny.model, adapter, &exact(), N_SEQUENCES).unwrap();
    let prompts = TEXTS.map(|text| prompt(&tiny, text));
    // The user model reads the text before the base's too, as items are put before a question.
    let pairs: Vec<_> = prompts
        .windows(2)
        .map(|pair| (pair[1].clone(), [&pair[0][..], &pair[1]].concat()))
        .collect();
    let alone = |base_prompt: &[Token], prompt: &[Token]| {
        naive(&mut tiny.twin(&adapter(), 1.0), base_prompt, prompt, 24)
    };
    let expected: Vec<_> = pairs.iter().map(|(base, user)| alone(base, user)).collect();
    let shared: Vec<_> = pairs.iter().map(|(_, user)| alone(user, user)).collect();
    assert_ne!(expected, shared, "the base's prompt makes a difference");
    for schedule in [PassSchedule::NAIVE, PassSchedule::default()] {
        let mut batch = Batch::new(Arc::clone(&tiny.model), schedule, usize::MAX);
        let policy = Policy::Cope {
            base: batch.add(sequences(None)),
            user: batch.add(sequences(Some((Arc::clone(&loaded), 1.0)))),
            contrast: contrast(),
        };
        let requests = pairs.iter().map(|(base_prompt, prompt)| TextRequest {
            prompt: prompt.clone(),
            base_prompt: Some(base_prompt.clone()),
            policy,
            options: limit(24),
            explained: None,
            explains_prompt: false,
            owner: None,
        });
        let ids: Vec<_> = requests.map(|it| batch.push(it).unwrap()).collect();
        let (_, together) = run(&mut batch, &ids);
        let tokens: Vec<_> = together.into_iter().flatten().map(|it| it.tokens).collect();
        assert_eq!(tokens, expected);
    }
}
