//! CoPe in the sampler chains of other programs: the examples in C and in Python, with one shared llama.cpp, choose the
//! tokens of this library's decoder.

use std::path::PathBuf;
use std::process::Command;

use cope_llama::decode::{Arm, Contrast};
use cope_llama::llama::{Boundary, Special, Token};

use crate::fixture::{Fixture, adapter, decode, limit};

const N_TOKENS: usize = 40;

/// The folder in which `make sampler` puts the libraries and the C example.
fn folder() -> PathBuf {
    let folder = std::env::var_os("COPE_SAMPLER").expect("make test sets COPE_SAMPLER");
    let folder = PathBuf::from(folder);
    assert!(folder.join("cope").exists(), "make sampler builds it");
    folder
}

/// The text of the prompt, and the tokens that this library's decoder chooses after it.
fn expected(tiny: &Fixture) -> (&'static str, Vec<Token>) {
    let prompt = "hello alice, the wine";
    let mut twin = tiny.twin(&adapter(), 1.0);
    let arm = Arm::Cope(Contrast::new(0.5, 0.1).unwrap());
    let tokens = tiny
        .model
        .tokenize(prompt, Boundary::Add, Special::ByName)
        .unwrap();
    let tokens = decode(&mut twin, arm, &tokens, limit(N_TOKENS)).tokens;
    assert!(tokens.len() > 20);
    (prompt, tokens)
}

fn run(command: &mut Command, tiny: &Fixture, prompt: &str) -> Vec<Token> {
    let output = command
        // The libraries refer to each other by name alone, without a path.
        .env("LD_LIBRARY_PATH", folder())
        .env("DYLD_LIBRARY_PATH", folder())
        .arg(&tiny.path)
        .arg(tiny.folder.path().join("adapter.gguf"))
        .args([prompt, &N_TOKENS.to_string()])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let printed = String::from_utf8(output.stdout).unwrap();
    printed
        .split_whitespace()
        .map(|token| token.parse().unwrap())
        .collect()
}

#[test]
fn a_c_program_chooses_the_same_tokens() {
    let tiny = Fixture::new();
    let (prompt, expected) = expected(&tiny);
    let mut program = Command::new(folder().join("cope"));
    assert_eq!(run(&mut program, &tiny, prompt), expected);
}

#[test]
fn a_python_program_chooses_the_same_tokens() {
    let tiny = Fixture::new();
    let (prompt, expected) = expected(&tiny);
    let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sampler/examples/cope.py");
    let mut program = Command::new("python3");
    program.arg(example).arg(folder());
    assert_eq!(run(&mut program, &tiny, prompt), expected);
}

#[test]
fn the_library_uses_the_llama_cpp_of_the_program() {
    let library = folder().join("libcope_sampler.so");
    let output = Command::new("nm").arg("-D").arg(library).output().unwrap();
    assert!(output.status.success());
    let symbols = String::from_utf8(output.stdout).unwrap();
    let names = |kind: &str| {
        let of_kind = symbols.lines().filter_map(|line| line.split_once(kind));
        of_kind.map(|(_, name)| name.to_owned()).collect::<Vec<_>>()
    };
    assert!(names(" U ").contains(&"llama_decode".to_owned()));
    let exported = ["flush", "init", "status"].map(|name| format!("cope_sampler_{name}"));
    assert_eq!(names(" T "), exported);
}
