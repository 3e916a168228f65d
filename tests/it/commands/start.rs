//! The command `train` for a user with few texts: from another user's adapter, or on top of a task's.

use super::training::{TRAIN, with_ann};
use super::{Sandbox, error, stderr, stdout};
use crate::tiny::TinyModel;

/// SFT of ann from bob's adapter.
const FROM_BOB: [&str; 8] = [
    "train",
    "ann",
    "-m",
    "tiny.gguf",
    "--stage",
    "sft",
    "--from",
    "bob",
];

/// The sandbox with ann, and with bob, who is trained.
fn with_bob() -> Sandbox {
    let sandbox = with_ann();
    let import = sandbox.run(&["user", "import", "bob", "held_out.jsonl"]);
    assert!(import.status.success(), "{}", stderr(&import));
    let train = sandbox.run(&[&["train", "bob"], &TRAIN[2..]].concat());
    assert!(train.status.success(), "{}", stderr(&train));
    sandbox
}

#[test]
fn a_user_starts_from_another_users_adapter_which_is_recorded() {
    let sandbox = with_bob();
    let bobs = sandbox.path().join("home/users/bob/sft.gguf");
    let sha256 = cope_convert::sha256(&bobs).unwrap();
    let started = format!(", started from bob's adapter (SHA-256 {sha256})");
    let train = [&TRAIN[..8], &["--from", "bob"]].concat();
    let trained = sandbox.run(&train);
    assert!(trained.status.success(), "{}", stderr(&trained));
    let show = || stdout(&sandbox.run(&["user", "show", "ann"]));
    for start in ["sft         ", "adapter     trained"] {
        let shown = show();
        let mut lines = shown.lines();
        assert!(
            lines.any(|line| line.starts_with(start) && line.ends_with(&started)),
            "{shown}"
        );
    }
    let again = sandbox.run(&train);
    assert_eq!(stderr(&again).matches("is done already").count(), 4);

    let bundle = sandbox.run(&["bundle", "--user", "ann", "bundled"]);
    assert!(bundle.status.success(), "{}", stderr(&bundle));
    let card = std::fs::read_to_string(sandbox.path().join("bundled/README.md")).unwrap();
    assert!(
        card.contains("started from the adapter of another user"),
        "{card}"
    );
    assert!(!card.contains("bob"), "{card}");

    // Whoever deletes bob is told where bob's weights live on.
    let deleted = sandbox.run(&["user", "delete", "bob", "--yes"]);
    assert_eq!(
        stderr(&deleted),
        "deleted bob\nann's adapter started from bob's and keeps what it learnt from it; train ann again without it\n"
    );
    let gone = sandbox.run(&train);
    assert_eq!(
        error(&gone),
        "error: cannot start from bob: no user bob, there are: ann; `cope-llama user import bob FILE` makes this user\n"
    );
    // The next training without the option starts from random weights.
    let anew = sandbox.run(&TRAIN);
    assert!(anew.status.success(), "{}", stderr(&anew));
    assert!(!show().contains("started from"), "{}", show());
}

#[test]
fn a_start_that_cannot_be_used_is_refused_in_one_line() {
    let sandbox = with_bob();
    let untrained = sandbox.run(&["user", "import", "eve", "held_out.jsonl"]);
    assert!(untrained.status.success(), "{}", stderr(&untrained));
    let other = TinyModel {
        seed: 2,
        ..TinyModel::default()
    };
    other.write(&sandbox.path().join("other.gguf"));
    let task = ["train-task", "notes", "history.jsonl", "-m", "tiny.gguf"];
    let task = sandbox.run(&[&task[..], &["--rank", "2"]].concat());
    assert!(task.status.success(), "{}", stderr(&task));
    let from = |name| [&FROM_BOB[..7], &[name]].concat();
    let other_base = [&FROM_BOB[..3], &["other.gguf"], &FROM_BOB[4..]].concat();
    let on_task = [&FROM_BOB[..], &["--task", "notes"]].concat();
    for (arguments, expected) in [
        (
            from("ann"),
            "from ann: a training starts from the adapter of another user",
        ),
        (
            from("eve"),
            "from eve: eve is not trained yet; run `cope-llama train eve`",
        ),
        (from("../bob"), "from ../bob: not a valid name: "),
        (
            other_base,
            "from bob: the adapter does not fit other.gguf: it was trained on the base",
        ),
        (
            on_task,
            "bob/sft.gguf was trained without a task adapter, and this training is on top of",
        ),
    ] {
        let refused = error(&sandbox.run(&arguments));
        assert!(refused.contains(expected), "{refused}");
    }
    let ann = sandbox.path().join("home/users/ann");
    assert!(!ann.join("sft.gguf").exists() && !ann.join("manifest.json").exists());
}

#[test]
fn a_user_with_few_texts_is_told_of_the_task_adapters_of_the_base() {
    let sandbox = with_ann();
    let sft = FROM_BOB[..6].to_vec();
    let told = |arguments: &[&str]| {
        let output = sandbox.run(arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output).contains("few texts")
    };
    assert!(!told(&sft));
    let other = TinyModel {
        seed: 2,
        ..TinyModel::default()
    };
    other.write(&sandbox.path().join("other.gguf"));
    for (task, base) in [
        ("notes", "tiny.gguf"),
        ("letters", "tiny.gguf"),
        ("mails", "other.gguf"),
    ] {
        let task = [
            "train-task",
            task,
            "history.jsonl",
            "-m",
            base,
            "--rank",
            "2",
        ];
        assert!(!told(&task));
    }
    let few = stderr(&sandbox.run(&sft));
    assert_eq!(
        few.lines().next(),
        Some("ann has few texts (5); a task adapter may help: --task letters or --task notes")
    );
    assert!(!told(&[&sft[..], &["--task", "notes"]].concat()));
    let item = |n: usize| format!("{{\"prompt\": \"more {n}\", \"response\": \"fine\"}}\n");
    sandbox.file("more.jsonl", &(0..25).map(item).collect::<String>());
    let import = sandbox.run(&["user", "import", "ann", "more.jsonl"]);
    assert!(import.status.success(), "{}", stderr(&import));
    assert!(!told(&sft));
}
