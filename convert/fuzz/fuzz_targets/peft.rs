//! Reads any bytes as a PEFT folder: those before the first NUL as its settings, those after it as its weights.

#![no_main]

use std::cell::RefCell;
use std::fs;

use cope_convert::Adapter;
use cope_convert::gguf::{self, Gguf, TensorData, Value};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// A folder with a base whose tensors have the shapes of the corpus.
fn folder() -> (TempDir, Gguf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("base.gguf");
    let metadata = [
        ("general.architecture".to_owned(), Value::from("llama")),
        ("llama.attention.head_count".to_owned(), Value::from(2_u32)),
    ];
    let weights = [0.5; 64];
    let tensors = ["attn_q", "ffn_up"]
        .map(|name| TensorData::f32(format!("blk.0.{name}.weight"), &[8, 8], &weights));
    gguf::write(&path, &metadata, &tensors).expect("a good model");
    let base = Gguf::open(&path).expect("a good model");
    (folder, base)
}

thread_local! {
    static FOLDER: RefCell<(TempDir, Gguf)> = RefCell::new(folder());
}

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with_borrow(|(folder, base)| {
        let path = |name: &str| folder.path().join(name);
        let nul = bytes.iter().position(|&it| it == 0).unwrap_or(bytes.len());
        let (config, weights) = bytes.split_at(nul);
        fs::write(path("adapter_config.json"), config).expect("a temporary folder");
        let weights = weights.get(1..).unwrap_or_default();
        fs::write(path("adapter_model.safetensors"), weights).expect("a temporary folder");
        let Ok(adapter) = Adapter::open_peft(folder.path(), base) else {
            return;
        };
        let (ours, back, again) = (path("ours.gguf"), path("back"), path("again.gguf"));
        // Writing fails if a weight is not finite.
        if adapter.write_gguf(&ours).is_err() {
            return;
        }
        let adapter = Adapter::open_gguf(&ours).expect("ours");
        if adapter.write_peft(&back, base, "base", None).is_ok() {
            let read = Adapter::open_peft(&back, base).expect("ours");
            read.write_gguf(&again).expect("ours");
            assert_eq!(
                fs::read(&ours).ok(),
                fs::read(&again).ok(),
                "there and back"
            );
        }
    });
});
