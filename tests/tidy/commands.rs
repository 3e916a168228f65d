//! The commands that the pages give: each names something that is there.

use std::collections::BTreeSet;

use super::help::Help;
use super::pages::{code_spans, lines};
use super::tree::{Tree, folder_of, is_of_kind, join};

/// Pages whose commands are held to the tree; a page of history may give those of its day.
const PAGES: [&str; 5] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benches/README.md",
];
const FOLDERS: [&str; 3] = ["docs/", "benches/results/", "benches/eval/"];

/// Languages of fenced blocks that hold commands.
const SHELLS: [&str; 5] = ["", "sh", "bash", "shell", "console"];

/// A command of a page, with the number of its line.
pub struct Command {
    pub line: usize,
    pub words: Vec<String>,
}

/// Finds the commands of the tree's pages that cannot be run, each with the reason.
pub fn broken_commands(tree: &Tree) -> Vec<String> {
    let names = Names::read(tree);
    let mut found = Vec::new();
    for (page, text) in tree.texts(".md") {
        if !PAGES.contains(&page) && !FOLDERS.iter().any(|folder| page.starts_with(folder)) {
            continue;
        }
        for command in commands(text) {
            let reasons = names.broken(tree, page, &command.words).into_iter();
            let words = command.words.join(" ");
            found.extend(reasons.map(|why| format!("{page}:{}: {words}: {why}", command.line)));
        }
    }
    found
}

/// The commands of a page: those of its fenced blocks, and those of its inline code.
pub fn commands(text: &str) -> Vec<Command> {
    let mut found = Vec::new();
    let mut whole = String::new();
    for line in lines(text) {
        let number = line.number;
        match line.fence {
            None => {
                let spans = code_spans(line.text).into_iter();
                found.extend(spans.flat_map(|span| split(number, span)));
            }
            Some(language) if SHELLS.contains(&language) => {
                whole += line.text.trim_start().trim_start_matches("$ ");
                if let Some(begun) = whole.strip_suffix('\\') {
                    whole = begun.to_owned();
                } else {
                    found.extend(split(number, &whole));
                    whole.clear();
                }
            }
            Some(_) => {}
        }
    }
    found
}

/// The commands of one line of shell, without variables set before them.
fn split(line: usize, text: &str) -> Vec<Command> {
    let words = words(text);
    let ends = |word: &String| matches!(word.as_str(), "&&" | "||" | "|" | ";");
    let commands = words.split(ends).map(|words| {
        let set = words.iter().take_while(|word| is_assignment(word)).count();
        words[set..].to_vec()
    });
    commands
        .filter(|words| !words.is_empty())
        .map(|words| Command { line, words })
        .collect()
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
    })
}

/// The words of a line of shell, up to its comment. A `;` is a word.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for char in text.chars() {
        let is_first = words.last().is_none_or(String::is_empty);
        match (quote, char) {
            (None, '#') if is_first => break,
            (None, '\'' | '"') => quote = Some(char),
            (Some(open), char) if open == char => quote = None,
            (None, ';') => words.extend([";".to_owned(), String::new()]),
            (None, char) if char.is_whitespace() => words.push(String::new()),
            (_, char) => {
                if let Some(word) = words.last_mut() {
                    word.push(char);
                }
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A word that stands for others: `NAME`, `<FILE>`, `…`.
pub fn is_placeholder(word: &str) -> bool {
    word.contains(['<', '…', '$', '*', '{']) || !word.contains(|c: char| c.is_ascii_lowercase())
}

/// The things that commands can name.
pub struct Names {
    targets: BTreeSet<String>,
    benches: BTreeSet<String>,
    packages: BTreeSet<String>,
    features: BTreeSet<String>,
    help: Help,
}

impl Names {
    pub fn read(tree: &Tree) -> Self {
        let manifests: Vec<&str> = tree.texts("Cargo.toml").map(|(_, text)| text).collect();
        let under = |header: &str| -> Vec<(String, String)> {
            let all = manifests.iter().flat_map(|text| settings(text, header));
            all.collect()
        };
        let names = |header: &str| {
            let named = under(header).into_iter().filter(|(key, _)| key == "name");
            named.map(|(_, name)| name).collect()
        };
        let features = under("[features]").into_iter().map(|(key, _)| key);
        let optional = under("[dependencies]").into_iter();
        let optional = optional.filter(|(_, value)| value.contains("optional = true"));
        Self {
            targets: targets(tree.expect("Makefile")),
            benches: names("[[bench]]"),
            packages: names("[package]"),
            features: features.chain(optional.map(|(key, _)| key)).collect(),
            help: Help::read(tree),
        }
    }

    /// Gives the reasons why a command of the page `page` cannot be run.
    pub fn broken(&self, tree: &Tree, page: &str, words: &[String]) -> Vec<String> {
        let program = words[0].rsplit('/').next().unwrap_or_default();
        let rest = &words[1..];
        match program {
            "make" => self.broken_make(rest),
            "cargo" => self.broken_cargo(tree, rest),
            "cope-llama" => self.help.broken(rest),
            "cope-convert" => self.help.broken(&with_first("convert", rest)),
            "python" | "python3" => broken_python(tree, page, rest),
            _ if is_of_kind(program, "py") && words[0].contains('/') => {
                broken_python(tree, page, words)
            }
            // A command of the program without its name: `train --task`.
            _ if self.help.is_command(&words[0]) && rest.iter().any(|w| w.starts_with("--")) => {
                self.help.broken(words)
            }
            _ => Vec::new(),
        }
    }

    fn broken_make(&self, words: &[String]) -> Vec<String> {
        let named = words
            .iter()
            .filter(|word| !word.starts_with('-') && !word.contains('=') && !is_placeholder(word));
        let missing = named.filter(|word| !self.targets.contains(*word));
        missing
            .map(|word| format!("the Makefile has no target {word}"))
            .collect()
    }

    fn broken_cargo(&self, tree: &Tree, words: &[String]) -> Vec<String> {
        let end = words.iter().position(|word| word == "--");
        let (options, rest) = words.split_at(end.unwrap_or(words.len()));
        let rest = rest.get(1..).unwrap_or_default();
        let mut found = Vec::new();
        let mut sources = None;
        for pair in options.windows(2).filter(|pair| !is_placeholder(&pair[1])) {
            let name = &pair[1];
            let is_there = match pair[0].as_str() {
                "--bench" => {
                    sources = Some(format!("benches/{name}"));
                    self.benches.contains(name)
                }
                "--example" => {
                    sources = Some(format!("examples/{name}"));
                    has_source(tree, &format!("examples/{name}"))
                }
                "--test" => has_source(tree, &format!("tests/{name}")),
                "-p" | "--package" => self.packages.contains(name),
                "--features" => name
                    .split(',')
                    .all(|feature| feature.contains('/') || self.features.contains(feature)),
                _ => true,
            };
            if !is_there {
                found.push(format!(
                    "there is no {} {name}",
                    pair[0].trim_start_matches('-')
                ));
            }
        }
        if let Some(sources) = sources {
            found.extend(broken_options(tree, &sources, rest));
        } else if options.first().is_some_and(|word| word == "run")
            && !options.iter().any(|word| word == "-p" || word == "--bin")
        {
            found.extend(self.help.broken(rest));
        }
        found
    }
}

fn with_first(first: &str, rest: &[String]) -> Vec<String> {
    [&[first.to_owned()], rest].concat()
}

/// Whether a Rust file of this path, or a folder with a `main.rs`, is in the tree's root or in one of its crates.
fn has_source(tree: &Tree, path: &str) -> bool {
    ["", "contrast/", "convert/"].iter().any(|folder| {
        tree.has_file(&format!("{folder}{path}.rs"))
            || tree.has_file(&format!("{folder}{path}/main.rs"))
    })
}

/// The long options among `words` that the Rust files at `path`, or what benches share, do not name.
fn broken_options(tree: &Tree, path: &str, words: &[String]) -> Vec<String> {
    let files = tree.texts(".rs").filter(|(name, _)| {
        let rest = name.strip_prefix(path);
        rest.is_some_and(|rest| rest.starts_with(['.', '/'])) || name.starts_with("benches/common")
    });
    let texts: Vec<&str> = files.map(|(_, text)| text).collect();
    let long = words.iter().filter_map(|word| word.strip_prefix("--"));
    let names = long.filter_map(|word| word.split(['=', '[', ']']).next());
    let missing = names.filter(|name| {
        let field = name.replace('-', "_");
        let is_known = matches!(*name, "" | "help" | "version");
        !is_known
            && !texts
                .iter()
                .any(|text| text.contains(&field) || text.contains(name))
    });
    missing
        .map(|name| format!("{path} has no option --{name}"))
        .collect()
}

fn broken_python(tree: &Tree, page: &str, words: &[String]) -> Vec<String> {
    let script = words
        .first()
        .filter(|word| is_of_kind(word, "py") && !is_placeholder(word));
    let missing = script.filter(|path| {
        let folders = ["", "benches", folder_of(page)];
        let places = folders.map(|folder| join(folder, path));
        !places.iter().flatten().any(|place| tree.has_file(place))
    });
    missing
        .map(|path| format!("no file {path}"))
        .into_iter()
        .collect()
}

/// The targets of a Makefile.
fn targets(text: &str) -> BTreeSet<String> {
    let rules = text
        .lines()
        .filter(|line| !line.starts_with(['\t', ' ', '#', '.']));
    let rules = rules.filter_map(|line| line.split_once(':'));
    let rules = rules.filter(|(left, right)| !left.contains('=') && !right.starts_with('='));
    rules
        .flat_map(|(left, _)| left.split_whitespace().map(str::to_owned))
        .collect()
}

/// The lines `key = value` of a manifest under each `header`; a value without its quotes.
fn settings(text: &str, header: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut is_under = false;
    for line in text.lines() {
        if line.starts_with('[') {
            is_under = line.trim() == header;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| is_under) {
            let value = value.trim().trim_matches('"');
            found.push((key.trim().to_owned(), value.to_owned()));
        }
    }
    found
}
