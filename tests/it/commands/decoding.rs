//! The decoding options of `generate`, and the feedback that `chat` stores.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::training::{TRAIN, with_ann};
use super::{Sandbox, error, stderr, stdout};
use crate::fixture::adapter;

/// A tiny model, and an adapter that changes its choices.
pub(super) fn with_adapter() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tiny_model();
    adapter()
        .write_gguf(&sandbox.path().join("adapter.gguf"))
        .unwrap();
    sandbox
}

const GENERATE: [&str; 13] = [
    "generate",
    "-m",
    "tiny.gguf",
    "--lora",
    "adapter.gguf",
    "-p",
    "dear alice, the wine",
    "-n",
    "24",
    "--contrast",
    "0.5",
    "--cache-type",
    "f32",
];

/// The number before `what` in the output of `--timings`.
fn count(timings: &str, what: &str) -> usize {
    let before = timings.split(what).next().unwrap();
    let number = before.trim_end().rsplit(' ').next().unwrap();
    assert!(timings.contains(what), "{what}: {timings}");
    number.parse().expect(timings)
}

#[test]
fn every_schedule_gives_the_same_answer_and_says_what_it_cost() {
    let sandbox = with_adapter();
    let naive = sandbox.run(&[&GENERATE[..], &["--schedule", "none", "--timings"]].concat());
    assert!(naive.status.success(), "{}", stderr(&naive));
    let timings = stderr(&naive);
    assert!(!timings.contains("were right"), "{timings}");
    // One pass over the prompt, and one for each token except the last.
    let n_passes = count(&timings, " passes over ");
    assert_eq!(n_passes, 24, "{timings}");
    for schedule in ["lazy", "lean,side-by-side", "lazy,speculate,draft"] {
        let other = [&GENERATE[..], &["--schedule", schedule, "--timings"]].concat();
        let other = sandbox.run(&other);
        assert_eq!(stdout(&other), stdout(&naive), "{schedule}");
        let timings = stderr(&other);
        let guesses = timings.contains("; guesses: ");
        assert_eq!(guesses, schedule.contains("speculate"), "{timings}");
    }
    let unknown = sandbox.run(&[&GENERATE[..], &["--schedule", "fast"]].concat());
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("invalid value 'fast' for '--schedule <LIST>'"));
}

#[test]
fn an_explained_answer_marks_the_tokens_that_the_contrast_changed() {
    let sandbox = with_adapter();
    // ASCII only, since a mark between the bytes of a character would break it.
    let letters = [&GENERATE[..], &["--grammar", "root ::= [a-z ]+"]].concat();
    let plain = sandbox.run(&letters);
    let marked = sandbox.run(&[&letters[..], &["--explain"]].concat());
    let unmarked = stdout(&marked).replace(['[', ']'], "");
    assert_eq!(unmarked, stdout(&plain));

    let json = sandbox.run(&[&letters[..], &["--explain", "--json"]].concat());
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    let choices = json["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 24);
    let text: String = choices
        .iter()
        .map(|choice| choice["text"].as_str().unwrap())
        .collect();
    assert_eq!(text, json["text"].as_str().unwrap());
    for choice in choices {
        for probability in ["p_user", "p_base"] {
            let p = choice[probability].as_f64().unwrap();
            assert!(p > 0.0 && p <= 1.0, "{choice}");
        }
        assert!(choice["plausible"].as_u64().unwrap() > 0 && choice["score"].is_number());
    }
    let is_marked = |choice: &&Value| choice["text"] != choice["first"];
    let n_marked = choices.iter().filter(is_marked).count();
    assert!(n_marked > 0, "{json}");
    let legend = format!("{n_marked} of 24 tokens");
    assert!(stderr(&marked).contains(&legend), "{}", stderr(&marked));
}

#[test]
fn an_answer_is_json_of_the_schema_or_the_schema_is_refused() {
    let sandbox = with_adapter();
    let schema =
        r#"{"type": "array", "items": {"enum": ["red", "white"]}, "minItems": 2, "maxItems": 2}"#;
    sandbox.file("schema.json", schema);
    for form in [
        ["--json-schema", schema],
        ["--json-schema-file", "schema.json"],
    ] {
        let answer = sandbox.run(&[&GENERATE[..], &form].concat());
        let answer: Vec<String> = serde_json::from_slice(&answer.stdout).unwrap();
        assert_eq!(answer.len(), 2);
    }
    let both = ["--json-schema", schema, "--grammar", "root ::= \"a\""];
    let both = sandbox.run(&[&GENERATE[..], &both].concat());
    assert_eq!(both.status.code(), Some(2));
    let conflict = "'--json-schema <SCHEMA>' cannot be used with '--grammar <GBNF>'";
    assert!(stderr(&both).contains(conflict), "{}", stderr(&both));
    for (wrong, why) in [
        (["--json-schema", "{"], "schema"),
        (["--json-schema-file", "none.json"], "cannot read none.json"),
    ] {
        let message = error(&sandbox.run(&[&GENERATE[..], &wrong].concat()));
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn a_prompt_cache_saves_the_next_command_of_the_same_user_most_passes() {
    let sandbox = with_ann();
    assert!(sandbox.run(&TRAIN).status.success());
    let ask = |options: &[&str]| {
        let fixed = ["generate", "--user", "ann", "-n", "6", "--timings"];
        let answer = sandbox.run(&[&fixed[..], options].concat());
        assert!(answer.status.success(), "{}", stderr(&answer));
        let n_read = count(&stderr(&answer), " tokens in ");
        let passes = stderr(&answer);
        let passes = passes.split("passes over ").nth(1).unwrap().to_owned();
        let n_passed: usize = passes.split(' ').next().unwrap().parse().unwrap();
        (stdout(&answer), n_read, n_passed)
    };
    let prompt = ["-p", "note 3, dear alice"];
    let cached = [&prompt[..], &["--prompt-cache"]].concat();
    let fresh = ask(&prompt);
    assert_eq!(ask(&cached), fresh);
    let folder = sandbox.path().join("home/users/ann");
    let caches = ["base", "user"].map(|arm| folder.join(format!("prompt_cache.{arm}")));
    for cache in &caches {
        assert_eq!(
            cache.metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let (text, _, n_passed) = ask(&cached);
    assert_eq!(text, fresh.0);
    // The prompt's last token and the answer except its last token are computed again.
    assert_eq!(n_passed, 6, "of {}", fresh.2);

    // A damaged cache, one that is larger than the memory, and one of another adapter are ignored.
    let mut bytes = std::fs::read(&caches[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&caches[1], bytes).unwrap();
    assert_eq!(ask(&cached), fresh);
    assert!(ask(&cached).2 < fresh.2);
    let file = File::options().write(true).open(&caches[0]).unwrap();
    file.set_len(1 << 42).unwrap();
    assert_eq!(ask(&cached).0, fresh.0);
    assert!(caches[0].metadata().unwrap().len() < 1 << 30);
    let again = [&TRAIN[..], &["--seed", "5"]].concat();
    let again = sandbox.run(&again);
    assert!(again.status.success(), "{}", stderr(&again));
    let other = ask(&prompt);
    assert_eq!(ask(&cached), other);
}

#[test]
fn feedback_on_answers_is_stored_with_the_user_and_trained_on() {
    let sandbox = with_ann();
    assert!(sandbox.run(&TRAIN).status.success());
    let chat = ["chat", "--user", "ann", "-n", "8"];
    let output = sandbox.run_with(
        &chat,
        "hello\n/bad\n/edit Hello you!\n/good\n/save key\n/exit\n",
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let path = sandbox.path().join("home/users/ann/feedback.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let said: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let verdicts: Vec<_> = said
        .iter()
        .map(|it| it["verdict"].as_str().unwrap())
        .collect();
    assert_eq!(verdicts, ["bad", "bad", "good", "good"]);
    assert_eq!(said[0]["response"], said[1]["response"]);
    assert_eq!(said[2]["response"], "Hello you!");
    assert_eq!(said[3]["response"], "Hello you!");
    assert_eq!(said[0]["prompt"][0]["content"], "hello");
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let trained = sandbox.run(&TRAIN);
    assert!(
        stdout(&trained).contains("1 of them from the user's feedback"),
        "{}",
        stdout(&trained)
    );

    let nothing = sandbox.run_with(&chat, "/good\n");
    assert!(error(&nothing).contains("nothing was answered yet"));
    let nobody = sandbox.run_with(&["chat", "-m", "tiny.gguf", "-n", "4"], "hello\n/bad\n");
    assert!(
        stderr(&nobody).contains("--user NAME"),
        "{}",
        stderr(&nobody)
    );
    let exported = sandbox.run(&["user", "export", "ann", "exported"]);
    assert!(exported.status.success(), "{}", stderr(&exported));
    let folder = sandbox.path().join("exported");
    assert_eq!(
        std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert!(folder.join("feedback.jsonl").is_file() && folder.join("adapter.gguf").is_file());
    let chat = std::fs::read_to_string(folder.join("chats/key.json")).unwrap();
    assert!(chat.contains("Hello you!"), "{chat}");
}
