//! The commands that train.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Sandbox, error, stderr, stdout};
use crate::tiny::TinyModel;

/// A tiny model, and ann, who has a short history and a held-out text.
pub(super) fn with_ann() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tiny_model();
    let item = |n: usize| {
        format!("{{\"prompt\": \"note {n}\", \"response\": \"dear alice, {n} thanks\"}}\n")
    };
    sandbox.file("history.jsonl", &(1..6).map(item).collect::<String>());
    sandbox.file("held_out.jsonl", &item(7));
    for arguments in [["history.jsonl", ""], ["held_out.jsonl", "--held-out"]] {
        let arguments = arguments
            .into_iter()
            .filter(|argument| !argument.is_empty());
        let import = sandbox
            .command(&["user", "import", "ann"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(import.status.success(), "{}", stderr(&import));
    }
    sandbox
}

/// With pairs by reward, for a tiny model of chance hardly ever ends a text by itself.
pub(super) const TRAIN: [&str; 10] = [
    "train",
    "ann",
    "-m",
    "tiny.gguf",
    "--sample-tokens",
    "8",
    "--preference",
    "reward",
    "--rank",
    "2",
];

#[test]
fn training_ends_with_figures_and_is_not_repeated() {
    let sandbox = with_ann();
    let untrained = sandbox.run(&["chat", "--user", "ann", "-m", "tiny.gguf"]);
    assert!(error(&untrained).contains("`cope-llama train ann`"));
    let dpo = sandbox.run(&["train", "ann", "-m", "tiny.gguf", "--stage", "dpo"]);
    assert!(
        error(&dpo).contains("run the stage mine first"),
        "{}",
        stderr(&dpo)
    );

    let train = sandbox.run(&TRAIN);
    assert!(train.status.success(), "{}", stderr(&train));
    for start in [
        "sft: log-probability of the held-out texts",
        "mine: ",
        "dpo: reward margin on the held-out pairs",
    ] {
        assert!(
            stdout(&train).lines().any(|line| line.starts_with(start)),
            "{}",
            stdout(&train)
        );
    }
    let again = sandbox.run(&TRAIN);
    assert_eq!(stdout(&again), stdout(&train));
    assert_eq!(
        stderr(&again),
        "sft is done already\nmine is done already\ndpo is done already\n"
    );
    assert!(stdout(&sandbox.run(&["user", "show", "ann"])).contains("adapter     trained\n"));
}

/// Sends the program a signal after a while; whether it was still there.
pub(super) fn signal_after(child: &mut Child, delay: Duration, signal: &str) -> bool {
    std::thread::sleep(delay);
    let running = child.try_wait().unwrap().is_none();
    if running {
        let mut kill = Command::new("kill");
        let status = kill.args([signal, &child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }
    child.wait().unwrap();
    running
}

#[test]
fn training_that_is_killed_goes_on_to_the_same_bytes() {
    let files = ["sft.gguf", "pairs.jsonl", "adapter.gguf"];
    let trained = |sandbox: &Sandbox| {
        let user = sandbox.path().join("home/users/ann");
        files.map(|file| std::fs::read(user.join(file)).unwrap())
    };
    // Long enough to be killed in the midst of every stage.
    let train = [&TRAIN[..], &["--epochs", "60", "--dpo-epochs", "60"]].concat();
    let whole = with_ann();
    let started = Instant::now();
    assert!(whole.run(&train).status.success());
    let (taken, killed) = (started.elapsed(), with_ann());
    let mut kills = 0;
    // Ctrl-C leaves a checkpoint, from which a run that is then killed outright has gone on.
    for (n, signal) in ["-KILL", "-INT", "-KILL"]
        .into_iter()
        .cycle()
        .take(12)
        .enumerate()
    {
        let mut command = killed.command(&train);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let delay = taken.mul_f64(0.05 + 0.03 * n as f64);
        kills += usize::from(signal_after(&mut child, delay, signal));
    }
    assert!(kills >= 3, "killed no more than {kills} times in {taken:?}");
    let last = killed.run(&train);
    assert!(last.status.success(), "{}", stderr(&last));
    assert_eq!(trained(&killed), trained(&whole));
}

#[test]
fn all_users_are_trained_and_a_failure_is_told_at_the_end() {
    let sandbox = with_ann();
    let import = |user: &str, apart: &[&str]| {
        let import = sandbox.run(&[&["user", "import", user, "held_out.jsonl"], apart].concat());
        assert!(import.status.success(), "{}", stderr(&import));
    };
    // One in between has nothing to train on.
    import("bea", &[]);
    import("ann2", &["--held-out"]);
    let all = [&["train", "--all"], &TRAIN[2..]].concat();
    let first = sandbox.run(&all);
    assert_eq!(first.status.code(), Some(1));
    let last = "error: 1 of 3 users could not be trained: ann2";
    assert_eq!(
        stderr(&first).lines().last(),
        Some(last),
        "{}",
        stderr(&first)
    );
    for user in ["ann", "bea"] {
        assert!(stdout(&sandbox.run(&["user", "show", user])).contains("adapter     trained\n"));
    }
    // A second time, who is done is passed over.
    let again = sandbox.run(&all);
    assert_eq!(stderr(&again).matches("dpo is done already").count(), 2);
}

#[test]
fn a_trained_user_chats_on_that_base_alone() {
    let sandbox = with_ann();
    assert!(sandbox.run(&TRAIN).status.success());

    // The base is the one that the user was trained on; nobody has to name it.
    let chat = ["chat", "--user", "ann", "-n", "4"];
    let chat = sandbox.run_with(&chat, "note 3\n/compare\n/contrast 0\n/regen\n");
    assert!(chat.status.success(), "{}", stderr(&chat));
    let titles = ["base", "user", "model", "CoPe"];
    assert!(
        stdout(&chat)
            .lines()
            .any(|line| line.split_whitespace().eq(titles))
    );
    let demo = stdout(&sandbox.run(&["chat", "--user", "ann", "-n", "4", "--demo"]));
    for line in [
        "> note 7",
        "── base",
        "── user model",
        "── CoPe",
        "── ann's own",
    ] {
        assert!(demo.lines().any(|found| found == line), "{demo}");
    }

    TinyModel {
        seed: 2,
        ..TinyModel::default()
    }
    .write(&sandbox.path().join("other.gguf"));
    let other = sandbox.run(&[
        "generate",
        "--user",
        "ann",
        "-m",
        "other.gguf",
        "-p",
        "note 3",
    ]);
    assert!(error(&other).contains("base"), "{}", stderr(&other));
    std::fs::remove_file(sandbox.path().join("tiny.gguf")).unwrap();
    let doctor = stdout(&sandbox.run(&["doctor"]));
    assert!(
        doctor
            .lines()
            .any(|line| line.starts_with("mend      ann: ")),
        "{doctor}"
    );
}

#[test]
fn a_user_is_trained_on_top_of_a_task() {
    let sandbox = with_ann();
    let task = [
        "train-task",
        "notes",
        "history.jsonl",
        "-m",
        "tiny.gguf",
        "--rank",
        "2",
    ];
    let task = sandbox.run(&task);
    assert!(task.status.success(), "{}", stderr(&task));
    let missing = sandbox.run(&[&TRAIN[..], &["--task", "wine"]].concat());
    assert!(error(&missing).contains("wine"), "{}", stderr(&missing));
    let train = sandbox.run(&[&TRAIN[..], &["--task", "notes"]].concat());
    assert!(train.status.success(), "{}", stderr(&train));
    let answer = ["generate", "--user", "ann", "-n", "4", "-p", "note 3"];
    assert!(sandbox.run(&answer).status.success());
}

#[test]
fn a_device_that_is_not_there_is_said() {
    let sandbox = with_ann();
    let builds = [
        ("cuda", cfg!(feature = "cuda")),
        ("metal", cfg!(feature = "metal")),
    ];
    for (device, _) in builds.into_iter().filter(|(_, built)| !built) {
        let train = sandbox.run(&[&TRAIN[..], &["--device", device]].concat());
        let said = format!("error: {device} cannot be trained on (");
        assert!(error(&train).starts_with(&said), "{}", stderr(&train));
        assert!(stderr(&train).contains("`--device cpu`"));
    }
}
