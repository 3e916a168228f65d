//! Bundles: a user's model as a folder for other programs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use cope_convert::gguf::{GgmlType, Gguf};
use cope_convert::{Adapter, LoraPair, sha256};
use cope_llama::Error;
use cope_llama::bundle::{BasePlace, BundleOptions, BundleTarget, bundle};
use cope_llama::error::Unspecified;
use cope_llama::home::{Home, Manifest, Stage, UserFolder, UserName};
use serde_json::json;

use crate::tiny::{TinyModel, tiny_adapter};

/// Nothing stops the bundles of these tests.
static GO: AtomicBool = AtomicBool::new(false);

/// A home with a trained user, on a tiny base without a chat template.
fn trained(folder: &Path, adapter: &Adapter) -> (Home, UserFolder) {
    let home = Home::at(folder.join("home"));
    let base = home.create_models().unwrap().join("tiny.gguf");
    TinyModel::default().write_edited(&base, |metadata| {
        metadata.retain(|(key, _)| key != "tokenizer.chat_template");
    });
    let user = home.create_user(UserName::new("alice").unwrap()).unwrap();
    adapter.write_gguf(&user.adapter()).unwrap();
    // This figure has the name that older versions gave it.
    let sft = json!({
        "inputs": "", "settings": {}, "figures": {"kept_apart/logprob": -3.5}, "seconds": 55.2,
    });
    let manifest = Manifest {
        base: home.base_ref(&base).unwrap(),
        stages: BTreeMap::from([(Stage::Sft, serde_json::from_value(sft).unwrap())]),
        adapter: None,
        previous: None,
    };
    user.save_manifest(&manifest).unwrap();
    (home, user)
}

/// The choice of a program, with everything else as it is by default.
fn target(target: BundleTarget) -> BundleOptions {
    BundleOptions {
        target,
        ..BundleOptions::default()
    }
}

/// The choice of how the base gets into a bundle.
fn place(place: BasePlace) -> BundleOptions {
    BundleOptions {
        place,
        ..BundleOptions::default()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_bundle_has_all_files_and_only_its_owner_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = tiny_adapter(3, 2, &["attn_q"]);
    let (home, user) = trained(folder.path(), &adapter);
    let made = folder.path().join("made");
    for base_place in [BasePlace::Link, BasePlace::Copy] {
        // An empty folder is replaced.
        fs::create_dir_all(&made).unwrap();
        let merged = bundle(&home, &user, &made, &place(base_place), &GO).unwrap();
        assert_eq!(merged, None);
        let files = ["README.md", "SHA256SUMS", "adapter.gguf", "base.gguf"];
        assert_eq!(names(&made), files);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&made), 0o700);
        for line in fs::read_to_string(made.join("SHA256SUMS")).unwrap().lines() {
            let (hash, name) = line.split_once("  ").unwrap();
            assert_eq!(sha256(&made.join(name)).unwrap(), hash);
            assert_eq!(mode(&made.join(name)), 0o600, "{name}");
        }
        assert_eq!(
            Adapter::read_gguf(&made.join("adapter.gguf")).unwrap(),
            adapter
        );
        let card = fs::read_to_string(made.join("README.md")).unwrap();
        assert!(
            card.contains("| sft | 55 | held_out/logprob -3.5 |"),
            "{card}"
        );
        fs::remove_dir_all(&made).unwrap();
    }
}

#[test]
fn ollama_gets_a_merged_model_and_lm_studio_too() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = tiny_adapter(3, 2, &["attn_q"]);
    let (home, user) = trained(folder.path(), &adapter);
    let made = folder.path().join("ollama");
    let merged = bundle(&home, &user, &made, &target(BundleTarget::Ollama), &GO).unwrap();
    let files = ["Modelfile", "README.md", "SHA256SUMS", "model.gguf"];
    assert_eq!(names(&made), files);
    let merged = merged.unwrap();
    assert_eq!(merged.n_tensors, adapter.tensors.len());
    assert!((0.9..1.1).contains(&merged.kept), "{}", merged.kept);
    let model = Gguf::open(&made.join("model.gguf")).unwrap();
    for pair in &adapter.tensors {
        assert_eq!(
            model.tensor(&pair.name).unwrap().ggml_type,
            GgmlType::Q8_0,
            "{}",
            pair.name
        );
    }
    // Ollama refuses ADAPTER. The base has no chat template of its own, so the Modelfile has one.
    let modelfile = fs::read_to_string(made.join("Modelfile")).unwrap();
    let begins = "# ollama create alice -f Modelfile && ollama run alice\nFROM ./model.gguf\nPARAMETER temperature 0\nPARAMETER repeat_penalty 1\nTEMPLATE \"\"\"{{ range .Messages }}";
    assert!(modelfile.starts_with(begins), "{modelfile}");
    let card = fs::read_to_string(made.join("README.md")).unwrap();
    assert!(card.contains("without the contrast of CoPe"), "{card}");

    let made = folder.path().join("lm-studio");
    bundle(&home, &user, &made, &target(BundleTarget::LmStudio), &GO).unwrap();
    assert_eq!(names(&made), ["README.md", "SHA256SUMS", "model.gguf"]);

    let made = folder.path().join("old-ollama");
    let options = target(BundleTarget::OllamaAdapter);
    bundle(&home, &user, &made, &options, &GO).unwrap();
    let modelfile = fs::read_to_string(made.join("Modelfile")).unwrap();
    assert!(
        modelfile.contains("\nFROM ./base.gguf\nADAPTER ./adapter.gguf\n"),
        "{modelfile}"
    );
}

#[test]
fn vllm_gets_a_peft_folder_in_bf16_whose_modules_have_one_rank() {
    let folder = tempfile::tempdir().unwrap();
    let mut adapter = tiny_adapter(3, 2, &["attn_q"]);
    adapter
        .tensors
        .extend(tiny_adapter(4, 3, &["attn_v"]).tensors);
    adapter.tensors.sort_by(|x, y| x.name.cmp(&y.name));
    let (home, user) = trained(folder.path(), &adapter);
    let made = folder.path().join("peft");
    let nameless = bundle(&home, &user, &made, &target(BundleTarget::Peft), &GO);
    assert!(
        matches!(
            &nameless,
            Err(Error::Unspecified(Unspecified::BaseName { path })) if path.ends_with("tiny.gguf")
        ),
        "{nameless:?}"
    );
    let options = BundleOptions {
        base_name: Some("owner/tiny".into()),
        ..target(BundleTarget::Peft)
    };
    bundle(&home, &user, &made, &options, &GO).unwrap();
    let files = [
        "README.md",
        "SHA256SUMS",
        "adapter_config.json",
        "adapter_model.safetensors",
    ];
    assert_eq!(names(&made), files);
    let config = fs::read(made.join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["base_model_name_or_path"], "owner/tiny");
    assert_eq!(
        (&config["r"], &config["lora_alpha"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(config["rank_pattern"], json!({}));
    let base = Gguf::open(&home.base("tiny.gguf")).unwrap();
    let read = Adapter::open_peft(&made, &base).unwrap();
    assert_eq!(read.tensors[0].types(), [GgmlType::BF16; 2]);
    let card = fs::read_to_string(made.join("README.md")).unwrap();
    let command =
        "vllm serve owner/tiny --enable-lora --max-lora-rank 8 --lora-modules alice=FOLDER";
    assert!(card.contains(command), "{card}");
}

#[test]
fn an_adapter_on_top_of_a_task_adapter_is_bundled_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let task = tiny_adapter(5, 3, &["attn_v"]);
    let task_path = folder.path().join("task.gguf");
    task.write_gguf(&task_path).unwrap();
    let adapter = Adapter {
        task_sha256: Some(sha256(&task_path).unwrap()),
        ..tiny_adapter(3, 2, &["attn_q"])
    };
    let (home, user) = trained(folder.path(), &adapter);
    let made = folder.path().join("made");
    // Without the task adapter it cannot be used.
    let error = bundle(&home, &user, &made, &BundleOptions::default(), &GO).unwrap_err();
    assert!(
        error.to_string().contains("is not the task adapter"),
        "{error}"
    );
    user.add_task(&task_path).unwrap();
    bundle(&home, &user, &made, &BundleOptions::default(), &GO).unwrap();
    let whole = Adapter::read_gguf(&made.join("adapter.gguf")).unwrap();
    assert_eq!(
        whole,
        Adapter::stack(&[(&task, 1.0), (&adapter, 1.0)])
            .unwrap()
            .load()
            .unwrap()
    );
}

#[test]
fn a_bundle_that_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = tiny_adapter(3, 2, &["attn_q"]);
    let (home, user) = trained(folder.path(), &adapter);
    let refused = |user: &UserFolder, made: &Path, why: &str| {
        let error = bundle(&home, user, made, &BundleOptions::default(), &GO)
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{error}");
    };
    let other = home.create_user(UserName::new("bob").unwrap()).unwrap();
    let made = folder.path().join("made");
    refused(&other, &made, "bob is not trained yet");
    refused(&user, folder.path(), "exists already and is not empty");
    for options in [place(BasePlace::Copy), target(BundleTarget::Ollama)] {
        let stopped = bundle(&home, &user, &made, &options, &AtomicBool::new(true));
        assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    }
    TinyModel {
        seed: 99,
        ..TinyModel::default()
    }
    .write(&home.base("tiny.gguf"));
    let foreign = Adapter {
        base_sha256: Some("0123456789abcdef".repeat(4)),
        ..adapter
    };
    foreign.write_gguf(&user.adapter()).unwrap();
    refused(&user, &made, "it was trained on the base with SHA-256");
    assert_eq!(names(folder.path()), ["home"]);
}
