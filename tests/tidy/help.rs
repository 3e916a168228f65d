//! The program's commands and options, as `tests/cmd/help.trycmd` has them.

use std::collections::{BTreeMap, BTreeSet};

use super::commands::is_placeholder;
use super::source::{split, tokens};
use super::tree::Tree;

const SNAPSHOT: &str = "tests/cmd/help.trycmd";

/// Where the options of commands are written that the snapshot does not have.
const CLI: [&str; 3] = ["src/cli", "convert/src/cli", "src/cli.rs"];

#[derive(Default)]
struct Section {
    commands: BTreeSet<String>,
    options: BTreeSet<String>,
}

pub struct Help {
    /// The help texts by the words after the program's name.
    sections: BTreeMap<Vec<String>, Section>,
    /// The words of the command line's source, in lower case: an option that is in no section is at least one of them.
    words: BTreeSet<String>,
}

impl Help {
    pub fn read(tree: &Tree) -> Self {
        let sources = tree.texts(".rs");
        let sources = sources.filter(|(name, _)| CLI.iter().any(|of| name.starts_with(of)));
        let codes: Vec<String> = sources.map(|(_, text)| split(text).0).collect();
        let words = codes.iter().flat_map(|code| tokens(code));
        Self {
            sections: sections(tree.expect(SNAPSHOT)),
            words: words.map(|word| word.text.to_lowercase()).collect(),
        }
    }

    /// Whether `word` is a command of the program.
    pub fn is_command(&self, word: &str) -> bool {
        let top = self.sections.get(&Vec::new());
        top.is_some_and(|top| top.commands.contains(word))
    }

    /// Finds unknown commands and options in the words after the program's name.
    pub fn broken(&self, words: &[String]) -> Vec<String> {
        let mut path = Vec::new();
        let mut rest = words;
        while let Some((word, after)) = rest.split_first() {
            let section = self.sections.get(&path);
            let is_command = match section {
                Some(section) => section.commands.contains(word),
                // The snapshot may not have the commands of `convert`.
                None => path == ["convert"] && self.words.contains(word),
            };
            let wants_command = section.map_or(path == ["convert"], |s| !s.commands.is_empty());
            if is_command {
                path.push(word.clone());
                rest = after;
            } else if wants_command && !word.starts_with('-') && !is_placeholder(word) {
                return vec![format!(
                    "`cope-llama {}` has no command {word}",
                    path.join(" ")
                )];
            } else {
                break;
            }
        }
        let options = rest.iter().take_while(|word| *word != "--");
        let missing = options.filter(|word| !self.has_option(&path, word));
        missing
            .map(|word| format!("`cope-llama {}` has no option {word}", path.join(" ")))
            .collect()
    }

    /// Whether `word` is an option of the command `path`, or none at all.
    fn has_option(&self, path: &[String], word: &str) -> bool {
        let word = word.trim_start_matches('[').trim_end_matches(']');
        let name = word.split('=').next().unwrap_or(word);
        let is_option = |char: char| char == '-' || char.is_ascii_alphabetic();
        if !name.starts_with('-') || !name[1..].starts_with(is_option) || is_dots(name) {
            return true;
        }
        let Some(section) = self.sections.get(path) else {
            let field = name.trim_start_matches('-').replace('-', "_");
            return !name.starts_with("--")
                || matches!(&*field, "help" | "version")
                || self.words.contains(&field);
        };
        let short: String = name.chars().take(2).collect();
        section.options.contains(name)
            || !name.starts_with("--") && section.options.contains(&short)
    }
}

/// `--` and nothing after it but dots.
fn is_dots(name: &str) -> bool {
    !name.contains(|char: char| char.is_ascii_alphabetic())
}

/// The commands and options of each help text of the snapshot.
fn sections(text: &str) -> BTreeMap<Vec<String>, Section> {
    let mut sections: BTreeMap<Vec<String>, Section> = BTreeMap::new();
    let mut path = None;
    let mut in_commands = false;
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ cope-llama ") {
            let words = command.split_whitespace().filter(|word| *word != "--help");
            path = Some(words.map(str::to_owned).collect::<Vec<String>>());
        }
        let Some(path) = &path else {
            continue;
        };
        let section = sections.entry(path.clone()).or_default();
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let words = || trimmed.split_whitespace();
        if line == "Commands:" {
            in_commands = true;
        } else if trimmed.is_empty() {
            in_commands = false;
        } else if in_commands && indent == 2 {
            section.commands.extend(words().next().map(str::to_owned));
        } else if trimmed.starts_with('-') {
            let names = words().take_while(|word| word.starts_with('-'));
            let names = names.map(|name| name.trim_end_matches([',', '.']).to_owned());
            section.options.extend(names);
        }
    }
    sections
}
