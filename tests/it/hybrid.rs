//! Contexts of hybrid models, whose states cannot be cut like a KV cache.

use cope_llama::llama::{Context, ContextOptions, Rows, Token};

use crate::fixture::{Fixture, exact};
use crate::tiny::TinyModel;

const FAMILIES: [&str; 2] = ["lfm2", "qwen35"];

/// The tiny model of a family, and 30 tokens.
fn tiny(architecture: &'static str) -> (Fixture, Vec<Token>) {
    let tiny = Fixture::of(TinyModel {
        architecture,
        ..TinyModel::default()
    });
    (tiny, (0..30).map(|n| 20 + n * 7 % 300).collect())
}

fn assert_same(context: &Context, expected: &Context) {
    let pairs = std::iter::zip(context.logits(), expected.logits());
    let error = pairs.map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(error < 1e-3, "the logits differ by {error}");
}

/// The state of a recurrent model is taken back within the last pass, once, and the cache is emptied otherwise.
#[test]
fn caches_of_hybrid_models_are_cut_where_a_state_was_kept() {
    for architecture in FAMILIES {
        let (tiny, tokens) = tiny(architecture);
        let new = || Context::new(&tiny.model, None, &exact()).unwrap();
        let mut fresh = new();
        fresh.extend(&tokens[..21], 1, Rows::Full).unwrap();
        fresh.extend(&[50], 1, Rows::Full).unwrap();
        // A pass of eight tokens, of which five are taken back.
        let mut context = new();
        assert_eq!(context.max_cut(), 7);
        context.extend(&tokens[..18], 1, Rows::Full).unwrap();
        context.extend(&tokens[18..26], 8, Rows::Full).unwrap();
        context.truncate(21);
        assert_eq!(context.len(), 21, "{architecture}");
        context.extend(&[50], 1, Rows::Full).unwrap();
        assert_same(&context, &fresh);
        // The states of earlier passes are gone, although llama.cpp would go back to them.
        context.truncate(20);
        assert_eq!(context.len(), 0, "{architecture}");
        context.extend(&tokens[..8], 8, Rows::Full).unwrap();
        context.truncate(6);
        context.truncate(5);
        assert_eq!(context.len(), 0, "a second cut, {architecture}");
        context.extend(&tokens[..21], 1, Rows::Full).unwrap();
        context.extend(&[50], 1, Rows::Full).unwrap();
        assert_same(&context, &fresh);
    }
}

/// llama.cpp counts the nodes of a graph by the model's tensors, and ends the process where the states that are kept need more.
#[test]
fn many_rows_of_logits_do_not_keep_more_states_than_a_graph_has_room_for() {
    let tiny = Fixture::of(TinyModel {
        architecture: "lfm2",
        n_layer: Some(6),
        ..TinyModel::default()
    });
    let options = ContextOptions {
        n_outputs: 128,
        ..exact()
    };
    let mut context = Context::new(&tiny.model, None, &options).unwrap();
    assert_eq!(context.max_cut(), 7);
    let tokens: Vec<Token> = (0..100).map(|n| 20 + n * 7 % 300).collect();
    context.extend(&tokens, 100, Rows::Full).unwrap();
    context.truncate(93);
    assert_eq!(context.len(), 93);
}

/// A saved cache goes on where it was saved, also after a draft was taken back.
#[test]
fn a_saved_cache_of_a_hybrid_model_goes_on_where_it_was_saved() {
    for architecture in FAMILIES {
        let (tiny, tokens) = tiny(architecture);
        let new = || Context::new(&tiny.model, None, &exact()).unwrap();
        for cut in [26, 22] {
            let mut first = new();
            first.extend(&tokens[..20], 1, Rows::Full).unwrap();
            first.extend(&tokens[20..26], 6, Rows::Full).unwrap();
            first.truncate(cut);
            let saved = first.save("alice").unwrap();
            let mut second = new();
            assert!(second.restore("alice", &saved));
            assert_eq!(second.tokens(), &tokens[..cut]);
            let mut fresh = new();
            fresh.extend(&tokens[..cut], 1, Rows::Full).unwrap();
            for context in [&mut first, &mut second, &mut fresh] {
                context.extend(&[60, 61], 1, Rows::Full).unwrap();
            }
            assert_same(&first, &fresh);
            assert_same(&second, &fresh);
            // A restored cache has no earlier states.
            let mut third = new();
            assert!(third.restore("alice", &saved));
            third.truncate(cut - 1);
            assert!(third.is_empty());
        }
    }
}
