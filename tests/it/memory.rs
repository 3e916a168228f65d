//! The memory of contexts, which is measured before they are made, and its lack.

use std::path::Path;
use std::sync::Arc;

use cope_convert::gguf::Value;
use cope_llama::error::MemoryUser;
use cope_llama::llama::{Context, ContextOptions, FlashAttention, KvType, Model, Sequences};
use cope_llama::{Error, Fault};

use crate::fixture::{Fixture, exact};
use crate::tiny::{FAMILIES, TinyModel};

/// The user, the bytes that it needs, and those that are free, of an error about lacking memory.
fn lack<T: std::fmt::Debug>(result: cope_llama::Result<T>) -> (MemoryUser, u64, u64) {
    let error = result.expect_err("too little memory");
    assert_eq!(error.fault(), Fault::Lack);
    match error {
        Error::NoRoom { user, needed, free } => (user, needed, free),
        error => panic!("{error}"),
    }
}

/// Bytes of llama.cpp's account of a token in a cache.
const CELL: u64 = 48;

/// The bytes that a context of one sequence needs.
fn needed(model: &Arc<Model>, options: &ContextOptions) -> u64 {
    let options = ContextOptions {
        // With less, it is refused without being measured.
        free_memory: Some(CELL * u64::from(options.n_ctx)),
        ..options.clone()
    };
    lack(Context::new(model, None, &options)).1
}

#[test]
fn a_context_is_made_where_its_buffers_fit_and_nowhere_else() {
    for architecture in FAMILIES {
        let fixture = Fixture::of(TinyModel {
            architecture,
            ..TinyModel::default()
        });
        let needed = needed(&fixture.model, &exact());
        let make = |free| {
            let options = ContextOptions {
                free_memory: Some(free),
                ..exact()
            };
            Context::new(&fixture.model, None, &options)
        };
        let mut context = make(needed).unwrap();
        context.extend_all(&fixture.prompt()).unwrap();
        let user = MemoryUser::Context {
            n_ctx: 256,
            n_sequences: 1,
        };
        assert_eq!(lack(make(needed - 1)), (user, needed, needed - 1));
    }
}

/// A tiny model that was trained on long texts.
fn long_model(path: &Path) -> Arc<Model> {
    TinyModel::default().write_edited(path, |metadata| {
        let mut entries = metadata.iter_mut();
        let length = entries.find(|entry| entry.0 == "llama.context_length");
        length.unwrap().1 = Value::U32(1 << 20);
    });
    Model::load(path, None).unwrap()
}

#[test]
fn the_need_grows_with_the_cache_and_its_type() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.gguf");
    let model = long_model(&path);
    // With passes of one token there is little beside the cache.
    let options = |n_ctx, kv_type| ContextOptions {
        n_ctx,
        n_batch: 1,
        n_outputs: 1,
        kv_type,
        flash_attention: FlashAttention::On,
        ..ContextOptions::default()
    };
    // 2 blocks × 2 heads × 16 features × keys and values.
    let a_token = |bytes: u64| 2 * 2 * 16 * 2 * bytes;
    // Flash attention computes with F16: it rounds the F32 keys and values of a block, 2 heads × 16 features of each.
    let rounded = 2 * 2 * 16 * 2;
    for (kv_type, bytes, beside) in [(KvType::F16, 2, 0), (KvType::F32, 4, rounded)] {
        let long = needed(&model, &options(1 << 20, kv_type));
        let short = needed(&model, &options(1 << 18, kv_type));
        let grown = (long - short) as f64;
        // A tenth of the buffers is for the work of operations.
        let a_token = 1.1 * (a_token(bytes) + beside) as f64 + CELL as f64;
        let expected = a_token * f64::from(3 << 18);
        // The mask of attention grows too.
        assert!(
            (1.0..1.05).contains(&(grown / expected)),
            "{kv_type:?}: {grown} of {expected}"
        );
    }
}

#[test]
fn a_context_beyond_all_memory_is_refused_without_being_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.gguf");
    let model = long_model(&path);
    let options = ContextOptions {
        n_ctx: 1 << 20,
        free_memory: Some(1 << 20),
        ..exact()
    };
    let (user, needed, free) = lack(Sequences::new(&model, None, &options, 200));
    let expected = MemoryUser::Context {
        n_ctx: 1 << 20,
        n_sequences: 200,
    };
    assert_eq!((user, free), (expected, 1 << 20));
    assert_eq!(needed, 200 * (options.kv_bytes(&model) + (CELL << 20)));
}
