//! OpenAI's own clients and Ollama's, a browser, and random requests that Schemathesis makes from the server's OpenAPI description.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::Options;
use super::server::{Server, Users};

pub fn run(options: &Options) -> Result<()> {
    let users = Users::train(options.model.as_ref(), &["alice"])?;
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/serving");
    let node = |script: &str, server: &Server| -> Result<Command> {
        // Node.js looks for packages, and for `page_driver.mjs`, beside the script.
        for name in [script, "page_driver.mjs"] {
            std::fs::copy(scripts.join(name), options.node.join(name))?;
        }
        let mut node = Command::new("node");
        node.arg(options.node.join(script)).arg(&server.url);
        Ok(node)
    };
    let python = |script: &str, server: &Server| python(options, script, server);
    println!("| client | |\n|---|---|");
    let server = Server::start(&users, &[])?;
    report("openai for Python", &mut python("with_openai.py", &server))?;
    report("openai for Node.js", &mut node("with_openai.mjs", &server)?)?;
    report("ollama for Python", &mut python("with_ollama.py", &server))?;
    report("ollama for Node.js", &mut node("with_ollama.mjs", &server)?)?;
    drop(server);

    let server = Server::start(&users, &["--predict", "64"])?;
    let mut browser = node("with_browser.mjs", &server)?;
    browser.arg(&options.browser);
    report("Chromium, chats", &mut browser)?;
    drop(server);

    for hand in ["mouse", "keyboard"] {
        let users = Users::none(options.model.as_ref())?;
        let server = Server::start_without_base(&users, &["--predict", "64"])?;
        users.link_base()?;
        let mut browser = node("page_from_nothing.mjs", &server)?;
        browser.arg(&options.browser).arg(hand);
        report(&format!("Chromium, from nothing by {hand}"), &mut browser)?;
    }

    let server = Server::start(&users, &["--predict", "4"])?;
    let mut random = Command::new(&options.python);
    // Schemathesis leaves notes for its next run in the current folder.
    random.current_dir(&options.node);
    random.args(["-m", "schemathesis.cli", "run", "--checks", CHECKS]);
    random.args([
        "--max-examples",
        &options.examples.to_string(),
        "--seed",
        "1",
        "--phases",
        "coverage,fuzzing",
    ]);
    random.args(["--url", &server.url]);
    random.arg(format!("{}/openapi.json", server.url));
    report("Schemathesis", &mut random)
}

/// LangChain's classes for Ollama.
pub fn run_langchain(options: &Options) -> Result<()> {
    let users = Users::train(options.model.as_ref(), &["alice"])?;
    let server = Server::start(&users, &[])?;
    println!("| client | |\n|---|---|");
    report(
        "langchain-ollama",
        &mut python(options, "with_langchain.py", &server),
    )
}

/// A script of this folder for Python, which asks `server`.
fn python(options: &Options, script: &str, server: &Server) -> Command {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/serving");
    let mut python = Command::new(&options.python);
    python.arg(scripts.join(script)).arg(&server.url);
    python
}

/// The checks that every response has to pass.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// Runs a client and prints the line of its output that sums up its result.
fn report(name: &str, command: &mut Command) -> Result<()> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{name}: {said}{error}");
    // Schemathesis ends with the time it took, and its count of cases stands above.
    let last = said
        .lines()
        .rfind(|line| line.contains(" generated, "))
        .or_else(|| said.lines().last());
    println!("| {name} | {} |", last.unwrap_or_default().trim());
    Ok(())
}
