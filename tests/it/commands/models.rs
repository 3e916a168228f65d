//! The commands `model`, and models of other programs as `--model`.

use super::{Sandbox, error, stderr, stdout};
use crate::stores::Stores;
use crate::tiny::TinyModel;

/// Stores, and the bytes of a tiny model.
fn with_model() -> (Sandbox, Stores, Vec<u8>) {
    let (sandbox, stores) = (Sandbox::new(), Stores::new());
    let path = stores.path("tiny");
    TinyModel::default().write(&path);
    (sandbox, stores, std::fs::read(path).unwrap())
}

#[test]
fn models_of_other_programs_are_listed_and_answer() {
    let (sandbox, stores, bytes) = with_model();
    let library = "registry.ollama.ai/library";
    stores.ollama_model(&format!("{library}/tiny/1b"), 1, &bytes);
    stores.ollama_model(&format!("{library}/cut/1b"), 2, &bytes[..bytes.len() / 2]);
    stores.manifest(&format!("{library}/cloud/1b"), &[]);
    let run = |arguments: &[&str]| {
        let mut command = sandbox.command(arguments);
        command.env("OLLAMA_MODELS", stores.path("ollama"));
        command.output().unwrap()
    };
    let list = run(&["model", "list"]);
    assert!(list.status.success());
    let shown = stdout(&list);
    let row = shown
        .lines()
        .find(|line| line.starts_with("ollama:tiny:1b"));
    let cells: Vec<&str> = row.unwrap().split_whitespace().collect();
    assert_eq!(cells[..4], ["ollama:tiny:1b", "Ollama", "llama", "F32"]);
    // The tiny model takes a megabyte or two, and training it some tens.
    assert_eq!(
        (cells.len(), cells[5], cells[9]),
        (10, "MB", "MB"),
        "{shown}"
    );
    let training: u64 = cells[8].parse().unwrap();
    assert!((30..200).contains(&training), "{shown}");
    assert!(shown.contains("smollm2-135m"), "{shown}");
    let notes = stderr(&list);
    let notes: Vec<&str> = notes.lines().collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert_eq!(
        notes[0],
        "left out: ollama:cloud:1b: it has no model file on this machine"
    );
    assert!(
        notes[1].starts_with("left out: ollama:cut:1b: "),
        "{notes:?}"
    );

    let answer = run(&["generate", "-m", "ollama:tiny:1b", "-p", "hello", "-n", "4"]);
    assert!(answer.status.success(), "{}", stderr(&answer));
    assert!(!stdout(&answer).trim().is_empty());
    let unknown = error(&run(&["generate", "-m", "ollama:other", "-p", "hello"]));
    assert_eq!(
        unknown,
        "error: Ollama has no model ollama:other on this machine; there are ollama:cut:1b, ollama:tiny:1b\n"
    );
}

#[test]
fn a_file_of_the_models_folder_is_named_without_its_folder() {
    let (sandbox, _stores, bytes) = with_model();
    let models = sandbox.path().join("home/models");
    std::fs::create_dir_all(&models).unwrap();
    std::fs::write(models.join("mine.gguf"), bytes).unwrap();
    let generate = ["generate", "-m", "mine.gguf", "-p", "hello", "-n", "4"];
    let answer = sandbox.run(&generate);
    assert!(answer.status.success(), "{}", stderr(&answer));
}
