//! Thoughts at the command line: imports, training, `--think`.

use cope_convert::gguf::Value;

use super::{Sandbox, stderr, stdout};
use crate::tiny::{TinyModel, set_template};

const TURNS: &str = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>";

/// A sandbox with a tiny model whose template is [`TURNS`] and `ending`.
fn with_template(ending: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let template = format!("{TURNS}{ending}");
    let edit = |metadata: &mut Vec<(String, Value)>| set_template(metadata, &template);
    TinyModel::default().write_edited(&sandbox.path().join("tiny.gguf"), edit);
    sandbox
}

#[test]
fn thoughts_are_cut_from_imported_texts_and_counted() {
    let sandbox = Sandbox::new();
    sandbox.file(
        "history.jsonl",
        concat!(
            "{\"prompt\": \"where?\", \"response\": \"<think>\\nhm, the shed?\\n</think>\\n\\nin the shed\"}\n",
            "{\"prompt\": \"who?\", \"response\": \"me\"}\n",
            "{\"prompt\": \"why?\", \"response\": \"<think>\\nhm\"}\n",
        ),
    );
    let import = sandbox.run(&["user", "import", "ann", "history.jsonl"]);
    assert_eq!(
        stderr(&import),
        "history.jsonl: 2 items read\n\
         history.jsonl: thoughts of a model cut from 2 items\n\
         history.jsonl: 1 skipped: a thought without an answer\n\
         ann: 2 added to the history, 0 already there\n"
    );
    let show = sandbox.run(&["user", "show", "ann"]);
    assert!(!stdout(&show).contains("think"), "{}", stdout(&show));
}

#[test]
fn a_model_thinks_only_with_the_option() {
    let sandbox = with_template("{% if enable_thinking %}<think>{% endif %}");
    let generate = |more: &[&str]| {
        let grammar = "root ::= \"hm, so</think>fine\"";
        let arguments = ["generate", "-m", "tiny.gguf", "-p", "?", "-s", "1"];
        let all = [&arguments, &["--grammar", grammar][..], more].concat();
        sandbox.run(&all)
    };
    let on = generate(&["--think"]);
    assert_eq!(stdout(&on), "fine\n");
    assert_eq!(stderr(&on), "[thought: hm, so]\n");
    let json = generate(&["--think", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["text"], "fine");
    assert_eq!(json["thought"], "hm, so");
    let off = generate(&[]);
    assert_eq!(stdout(&off), "hm, so</think>fine\n");
    assert_eq!(stderr(&off), "");

    let grammar = "root ::= \"hm, so</think>fine\"";
    let chat = ["chat", "-m", "tiny.gguf", "--grammar", grammar, "--think"];
    let chat = sandbox.run_with(&chat, "?\n");
    assert_eq!(stdout(&chat), "fine\n");
    assert!(
        stderr(&chat).contains("[thought: hm, so]\n"),
        "{}",
        stderr(&chat)
    );
}

#[test]
fn a_template_that_cannot_ask_for_thoughts_says_so() {
    let sandbox = with_template("");
    let generate = [
        "generate",
        "-m",
        "tiny.gguf",
        "-p",
        "?",
        "-s",
        "1",
        "-n",
        "1",
    ];
    let generate = sandbox.run(&[&generate[..], &["--think"]].concat());
    assert!(
        stderr(&generate).contains(
            "[the model's chat template has no setting for thinking; it may not think]\n"
        ),
        "{}",
        stderr(&generate)
    );
}

#[test]
fn training_refuses_a_template_whose_thought_cannot_be_closed() {
    let sandbox = with_template("<|begin_reasoning|>");
    sandbox.file(
        "history.jsonl",
        "{\"prompt\": \"note 1\", \"response\": \"dear alice\"}\n",
    );
    sandbox.run(&["user", "import", "ann", "history.jsonl"]);
    let train = sandbox.run(&["train", "ann", "-m", "tiny.gguf"]);
    assert_eq!(train.status.code(), Some(1));
    let told = stderr(&train);
    let reason = "it opens a thought with <|begin_reasoning|>, and nothing is known to close it";
    assert!(told.contains(reason), "{told}");
    assert!(!sandbox.path().join("home/users/ann/sft.gguf").exists());
}
