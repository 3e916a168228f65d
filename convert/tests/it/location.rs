//! Tests of where an adapter of PEFT or MLX is looked for, and of what is said about paths that lead to none.

use std::fs;
use std::path::Path;

use cope_convert::gguf::Gguf;
use cope_convert::{Adapter, Error, LocationFlaw};

use crate::files::{Folder, adapter, write_model};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// A folder with a base, and its adapter in `adapter/`.
fn folder() -> (Folder, Gguf) {
    let folder = Folder::new();
    let path = folder.join("base.gguf");
    crate::peft::write_base(&path, 8);
    let base = Gguf::open(&path).unwrap();
    let pair = |name: &str, n: usize| cope_convert::LoraTensor {
        name: format!("blk.0.{name}.weight"),
        a: cope_convert::Matrix {
            rows: n,
            cols: 8,
            data: vec![0.5; n * 8],
        },
        b: cope_convert::Matrix {
            rows: 8,
            cols: n,
            data: vec![0.25; 8 * n],
        },
    };
    let adapter = Adapter {
        base_sha256: None,
        tensors: vec![pair("attn_q", 2), pair("ffn_up", 2)],
        ..adapter()
    };
    adapter
        .write_peft(&folder.join("adapter"), &base, "owner/base", None)
        .unwrap();
    (folder, base)
}

/// Copies the adapter to another folder.
fn copy(folder: &Folder, to: &str) {
    fs::create_dir_all(folder.join(to)).unwrap();
    for name in [CONFIG, WEIGHTS] {
        fs::copy(
            folder.join("adapter").join(name),
            folder.join(to).join(name),
        )
        .unwrap();
    }
}

fn flaw(path: &Path, base: &Gguf) -> LocationFlaw {
    match Adapter::open_peft(path, base) {
        Err(Error::Location { flaw, .. }) => flaw,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_folder_the_weights_and_the_settings_lead_to_the_adapter() {
    let (folder, base) = folder();
    let path = folder.join("adapter");
    let read = |path: &Path| Adapter::open_peft(path, &base).unwrap().load().unwrap();
    let adapter = read(&path);
    assert_eq!(read(&path.join(WEIGHTS)), adapter);
    assert_eq!(read(&path.join(CONFIG)), adapter);
    fs::rename(path.join(WEIGHTS), path.join("epoch-3.safetensors")).unwrap();
    assert_eq!(read(&path), adapter);
    assert_eq!(read(&path.join("epoch-3.safetensors")), adapter);
}

#[test]
fn folders_above_adapters_name_them() {
    let (folder, base) = folder();
    for (to, from) in [
        ("run/checkpoint-20", ""),
        ("run/checkpoint-100", ""),
        ("cache/snapshots/0a1b", ""),
    ] {
        copy(&folder, &format!("{to}{from}"));
    }
    let below =
        |names: &[&str]| LocationFlaw::Below(names.iter().map(ToString::to_string).collect());
    assert_eq!(
        flaw(&folder.join("run"), &base),
        below(&["checkpoint-20", "checkpoint-100"])
    );
    assert_eq!(
        flaw(&folder.join("cache"), &base),
        below(&["snapshots/0a1b"])
    );
    let many = LocationFlaw::Below((0..6).map(|number| format!("a-{number}")).collect());
    assert_eq!(
        many.to_string(),
        r#"it holds no adapter itself, but its subfolders do, "a-0", "a-1", "a-2", "a-3" and 2 more; give one of these folders"#
    );
}

#[test]
fn weights_in_other_forms_are_named() {
    let (folder, base) = folder();
    let path = folder.join("adapter");
    let rename = |from: &str, to: &str| fs::rename(path.join(from), path.join(to)).unwrap();
    for name in ["adapter_model.bin", "adapter_0.pt", "adapters.npz"] {
        rename(WEIGHTS, name);
        assert_eq!(flaw(&path, &base), LocationFlaw::Pickle(name.into()));
        assert_eq!(
            flaw(&path.join(name), &base),
            LocationFlaw::Pickle(name.into())
        );
        rename(name, WEIGHTS);
    }
    let part = "adapter_model-00001-of-00002.safetensors";
    rename(WEIGHTS, part);
    fs::copy(
        path.join(part),
        path.join("adapter_model-00002-of-00002.safetensors"),
    )
    .unwrap();
    assert_eq!(flaw(&path, &base), LocationFlaw::Parts(part.into()));
    assert_eq!(
        flaw(&path.join(part), &base),
        LocationFlaw::Parts(part.into())
    );
    fs::remove_file(path.join("adapter_model-00002-of-00002.safetensors")).unwrap();
    rename(part, "a.safetensors");
    fs::copy(path.join("a.safetensors"), path.join("b.safetensors")).unwrap();
    let both = vec!["a.safetensors".to_owned(), "b.safetensors".to_owned()];
    assert_eq!(flaw(&path, &base), LocationFlaw::Several(both));
}

#[test]
fn folders_that_lack_a_file_name_it() {
    let (folder, base) = folder();
    for to in ["no-config", "no-weights", "model"] {
        copy(&folder, to);
    }
    fs::remove_file(folder.join("no-config").join(CONFIG)).unwrap();
    fs::remove_file(folder.join("no-weights").join(WEIGHTS)).unwrap();
    let model = folder.join("model");
    fs::rename(model.join(CONFIG), model.join("config.json")).unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    fs::create_dir(folder.join("ours")).unwrap();
    write_model(&folder.join("ours").join("alice.gguf"));
    for (name, expected) in [
        ("no-config", LocationFlaw::NoConfig(WEIGHTS.into())),
        ("no-weights", LocationFlaw::NoWeights),
        ("model", LocationFlaw::WholeModel),
        ("empty", LocationFlaw::Nothing),
        ("ours", LocationFlaw::Gguf(vec!["alice.gguf".into()])),
    ] {
        assert_eq!(flaw(&folder.join(name), &base), expected, "{name}");
    }
    let weights = folder.join("no-config").join(WEIGHTS);
    assert_eq!(
        flaw(&weights, &base),
        LocationFlaw::NoConfig(WEIGHTS.into())
    );
}

/// Without Git LFS, a clone has a small text in the place of each large file.
#[test]
fn pointers_of_git_lfs_are_named() {
    let (folder, base) = folder();
    let text = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 9437184\n",
        "0123456789abcdef".repeat(4)
    );
    let weights = folder.join("adapter").join(WEIGHTS);
    fs::write(&weights, &text).unwrap();
    fs::write(folder.join("pointer.gguf"), &text).unwrap();
    for (read, at) in [
        (
            Adapter::open_peft(&folder.join("adapter"), &base).map(drop),
            weights,
        ),
        (
            Gguf::open(&folder.join("pointer.gguf")).map(drop),
            folder.join("pointer.gguf"),
        ),
    ] {
        assert!(matches!(read, Err(Error::LfsPointer { path }) if path == at));
    }
}

#[test]
fn weights_of_peft_beside_those_of_mlx_are_not_chosen_between() {
    let (folder, base) = folder();
    let path = folder.join("adapter");
    fs::copy(path.join(WEIGHTS), path.join("adapters.safetensors")).unwrap();
    let both = vec![WEIGHTS.to_owned(), "adapters.safetensors".to_owned()];
    assert_eq!(flaw(&path, &base), LocationFlaw::Several(both));
    // The file of weights itself leaves no choice.
    assert!(Adapter::open_peft(&path.join(WEIGHTS), &base).is_ok());
}
