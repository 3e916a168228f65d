//! The files of a tree, in memory: of the checkout under test, of another one, or of a test's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that are no part of a tree.
const LEFT_OUT: [&str; 3] = ["target", ".git", "shared"];

/// Endings of the files whose text is looked at.
const TEXTS: [&str; 5] = [".rs", ".md", ".toml", ".trycmd", "Makefile"];

/// Every file by its path from the root, with `/` between folders; with its text where that is looked at.
pub struct Tree {
    files: BTreeMap<String, Option<String>>,
}

impl Tree {
    /// The tree that `COPE_TREE` names, by default the one that this test was built from.
    pub fn under_test() -> Self {
        Self::open(&Self::root())
    }

    pub fn root() -> PathBuf {
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        std::env::var_os("COPE_TREE").map_or_else(|| own.into(), Into::into)
    }

    pub fn open(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        read_folder(root, "", &mut files);
        assert!(files.len() > 10, "{}: no tree is here", root.display());
        Self { files }
    }

    /// A tree for a test, of names and texts.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter();
        Self {
            files: files
                .map(|(name, text)| ((*name).to_owned(), Some((*text).to_owned())))
                .collect(),
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The names and texts of the files whose names end with `ending`.
    pub fn texts<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let with_text = self
            .files
            .iter()
            .filter_map(|(name, text)| Some((name.as_str(), text.as_deref()?)));
        with_text.filter(move |(name, _)| name.ends_with(ending))
    }

    /// The text of the file `name`, if it is there.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.files.get(name)?.as_deref()
    }

    /// The text of a file without which there is nothing to check.
    pub fn expect(&self, name: &str) -> &str {
        self.text(name)
            .unwrap_or_else(|| panic!("{name}: the tree has no such text"))
    }

    pub fn has_file(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    pub fn has_folder(&self, name: &str) -> bool {
        let start = format!("{name}/");
        name.is_empty() || self.names().any(|file| file.starts_with(&start))
    }
}

/// Joins `path` to `folder` and takes `.` and `..` out; `None` when that leads out of the tree.
pub fn join(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Whether the file `name` is of the kind that ends with `.` and `ending`.
pub fn is_of_kind(name: &str, ending: &str) -> bool {
    Path::new(name).extension() == Some(ending.as_ref())
}

/// The folder of the file `name`; empty for the root.
pub fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn read_folder(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Option<String>>) {
    let listing = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: cannot be listed: {error}", folder.display()));
    for entry in listing {
        let entry = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let path = entry.path();
        let base = entry.file_name().to_string_lossy().into_owned();
        if LEFT_OUT.contains(&base.as_str()) {
            continue;
        }
        let name = format!("{prefix}{base}");
        // A link to a folder is a file here: it is not followed.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            read_folder(&path, &format!("{name}/"), files);
        } else {
            let text = TEXTS.iter().any(|ending| name.ends_with(ending)).then(|| {
                fs::read_to_string(&path).unwrap_or_else(|error| {
                    panic!("{}: cannot be read as text: {error}", path.display())
                })
            });
            files.insert(name, text);
        }
    }
}
