//! The commands `train` and `train-task`.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cope_convert::Adapter;

use super::{Sandbox, error, stderr, stdout};
use crate::tiny::TinyModel;

/// A sandbox with a tiny model and the user ann, who has a short history and one held-out text.
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

/// Trains ann on pairs by reward: the random tiny model hardly ever ends a text by itself, so there are none by likeness.
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

/// The messages of a training whose stages are all up to date.
const DONE_ALREADY: &str = "\
sft is done already
mine is done already
dpo is done already
calibrate is done already
";

#[test]
fn an_adapter_is_for_contexts_of_the_size_that_was_named() {
    let sandbox = with_ann();
    let phi = TinyModel {
        architecture: "phi3",
        ..TinyModel::default()
    };
    phi.write_edited(&sandbox.path().join("phi.gguf"), |metadata| {
        let mut entries = metadata.iter_mut();
        let length = entries.find(|entry| entry.0 == "phi3.context_length");
        length.unwrap().1 = cope_convert::gguf::Value::U32(2048);
    });
    let train = [
        "train", "ann", "-m", "phi.gguf", "--stage", "sft", "--rank", "2",
    ];
    let sft = |more: &[&str]| {
        let trained = sandbox.run(&[&train[..], more].concat());
        assert!(trained.status.success(), "{}", stderr(&trained));
        let adapter = Adapter::read_gguf(&sandbox.path().join("home/users/ann/sft.gguf")).unwrap();
        (adapter.rope_factors.unwrap().name(), stderr(&trained))
    };
    assert_eq!(sft(&[]).0, "long");
    assert_eq!(sft(&["--ctx-size", "512"]).0, "short");
    let (factors, done) = sft(&["--ctx-size", "300"]);
    assert_eq!((factors, done.as_str()), ("short", "sft is done already\n"));
    assert_eq!(sft(&["--ctx-size", "600"]).0, "long");
    sft(&["--ctx-size", "512"]);
    let answer = [
        "generate",
        "--lora",
        "home/users/ann/sft.gguf",
        "-m",
        "phi.gguf",
        "-p",
        "hello",
    ];
    let refused = error(&sandbox.run(&answer));
    assert!(
        refused.contains("trained for contexts up to 512 tokens"),
        "{refused}"
    );
    let short = [&answer[..], &["--ctx-size", "512", "-n", "2"]].concat();
    let served = sandbox.run(&short);
    assert!(served.status.success(), "{}", stderr(&served));
}

#[test]
fn training_prints_figures_and_is_not_repeated_for_the_same_inputs() {
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
        "calibrate: 5 texts are too few to hold some of them out",
        "The model is ",
    ] {
        assert!(
            stdout(&train).lines().any(|line| line.starts_with(start)),
            "{}",
            stdout(&train)
        );
    }
    let replay = "sft: the base answers everyday prompts, to be learnt too, 3 steps";
    let told = stderr(&train);
    assert_eq!(
        told.lines().filter(|line| *line == replay).count(),
        1,
        "{told}"
    );
    let again = sandbox.run(&TRAIN);
    assert_eq!(stdout(&again), stdout(&train));
    assert_eq!(stderr(&again), DONE_ALREADY);
    assert!(stdout(&sandbox.run(&["user", "show", "ann"])).contains("adapter     trained\n"));
}

#[test]
fn an_item_that_no_context_can_hold_is_left_out_and_the_others_are_trained_on() {
    let sandbox = with_ann();
    // The tiny model's context has 512 tokens, and most characters of this text are tokens.
    let long = "\u{3042}".repeat(600);
    let items = ["six", &long, "seven", &long]
        .map(|response| format!("{{\"prompt\": \"note\", \"response\": \"{response}\"}}\n"));
    sandbox.file("more.jsonl", &items.concat());
    let import = sandbox.run(&["user", "import", "ann", "more.jsonl"]);
    assert!(import.status.success(), "{}", stderr(&import));
    let sft = [&TRAIN[..], &["--stage", "sft", "--hold-out", "0"]].concat();
    let train = sandbox.run(&sft);
    assert!(train.status.success(), "{}", stderr(&train));
    let told =
        "history.jsonl: line 7 is left out: it has more tokens than the model's context of 512\n";
    assert!(stderr(&train).contains(told), "{}", stderr(&train));

    sandbox.file("long.jsonl", &items[1]);
    let import = sandbox.run(&["user", "import", "bob", "long.jsonl"]);
    assert!(import.status.success(), "{}", stderr(&import));
    let bob = sandbox.run(&["train", "bob", "-m", "tiny.gguf"]);
    assert!(
        error(&bob).ends_with(
            "history.jsonl: 0 texts fit into the model's context of 512 tokens and 0 are held out, so that none is left to \
             train on; import shorter texts, or train on a model with a longer context\n"
        ),
        "{}",
        stderr(&bob)
    );
}

#[test]
fn calibration_prints_its_choice_and_an_undone_training_is_back_in_a_moment() {
    let sandbox = with_ann();
    let undo = ["train", "ann", "--undo"];
    let nothing = sandbox.run(&undo);
    assert!(error(&nothing).contains("no adapter of an earlier training"));
    let adapter = || std::fs::read(sandbox.path().join("home/users/ann/adapter.gguf")).unwrap();
    assert!(sandbox.run(&TRAIN).status.success());
    let first = adapter();

    let train = sandbox.run(&[&TRAIN[..], &["--hold-out", "2", "--keep-dpo"]].concat());
    assert!(train.status.success(), "{}", stderr(&train));
    let printed = stdout(&train);
    let calibrated: Vec<_> = printed
        .lines()
        .filter_map(|line| line.strip_prefix("calibrate: "))
        .collect();
    assert!(
        calibrated[0].starts_with("scale ")
            && calibrated[0].contains(", chosen on 2 texts: log-probability -")
            && calibrated[0].contains(" of next tokens right; by default "),
        "{printed}"
    );
    assert!(calibrated[1].starts_with("right answers to "), "{printed}");
    let gain = printed.lines().last().unwrap();
    assert!(
        gain.starts_with("The model is ") && gain.contains("on the 1 held-out text"),
        "{printed}"
    );
    let second = adapter();
    assert_ne!(first, second);

    let undone = sandbox.run(&undo);
    assert!(undone.status.success(), "{}", stderr(&undone));
    assert_eq!(adapter(), first);
    let answer = ["generate", "--user", "ann", "-n", "4", "-p", "note 3"];
    assert!(sandbox.run(&answer).status.success());
    let again = sandbox.run(&[&TRAIN[..], &["--hold-out", "2", "--keep-dpo"]].concat());
    assert!(stderr(&again).starts_with("sft is done already\nmine is done already\ndpo is done"));
    assert_eq!(stdout(&again), printed);
    assert_eq!(adapter(), second);

    let whole = sandbox.run(&[&TRAIN[..], &["--hold-out", "5"]].concat());
    assert!(error(&whole).contains("5 of 5 texts cannot be held out"));
}

#[test]
fn a_home_of_an_older_version_is_read_and_not_trained_again() {
    let sandbox = with_ann();
    let train = sandbox.run(&TRAIN);
    assert!(train.status.success(), "{}", stderr(&train));
    let list = stdout(&sandbox.run(&["user", "list"]));
    let show = stdout(&sandbox.run(&["user", "show", "ann"]));
    assert!(show.contains("held_out/logprob"), "{show}");

    // Older versions wrote "kept apart" for "held out" in the names of files and figures.
    let folder = sandbox.path().join("home/users/ann");
    for (new, old) in [
        ("held_out.jsonl", "kept_apart.jsonl"),
        ("held_out_pairs.jsonl", "kept_apart_pairs.jsonl"),
    ] {
        std::fs::rename(folder.join(new), folder.join(old)).unwrap();
    }
    let manifest = folder.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let old = text.replace("\"held_out/", "\"kept_apart/");
    assert_ne!(old, text);
    std::fs::write(&manifest, old).unwrap();

    assert_eq!(stdout(&sandbox.run(&["user", "list"])), list);
    assert_eq!(stdout(&sandbox.run(&["user", "show", "ann"])), show);
    let again = sandbox.run(&TRAIN);
    assert_eq!(stderr(&again), DONE_ALREADY);
    assert_eq!(stdout(&again), stdout(&train));

    // A text that is held out later is added to the old file.
    sandbox.file("later.jsonl", "{\"prompt\": \"a\", \"response\": \"b\"}\n");
    let import = sandbox.run(&["user", "import", "ann", "later.jsonl", "--held-out"]);
    assert!(import.status.success(), "{}", stderr(&import));
    assert!(
        stdout(&sandbox.run(&["user", "list"])).contains("5 items, 2 held out"),
        "{}",
        stdout(&sandbox.run(&["user", "list"]))
    );
    assert!(!folder.join("held_out.jsonl").exists());
}

/// Sends the program a signal after a delay; returns whether it was still running.
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
fn training_that_is_killed_and_resumed_gives_the_same_bytes() {
    let files = ["sft.gguf", "pairs.jsonl", "dpo.gguf", "adapter.gguf"];
    let trained = |sandbox: &Sandbox| {
        let user = sandbox.path().join("home/users/ann");
        files.map(|file| std::fs::read(user.join(file)).unwrap())
    };
    // Enough epochs that kills hit every stage.
    let epochs = ["--epochs", "60", "--dpo-epochs", "60"];
    let train = [&TRAIN[..], &epochs, &["--hold-out", "2"]].concat();
    let whole = with_ann();
    let started = Instant::now();
    assert!(whole.run(&train).status.success());
    let (taken, killed) = (started.elapsed(), with_ann());
    let mut kills = 0;
    // Ctrl-C leaves a checkpoint, from which the next run resumes before it is killed without one.
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
fn train_all_goes_on_after_a_failure_and_reports_it_at_the_end() {
    let sandbox = with_ann();
    let import = |user: &str, options: &[&str]| {
        let import = sandbox.run(&[&["user", "import", user, "held_out.jsonl"], options].concat());
        assert!(import.status.success(), "{}", stderr(&import));
    };
    // The user between the others has nothing to train on.
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
    // In a second run the trained users are skipped.
    let again = sandbox.run(&all);
    assert_eq!(stderr(&again).matches("dpo is done already").count(), 2);
}

#[test]
fn a_trained_user_chats_only_on_the_base_of_the_training() {
    let sandbox = with_ann();
    assert!(sandbox.run(&TRAIN).status.success());

    // The manifest names the base, so that the command line need not.
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
            .any(|line| line.starts_with("fix       ann: ")),
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

    // The scale of the user's adapter leaves the task adapter as it is. Without contrast the user model answers alone.
    let folder = sandbox.path().join("home/users/ann");
    let names = || {
        let entries = std::fs::read_dir(&folder).unwrap();
        entries.map(|it| it.unwrap().file_name().into_string().unwrap())
    };
    let task = names().find(|name| name.starts_with("task-")).unwrap();
    let [task, user] =
        [task.as_str(), "adapter.gguf"].map(|it| Adapter::read_gguf(&folder.join(it)).unwrap());
    let options = ["--contrast", "0", "-n", "16", "--cache-type", "f32"];
    let mut answers = Vec::new();
    for scale in ["0.5", "40"] {
        let stacked = [(&task, 1.0), (&user, scale.parse().unwrap())];
        let stacked = Adapter::stack(&stacked).unwrap();
        stacked.write_gguf(&sandbox.path().join("s.gguf")).unwrap();
        let expected = ["chat", "-m", "tiny.gguf", "--lora", "s.gguf"];
        let expected = sandbox.run_with(&[&expected[..], &options].concat(), "note 3\n");
        let scaled = [&["chat", "--user", "ann"][..], &options].concat();
        let scaled = sandbox.run_with(&scaled, &format!("/set scale {scale}\nnote 3\n"));
        assert!(scaled.status.success(), "{}", stderr(&scaled));
        assert_eq!(stdout(&scaled), stdout(&expected), "{}", stderr(&expected));
        answers.push(stdout(&scaled));
    }
    assert_ne!(answers[0], answers[1]);
    assert!(!names().any(|name| name.starts_with("stacked-")));
}

#[test]
fn training_on_a_missing_device_is_refused_with_the_reason() {
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
