//! The signals that stop commands: what is kept, and how the process ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::training::{TRAIN, with_ann};
use super::{Sandbox, stderr};

/// The numbers of the signals.
const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// More than any wait of these tests takes.
const LIMIT: Duration = Duration::from_secs(120);

/// A training whose stages all last long enough to be met.
fn long_training() -> Vec<&'static str> {
    let long = [
        // With the default rate it would soon know its texts by heart, and no sample would differ from them.
        "--learning-rate",
        "1e-6",
        "--epochs",
        "1000",
        "--dpo-epochs",
        "150",
        "--n-samples",
        "300",
        "--sample-tokens",
        "40",
        "--sample-length",
        "40",
        "--hold-out",
        "0",
        "--replay",
        "0",
    ];
    let without_tokens = TRAIN
        .iter()
        .filter(|it| !["--sample-tokens", "8"].contains(it));
    without_tokens.chain(&long).copied().collect()
}

fn spawn(command: &mut Command) -> Child {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn send(child: &Child, signal: i32) {
    let mut kill = Command::new("kill");
    kill.args([format!("-{signal}"), child.id().to_string()]);
    assert!(kill.status().unwrap().success());
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LIMIT, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The steps of a stage in the log of ann's training.
fn steps(sandbox: &Sandbox, stage: &str) -> Vec<u64> {
    let log = sandbox.path().join("home/users/ann/train.jsonl");
    let log = std::fs::read_to_string(log).unwrap_or_default();
    // The last line may be half written.
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let of_stage = lines.filter(|line: &Value| line["stage"] == stage);
    of_stage
        .map(|line| line["step"].as_u64().unwrap())
        .collect()
}

#[test]
fn sigterm_in_each_stage_loses_no_step_and_changes_no_byte() {
    let train = long_training();
    let files = ["sft.gguf", "pairs.jsonl", "dpo.gguf", "adapter.gguf"];
    let trained = |sandbox: &Sandbox| {
        files.map(|file| std::fs::read(sandbox.path().join("home/users/ann").join(file)).unwrap())
    };
    let whole = with_ann();
    let run = whole.run(&train);
    assert!(run.status.success(), "{}", stderr(&run));

    let stopped = with_ann();
    let exists = |file: &str| stopped.path().join("home/users/ann").join(file).exists();
    let in_sft = || steps(&stopped, "sft").len() > 5;
    let in_mining = || exists("sft.gguf");
    let in_dpo = || steps(&stopped, "dpo").len() > 5;
    let stages: [(&str, &dyn Fn() -> bool, &str); 3] = [
        ("sft", &in_sft, "sft.gguf"),
        ("mining", &in_mining, "pairs.jsonl"),
        ("dpo", &in_dpo, "dpo.gguf"),
    ];
    for (stage, is_reached, not_made_yet) in stages {
        let mut child = spawn(&mut stopped.command(&train));
        wait_until(stage, || {
            is_reached() || child.try_wait().unwrap().is_some()
        });
        // Slurm sends SIGTERM twice.
        send(&child, SIGTERM);
        send(&child, SIGTERM);
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(75),
            "{stage}: {}",
            stderr(&output)
        );
        let last = stderr(&output);
        assert_eq!(
            last.lines().last(),
            Some("stopped; the same command resumes")
        );
        assert!(!exists(not_made_yet), "{stage} had ended before the signal");
    }
    let rest = stopped.run(&train);
    assert!(rest.status.success(), "{}", stderr(&rest));
    assert!(trained(&stopped) == trained(&whole));
    for stage in ["sft", "dpo"] {
        assert_eq!(steps(&stopped, stage), steps(&whole, stage), "{stage}");
    }
}

#[test]
fn a_blocked_sigint_stops_a_training_and_an_ignored_sighup_does_not() {
    let sandbox = with_ann();
    let train = [&TRAIN[..], &["--epochs", "100000", "--replay", "0"]].concat();
    let program = sandbox.command(&train);
    let under_env = |option: &str| {
        let mut env = sandbox.command(&[]);
        let mut command = Command::new("env");
        command.arg(option).arg(program.get_program()).args(&train);
        command.current_dir(sandbox.path()).stdin(Stdio::null());
        command.envs(
            env.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        env.stdin(Stdio::null());
        command
    };
    for (option, signals) in [
        ("--block-signal=INT", &[SIGINT][..]),
        ("--ignore-signal=HUP", &[SIGHUP, SIGTERM]),
    ] {
        let before = steps(&sandbox, "sft").len();
        let mut child = spawn(&mut under_env(option));
        for &signal in signals {
            assert!(child.try_wait().unwrap().is_none(), "{option}");
            let n = steps(&sandbox, "sft").len();
            wait_until("a step", || steps(&sandbox, "sft").len() > n.max(before));
            send(&child, signal);
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(75),
            "{option}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn an_answer_that_is_stopped_ends_by_the_signal_after_the_text_so_far() {
    let sandbox = Sandbox::new();
    sandbox.tiny_model();
    // The grammar has no end.
    let endless = [
        "-n",
        "100000000",
        "--loop-guard=false",
        "--grammar",
        "root ::= [a-z ] root",
    ];
    let generate = [
        &["generate", "-m", "tiny.gguf", "-p", "dear alice"],
        &endless[..],
    ]
    .concat();
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        let mut command = sandbox.command(&generate);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut text = [0; 64];
        out.read_exact(&mut text).unwrap();
        send(&child, signal);
        std::io::copy(&mut out, &mut std::io::sink()).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(signal));
    }
}

/// A sandbox in whose path `python3` is this shell script.
fn with_python(script: &str) -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    let bin = sandbox.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let python = bin.join("python3");
    std::fs::write(&python, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    (sandbox, path)
}

#[test]
fn a_download_that_is_stopped_leaves_nothing_and_ends_by_the_signal() {
    let (sandbox, path) = with_python("touch started; exec sleep 100");
    let child = spawn(sandbox.command(&["model", "pull"]).env("PATH", path));
    wait_until("pip", || sandbox.path().join("started").exists());
    let sent = Instant::now();
    send(&child, SIGTERM);
    assert_eq!(ended(child).signal(), Some(SIGTERM));
    assert!(
        sent.elapsed() < Duration::from_secs(50),
        "pip was waited for"
    );
    let models = std::fs::read_dir(sandbox.path().join("home/models")).unwrap();
    assert_eq!(models.count(), 0);
}

#[test]
fn only_a_sigint_two_seconds_after_the_first_signal_ends_the_program_at_once() {
    let (sandbox, path) = with_python("trap '' INT; touch started; sleep 8");
    let mut child = spawn(sandbox.command(&["model", "pull"]).env("PATH", path));
    wait_until("pip", || sandbox.path().join("started").exists());
    for signal in [SIGTERM, SIGINT, SIGTERM] {
        send(&child, signal);
    }
    std::thread::sleep(Duration::from_millis(2100));
    send(&child, SIGTERM);
    std::thread::sleep(Duration::from_millis(200));
    assert!(child.try_wait().unwrap().is_none());
    let sent = Instant::now();
    send(&child, SIGINT);
    assert_eq!(ended(child).signal(), Some(SIGINT));
    assert!(
        sent.elapsed() < Duration::from_secs(2),
        "pip was waited for"
    );
}

/// A server that has been started, with the port that it listens on, and the further lines on stderr as far as they come.
fn listening(command: &mut Command) -> (Child, u16, Receiver<String>) {
    let mut child = spawn(command);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    let port = line.rsplit(':').next().unwrap().parse().unwrap();
    let (told, further) = channel();
    // All of them are read, so that the server can write them.
    std::thread::spawn(move || lines.for_each(|line| drop(told.send(line.unwrap()))));
    (child, port, further)
}

#[test]
fn a_server_without_a_base_pulls_one_until_it_is_stopped_and_leaves_nothing() {
    let (sandbox, path) = with_python("touch started; exec sleep 100");
    let serve = ["serve", "--port", "0"];
    let (child, port, further) = listening(sandbox.command(&serve).env("PATH", path));
    assert_eq!(
        further.recv_timeout(LIMIT).unwrap(),
        "no base model is installed; the page at this address can pull one"
    );
    let url = format!("http://127.0.0.1:{port}/api/bases");
    let own = format!("{url}/smollm2-135m");
    let state = |mut response: ureq::http::Response<ureq::Body>| -> Value {
        response.body_mut().read_json().unwrap()
    };
    let pull = || {
        let started = sandbox.path().join("started");
        let _ = std::fs::remove_file(&started);
        let begun = state(ureq::post(&own).send_json(json!({})).unwrap());
        assert_eq!(begun["pulling"]["name"], "smollm2-135m", "{begun}");
        assert_eq!(begun["pulling"]["bytes"], 98_362_432, "{begun}");
        wait_until("pip", || started.exists());
    };
    let models = || {
        std::fs::read_dir(sandbox.path().join("home/models"))
            .unwrap()
            .count()
    };
    pull();
    assert!(models() > 0);
    ureq::delete(&own).call().unwrap();
    wait_until("the stop", || {
        state(ureq::get(&url).call().unwrap())["pulling"] == Value::Null
    });
    assert_eq!(models(), 0);
    // The end of the server stops it too.
    pull();
    send(&child, SIGTERM);
    assert_eq!(ended(child).code(), Some(0));
    assert_eq!(models(), 0);
}

/// A server on the tiny model, with the port that it listens on.
fn server(sandbox: &Sandbox) -> (Child, u16) {
    sandbox.tiny_model();
    let serve = [
        "serve",
        "-m",
        "tiny.gguf",
        "--port",
        "0",
        "-n",
        "100000000",
        "-c",
        "4096",
    ];
    let (child, port, _) = listening(&mut sandbox.command(&serve));
    let health = format!("http://127.0.0.1:{port}/health");
    wait_until("loading", || ureq::get(&health).call().is_ok());
    (child, port)
}

/// Begins a streamed answer of `n` tokens.
fn stream(port: u16, n: usize) -> impl BufRead {
    let url = format!("http://127.0.0.1:{port}/v1/completions");
    let request = json!({
        "model": "base", "prompt": "dear alice", "stream": true, "max_tokens": n, "ignore_eos": true,
        "no_repeat_ngram": 0, "loop_guard": false, "temperature": 1, "seed": 1,
    });
    let response = ureq::post(&url).send_json(request).unwrap();
    let mut lines = BufReader::new(response.into_body().into_reader());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(line.starts_with("data: "), "{line}");
    lines
}

fn ended(mut child: Child) -> ExitStatus {
    wait_until("the end", || child.try_wait().unwrap().is_some());
    child.wait().unwrap()
}

#[test]
fn a_server_that_is_stopped_completes_its_answers_and_exits_with_0() {
    let sandbox = Sandbox::new();
    let (child, port) = server(&sandbox);
    // A client that has sent half a request, and one that has sent nothing, do not keep the server.
    let idle = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut half = TcpStream::connect(("127.0.0.1", port)).unwrap();
    half.write_all(b"GET /health HTTP/1.1\r\n").unwrap();
    let mut answer = stream(port, 1500);
    send(&child, SIGTERM);
    send(&child, SIGTERM);
    let mut rest = String::new();
    answer.read_to_string(&mut rest).unwrap();
    assert!(rest.trim_end().ends_with("data: [DONE]"), "{rest}");
    assert_eq!(ended(child).code(), Some(0));
    drop((idle, half));
}
