//! Phi-3's factors of the rotary frequencies for short and for long contexts.

use cope_convert::gguf::{Gguf, Value};
use cope_convert::{Adapter, RopeFactors};
use cope_llama::llama::{Context, ContextOptions, rope_factors};
use cope_llama::train::model::TrainModel;
use cope_llama::train::{TrainConfig, WeightType};

use super::{largest_difference, train_logits};
use crate::fixture::{Fixture, exact};
use crate::tiny::{TinyModel, family_adapter, linears};

const TOKENS: [i32; 12] = [20, 27, 34, 90, 41, 55, 300, 62, 69, 76, 301, 83];

/// A model whose context was stretched from 512 tokens to 2048.
fn stretched() -> Fixture {
    let tiny = TinyModel {
        architecture: "phi3",
        ..TinyModel::default()
    };
    Fixture::edited(tiny, |metadata| {
        let mut entries = metadata.iter_mut();
        let length = entries.find(|entry| entry.0 == "phi3.context_length");
        length.unwrap().1 = Value::U32(2048);
    })
}

fn in_context(n_ctx: u32) -> ContextOptions {
    ContextOptions { n_ctx, ..exact() }
}

#[test]
fn training_rotates_by_the_factors_of_the_context_that_serves() {
    let fixture = stretched();
    let mut all = Vec::new();
    for (n_ctx, factors) in [
        (1, RopeFactors::Short),
        (512, RopeFactors::Short),
        (513, RopeFactors::Long),
        (2048, RopeFactors::Long),
        (1 << 20, RopeFactors::Long),
    ] {
        assert_eq!(rope_factors(&fixture.base, n_ctx), Some(factors));
        let mut context = Context::new(&fixture.model, None, &in_context(n_ctx)).unwrap();
        let theirs = context.extend_all(&TOKENS).unwrap();
        let load = |factors| {
            TrainModel::load_with_task(
                &fixture.base,
                WeightType::F32,
                None,
                factors,
                &mut || Ok(()),
            )
            .unwrap()
        };
        let model = load(Some(factors));
        assert_eq!(model.rope_factors(), Some(factors));
        let ours = train_logits(&model, &TOKENS, None);
        assert!(largest_difference(&ours, &theirs) < 1e-3, "{n_ctx}");
        // A chat has 2048 tokens if it is not told otherwise.
        assert_eq!(load(None).rope_factors(), Some(RopeFactors::Long));
        all.push(theirs);
    }
    assert!(largest_difference(&all[1], &all[2]) > 0.1);
    let llama = Fixture::new();
    assert_eq!(rope_factors(&llama.base, 1 << 20), None);
}

/// The keys of a cache are rotated, by the factors of its context.
#[test]
fn a_saved_cache_is_restored_only_into_a_context_with_the_same_factors() {
    let fixture = stretched();
    let context = |n_ctx| Context::new(&fixture.model, None, &in_context(n_ctx)).unwrap();
    let mut short = context(512);
    short.extend_all(&TOKENS).unwrap();
    let saved = short.save("key").unwrap();
    assert!(context(300).restore("key", &saved));
    assert!(!context(513).restore("key", &saved));
}

#[test]
fn a_size_of_context_that_changes_nothing_changes_no_setting() {
    let fixture = stretched();
    let config = |base: &Gguf, n_ctx| {
        let mut config = TrainConfig::default();
        config.serve_in(base, n_ctx);
        config.rope_factors
    };
    assert_eq!(config(&fixture.base, 4096), None);
    assert_eq!(config(&fixture.base, 400), Some(RopeFactors::Short));
    assert_eq!(config(&Fixture::new().base, 400), None);
}

#[test]
fn an_adapter_serves_only_in_contexts_that_it_was_trained_for() {
    let fixture = stretched();
    let adapter = |trained| Adapter {
        rope_factors: Some(trained),
        ..family_adapter("phi3", 3, 2, linears("phi3"))
    };
    for (trained, served, refused, reason) in [
        (
            RopeFactors::Short,
            512,
            600,
            "the adapter was trained for contexts up to 512 tokens, and this one has 768, in which the model rotates positions otherwise; choose a smaller context, or train again for this one",
        ),
        (
            RopeFactors::Long,
            513,
            512,
            "the adapter was trained for contexts of more than 512 tokens, and this one has 512, in which the model rotates positions otherwise; choose a larger context, or train again for this one",
        ),
    ] {
        let loaded = fixture.load(&adapter(trained)).unwrap();
        let context = |n_ctx| {
            let adapter = Some((loaded.clone(), 1.0));
            Context::new(&fixture.model, adapter, &in_context(n_ctx))
        };
        assert!(context(served).is_ok());
        assert_eq!(context(refused).unwrap_err().to_string(), reason);
    }
    let stacked = [RopeFactors::Short, RopeFactors::Long].map(adapter);
    let [short, long] = &stacked;
    let both = Adapter::stack(&[(short, 1.0), (short, 1.0)]).unwrap();
    assert_eq!(both.rope_factors, Some(RopeFactors::Short));
    let refused = Adapter::stack(&[(short, 1.0), (long, 1.0)]).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("short contexts and another for long")
    );
}
