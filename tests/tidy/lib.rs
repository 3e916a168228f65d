//! Holds the tree to its own rules. `COPE_TREE` names another checkout, which is then read instead; with it, or with
//! `COPE_LIST=1`, `house_figures` lists every place of what it counts.

#![cfg(test)]

mod commands;
mod help;
mod house;
mod items;
mod modules;
mod pages;
mod results;
mod source;
mod tests;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use house::{Figure, Limits};
use tree::Tree;

const MAX_LINES: usize = 600;

/// The most lines of a page that someone reads to the end.
const MAX_PAGE_LINES: usize = 120;
const SHORT_PAGES: [&str; 2] = ["README.md", "benches/README.md"];

/// The most that the tree may have of each kind of fault.
const LIMITS: Limits = Limits {
    public_types_named_twice: 0,
    types_named_twice: Some(0),
    files_named_twice: Some(25),
    circles: 0,
    arrows_upward: 0,
    long_functions: 0,
    // "Of ", "As ", "By ", "What ", "That ".
    docs_opening_with: [0, 0, 0, 0, 0],
    mod_files: 0,
};

/// A rule: these words are found in no Rust file, but under these paths.
struct Rule {
    words: &'static [&'static str],
    allowed: &'static [&'static str],
    why: &'static str,
}

const RULES: [Rule; 8] = [
    Rule {
        words: &["llama_cpp_sys_2", "llama_cpp_2"],
        allowed: &["src/llama/", "src/llama.rs", "sampler/src/"],
        why: "only llama/ and the C interface name llama.cpp's bindings",
    },
    Rule {
        words: &["candle_core", "candle_nn"],
        allowed: &[
            "src/train/",
            "src/train.rs",
            "tests/it/training",
            "benches/",
        ],
        why: "only train/ names candle",
    },
    Rule {
        words: &[
            "COPE_HOME",
            "etcetera",
            ".jsonl\")",
            "\"manifest.json\"",
            "\"models\"",
            "\"users\"",
        ],
        allowed: &[
            "src/home.rs",
            "src/home/",
            "src/cli.rs",
            "src/cli/",
            // The everyday questions and prompts are a part of the program, and no files of the data folder.
            "src/train/calibrate/everyday.rs",
            "src/train/replay.rs",
            // Names of fields in other programs' files.
            "src/profile/import/",
            // Names of folders of other programs.
            "src/bases/places.rs",
            "examples/",
            "tests/",
            "benches/",
        ],
        why: "only home.rs joins data paths",
    },
    Rule {
        words: &[
            "println!",
            "print!",
            "eprintln!",
            "eprint!",
            "say!(",
            "dbg!",
            "stdout()",
            "stderr()",
        ],
        allowed: &[
            "build.rs",
            "src/cli.rs",
            "src/cli/",
            "src/main.rs",
            "convert/src/cli.rs",
            "convert/src/cli/",
            "benches/",
            "examples/",
            "tests/",
        ],
        why: "only cli/ and main.rs print",
    },
    Rule {
        words: &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"],
        allowed: &[
            "src/llama/",
            "src/llama.rs",
            "src/train/ops/",
            "src/train/ops.rs",
            "sampler/src/",
            "convert/src/cli/cpu.rs",
        ],
        why: "unsafe lives in llama/, in train/ops, in the C interface and where the CPU is asked",
    },
    Rule {
        words: &["#[ignore"],
        allowed: &[],
        why: "a test that does not run is no test",
    },
    Rule {
        words: &["todo!(", "unimplemented!(", "FIXME", "XXX"],
        allowed: &[],
        why: "what is here is finished",
    },
    Rule {
        words: &["/home/", "/Users/", "/root/", "/tmp/", "/work/"],
        allowed: &[],
        why: "no machine's paths",
    },
];

#[test]
fn every_rust_file_keeps_the_rules() {
    let tree = Tree::under_test();
    let files: Vec<(&str, &str)> = tree.texts(".rs").collect();
    assert!(files.len() > 10, "the tree is not where it was");
    let broken = files
        .iter()
        .flat_map(|(name, text)| broken_rules(name, text));
    assert_none("rules that a Rust file breaks", broken.collect());
}

/// The rules that the file `name` breaks.
fn broken_rules(name: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    // The rules themselves, and the texts that they are tested on, name the words.
    let is_tidy = name.starts_with("tests/tidy/");
    let rules = RULES
        .iter()
        .filter(|rule| !is_tidy && !rule.allowed.iter().any(|place| name.starts_with(place)));
    for rule in rules {
        for word in rule.words.iter().filter(|word| text.contains(*word)) {
            broken.push(format!("{name}: {word}: {}", rule.why));
        }
    }
    if text.lines().count() > MAX_LINES {
        broken.push(format!("{name}: more than {MAX_LINES} lines"));
    }
    if !text.ends_with('\n') || text.lines().any(|line| line.ends_with([' ', '\t'])) {
        broken.push(format!(
            "{name}: white space at the end of a line, or no end of the last"
        ));
    }
    if name.starts_with("src/") && !name.ends_with("tests.rs") && !text.starts_with("//!") {
        broken.push(format!("{name}: does not begin with what it is for"));
    }
    broken
}

/// Prints the figures of the house, and holds the tree under test to their limits; another tree is only measured.
#[test]
fn house_figures() {
    let tree = Tree::under_test();
    let is_other = std::env::var_os("COPE_TREE").is_some();
    let with_places = is_other || std::env::var_os("COPE_LIST").is_some();
    for (folder, _) in source::CRATES {
        let files = source::product(&tree, folder).len();
        assert!(files > 0, "{folder}: no crate is here");
    }
    let figures = house::figures(&tree, &LIMITS);
    let (long, functions) = house::long_functions(&tree);
    println!("{}: {}", Tree::root().display(), house::size(&tree));
    for figure in &figures {
        let text = if with_places {
            figure.list()
        } else {
            figure.line()
        };
        println!("{text}");
    }
    let share = 100.0 * long.len() as f64 / functions as f64;
    println!("{share:6.2} % of {functions} functions are that long");
    for page in SHORT_PAGES {
        println!("{:6} lines of {page}", house::lines_of(&tree, page));
    }
    if with_places {
        println!(
            "Who uses whom at the root:\n  {}",
            modules::root_edges(&tree).join("\n  ")
        );
    }
    let broken = figures.iter().filter(|figure| !figure.is_kept());
    let broken: Vec<String> = broken.map(Figure::list).collect();
    assert!(is_other || broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_module_at_the_root_has_a_floor() {
    let homeless = modules::without_floor(&Tree::under_test());
    assert_none(
        "modules of src that modules::FLOORS does not name",
        homeless,
    );
}

#[test]
fn short_pages_are_short() {
    let tree = Tree::under_test();
    for page in SHORT_PAGES {
        let lines = house::lines_of(&tree, page);
        assert!(
            (1..=MAX_PAGE_LINES).contains(&lines),
            "{page} has {lines} lines, not 1 to {MAX_PAGE_LINES}"
        );
    }
}

#[test]
fn every_relative_link_of_a_page_leads_to_something() {
    let broken = pages::broken_links(&Tree::under_test());
    assert_none("links that lead nowhere", broken);
}

#[test]
fn every_file_of_the_architecture_is_there() {
    let missing = pages::missing_files(&Tree::under_test(), "ARCHITECTURE.md");
    assert_none(
        "files that ARCHITECTURE.md names and that are not there",
        missing,
    );
}

#[test]
fn every_command_of_a_page_names_what_is_there() {
    let broken = commands::broken_commands(&Tree::under_test());
    assert_none("commands that name what is not there", broken);
}

#[test]
fn every_result_file_says_how_it_was_made() {
    let unsaid = results::unsaid(&Tree::under_test());
    assert_none("results without what it takes to make them again", unsaid);
}

/// Fails with every place, one a line, if there is any.
fn assert_none(what: &str, places: Vec<String>) {
    let figure = Figure::new(what, Some(0), places);
    assert!(figure.is_kept(), "\n{}", figure.list());
}

#[test]
fn convert_knows_neither_llama_cpp_nor_candle() {
    let tree = Tree::under_test();
    let manifest = tree.expect("convert/Cargo.toml");
    let (_, dependencies) = manifest
        .split_once("[dependencies]")
        .expect("convert/Cargo.toml has dependencies");
    for word in ["llama", "candle", "cc =", "cmake"] {
        assert!(!dependencies.contains(word), "convert/Cargo.toml: {word}");
    }
}

#[test]
fn no_weights_are_in_the_tree() {
    let folders = [
        "src", "contrast", "convert", "sampler", "tests", "models", "benches", "docs", "examples",
    ];
    let sources = folders.map(|folder| Tree::root().join(folder));
    for path in sources.iter().flat_map(|folder| files(folder)) {
        let bytes = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) => panic!("{}: {error}", path.display()),
        };
        assert!(bytes < 1 << 20, "{} has {bytes} bytes", path.display());
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(listing) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = listing.map(|entry| match entry {
        Ok(entry) => entry.path(),
        Err(error) => panic!("{}: {error}", folder.display()),
    });
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
