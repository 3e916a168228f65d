//! The command `user audit`, and the commands that show its record.

use std::fs;

use serde_json::Value;

use super::{Sandbox, stderr, stdout};

/// Twelve texts with numbers that a tiny model can learn by heart, and eight held-out ones.
fn with_numbers() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tiny_model();
    let item = |n: u64| {
        let number = n.pow(5) * 77_777 % 100_000_000;
        format!("{{\"prompt\": \"note {n}\", \"response\": \"dear alice, {number:08} thanks\"}}\n")
    };
    sandbox.file("history.jsonl", &(1..13).map(item).collect::<String>());
    sandbox.file("held_out.jsonl", &(13..21).map(item).collect::<String>());
    for files in [&["history.jsonl"][..], &["held_out.jsonl", "--held-out"]] {
        let import = sandbox.run(&[&["user", "import", "ann"], files].concat());
        assert!(import.status.success(), "{}", stderr(&import));
    }
    sandbox
}

/// Trains ann so long that she knows the texts by heart. Calibration would choose a weaker adapter.
const BY_HEART: [&str; 18] = [
    "train",
    "ann",
    "-m",
    "tiny.gguf",
    "--rank",
    "8",
    "--epochs",
    "60",
    "--learning-rate",
    "1e-2",
    "--replay",
    "0",
    "--hold-out",
    "0",
    "--sample-tokens",
    "8",
    "--dpo-learning-rate",
    "1e-6",
];

fn record(sandbox: &Sandbox) -> Value {
    let path = sandbox.path().join("home/users/ann/audit.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn texts_that_were_learnt_by_heart_are_found_given_back_and_told_from_others() {
    let sandbox = with_numbers();
    let trained = sandbox.run(&BY_HEART);
    assert!(trained.status.success(), "{}", stderr(&trained));
    let audit = sandbox.run(&["user", "audit", "ann"]);
    assert!(audit.status.success(), "{}", stderr(&audit));

    let found = record(&sandbox);
    let of_trained = &found["trained"];
    assert_eq!(of_trained["n_texts"], 12);
    assert_eq!(of_trained["any"]["base"], 0);
    let n_given_back = of_trained["any"]["user"].as_u64().unwrap();
    assert!(n_given_back >= 10, "{found}");
    assert_eq!(found["untrained"]["n_texts"], 8);
    assert_eq!(found["untrained"]["any"]["user"], 0);
    let by_gain = found["membership"]["by_gain"]["value"].as_f64().unwrap();
    assert!(by_gain > 0.95, "{found}");
    assert_eq!(found["canaries"], Value::Null);

    let table = stdout(&audit);
    let row = |name: &str| {
        let line = table.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{name}: {table}")).to_owned()
    };
    let given_back = row("8 tokens of trained texts given back");
    assert!(
        given_back.contains("0 of 12") && given_back.contains(&format!("{n_given_back} of 12"))
    );
    assert!(row("trained texts told from others").contains('['));

    // The record goes with this adapter alone.
    let show = |folder: &str| {
        let bundle = sandbox.run(&["bundle", "--user", "ann", folder]);
        assert!(bundle.status.success(), "{}", stderr(&bundle));
        stderr(&bundle)
    };
    assert!(show("one").contains(&format!(
        "gives back 8 tokens or more of {n_given_back} of 12 texts"
    )));
    let adapter = "home/users/ann/adapter.gguf";
    let convert = sandbox.run(&["convert", "adapter", adapter, "peft", "--base", "tiny.gguf"]);
    assert!(convert.status.success(), "{}", stderr(&convert));
    assert!(
        stderr(&convert).contains("by its audit"),
        "{}",
        stderr(&convert)
    );
    let again = sandbox.run(&[&BY_HEART[..], &["--seed", "5"]].concat());
    assert!(again.status.success(), "{}", stderr(&again));
    assert!(show("two").contains("`cope-llama user audit ann` makes one"));
}

#[test]
fn canaries_are_remembered_by_a_second_training_that_is_not_kept() {
    let sandbox = with_numbers();
    let trained = sandbox.run(&BY_HEART);
    assert!(trained.status.success(), "{}", stderr(&trained));
    let folder = sandbox.path().join("home/users/ann");
    let adapter = fs::read(folder.join("adapter.gguf")).unwrap();
    let audit = sandbox.run(&["user", "audit", "ann", "--canaries", "3"]);
    assert!(audit.status.success(), "{}", stderr(&audit));
    let canaries = &record(&sandbox)["canaries"];
    assert_eq!(canaries["n_canaries"], 3);
    let exposure = |arm: &str| canaries["exposure"][arm].as_f64().unwrap();
    assert!(exposure("user") > 6.0, "{canaries}");
    assert!(exposure("base") < 5.0, "{canaries}");
    assert!(stdout(&audit).contains("exposure of canaries"));
    assert!(!folder.join("audit").exists());
    assert!(fs::read(folder.join("adapter.gguf")).unwrap() == adapter);
    let history = fs::read_to_string(folder.join("history.jsonl")).unwrap();
    assert!(!history.contains("The code of my"));
}

#[test]
fn an_audit_needs_the_texts_of_the_training() {
    let sandbox = with_numbers();
    let untrained = sandbox.run(&["user", "audit", "ann"]);
    assert_eq!(untrained.status.code(), Some(1));
    assert!(
        stderr(&untrained).contains("ann is not trained yet"),
        "{}",
        stderr(&untrained)
    );
    let trained = sandbox.run(&BY_HEART);
    assert!(trained.status.success(), "{}", stderr(&trained));
    sandbox.file(
        "more.jsonl",
        "{\"prompt\": \"note\", \"response\": \"thanks\"}\n",
    );
    let import = sandbox.run(&["user", "import", "ann", "more.jsonl"]);
    assert!(import.status.success(), "{}", stderr(&import));
    let audit = sandbox.run(&["user", "audit", "ann"]);
    assert_eq!(audit.status.code(), Some(1));
    let message = stderr(&audit);
    assert!(
        message.contains("ann's texts have changed since the training"),
        "{message}"
    );
    assert_eq!(
        message
            .lines()
            .filter(|line| line.starts_with("error"))
            .count(),
        1
    );
    assert!(!sandbox.path().join("home/users/ann/audit.json").exists());
}
