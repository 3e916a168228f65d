//! Holds the tree to its own rules.

use std::fs;
use std::path::{Path, PathBuf};

const MAX_LINES: usize = 600;

/// A rule: these words are found in no Rust file, but under these paths.
struct Rule {
    words: &'static [&'static str],
    allowed: &'static [&'static str],
    why: &'static str,
}

const RULES: [Rule; 8] = [
    Rule {
        words: &["llama_cpp_sys_2", "llama_cpp_2"],
        allowed: &["src/llama/", "contrast/src/sampler.rs"],
        why: "only llama/ and the C interface name llama.cpp's bindings",
    },
    Rule {
        words: &["candle_core", "candle_nn"],
        allowed: &["src/train/", "tests/it/training", "benches/"],
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
            "dbg!",
            "stdout()",
            "stderr()",
        ],
        allowed: &[
            "src/cli.rs",
            "src/cli/",
            "src/main.rs",
            "convert/src/cli.rs",
            "convert/src/cli/",
            "benches/",
            "tests/",
        ],
        why: "only cli/ and main.rs print",
    },
    Rule {
        words: &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"],
        allowed: &["src/llama/", "src/train/ops/", "contrast/src/sampler.rs"],
        why: "unsafe lives in llama/, in train/ops and in the C interface",
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
    let root = root();
    let mut broken = Vec::new();
    for path in rust_files(&root) {
        let name = path
            .strip_prefix(&root)
            .unwrap()
            .to_string_lossy()
            .replace('\\', "/");
        if name == "tests/it/tidy.rs" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for rule in RULES
            .iter()
            .filter(|rule| !rule.allowed.iter().any(|place| name.starts_with(place)))
        {
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
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn convert_knows_neither_llama_cpp_nor_candle() {
    let manifest = fs::read_to_string(root().join("convert/Cargo.toml")).unwrap();
    for word in ["llama", "candle", "cc =", "cmake"] {
        let dependencies = manifest.split_once("[dependencies]").unwrap().1;
        assert!(!dependencies.contains(word), "convert/Cargo.toml: {word}");
    }
}

#[test]
fn the_list_of_bases_is_well_formed() {
    let bases = cope_llama::bases::all();
    assert!(!bases.is_empty());
    for base in bases {
        assert!(
            base.sha256.len() == 64 && base.sha256.chars().all(|c| c.is_ascii_hexdigit()),
            "{}",
            base.name
        );
        assert!(
            base.packages()
                .all(|package| package.contains("==") && !package.contains('{')),
            "{}",
            base.name
        );
        assert_eq!(
            Path::new(&base.file).extension(),
            Some("gguf".as_ref()),
            "{}",
            base.name
        );
        assert_eq!(
            Path::new(&base.file).components().count(),
            1,
            "{}",
            base.name
        );
    }
}

#[test]
fn no_weights_are_in_the_tree() {
    let sources = ["src", "contrast", "convert", "tests", "models", "benches"]
        .map(|folder| root().join(folder));
    for path in sources.iter().flat_map(|folder| files(folder)) {
        let bytes = fs::metadata(&path).unwrap().len();
        assert!(bytes < 1 << 20, "{} has {bytes} bytes", path.display());
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(root: &Path) -> Vec<PathBuf> {
    let folders =
        ["src", "contrast", "convert", "tests", "benches"].map(|folder| root.join(folder));
    let mut paths: Vec<PathBuf> = folders.iter().flat_map(|folder| files(folder)).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    assert!(paths.len() > 10, "the tree is not where it was");
    paths
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(listing) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = listing.map(|entry| entry.unwrap().path());
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
