//! All that is known of a user, given back.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{UserFolder, create_folder, entries, read_jsonl, write_atomic, write_jsonl};
use crate::message::Message;
use crate::profile::feedback::Verdicts;
use crate::profile::{Pair, sharegpt};
use crate::{Error, Result};

/// What is nobody's but this program's: a lock, and the hash of a key.
const LEFT: [&str; 2] = ["lock", "key.json"];

impl UserFolder {
    /// Copies everything into `folder`, which is made, and adds its examples and pairs in the forms that other programs
    /// read: TRL's, and `ShareGPT`'s.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when the folder is there already; [`Error::Io`].
    pub fn export(&self, folder: &Path) -> Result<()> {
        if folder.exists() {
            let what = format!("{} is there already: name a new folder", folder.display());
            return Err(Error::Input(what));
        }
        create_folder(folder)?;
        for path in entries(self.path())? {
            let name = path.file_name().unwrap_or_default();
            if !LEFT.iter().any(|left| name == *left) && path.is_file() {
                let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
                write_atomic(&folder.join(name), |file| file.write_all(&bytes))?;
            }
        }
        let mut pairs: Vec<Pair> = read_jsonl(&self.pairs())?;
        pairs.extend(Verdicts::of(&self.feedback()?).pairs());
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

fn sharegpt_pair(pair: &Pair) -> Value {
    let [chosen, rejected] = [&pair.chosen, &pair.rejected].map(|it| sharegpt(it)[0].clone());
    json!({ "conversations": sharegpt(&pair.prompt), "chosen": chosen, "rejected": rejected })
}
