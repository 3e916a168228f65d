//! Bundles: a user's model as a folder for other programs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use cope_convert::{Adapter, sha256};
use cope_llama::Error;
use cope_llama::bundle::{BasePlace, bundle};
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
    for place in [BasePlace::Link, BasePlace::Copy] {
        // An empty folder is replaced.
        fs::create_dir_all(&made).unwrap();
        bundle(&home, &user, &made, place, &GO).unwrap();
        let files = [
            "Modelfile",
            "README.md",
            "SHA256SUMS",
            "adapter.gguf",
            "base.gguf",
        ];
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
        // The base has no chat template of its own, so the Modelfile has one.
        let modelfile = fs::read_to_string(made.join("Modelfile")).unwrap();
        assert!(
            modelfile.contains("\nTEMPLATE \"\"\"{{ range .Messages }}"),
            "{modelfile}"
        );
        fs::remove_dir_all(&made).unwrap();
    }
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
    let error = bundle(&home, &user, &made, BasePlace::Link, &GO).unwrap_err();
    assert!(
        error.to_string().contains("is not the task adapter"),
        "{error}"
    );
    user.add_task(&task_path).unwrap();
    bundle(&home, &user, &made, BasePlace::Link, &GO).unwrap();
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
        let error = bundle(&home, user, made, BasePlace::Link, &GO)
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{error}");
    };
    let other = home.create_user(UserName::new("bob").unwrap()).unwrap();
    let made = folder.path().join("made");
    refused(&other, &made, "bob is not trained yet");
    refused(&user, folder.path(), "exists already and is not empty");
    let stopped = bundle(&home, &user, &made, BasePlace::Copy, &AtomicBool::new(true));
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
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
