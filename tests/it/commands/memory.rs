//! Commands whose contexts take more memory than any machine has.

use cope_convert::gguf::Value;

use super::{Sandbox, error, stderr};
use crate::tiny::TinyModel;

/// Tokens of a context that takes half a tebibyte.
const N_CTX: u32 = 2_147_483_392;

#[test]
fn a_context_without_memory_ends_a_command_with_one_line_that_names_the_remedy() {
    let sandbox = Sandbox::new();
    let path = sandbox.path().join("long.gguf");
    TinyModel::default().write_edited(&path, |metadata| {
        let mut entries = metadata.iter_mut();
        let length = entries.find(|entry| entry.0 == "llama.context_length");
        length.unwrap().1 = Value::U32(N_CTX);
    });
    let size = N_CTX.to_string();
    let run = |arguments: &[&str]| {
        let options = ["-m", "long.gguf", "-c", &size, "--gpu-layers", "0"];
        sandbox.run(&[arguments, &options].concat())
    };
    for arguments in [&["generate", "-p", "hello"][..], &["chat"]] {
        let line = error(&run(arguments));
        let start = format!("error: a context of {N_CTX} tokens takes ");
        let end = "lower -c (--ctx-size), use `--cache-type q8_0`, or close other programs\n";
        assert!(line.starts_with(&start) && line.ends_with(end), "{line}");
        assert!(line.contains(" MiB of memory are free; "), "{line}");
    }
    let serve = run(&[
        "serve",
        "--port",
        "0",
        "--parallel",
        "2",
        "--memory",
        "4000000",
    ]);
    assert_eq!(serve.status.code(), Some(1));
    let lines = stderr(&serve);
    let start = format!("error: a context of 2 texts of {N_CTX} tokens each takes ");
    let line = lines.lines().last().unwrap();
    assert!(line.starts_with(&start), "{lines}");
    assert!(
        line.ends_with("; lower -c (--ctx-size) or --parallel, or close other programs"),
        "{lines}"
    );
    // The line before says where the server listens.
    assert_eq!(lines.lines().count(), 2, "{lines}");
}
