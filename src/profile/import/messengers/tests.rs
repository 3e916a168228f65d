//! Chats in the layouts of messengers, with invented people. Each format has a file of its own.

mod discord_chats;
mod line_chats;
mod meta_chats;
mod meta_pages;
mod mutated;
mod signal_chats;
mod slack_chats;
mod telegram_chats;
mod whatsapp_chats;
mod x_posts;

use tempfile::TempDir;

use super::*;

/// The texts of an import of one file: `prompt → text` for each text of the user's.
pub(super) fn read(name: &str, content: &str, author: &str) -> Result<Vec<String>> {
    read_all(&[(name, content)], author)
}

/// The texts of an import of a folder with these files.
pub(super) fn read_all(files: &[(&str, &str)], author: &str) -> Result<Vec<String>> {
    let imported = imported(files, author)?;
    let texts = imported.examples.iter();
    let texts = texts.map(|it| format!("{} → {}", it.prompt[0].content, it.response));
    Ok(texts.collect())
}

/// The messages that were left of these files, by reason.
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
