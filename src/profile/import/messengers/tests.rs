//! Chats in the layouts of messengers, with invented people. Each format has a file of its own.

mod discord;
mod line_talk;
mod meta;
mod mutated;
mod signal;
mod slack;
mod telegram;
mod whatsapp;
mod x_archive;

use tempfile::TempDir;

use super::*;

/// What an import of one file gives: `prompt → text` for each text of the user's, and what was left.
pub(super) fn read(name: &str, content: &str, author: &str) -> Result<Vec<String>> {
    read_all(&[(name, content)], author)
}

/// What an import of a folder with these files gives.
pub(super) fn read_all(files: &[(&str, &str)], author: &str) -> Result<Vec<String>> {
    let imported = imported(files, author)?;
    let texts = imported.examples.iter();
    let texts = texts.map(|it| format!("{} → {}", it.prompt[0].content, it.response));
    Ok(texts.collect())
}

/// What was left of these files, by reason.
pub(super) fn left(files: &[(&str, &str)], author: &str) -> Vec<String> {
    let imported = imported(files, author).unwrap();
    let left = imported.skipped.iter();
    left.map(|(why, n)| format!("{n} {why}")).collect()
}

fn imported(files: &[(&str, &str)], author: &str) -> Result<Imported> {
    let folder = TempDir::new().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let options = ImportOptions {
        authors: Some(author)
            .filter(|it| !it.is_empty())
            .into_iter()
            .map(str::to_owned)
            .collect(),
        ..ImportOptions::default()
    };
    crate::profile::import(folder.path(), &options)
}

/// The message of an import that fails, without the path.
pub(super) fn failure(files: &[(&str, &str)], author: &str) -> String {
    let message = imported(files, author).unwrap_err().to_string();
    message
        .split_once(": ")
        .map_or(message.clone(), |(_, what)| what.to_owned())
}
