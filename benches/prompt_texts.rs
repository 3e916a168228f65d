//! Prompts of given lengths, made of real sentences.

use std::path::Path;

use anyhow::Result;
use cope_llama::profile::{json, lamp};

/// Words of real authors' abstracts in `data`, the folder of the LaMP files; without that folder, of alice's texts.
pub fn words(data: &Path) -> Result<Vec<String>> {
    let file = data.join("abstract_generation_acl.json");
    let examples = if file.exists() {
        let users = lamp::read(&file)?.users;
        users.into_iter().flat_map(|user| user.history).collect()
    } else {
        let texts = include_bytes!("../models/alice/history.jsonl");
        json::parse("history.jsonl".as_ref(), texts)?.examples
    };
    let texts = examples.iter().map(|it| it.response.as_str());
    Ok(texts
        .flat_map(str::split_whitespace)
        .map(str::to_owned)
        .collect())
}

/// The least number of `words` whose text is at least `n` long by `len`, as one text.
pub fn text(words: &[String], n: usize, len: impl Fn(&str) -> Result<usize>) -> Result<String> {
    let mut text = String::new();
    for word in words {
        if len(&text)? >= n {
            break;
        }
        text.push_str(if text.is_empty() { "" } else { " " });
        text.push_str(word);
    }
    Ok(text)
}
