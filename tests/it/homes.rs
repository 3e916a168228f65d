//! The files of a home: names, modes, locks, and files of older versions.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cope_llama::Error;
use cope_llama::error::Missing;
use cope_llama::home::{
    Home, Manifest, SavedChat, Stage, StageRecord, StartAdapter, UserName, write_atomic,
};
use cope_llama::message::Message;
use cope_llama::profile::{Example, HistoryPart, Profile};

use crate::tiny::TinyModel;

fn home() -> (tempfile::TempDir, Home) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path().join("home"));
    (folder, home)
}

fn name(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_name_that_would_leave_its_folder_is_refused() {
    for good in ["a", "alice", "Bob-2", "c.d_e", &"x".repeat(64)] {
        assert_eq!(name(good).as_str(), good);
    }
    let long = "x".repeat(300);
    for bad in [
        "",
        ".",
        "..",
        "../a",
        "a/b",
        "a\\b",
        "a\nb",
        "a\u{1b}[2J",
        "a b",
        "-m",
        "é",
        "a\0",
        &long,
    ] {
        let error = UserName::new(bad).unwrap_err();
        assert!(matches!(error, Error::Input(_)), "{error:?}");
        let message = error.to_string();
        assert!(message.starts_with("not a valid name: "), "{message}");
        assert!(!message.contains(char::is_control), "{message:?}");
        assert!(message.len() < 200, "{message}");
    }
}

#[test]
fn only_their_owner_can_access_folders_and_files() {
    let (_folder, home) = home();
    let user = home.create_user(name("alice")).unwrap();
    user.save_profile(&Profile::default()).unwrap();
    let _lock = user.lock().unwrap();
    assert_eq!(mode(home.root()), 0o700);
    assert_eq!(mode(user.path()), 0o700);
    assert_eq!(mode(&home.create_models().unwrap()), 0o700);
    for entry in fs::read_dir(user.path()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_profile_and_a_manifest_are_read_as_they_were_saved() {
    let (folder, home) = home();
    let base = folder.path().join("tiny.gguf");
    TinyModel::default().write(&base);
    let user = home.create_user(name("alice")).unwrap();
    assert_eq!(user.profile().unwrap(), Profile::default());
    assert_eq!(user.manifest().unwrap(), None);

    let mut profile = Profile::default();
    profile.add(HistoryPart::History, vec![Example::new("One?", "Two.")]);
    profile.add(HistoryPart::HeldOut, vec![Example::new("Three?", "Four.")]);
    user.save_profile(&profile).unwrap();
    let record = StageRecord {
        inputs: "abc".into(),
        settings: serde_json::json!({"seed": 1}),
        start: Some(StartAdapter {
            user: "bob".into(),
            sha256: "def".into(),
        }),
        figures: [("held_out/logprob".to_owned(), -3.5)].into(),
        seconds: 2.0,
    };
    let stages = [(Stage::Sft, record)].into();
    let manifest = Manifest {
        base: home.base_ref(&base).unwrap(),
        stages,
        adapter: None,
        previous: None,
    };
    user.save_manifest(&manifest).unwrap();

    let user = home.user(name("alice")).unwrap();
    assert_eq!(user.profile().unwrap(), profile);
    assert_eq!(user.manifest().unwrap(), Some(manifest.clone()));
    let starts: Vec<_> = manifest.starts().map(|start| &*start.user).collect();
    assert_eq!(starts, ["bob"]);
    assert_eq!(
        home.base(&manifest.base.file),
        fs::canonicalize(base).unwrap()
    );
}

#[test]
fn the_hash_of_a_base_is_cached_until_its_file_changes() {
    let (_folder, home) = home();
    let path = home.create_models().unwrap().join("tiny.gguf");
    TinyModel::default().write(&path);
    let before = home.base_ref(&path).unwrap();
    assert_eq!(before.file, "tiny.gguf");
    assert_eq!(before.sha256, cope_convert::sha256(&path).unwrap());
    assert_eq!(home.base_ref(&path).unwrap(), before);

    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(
        home.base_ref(&path).unwrap().sha256,
        cope_convert::sha256(&path).unwrap()
    );
    assert_ne!(home.base_ref(&path).unwrap(), before);
}

#[test]
fn a_locked_user_cannot_be_locked_again_or_deleted() {
    let (_folder, home) = home();
    let user = home.create_user(name("alice")).unwrap();
    let lock = user.lock().unwrap();
    for error in [user.lock().unwrap_err(), user.clone().delete().unwrap_err()] {
        assert!(
            matches!(&error, Error::Locked(name) if name == "alice"),
            "{error:?}"
        );
        let message = error.to_string();
        assert!(message.contains("another cope-llama"), "{message}");
    }
    drop(lock);
    user.lock().unwrap();
}

#[test]
fn a_deleted_user_leaves_no_files() {
    let (_folder, home) = home();
    let user = home.create_user(name("alice")).unwrap();
    user.save_profile(&Profile::default()).unwrap();
    let users = user.path().parent().unwrap().to_owned();
    user.delete().unwrap();
    assert_eq!(fs::read_dir(users).unwrap().count(), 0);
    let error = home.user(name("alice")).unwrap_err();
    assert!(
        matches!(&error, Error::Missing(Missing::User { name, .. }) if name == "alice"),
        "{error:?}"
    );
    assert!(error.to_string().contains("no user alice"), "{error}");
}

#[test]
fn a_failed_write_leaves_the_file_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    write_atomic(&path, |writer| writer.write_all(b"first")).unwrap();
    let result = write_atomic(&path, |writer| {
        writer.write_all(b"second, in part")?;
        Err(std::io::ErrorKind::StorageFull.into())
    });
    let message = result.unwrap_err().to_string();
    assert!(message.starts_with("cannot write "), "{message}");
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_saved_chat_is_private_and_named_like_a_user() {
    let (folder, home) = home();
    let user = home.create_user(name("alice")).unwrap();
    let chats = user.chats();
    assert_eq!(chats.names().unwrap(), []);
    let saying = |text: &str| SavedChat {
        messages: vec![Message::user(text)],
        ..SavedChat::default()
    };
    chats.save(&name("b"), &saying("first")).unwrap();
    chats.save(&name("b"), &saying("second")).unwrap();
    chats.save(&name("a.1"), &saying("other")).unwrap();
    assert_eq!(chats.names().unwrap(), [name("a.1"), name("b")]);
    assert!(chats.has(&name("b")) && !home.chats().has(&name("b")));
    assert_eq!(chats.load(&name("b")).unwrap(), saying("second"));
    let file = chats.folder().join("b.json");
    assert_eq!((mode(chats.folder()), mode(&file)), (0o700, 0o600));

    let missing = chats.load(&name("c")).unwrap_err();
    assert_eq!(missing.to_string(), "no saved chat c, there are: a.1, b");
    fs::write(&file, "[").unwrap();
    let damaged = chats.load(&name("b")).unwrap_err();
    assert!(
        matches!(&damaged, Error::Damaged { path, .. } if *path == file),
        "{damaged:?}"
    );

    // A chat may have the name of a file that is not exported.
    chats.save(&name("key"), &saying("mine")).unwrap();
    let exported = folder.path().join("exported");
    user.export(&exported).unwrap();
    assert_eq!(mode(&exported.join("chats")), 0o700);
    let copy = fs::read_to_string(exported.join("chats/key.json")).unwrap();
    assert!(copy.contains("mine"), "{copy}");
    user.delete().unwrap();
    assert!(!file.exists());
}

/// Earlier versions stored the thoughts of models with a history.
#[test]
fn thoughts_in_a_stored_history_are_left_out_when_it_is_read() {
    let (_folder, home) = home();
    let user = home.create_user(name("ann")).unwrap();
    let line = |question: &str, answer: &str| {
        let messages = serde_json::json!([
            { "role": "user", "content": question },
            { "role": "assistant", "content": answer },
        ]);
        format!("{}\n", serde_json::json!({ "messages": messages }))
    };
    assert!(!user.has_thoughts().unwrap());
    let stored = [
        line("One?", "<think>\nHm.\n</think>\n\nTwo."),
        line("Three?", "<think>never ended"),
        line("Four?", "a < b, and [c]"),
    ];
    fs::write(user.history(), stored.concat()).unwrap();
    let expected = vec![
        Example::new("One?", "Two."),
        Example::new("Four?", "a < b, and [c]"),
    ];
    assert_eq!(user.profile().unwrap().history, expected);
    assert!(user.has_thoughts().unwrap());
    // Reading changes no file.
    assert_eq!(fs::read_to_string(user.history()).unwrap(), stored.concat());
}
