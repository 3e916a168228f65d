//! Reads the corpus of the fuzz targets, their seeds and the inputs that once made them fail: without a panic, and with
//! the same results as before.

use std::fs;
use std::path::{Path, PathBuf};

use cope_convert::Adapter;
use cope_convert::gguf::Gguf;
use cope_convert::safetensors::SafeTensors;

use crate::files::Folder;

/// The corpus files of a target, sorted.
fn files(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The names of the corpus files that `read` can read.
fn readable<T, E>(target: &str, read: impl Fn(&Path) -> Result<T, E>) -> Vec<String> {
    let files = files(target);
    let good = files.iter().filter(|file| read(file).is_ok());
    good.map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn the_seeds_of_each_format_are_readable() {
    let adapters = ["adapter-f32", "adapter-q8_0"];
    assert_eq!(readable("gguf", Adapter::read_gguf), adapters);
    assert_eq!(
        readable("gguf", Gguf::open),
        ["adapter-f32", "adapter-q8_0", "model"]
    );
    assert_eq!(readable("safetensors", SafeTensors::open), ["bf16", "f32"]);
    let folder = Folder::new();
    let base = folder.join("base.gguf");
    crate::peft::write_base(&base, 8);
    let base = Gguf::open(&base).unwrap();
    let open = |file: &Path| {
        let bytes = fs::read(file).unwrap();
        let nul = bytes.iter().position(|&it| it == 0).unwrap();
        fs::write(folder.join("adapter_config.json"), &bytes[..nul]).unwrap();
        fs::write(folder.join("adapter_model.safetensors"), &bytes[nul + 1..]).unwrap();
        Adapter::open_peft(&folder.join(""), &base)?.load()
    };
    assert_eq!(readable("peft", open), ["pattern", "plain", "rslora"]);
}
