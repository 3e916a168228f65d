//! Masking and dry runs of `user import`, and how items are reviewed and removed.

use std::fs;

use super::{Sandbox, stderr, stdout};

const LETTERS: &str = r#"{"prompt": "The wifi?", "response": "Password: Trawler9!x and the PIN is 4711."}
{"prompt": "My card is 4111 1111 1111 1111, tom@berg.example", "response": "Thank you, Anna Berg."}
{"prompt": "Tea?", "response": "Gladly, dear."}
"#;

fn with_letters() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.file("letters.jsonl", LETTERS);
    sandbox
}

fn history(sandbox: &Sandbox) -> String {
    let path = sandbox.path().join("home/users/bob/history.jsonl");
    fs::read_to_string(path).unwrap()
}

#[test]
fn secrets_are_masked_before_anything_is_stored() {
    let sandbox = with_letters();
    let import = ["user", "import", "bob", "letters.jsonl"];
    let said = stderr(&sandbox.run(&import));
    for kind in ["PIN", "card number", "password"] {
        assert!(
            said.contains(&format!("letters.jsonl: 1 masked: {kind}\n")),
            "{said}"
        );
    }
    let stored = history(&sandbox);
    assert!(
        stored.contains("Password: [password] and the PIN is [PIN]."),
        "{stored}"
    );
    assert!(
        stored.contains("My card is [card number], tom@berg.example"),
        "{stored}"
    );
    let again = stderr(&sandbox.run(&import));
    assert!(
        again.ends_with("bob: 0 added to the history, 3 already there\n"),
        "{again}"
    );

    let sandbox = with_letters();
    let said = stderr(&sandbox.run(&[&import[..], &["--keep-secrets"]].concat()));
    assert!(!said.contains("masked"), "{said}");
    assert!(history(&sandbox).contains("Password: Trawler9!x"));
}

#[test]
fn the_demo_has_no_secrets() {
    let sandbox = Sandbox::new();
    sandbox.run(&["user", "import", "alice", "--demo"]);
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/models/alice/history.jsonl");
    let said = stderr(&sandbox.run(&["user", "import", "bob", demo]));
    assert!(!said.contains("masked"), "{said}");
    let alice = fs::read_to_string(sandbox.path().join("home/users/alice/history.jsonl"));
    assert_eq!(alice.unwrap(), history(&sandbox));
}

#[test]
fn addresses_and_names_are_masked_on_demand() {
    let sandbox = with_letters();
    let import = [
        "user",
        "import",
        "bob",
        "letters.jsonl",
        "--mask",
        "email,phone",
        "--mask-name",
        "Anna Berg",
    ];
    let said = stderr(&sandbox.run(&import));
    assert!(
        said.contains("1 masked: e-mail address\n") && said.contains("1 masked: name\n"),
        "{said}"
    );
    let stored = history(&sandbox);
    assert!(
        stored.contains("[e-mail address]") && stored.contains("Thank you, [name]."),
        "{stored}"
    );
}

#[test]
fn a_dry_run_shows_items_and_stores_nothing() {
    let sandbox = with_letters();
    let dry = sandbox.run(&["user", "import", "bob", "letters.jsonl", "--dry-run"]);
    assert!(dry.status.success());
    assert!(
        stdout(&dry).contains("prompt  Tea?\ntext    Gladly, dear.\n"),
        "{}",
        stdout(&dry)
    );
    assert!(!stdout(&dry).contains("4711"), "{}", stdout(&dry));
    let said = stderr(&dry);
    assert!(
        said.contains("bob: 3 would be added to the history, 0 already there\n"),
        "{said}"
    );
    assert!(!sandbox.path().join("home").exists());
}

#[test]
fn a_text_that_no_context_can_hold_is_left_and_stops_nothing() {
    let sandbox = with_letters();
    for (name, bytes) in [("long.txt", 24_000), ("longer.txt", 2 << 20)] {
        sandbox.file(name, &format!("A title\n{}", "word ".repeat(bytes / 5)));
        let import = sandbox.run(&["user", "import", "bob", name, "letters.jsonl"]);
        let said = stderr(&import);
        assert!(import.status.success(), "{said}");
        assert!(
            said.contains(&format!("{name}: 1 skipped: longer than 24000 bytes\n")),
            "{said}"
        );
        let alone = sandbox.run(&["user", "import", "carol", name]);
        let message = "holds no usable items (1 skipped: longer than 24000 bytes)\n";
        assert!(
            !alone.status.success() && stderr(&alone).ends_with(message),
            "{}",
            stderr(&alone)
        );
    }
    assert!(!sandbox.path().join("home/users/carol").exists());
}

#[test]
fn items_are_removed_by_the_ids_that_a_review_shows_or_by_their_text() {
    let sandbox = with_letters();
    sandbox.run(&["user", "import", "bob", "letters.jsonl"]);
    let shown = stdout(&sandbox.run(&["user", "review", "bob"]));
    let ids: Vec<_> = shown
        .lines()
        .filter_map(|line| line.strip_prefix('[')?.strip_suffix(']'))
        .collect();
    assert_eq!(ids.len(), 3, "{shown}");
    let some = stdout(&sandbox.run(&["user", "review", "bob", "--matching", "ANNA"]));
    assert!(some.contains(ids[1]) && !some.contains(ids[0]), "{some}");

    let unknown = sandbox.run(&["user", "remove-item", "bob", ids[0], "zz"]);
    assert!(
        stderr(&unknown).contains("no item has an id that begins with \"zz\""),
        "{}",
        stderr(&unknown)
    );
    for nothing in [
        ["user", "remove-item", "bob", ""],
        ["user", "remove-item", "bob", "--matching="],
    ] {
        assert_eq!(sandbox.run(&nothing).status.code(), Some(2));
    }
    assert_eq!(history(&sandbox).lines().count(), 3);

    let removed = sandbox.run(&["user", "remove-item", "bob", &ids[0][..6]]);
    assert_eq!(
        stderr(&removed),
        "bob: 1 removed, 2 left in the history and 0 held out\n"
    );
    assert!(!history(&sandbox).contains("wifi"));
    let removed = sandbox.run(&["user", "remove-item", "bob", "--matching", "anna berg"]);
    assert_eq!(
        stderr(&removed),
        "bob: 1 removed, 1 left in the history and 0 held out\n"
    );
    assert!(history(&sandbox).contains("Tea?"));
}

#[test]
fn a_task_learns_no_secrets() {
    let sandbox = Sandbox::new();
    sandbox.tiny_model();
    let lamp = r#"{"task": "news_headline", "users": [{"user_id": "1", "profile": [
        {"text": "My password is Trawler9!x today", "title": "Password: Trawler9!x"}]}]}"#;
    sandbox.file("lamp.json", lamp);
    let train = [
        "train-task",
        "news",
        "lamp.json",
        "-m",
        "tiny.gguf",
        "--rank",
        "2",
    ];
    let said = stderr(&sandbox.run(&train));
    assert!(said.contains("lamp.json: 2 masked: password\n"), "{said}");
    let stored = fs::read_to_string(sandbox.path().join("home/tasks/news/history.jsonl")).unwrap();
    assert!(!stored.contains("Trawler9"), "{stored}");
}
