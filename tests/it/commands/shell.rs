//! The program's files for a person's shell: scripts that complete commands, and man pages.

use super::{Sandbox, error, stderr, stdout};

#[test]
fn each_shell_gets_a_script_that_completes_commands_and_options() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = sandbox.run(&["completions", shell]);
        assert!(script.status.success(), "{shell}: {}", stderr(&script));
        let script = stdout(&script);
        for word in ["remove-item", "no-repeat-ngram"] {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
}

#[test]
fn there_is_a_man_page_for_each_command() {
    let sandbox = Sandbox::new();
    let written = sandbox.run(&["manual", "share/man1"]);
    assert!(written.status.success(), "{}", stderr(&written));
    let page = |name: &str| {
        let path = sandbox.path().join("share/man1").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    assert!(page("cope-llama.1").contains("cope\\-llama\\-chat(1)"));
    let import = page("cope-llama-user-import.1");
    assert!(
        import.contains(".TH cope-llama-user-import 1") && import.contains("\\-\\-author"),
        "{import}"
    );
    std::fs::write(sandbox.path().join("taken"), "").unwrap();
    let refused = error(&sandbox.run(&["manual", "taken"]));
    assert_eq!(
        refused,
        "error: cannot write man pages to taken: File exists (os error 17)\n"
    );
}
