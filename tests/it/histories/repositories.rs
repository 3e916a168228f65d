//! The import of git repositories: the author's commits are taken, and nothing that the folder names is run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use cope_llama::Error;
use cope_llama::error::Unspecified;
use cope_llama::profile::{Example, ImportOptions, import};

use super::{Folder, skipped};

/// Runs git in a folder as an author whose address is `x@example.org`.
fn git(path: &Path, arguments: &[&str], author: &str) {
    let status = Command::new("git")
        .arg("-C")
        .arg(path)
        .args(["-c", "commit.gpgsign=false"])
        .args(arguments)
        .envs([
            ("GIT_AUTHOR_NAME", author),
            ("GIT_AUTHOR_EMAIL", "x@example.org"),
            ("GIT_COMMITTER_NAME", author),
            ("GIT_COMMITTER_EMAIL", "x@example.org"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ])
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
}

/// A repository with two commits of Bob's, the second without changes, and one of Ann's between them.
fn repository() -> Folder {
    let folder = Folder::new();
    let path = folder.0.path();
    git(path, &["init", "--quiet"], "Bob");
    folder.file("a b.txt", "one\ntwo\n");
    git(path, &["add", "."], "Bob");
    let message = "Begin\n\nWith two lines.\n\nSigned-off-by: Bob <x@example.org>";
    git(path, &["commit", "-qm", message], "Bob B");
    folder.file("a b.txt", "one\n");
    git(path, &["commit", "-qam", "Ann's"], "Ann");
    git(
        path,
        &["commit", "-qm", "Nothing", "--allow-empty"],
        "Bob B",
    );
    folder
}

/// The options with this author.
fn by(author: &str) -> ImportOptions {
    ImportOptions {
        authors: vec![author.to_owned()],
        ..ImportOptions::default()
    }
}

/// The first commit of [`repository`].
fn first_commit() -> Example {
    let prompt = "Write the commit message for this change:\n\na b.txt: 2 lines added, 0 removed\nnew: a b.txt";
    Example::new(prompt, "Begin\n\nWith two lines.")
}

#[test]
fn an_authors_commits_are_imported_from_a_repository() {
    let folder = repository();
    let path = folder.0.path();
    let imported = import(path, &by("bob b")).unwrap();
    assert_eq!(imported.examples, [first_commit()]);
    assert_eq!(skipped(&imported), [("the commit changes no file", 1)]);
    let message = import(path, &by("Carol")).unwrap_err().to_string();
    assert!(
        message.contains("has no commits by that author; it has some by Bob B <x@example.org>, Ann <x@example.org>"),
        "{message}"
    );
    let error = import(path, &ImportOptions::default()).unwrap_err();
    assert!(
        matches!(&error, Error::Unspecified(Unspecified::Author { texts, .. }) if texts == "commits"),
        "{error:?}"
    );
    // An author is found by both the name of the commit and the one that the mail map gives them.
    folder.file(".mailmap", "Robert <r@example.org> Bob B <x@example.org>\n");
    git(path, &["add", "."], "Ann");
    git(path, &["commit", "-qm", "Map"], "Ann");
    for name in ["robert", "r@example.org", "bob b"] {
        let imported = import(path, &by(name)).unwrap();
        assert_eq!(imported.examples, [first_commit()], "{name}");
    }
}

#[test]
fn nothing_that_a_repository_names_is_run() {
    let folder = repository();
    let path = folder.0.path();
    folder.file(
        "ran.sh",
        "#!/bin/sh\ntouch \"$(dirname \"$0\")/ran\"\ncat\n",
    );
    let script = path.join("ran.sh");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&script, executable).unwrap();
    let script = script.to_str().unwrap();
    folder.file(".git/info/attributes", "*.txt diff=own filter=own\n");
    fs::create_dir_all(path.join(".git/hooks")).unwrap();
    for hook in ["reference-transaction", "post-index-change"] {
        fs::copy(script, path.join(".git/hooks").join(hook)).unwrap();
    }
    for (key, value) in [
        ("log.showSignature", "true"),
        ("gpg.program", script),
        ("core.fsmonitor", script),
        ("core.pager", script),
        ("core.sshCommand", script),
        ("diff.external", script),
        ("diff.own.textconv", script),
        ("diff.own.command", script),
        ("filter.own.clean", script),
        ("filter.own.smudge", script),
        ("log.mailmap", "false"),
    ] {
        git(path, &["config", key, value], "Bob");
    }
    let imported = import(path, &by("bob b")).unwrap();
    assert_eq!(imported.examples, [first_commit()]);
    assert!(!path.join("ran").exists());
    assert!(!path.join(".git/hooks/ran").exists());
}

#[test]
fn a_clone_without_its_history_gives_what_it_has() {
    let folder = repository();
    let clone = Folder::new();
    let whole = format!("file://{}", folder.0.path().display());
    let shallow = clone.0.path().join("shallow");
    let to = |path: &Path| path.to_str().unwrap().to_owned();
    folder.file("c.txt", "more\n");
    git(folder.0.path(), &["add", "."], "Bob B");
    git(folder.0.path(), &["commit", "-qm", "More"], "Bob B");
    git(
        folder.0.path(),
        &["clone", "-q", "--depth", "2", &whole, &to(&shallow)],
        "Bob",
    );
    // The oldest commit that is there would seem to add every file.
    let imported = import(&shallow, &by("bob b")).unwrap();
    let prompt =
        "Write the commit message for this change:\n\nc.txt: 1 lines added, 0 removed\nnew: c.txt";
    assert_eq!(imported.examples, [Example::new(prompt, "More")]);

    // Its contents are not fetched.
    let partial = clone.0.path().join("partial");
    git(
        folder.0.path(),
        &["config", "uploadpack.allowFilter", "true"],
        "Bob",
    );
    git(
        folder.0.path(),
        &[
            "clone",
            "-q",
            "--filter=blob:none",
            "--no-checkout",
            &whole,
            &to(&partial),
        ],
        "Bob",
    );
    let message = import(&partial, &by("bob b")).unwrap_err().to_string();
    assert!(message.contains("is a partial clone"), "{message}");
}
