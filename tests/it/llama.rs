//! Models, adapters and contexts of llama.cpp, on the tiny model.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cope_convert::gguf::{Array, Value};
use cope_llama::Error;
use cope_llama::decode::{self, Candidate};
use cope_llama::llama::{
    Boundary, Context, ContextOptions, FlashAttention, KvType, LoraAdapter, Model, Rows, Sequences,
    Special, Token, Twin,
};

use crate::fixture::{Fixture, adapter, best, exact, greedy};
use crate::tiny::{FAMILIES, TinyModel, family_adapter, linears, tiny_adapter};

#[test]
fn a_prompt_read_in_pieces_or_at_once_gives_the_same_logits() {
    let tiny = Fixture::new();
    let tokens: Vec<Token> = (0..40).map(|n| 20 + n * 7 % 300).collect();
    let n_vocab = tiny.model.n_vocab();
    let at_once = {
        let mut context = Context::new(&tiny.model, None, &exact()).unwrap();
        let all = context.extend_all(&tokens).unwrap();
        assert_eq!(all.len(), tokens.len() * n_vocab);
        assert_eq!(&all[39 * n_vocab..], context.logits());
        all
    };
    let small = ContextOptions {
        n_batch: 16,
        n_outputs: 1,
        ..exact()
    };
    let mut context = Context::new(&tiny.model, None, &small).unwrap();
    for (position, &token) in tokens.iter().enumerate() {
        context.extend(&[token], 1, Rows::Full).unwrap();
        assert_close(context.logits(), &at_once[position * n_vocab..][..n_vocab]);
    }
    context.truncate(0);
    context.extend(&tokens, 1, Rows::Full).unwrap();
    assert_close(context.logits(), &at_once[39 * n_vocab..]);
    assert_eq!(context.tokens(), tokens);
}

fn assert_close(got: &[f32], expected: &[f32]) {
    let error = std::iter::zip(got, expected)
        .map(|(x, y)| (x - y).abs())
        .fold(0.0, f32::max);
    assert!(error < 1e-3, "the logits differ by {error}");
}

#[test]
fn logits_of_candidates_equal_those_of_a_whole_pass() {
    let candidates = [5, 0, 300, 7].map(|token| Candidate { token, score: 0.0 });
    for (architecture, tied) in FAMILIES
        .into_iter()
        .flat_map(|it| [(it, true), (it, false)])
    {
        let tiny = Fixture::of(TinyModel {
            tied,
            architecture,
            ..TinyModel::default()
        });
        let mut context = Context::new(&tiny.model, None, &exact()).unwrap();
        let mut reference = Context::new(&tiny.model, None, &exact()).unwrap();
        let mut logits = Vec::new();
        // The first pass shows whether the output head can be left out, so only the second leaves it out.
        for tokens in [&[20, 21, 22][..], &[23, 24], &[25]] {
            context
                .extend(tokens, tokens.len(), Rows::Candidates)
                .unwrap();
            reference.extend(tokens, tokens.len(), Rows::Full).unwrap();
            for len in context.rows() {
                context.logits_of(len, &candidates, &mut logits).unwrap();
                let all = reference.logits_after(len);
                let expected = candidates.map(|it| all[it.token as usize]);
                assert_close(&logits, &expected);
            }
        }
        assert_eq!(context.rows(), 6..7);
        context.truncate(5);
        assert!(context.rows().is_empty());
    }
}

/// llama.cpp would rotate or multiply the keys of these models once more than they were.
#[test]
fn caches_whose_keys_llama_cpp_moves_wrongly_are_not_shifted() {
    for architecture in FAMILIES {
        let tiny = Fixture::of(TinyModel {
            architecture,
            ..TinyModel::default()
        });
        let context = Context::new(&tiny.model, None, &exact()).unwrap();
        let is_wrong =
            ["smollm3", "mistral3", "olmo2", "phi3", "lfm2", "qwen35"].contains(&architecture);
        let has_window = architecture.starts_with("gemma");
        assert!(
            context.can_shift() != is_wrong || has_window,
            "{architecture}"
        );
    }
}

/// Deferred logits have the same bits as others, for one row and for several, with an adapter and without.
#[test]
fn deferred_logits_equal_those_of_a_whole_pass() {
    for (architecture, tied) in FAMILIES
        .into_iter()
        .flat_map(|it| [(it, true), (it, false)])
    {
        let tiny = Fixture::of(TinyModel {
            tied,
            architecture,
            ..TinyModel::default()
        });
        let adapter = family_adapter(architecture, 3, 2, &linears(architecture)[..1]);
        let adapter = tiny.load(&adapter).unwrap();
        for adapter in [None, Some((adapter, 1.0))] {
            let mut context = Context::new(&tiny.model, adapter.clone(), &exact()).unwrap();
            let mut reference = Context::new(&tiny.model, adapter, &exact()).unwrap();
            for tokens in [&[20, 21, 22][..], &[23, 24], &[25], &[26, 27, 28]] {
                context.share_threads(2);
                context
                    .extend(tokens, tokens.len(), Rows::Deferred)
                    .unwrap();
                context.finish().unwrap();
                reference.extend(tokens, tokens.len(), Rows::Full).unwrap();
                for len in context.rows() {
                    assert_eq!(context.logits_after(len), reference.logits_after(len));
                }
            }
        }
    }
}

/// With an adapter on the output head, the head is no longer the product of a weight of the file.
#[test]
fn an_output_head_with_an_adapter_is_computed_in_the_pass() {
    let tiny = Fixture::of(TinyModel {
        tied: false,
        ..TinyModel::default()
    });
    let n_vocab = tiny.model.n_vocab();
    let mut of_the_head = tiny_adapter(3, 2, &["attn_q"]);
    of_the_head.tensors.truncate(1);
    let tensor = &mut of_the_head.tensors[0];
    tensor.name = "output.weight".into();
    tensor.b.rows = n_vocab;
    tensor.b.data = (0..2 * n_vocab).map(|n| (n % 7) as f32 - 3.0).collect();
    let loaded = tiny.load(&of_the_head).unwrap();
    let mut context = Context::new(&tiny.model, Some((loaded, 1.0)), &exact()).unwrap();
    let candidates = [5, 300].map(|token| Candidate { token, score: 0.0 });
    let mut logits = Vec::new();
    for token in [20, 21] {
        context.extend(&[token], 1, Rows::Candidates).unwrap();
        context
            .logits_of(context.len(), &candidates, &mut logits)
            .unwrap();
        let expected = candidates.map(|it| context.logits()[it.token as usize]);
        assert_eq!(logits, expected);
    }
}

#[test]
fn tokens_that_do_not_exist_or_do_not_fit_are_refused() {
    let tiny = Fixture::new();
    let mut context = Context::new(&tiny.model, None, &exact()).unwrap();
    let n_vocab = tiny.model.n_vocab() as Token;
    for tokens in [&[n_vocab][..], &[-1], &[20; 257]] {
        assert!(matches!(
            context.extend(tokens, 1, Rows::Full),
            Err(Error::Input(_))
        ));
        assert!(context.is_empty());
    }
}

#[test]
fn adapters_come_and_go_while_contexts_live() {
    let tiny = Fixture::new();
    let prompt = tiny.prompt();
    let mut first = tiny.twin(&adapter(), 1.0);
    let expected = greedy(&mut first.user, &prompt, 48);
    let mut second = tiny.twin(&tiny_adapter(8, 2, &["ffn_down", "attn_output"]), 1.0);
    assert_ne!(greedy(&mut second.user, &prompt, 48), expected);
    drop(second);
    assert_eq!(greedy(&mut first.user, &prompt, 48), expected);
    // Values can be dropped in any order.
    let Twin { base, mut user } = first;
    drop((base, tiny));
    assert_eq!(greedy(&mut user, &prompt, 48), expected);
}

#[test]
fn threads_load_adapters_while_others_decode() {
    let tiny = Fixture::new();
    let expected = greedy(&mut tiny.twin(&adapter(), 1.0).user, &tiny.prompt(), 48);
    let path = tiny.folder.path().join("shared.gguf");
    adapter().write_gguf(&path).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let adapter =
                        LoraAdapter::load(&tiny.model, &path, &tiny.base, &tiny.base_sha256);
                    let twin = Twin::new(&tiny.model, None, adapter.unwrap(), 1.0, &exact());
                    assert_eq!(
                        greedy(&mut twin.unwrap().user, &tiny.prompt(), 48),
                        expected
                    );
                }
            });
        }
    });
}

#[test]
fn an_adapter_of_another_base_is_refused() {
    let tiny = Fixture::new();
    let mut recorded = adapter();
    recorded.base_sha256 = Some(tiny.base_sha256.clone());
    tiny.load(&recorded).unwrap();
    recorded.base_sha256 = Some("0".repeat(64));
    assert!(matches!(tiny.load(&recorded), Err(Error::Convert(_))));

    let mut foreign = adapter();
    foreign.architecture = "qwen2".into();
    assert!(matches!(tiny.load(&foreign), Err(Error::Convert(_))));

    // The adapter is loaded for one model and used with another of the same file.
    let other = Model::load(&tiny.path, None).unwrap();
    let loaded = tiny.load(&adapter()).unwrap();
    assert!(matches!(
        Context::new(&other, Some((loaded, 1.0)), &exact()),
        Err(Error::Bug(_))
    ));
}

#[test]
fn every_kind_of_cache_decodes() {
    let tiny = Fixture::new();
    for (kv_type, flash_attention) in [
        (KvType::F16, FlashAttention::Auto),
        (KvType::F32, FlashAttention::On),
        (KvType::F16, FlashAttention::Off),
    ] {
        let options = ContextOptions {
            kv_type,
            flash_attention,
            ..exact()
        };
        let mut context = Context::new(&tiny.model, None, &options).unwrap();
        let mut reference = Context::new(&tiny.model, None, &exact()).unwrap();
        context.extend(&tiny.prompt(), 1, Rows::Full).unwrap();
        reference.extend(&tiny.prompt(), 1, Rows::Full).unwrap();
        let error = std::iter::zip(context.logits(), reference.logits())
            .map(|(x, y)| (x - y).abs())
            .fold(0.0, f32::max);
        assert!(error < 0.2, "{kv_type:?} {flash_attention:?}: {error}");
    }
    // The tiny model's heads have 16 numbers, and a block of Q8_0 has 32.
    let options = ContextOptions {
        kv_type: KvType::Q8_0,
        flash_attention: FlashAttention::Auto,
        ..exact()
    };
    let refusal = Context::new(&tiny.model, None, &options)
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("q8_0"), "{refusal}");
}

#[test]
fn tags_around_thoughts_are_text_even_where_they_are_special_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    for (name, bytes) in [
        ("[THINK]", "[THINK]"),
        ("<|END_THINKING|>", "<|END_THINKING|>"),
        ("<|channel>", "<|channel>"),
        ("<|START_RESPONSE|>", ""),
    ] {
        TinyModel::default().write_edited(&path, |metadata| {
            let (_, tokens) = (metadata.iter_mut())
                .find(|(key, _)| key == "tokenizer.ggml.tokens")
                .unwrap();
            let Value::Array(Array::String(tokens)) = tokens else {
                panic!("the tokens are an array of strings");
            };
            let user = tokens.iter_mut().find(|it| *it == "<|user|>").unwrap();
            *user = name.into();
        });
        let model = Model::load(&path, Some(0)).unwrap();
        let token = model
            .tokenize(name, Boundary::Omit, Special::ByName)
            .unwrap();
        assert_eq!(token.len(), 1, "{name}");
        assert_eq!(model.token_bytes(token[0], Special::Ignored), b"", "{name}");
        let text = decode::Vocabulary::token_bytes(&*model, token[0]);
        assert_eq!(String::from_utf8(text).unwrap(), bytes);
    }
}

#[test]
fn a_text_survives_tokenizing_and_joining_its_tokens() {
    let tiny = Fixture::new();
    let model = &tiny.model;
    let text = "dear alice, thanks for the wine: é 😀";
    let tokens = model
        .tokenize(text, Boundary::Omit, Special::Ignored)
        .unwrap();
    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|&token| model.token_bytes(token, Special::Ignored))
        .collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);

    let special = model
        .tokenize("<|user|>", Boundary::Add, Special::ByName)
        .unwrap();
    assert_eq!(special.len(), 2);
    assert_eq!(Some(special[0]), model.bos());
    assert_eq!(model.token_text(special[1]), "<|user|>");
    assert_eq!(model.token_bytes(special[1], Special::Ignored), b"");
    assert_eq!(model.token_bytes(special[1], Special::ByName), b"<|user|>");
    assert!(
        model.adds_bos()
            && model.is_eog(model.eot().unwrap())
            && model.is_eog(model.eos().unwrap())
    );
    assert!(model.chat_template().unwrap().contains("<|assistant|>"));

    let beyond = model.n_vocab() as Token;
    assert!(
        model.token_bytes(beyond, Special::ByName).is_empty()
            && !model.is_eog(-1)
            && !model.is_eog(beyond)
    );

    let long = "the wine ".repeat(3000) + &"\u{1}".repeat(5000);
    let n_bytes = model
        .tokenize(&long, Boundary::Omit, Special::Ignored)
        .unwrap()
        .len();
    assert!(n_bytes > 5000 + 3000);
}

#[test]
fn the_token_that_ends_a_turn_is_the_one_that_the_file_names() {
    let tiny = Fixture::new();
    assert_eq!(tiny.model.token_text(tiny.model.eot().unwrap()), "<|end|>");
    let path = tiny.folder.path().join("nameless.gguf");
    TinyModel::default().write_edited(&path, |metadata| {
        metadata.retain(|(key, _)| key != "tokenizer.ggml.eot_token_id");
    });
    let nameless = Model::load_vocabulary(&path).unwrap();
    assert_eq!(nameless.eot(), None);
    assert_eq!(nameless.token_text(nameless.eos().unwrap()), "</s>");
}

#[test]
fn a_vocabulary_alone_tokenizes_but_does_not_decode() {
    let tiny = Fixture::new();
    let vocabulary = Model::load_vocabulary(&tiny.path).unwrap();
    assert_eq!(
        vocabulary
            .tokenize("hello", Boundary::Add, Special::ByName)
            .unwrap(),
        tiny.model
            .tokenize("hello", Boundary::Add, Special::ByName)
            .unwrap()
    );
    assert!(matches!(
        Context::new(&vocabulary, None, &exact()),
        Err(Error::Bug(_))
    ));
}

#[test]
fn missing_and_foreign_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |path: &Path| {
        let message = Model::load(path, None).unwrap_err().to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert!(!message.contains('\n'), "{message}");
    };
    refusal(&folder.path().join("missing.gguf"));
    refusal(folder.path());
    let path = folder.path().join("notes.gguf");
    std::fs::write(&path, "dear diary").unwrap();
    refusal(&path);
    let path = folder.path().join("adapter.gguf");
    adapter().write_gguf(&path).unwrap();
    refusal(&path);
}

#[test]
fn the_scale_of_an_adapter_moves_the_logits_from_the_base_to_the_adapter() {
    let tiny = Fixture::new();
    let logits = |scale| {
        let mut twin = tiny.twin(&adapter(), scale);
        twin.user.extend(&tiny.prompt(), 1, Rows::Full).unwrap();
        twin.base.extend(&tiny.prompt(), 1, Rows::Full).unwrap();
        (twin.user.logits().to_vec(), twin.base.logits().to_vec())
    };
    let distance = |scale| {
        let (user, base) = logits(scale);
        std::iter::zip(user, base)
            .map(|(user, base)| (user - base).abs())
            .sum::<f32>()
    };
    assert!(distance(0.0) == 0.0);
    assert!(distance(0.01) > 0.0);
    assert!(distance(1.0) > 2.0 * distance(0.01));
    // Doubling the scale is the same as doubling lora_alpha.
    let mut doubled = adapter();
    doubled.lora_alpha *= 2.0;
    let mut twin = tiny.twin(&doubled, 0.5);
    twin.user.extend(&tiny.prompt(), 1, Rows::Full).unwrap();
    assert_eq!(twin.user.logits(), logits(1.0).0);
}

#[test]
fn an_interrupt_during_a_pass_leaves_the_cache_unchanged() {
    let tiny = Fixture::new();
    let prompt = tiny.prompt();
    let mut context = Context::new(&tiny.model, None, &exact()).unwrap();
    let expected = greedy(&mut context, &prompt, 16);
    let flag = Arc::new(AtomicBool::new(false));
    context.set_interrupt(Arc::clone(&flag));
    context.truncate(0);
    context.extend(&prompt, 1, Rows::Full).unwrap();
    let person = std::thread::spawn({
        let flag = Arc::clone(&flag);
        move || {
            std::thread::sleep(Duration::from_millis(20));
            flag.store(true, Ordering::Relaxed);
        }
    });
    loop {
        match context.extend(&[20; 200], 1, Rows::Full) {
            Ok(()) => context.truncate(prompt.len()),
            Err(Error::Interrupted) => break,
            Err(error) => panic!("{error}"),
        }
    }
    person.join().unwrap();
    assert_eq!(context.tokens(), prompt);
    flag.store(false, Ordering::Relaxed);
    assert_eq!(greedy(&mut context, &prompt, 16), expected);
}

/// The logits after each of some passes over every other of many sequences, which llama.cpp reads in as many parts.
fn logits_of_every_other_sequence(model: &Arc<Model>) -> Vec<f32> {
    let options = ContextOptions {
        n_ctx: 16,
        n_threads: 2,
        ..exact()
    };
    let mut sequences = Sequences::new(model, None, &options, 128).unwrap();
    let mut logits = Vec::new();
    for token in 20..32 {
        let items: Vec<_> = (0..128)
            .step_by(2)
            .map(|sequence| (sequence, token))
            .collect();
        sequences.step(&items, Rows::Full).unwrap();
        logits.extend_from_slice(sequences.logits(0));
        logits.extend_from_slice(sequences.logits(126));
    }
    logits
}

#[test]
fn a_pass_that_other_programs_starve_of_time_runs_again_as_a_whole() {
    let tiny = Fixture::new();
    let idle = logits_of_every_other_sequence(&tiny.model);
    let has_ended = AtomicBool::new(false);
    let n_others = 2 * std::thread::available_parallelism().unwrap().get();
    let busy = std::thread::scope(|scope| {
        for _ in 0..n_others {
            scope.spawn(|| {
                while !has_ended.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let busy = std::panic::catch_unwind(|| logits_of_every_other_sequence(&tiny.model));
        has_ended.store(true, Ordering::Relaxed);
        busy
    });
    // A pass that runs again may find other free cells of the cache, and so add in another order.
    let differences = busy
        .unwrap()
        .into_iter()
        .zip(idle)
        .map(|(x, y)| (x - y).abs());
    let largest = differences.fold(0.0, f32::max);
    assert!(largest < 1e-4, "the logits differ by {largest}");
}

#[test]
fn a_saved_cache_is_restored_for_its_own_key_alone() {
    // The families with sliding attention too, of which llama.cpp can leave out what a later token does not see.
    ["llama", "gemma2", "gemma3", "gemma4", "olmo2"]
        .into_iter()
        .for_each(check_saved_cache);
}

fn check_saved_cache(architecture: &'static str) {
    let tiny = Fixture::of(TinyModel {
        architecture,
        ..TinyModel::default()
    });
    let adapter = family_adapter(architecture, 7, 4, &["attn_q", "attn_v"]);
    let prompt = tiny.prompt();
    let context = || {
        let loaded = tiny.load(&adapter).unwrap();
        Context::new(&tiny.model, Some((loaded, 1.0)), &exact()).unwrap()
    };
    let mut first = context();
    let expected = greedy(&mut first, &prompt, 24);
    let tokens = first.tokens().to_vec();
    let saved = first.save("alice").unwrap();

    let mut second = context();
    assert!(second.restore("alice", &saved));
    assert_eq!(second.tokens(), tokens);
    second.truncate(prompt.len() - 1);
    second
        .extend(&prompt[prompt.len() - 1..], 1, Rows::Full)
        .unwrap();
    assert_eq!(best(second.logits()), expected[0]);
    second.extend(&expected[..8], 1, Rows::Full).unwrap();
    assert_eq!(best(second.logits()), expected[8]);

    assert!(!second.restore("bob", &saved));
    assert!(second.is_empty());
    let other_kind = ContextOptions {
        n_ctx: 256,
        ..ContextOptions::default()
    };
    let mut other = Context::new(&tiny.model, None, &other_kind).unwrap();
    assert!(!other.restore("alice", &saved));
    for index in [0, 31, 32, 40, saved.len() / 2, saved.len() - 1] {
        let mut damaged = saved.clone();
        damaged[index] ^= 1;
        assert!(!second.restore("alice", &damaged), "byte {index}");
    }
    for len in [0, 31, 32, 36, saved.len() - 1] {
        assert!(!second.restore("alice", &saved[..len]), "{len} bytes");
    }
    assert_eq!(greedy(&mut second, &prompt, 24), expected);
}
