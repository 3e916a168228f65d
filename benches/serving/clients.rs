//! OpenAI's clients, unchanged, and requests at random by the server's own description.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::Options;
use super::server::{Server, base};

pub fn run(options: &Options) -> Result<()> {
    let server = Server::start(&base(options.model.as_ref())?, &["alice"], &[])?;
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/serving");
    println!("| client | |\n|---|---|");
    let mut python = Command::new(&options.python);
    python.arg(scripts.join("with_openai.py")).arg(&server.url);
    told("openai for Python", &mut python)?;
    // It looks for its packages beside the script.
    let script = options.node.join("with_openai.mjs");
    std::fs::copy(scripts.join("with_openai.mjs"), &script)?;
    let mut node = Command::new("node");
    node.arg(script).arg(&server.url);
    told("openai for Node.js", &mut node)?;
    let mut random = Command::new(&options.python);
    random.args(["-m", "schemathesis.cli", "run", "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"]);
    random.args([
        "--max-examples",
        "100",
        "--seed",
        "1",
        "--phases",
        "examples,coverage,fuzzing",
    ]);
    random
        .args(["--url", &server.url])
        .arg(format!("{}/openapi.json", server.url));
    told("Schemathesis", &mut random)
}

/// Runs a client, whose last line says what came of it.
fn told(name: &str, command: &mut Command) -> Result<()> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{name}: {said}{error}");
    let last = said
        .lines()
        .rfind(|line| line.chars().any(char::is_alphanumeric));
    println!(
        "| {name} | {} |",
        last.unwrap_or_default().trim_matches(['=', ' '])
    );
    Ok(())
}
