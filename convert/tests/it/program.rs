//! Tests of the program `cope-convert`: its output and its exit codes.

use std::path::Path;
use std::process::{Command, Output};

use cope_convert::{Adapter, sha256};
use serde_json::Value;

use crate::files::{Folder, adapter, write_model};

/// Runs `cope-convert` in `folder`, and returns its exit code, stdout and stderr.
fn run(folder: &Folder, arguments: &[&str]) -> (i32, String, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_cope-convert"));
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder.join(""))
        .output()
        .unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (status.code().unwrap(), stdout, stderr)
}

/// A folder with a model and an adapter of it.
fn folder() -> Folder {
    let folder = Folder::new();
    write_model(&folder.join("model.gguf"));
    let adapter = Adapter {
        base_sha256: None,
        ..adapter()
    };
    adapter.write_gguf(&folder.join("alice.gguf")).unwrap();
    folder
}

#[test]
fn an_adapter_is_inspected() {
    let folder = folder();
    let (code, text, errors) = run(&folder, &["inspect", "alice.gguf"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(text.contains("rank          2\n"), "{text}");
    assert!(text.contains("targets       attn_q ×1\n"), "{text}");
    let (code, text, _) = run(&folder, &["inspect", "alice.gguf", "--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["n_parameters"]), (0, &Value::from(14)));
    assert_eq!(report["tensors"][0]["name"], "blk.0.attn_q.weight");
    // A = −1.5 … 5.5 (2, 4), B = −1.5 … 3.5 (3, 2), times 4 / 2: the squares of the product's elements sum to 4656.
    let norm = report["tensors"][0]["norm"].as_f64().unwrap();
    assert!((norm * norm - 4656.0).abs() < 1e-6, "{norm}");
    assert_eq!(report["norm_by_layer"]["0"], report["tensors"][0]["norm"]);
}

#[test]
fn differences_are_printed_and_their_absence_too() {
    let folder = folder();
    let same = (0, "they do the same\n".to_owned(), String::new());
    assert_eq!(run(&folder, &["diff", "alice.gguf", "alice.gguf"]), same);
    let doubled = [
        "adapter",
        "alice.gguf",
        "both.gguf",
        "--add",
        "alice.gguf=1.0",
    ];
    assert_eq!(run(&folder, &doubled), (0, String::new(), String::new()));
    let (code, text, _) = run(&folder, &["diff", "alice.gguf", "both.gguf"]);
    assert_eq!(code, 1);
    assert!(text.contains("cosine 1.0000"), "{text}");
}

#[test]
fn the_check_says_whether_an_adapter_fits() {
    let folder = folder();
    let (code, text, _) = run(&folder, &["check", "alice.gguf", "model.gguf"]);
    assert_eq!(code, 0);
    assert!(
        text.starts_with("fits: 1 tensors of rank 2; it does not say"),
        "{text}"
    );
    adapter().write_gguf(&folder.join("other.gguf")).unwrap();
    let (code, text, errors) = run(&folder, &["check", "other.gguf", "model.gguf"]);
    assert_eq!((code, text.as_str()), (1, ""));
    assert!(
        errors.starts_with("error: the adapter does not fit model.gguf:"),
        "{errors}"
    );
    assert_eq!(errors.lines().count(), 1);
}

#[test]
fn the_exit_code_is_2_for_wrong_usage_and_1_for_a_failure() {
    let folder = folder();
    let (code, _, errors) = run(&folder, &["adapter", "alice.gguf", "peft"]);
    assert_eq!(code, 2);
    assert!(errors.contains("add --base"), "{errors}");
    assert_eq!(
        run(
            &folder,
            &["adapter", "alice.gguf", "a.gguf", "--add", "x=nan"]
        )
        .0,
        2
    );
    let (code, _, errors) = run(&folder, &["inspect", "nothing.gguf"]);
    assert_eq!(code, 1);
    assert_eq!(
        errors,
        "error: nothing.gguf does not exist; check the path\n"
    );
    assert_eq!(folder.names(), ["alice.gguf", "model.gguf"]);
}

/// The library says which types can hold the weight; the program adds its option.
#[test]
fn an_error_about_a_large_weight_names_the_option_that_helps() {
    let folder = folder();
    let mut large = adapter();
    large.tensors[0].a.data[0] = 1e6;
    large.write_gguf(&folder.join("large.gguf")).unwrap();
    let arguments = ["adapter", "large.gguf", "small.gguf", "--dtype", "f16"];
    let (code, _, errors) = run(&folder, &arguments);
    assert_eq!(code, 1);
    let end = "too large for F16; F32 and BF16 can hold it; choose --dtype f32 or bf16\n";
    assert!(errors.ends_with(end), "{errors}");
}

#[test]
fn a_model_is_merged_and_an_input_is_never_overwritten() {
    let folder = folder();
    let merge = ["merge", "model.gguf", "alice.gguf=0.5", "-o", "merged.gguf"];
    let (code, text, errors) = run(&folder, &merge);
    assert_eq!((code, errors.as_str()), (0, ""));
    let expected = "merged into 1 tensors of merged.gguf\n100 % of the change is left after rounding\na merged model has lost the contrast";
    assert!(text.starts_with(expected), "{text}");
    let (code, _, errors) = run(
        &folder,
        &["merge", "model.gguf", "alice.gguf", "-o", "model.gguf"],
    );
    assert_eq!(code, 2);
    assert!(
        errors.contains("model.gguf is read, and cannot be the output"),
        "{errors}"
    );
    // An adapter that was trained on top of a task adapter cannot be merged without it.
    let task = sha256(&folder.join("alice.gguf")).unwrap();
    let bob = Adapter {
        base_sha256: None,
        task_sha256: Some(task),
        ..adapter()
    };
    bob.write_gguf(&folder.join("bob.gguf")).unwrap();
    let (code, _, errors) = run(
        &folder,
        &["merge", "model.gguf", "bob.gguf", "-o", "bobs.gguf"],
    );
    assert_eq!(code, 2);
    assert!(
        errors.contains("bob.gguf was trained on top of a task's adapter"),
        "{errors}"
    );
    let both = [
        "merge",
        "model.gguf",
        "alice.gguf",
        "bob.gguf",
        "-o",
        "bobs.gguf",
    ];
    assert_eq!(run(&folder, &both).0, 0);
    assert_eq!(
        folder.names(),
        [
            "alice.gguf",
            "bob.gguf",
            "bobs.gguf",
            "merged.gguf",
            "model.gguf"
        ]
    );
}

#[test]
fn an_adapter_in_the_place_of_a_model_is_told_as_one() {
    let folder = folder();
    for arguments in [
        &[
            "requantize",
            "alice.gguf",
            "--dtype",
            "q8_0",
            "--output",
            "out.gguf",
        ][..],
        &["merge", "alice.gguf", "alice.gguf", "--output", "out.gguf"],
        &["check", "alice.gguf", "alice.gguf"],
    ] {
        let (code, _, errors) = run(&folder, arguments);
        let told = "error: alice.gguf is an adapter, not a model; give a model, or change an adapter's type with `convert adapter ADAPTER NEW.gguf --dtype TYPE`\n";
        assert_eq!((code, errors.as_str()), (1, told), "{arguments:?}");
        assert!(!folder.join("out.gguf").exists());
    }
}
