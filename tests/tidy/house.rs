//! The figures of the house: how often a tree breaks what it holds itself to, and where.

use std::collections::BTreeMap;

use super::items::{OPENINGS, bad_openings, declarations, functions};
use super::modules::{arrows_upward, circles};
use super::source::{CRATES, product, sources, split};
use super::tree::Tree;

/// Types that clap's derived programs name alike everywhere.
const OF_CLAP: [&str; 2] = ["Args", "Command"];

/// Files that every crate or folder may have.
const COMMON_FILES: [&str; 4] = ["lib", "main", "tests", "cli"];

/// A function longer than this does more than one thing.
pub const LONG_FUNCTION: usize = 60;

/// The places of one kind of fault. `limit` is the most that a tree may have; without one they are only reported.
pub struct Figure {
    pub title: String,
    pub limit: Option<usize>,
    pub places: Vec<String>,
}

impl Figure {
    pub fn new(title: &str, limit: Option<usize>, places: Vec<String>) -> Self {
        Self {
            title: title.to_owned(),
            limit,
            places,
        }
    }

    pub fn is_kept(&self) -> bool {
        self.limit.is_none_or(|limit| self.places.len() <= limit)
    }

    /// The figure in one line.
    pub fn line(&self) -> String {
        let limit = self.limit.map(|limit| format!(" (at most {limit})"));
        format!(
            "{:6} {}{}",
            self.places.len(),
            self.title,
            limit.unwrap_or_default()
        )
    }

    /// The figure and every place, one a line.
    pub fn list(&self) -> String {
        let places = self
            .places
            .iter()
            .map(|place| format!("\n         {place}"));
        self.line() + &places.collect::<String>()
    }
}

/// The names of types that a crate declares more than once, each with its places; with `public` of the public ones alone.
pub fn types_named_twice(tree: &Tree, public: bool) -> Vec<String> {
    let mut repeated = Vec::new();
    for (folder, _) in CRATES {
        // For each name the modules that declare it. One module declares a name twice only for two platforms.
        let mut places: BTreeMap<String, BTreeMap<Vec<String>, String>> = BTreeMap::new();
        for source in product(tree, folder) {
            for found in declarations(&source.code) {
                if !found.is_type() || public && !found.is_public || OF_CLAP.contains(&&*found.name)
                {
                    continue;
                }
                let module = [source.module.as_slice(), &found.inside].concat();
                let place = format!("{}:{}", source.name, found.line);
                places.entry(found.name).or_default().insert(module, place);
            }
        }
        places.retain(|_, places| places.len() > 1);
        repeated.extend(places.into_iter().map(|(name, places)| {
            let places: Vec<String> = places.into_values().collect();
            format!("{folder} {name}: {}", places.join(", "))
        }));
    }
    repeated
}

/// The names that more than one Rust file of the product has. A `mod.rs` is named as its folder is.
pub fn files_named_twice(tree: &Tree) -> Vec<String> {
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, _) in tree.texts(".rs") {
        if !CRATES.iter().any(|(folder, _)| is_in(name, folder)) {
            continue;
        }
        let path = name.strip_suffix("/mod.rs").or(name.strip_suffix(".rs"));
        let base = path.and_then(|path| path.rsplit('/').next());
        let base = base.unwrap_or(name);
        if !COMMON_FILES.contains(&base) {
            places.entry(base).or_default().push(name);
        }
    }
    places.retain(|_, places| places.len() > 1);
    places
        .into_iter()
        .map(|(base, places)| format!("{base}: {}", places.join(", ")))
        .collect()
}

fn is_in(name: &str, folder: &str) -> bool {
    name.strip_prefix(folder)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// The circles between modules in all crates, each with who uses whom in it.
pub fn module_circles(tree: &Tree) -> Vec<String> {
    let circles = CRATES.iter().flat_map(|(folder, _)| circles(tree, folder));
    circles
        .map(|circle| {
            format!(
                "{}: {}\n             {}",
                circle.folder,
                circle.members.join(", "),
                circle.edges.join("\n             ")
            )
        })
        .collect()
}

/// The functions longer than [`LONG_FUNCTION`] lines, and how many functions there are.
pub fn long_functions(tree: &Tree) -> (Vec<String>, usize) {
    let mut total = 0;
    let mut long = Vec::new();
    for (folder, _) in CRATES {
        for source in sources(tree, folder) {
            for function in functions(&source.code) {
                total += 1;
                if function.lines > LONG_FUNCTION {
                    long.push(format!(
                        "{}:{} {}: {} lines",
                        source.name, function.line, function.name, function.lines
                    ));
                }
            }
        }
    }
    (long, total)
}

/// The paragraphs of doc comments that open with `opening`, in every Rust file.
pub fn docs_opening_with(tree: &Tree, opening: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in tree.texts(".rs") {
        let (_, comments) = split(text);
        let places = bad_openings(&comments).into_iter();
        let places = places.filter(|(_, words)| words.starts_with(opening));
        found.extend(places.map(|(line, words)| format!("{name}:{line} {words}")));
    }
    found
}

/// The files in the module style that the house does not have.
pub fn mod_files(tree: &Tree) -> Vec<String> {
    let names = tree.names().filter(|name| name.ends_with("/mod.rs"));
    names.map(str::to_owned).collect()
}

/// How many lines a page has; 0 if there is no such page.
pub fn lines_of(tree: &Tree, page: &str) -> usize {
    tree.text(page).map_or(0, |text| text.lines().count())
}

/// How many Rust files, and how many lines of them, the tree has; for the head of the list.
pub fn size(tree: &Tree) -> String {
    let texts: Vec<&str> = tree.texts(".rs").map(|(_, text)| text).collect();
    let lines: usize = texts.iter().map(|text| text.lines().count()).sum();
    format!("{} Rust files with {lines} lines", texts.len())
}

/// All figures of the tree under the limits that it is held to.
pub fn figures(tree: &Tree, limits: &Limits) -> Vec<Figure> {
    let (long, _) = long_functions(tree);
    let mut figures = vec![
        Figure::new(
            "public type names declared more than once in a crate",
            Some(limits.public_types_named_twice),
            types_named_twice(tree, true),
        ),
        Figure::new(
            "type names declared more than once in a crate, private ones too",
            limits.types_named_twice,
            types_named_twice(tree, false),
        ),
        Figure::new(
            "names that more than one Rust file has",
            limits.files_named_twice,
            files_named_twice(tree),
        ),
        Figure::new(
            "circles between the modules of a folder",
            Some(limits.circles),
            module_circles(tree),
        ),
        Figure::new(
            "uses of a module on a floor above",
            Some(limits.arrows_upward),
            arrows_upward(tree),
        ),
        Figure::new("functions over 60 lines", Some(limits.long_functions), long),
        Figure::new(
            "files named mod.rs",
            Some(limits.mod_files),
            mod_files(tree),
        ),
    ];
    let openings = OPENINGS.into_iter().zip(limits.docs_opening_with);
    figures.extend(openings.map(|(opening, limit)| {
        let title = format!("paragraphs of doc comments that open with \"{opening}\"");
        Figure::new(&title, Some(limit), docs_opening_with(tree, opening))
    }));
    figures
}

/// The most of each fault that a tree may have; `None` where it is only reported.
pub struct Limits {
    pub public_types_named_twice: usize,
    pub types_named_twice: Option<usize>,
    pub files_named_twice: Option<usize>,
    pub circles: usize,
    pub arrows_upward: usize,
    pub long_functions: usize,
    /// For each of [`OPENINGS`], how many paragraphs of doc comments may open with it.
    pub docs_opening_with: [usize; OPENINGS.len()],
    pub mod_files: usize,
}
