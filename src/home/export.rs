//! Exports everything stored about a user.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{UserFolder, create_folder, entries, read_jsonl, write_atomic, write_jsonl};
use crate::message::Message;
use crate::profile::feedback::Verdicts;
use crate::profile::{Pair, sharegpt};
use crate::{Error, Result};

/// Files that are not exported: the lock, and the hash of the key to the server.
const NOT_EXPORTED: [&str; 2] = ["lock", "key.json"];

impl UserFolder {
    /// Creates `folder` and copies the user's files and saved chats into it. `pairs.jsonl` there has the pairs from feedback
    /// too, and `history.sharegpt.jsonl` and `pairs.sharegpt.jsonl` have examples and pairs in `ShareGPT`'s format.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when `folder` exists already; a file cannot be read or written.
    pub fn export(&self, folder: &Path) -> Result<()> {
        if folder.exists() {
            let folder = folder.display();
            return Err(Error::input(format_args!(
                "{folder} exists already; name a new folder"
            )));
        }
        copy_files(self.path(), folder, &NOT_EXPORTED)?;
        let chats = self.chats();
        if chats.folder().is_dir() {
            copy_files(chats.folder(), &folder.join("chats"), &[])?;
        }
        let mut pairs: Vec<Pair> = read_jsonl(&self.pairs())?;
        pairs.extend(Verdicts::from_feedback(&self.feedback()?).pairs());
        write_jsonl(&folder.join("pairs.jsonl"), &pairs)?;
        let pairs: Vec<Value> = pairs.iter().map(sharegpt_pair).collect();
        write_jsonl(&folder.join("pairs.sharegpt.jsonl"), &pairs)?;
        let profile = self.profile()?;
        let examples = profile.history.into_iter().map(|example| {
            let answer = [Message::assistant(example.response)];
            json!({ "conversations": sharegpt(&[example.prompt, answer.to_vec()].concat()) })
        });
        write_jsonl(
            &folder.join("history.sharegpt.jsonl"),
            &examples.collect::<Vec<_>>(),
        )
    }
}

/// Creates the folder `to` and copies the files of the folder `from` into it, except those with an excluded name.
fn copy_files(from: &Path, to: &Path, excluded: &[&str]) -> Result<()> {
    create_folder(to)?;
    for path in entries(from)? {
        let name = path.file_name().unwrap_or_default();
        if !excluded.iter().any(|excluded| name == *excluded) && path.is_file() {
            let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
            write_atomic(&to.join(name), |file| file.write_all(&bytes))?;
        }
    }
    Ok(())
}

fn sharegpt_pair(pair: &Pair) -> Value {
    let [chosen, rejected] = [&pair.chosen, &pair.rejected].map(|it| sharegpt(it)[0].clone());
    json!({ "conversations": sharegpt(&pair.prompt), "chosen": chosen, "rejected": rejected })
}
