//! Privacy of users' texts: file modes, no network access, no text in logs, and complete deletion.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::training::{TRAIN, with_ann};
use super::{Sandbox, stderr, stdout};

/// A word in the user's texts that no output of the program's own contains.
const MARKER: &str = "xylopyrography";

/// A folder and all files and folders below it.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut paths = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths.extend(below(&path));
        } else {
            paths.push(path);
        }
    }
    paths
}

fn has_marker(path: &Path) -> bool {
    let bytes = fs::read(path).unwrap();
    bytes
        .windows(MARKER.len())
        .any(|part| part == MARKER.as_bytes())
}

/// A trained user with the marker in every text, a chat and verdicts.
fn with_marked() -> (Sandbox, Vec<Output>) {
    let sandbox = with_ann();
    let item = |n: usize| {
        format!("{{\"prompt\": \"note {n} {MARKER}\", \"response\": \"dear {MARKER}, {n}\"}}\n")
    };
    sandbox.file("marked.jsonl", &(1..4).map(item).collect::<String>());
    let mut outputs = vec![
        sandbox.run(&["user", "import", "ann", "marked.jsonl"]),
        sandbox.run(&TRAIN),
    ];
    let chat = ["chat", "--user", "ann", "-n", "6", "--prompt-cache"];
    let said = format!(
        "hello {MARKER}\n/bad\n/edit Dear {MARKER}!\n/set system {MARKER}\n/save letters\n"
    );
    outputs.push(sandbox.run_with(&chat, &said));
    outputs.push(sandbox.run(&TRAIN));
    for output in &outputs {
        assert!(output.status.success(), "{}", stderr(output));
    }
    (sandbox, outputs)
}

#[test]
fn only_their_owner_can_read_files_and_folders() {
    let (sandbox, _) = with_marked();
    let home = sandbox.path().join("home");
    let users = home.join("users");
    for path in below(&home) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{}", path.display());
    }
    assert!(
        below(&users)
            .iter()
            .any(|path| path.ends_with("ann/adapter.gguf"))
    );
}

#[test]
fn a_deletion_leaves_nothing() {
    let (sandbox, _) = with_marked();
    let home = sandbox.path().join("home");
    let marked = || {
        let files = below(&home).into_iter().filter(|path| path.is_file());
        files.filter(|path| has_marker(path)).collect::<Vec<_>>()
    };
    let names = [
        "history.jsonl",
        "pairs.jsonl",
        "feedback.jsonl",
        "chats/letters.json",
    ];
    let before = marked();
    assert!(
        names
            .iter()
            .all(|name| before.iter().any(|path| path.ends_with(name))),
        "{before:?}"
    );
    let deleted = sandbox.run(&["user", "delete", "ann", "--yes"]);
    assert!(deleted.status.success(), "{}", stderr(&deleted));
    assert_eq!(marked(), Vec::<PathBuf>::new());
    let left: Vec<_> = below(&home.join("users")).into_iter().skip(1).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[test]
fn a_removal_leaves_nothing_that_was_made_of_the_items() {
    let (sandbox, _) = with_marked();
    let user = sandbox.path().join("home/users/ann");
    for stopped in ["mined.jsonl", "measured.jsonl", "checkpoint.gguf"] {
        fs::write(user.join(stopped), MARKER).unwrap();
    }
    let remove = ["user", "remove-item", "ann", "--matching", MARKER];
    let removed = sandbox.run(&remove);
    assert!(removed.status.success(), "{}", stderr(&removed));
    let said = stderr(&removed);
    assert!(
        said.contains("ann: 3 removed, 5 left") && said.contains("ann's adapter has learnt them"),
        "{said}"
    );
    // What the person typed and rated in a chat is no item.
    let is_chat = |path: &PathBuf| {
        ["feedback.jsonl", "typed_lines", "letters.json"]
            .iter()
            .any(|name| path.ends_with(name))
    };
    let files = below(&user)
        .into_iter()
        .filter(|path| path.is_file() && has_marker(path));
    let left: Vec<_> = files.filter(|path| !is_chat(path)).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    for cache in ["prompt_cache.base", "prompt_cache.user", "pairs.jsonl"] {
        assert!(!user.join(cache).exists(), "{cache}");
    }
    let trained = sandbox.run(&TRAIN);
    assert!(trained.status.success(), "{}", stderr(&trained));
}

#[test]
fn no_text_is_logged() {
    let (sandbox, outputs) = with_marked();
    for output in &outputs {
        assert!(!stderr(output).contains(MARKER), "{}", stderr(output));
    }
    for training in [&outputs[1], &outputs[3]] {
        assert!(!stdout(training).contains(MARKER), "{}", stdout(training));
    }
    for log in ["train.jsonl", "manifest.json"] {
        assert!(
            !has_marker(&sandbox.path().join("home/users/ann").join(log)),
            "{log}"
        );
    }
}

/// Every command except `model pull`, and those with `-hf`, works in a network namespace of its own, from which nothing can be reached.
#[test]
fn nothing_needs_the_network() {
    let sandbox = with_ann();
    let alone = |arguments: &[&str]| {
        let output = Command::new("unshare")
            .args(["--map-root-user", "--net", env!("CARGO_BIN_EXE_cope-llama")])
            .args(arguments)
            .env("COPE_HOME", sandbox.path().join("home"))
            .current_dir(sandbox.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            stderr(&output)
        );
    };
    alone(&["user", "import", "ann", "history.jsonl"]);
    alone(&TRAIN);
    for arguments in [
        &["generate", "--user", "ann", "-p", "hello", "-n", "4"][..],
        &["chat", "--user", "ann", "--demo", "-n", "4"],
        &["user", "export", "ann", "exported"],
        &["bundle", "--user", "ann", "bundled"],
        &["model", "list"],
        &["user", "list"],
    ] {
        alone(arguments);
    }
}
