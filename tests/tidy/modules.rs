//! Which modules use which: circles between the modules of a folder, and arrows from a floor to one above.

use std::collections::{BTreeMap, BTreeSet};

use super::items::declarations;
use super::source::{CRATES, Source, Token, begins, product, tokens};
use super::tree::Tree;

/// A path of names, from the root of its crate or from a module.
type Path = Vec<String>;

/// A path of `use` or of code, as it is written.
struct Reference {
    path: Path,
    file: String,
    line: usize,
}

#[derive(Default)]
struct Module {
    children: BTreeSet<String>,
    declared: BTreeSet<String>,
    /// Names that a `use` brings in, and what they stand for.
    aliases: BTreeMap<String, Path>,
    /// Modules whose every name a `use` brings in.
    globs: Vec<Path>,
    references: Vec<Reference>,
}

/// The modules of one crate by their paths.
struct Crate {
    name: &'static str,
    modules: BTreeMap<Path, Module>,
}

/// For a folder, which of its modules use which, with one place for each.
type Edges = BTreeMap<(String, String), String>;

/// For each folder of the crate in `folder`, by its path, who uses whom.
pub fn edges(tree: &Tree, folder: &str) -> BTreeMap<Vec<String>, Edges> {
    let name = CRATES.iter().find(|(of, _)| *of == folder);
    let name = name.unwrap_or_else(|| panic!("{folder}: no crate is here"));
    let read = Crate::read(&product(tree, folder), name.1);
    let mut edges: BTreeMap<Path, Edges> = BTreeMap::new();
    for (user, module) in &read.modules {
        for reference in &module.references {
            for used in read.used_by(user, &reference.path, 0) {
                let common = user.iter().zip(&used).take_while(|(a, b)| a == b).count();
                let (Some(from), Some(to)) = (user.get(common), used.get(common)) else {
                    // One of the two stands within the other.
                    continue;
                };
                let of_folder = edges.entry(user[..common].to_vec()).or_default();
                of_folder
                    .entry((from.clone(), to.clone()))
                    .or_insert_with(|| format!("{}:{}", reference.file, reference.line));
            }
        }
    }
    edges
}

impl Crate {
    fn read(sources: &[Source], name: &'static str) -> Self {
        let modules = BTreeMap::from([(Path::new(), Module::default())]);
        let mut read = Self { name, modules };
        for source in sources {
            read.add_module(&source.module);
            for declaration in declarations(&source.code) {
                let module = [source.module.as_slice(), &declaration.inside].concat();
                let module = read.add_module(&module);
                if declaration.word != "mod" {
                    module.declared.insert(declaration.name);
                }
            }
            read.add_references(source);
        }
        read
    }

    fn add_module(&mut self, path: &[String]) -> &mut Module {
        for length in 0..path.len() {
            let parent = self.modules.entry(path[..length].to_vec()).or_default();
            parent.children.insert(path[length].clone());
        }
        self.modules.entry(path.to_vec()).or_default()
    }

    fn add_references(&mut self, source: &Source) {
        let tokens = tokens(&source.code);
        let mut module = source.module.clone();
        // For each open brace, whether it is a module's.
        let mut braces = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let token = tokens[at];
            let rest = &tokens[at..];
            let follows = at > 0 && matches!(tokens[at - 1].text, "::" | ".");
            if token.text == "mod" && rest.len() > 2 && rest[2].text == "{" {
                module.push(rest[1].text.to_owned());
                braces.push(true);
                at += 3;
            } else if token.text == "use" && !begins(rest, &["use", "<"]) {
                at += 1 + self.add_use(&module, &source.name, &rest[1..]);
            } else if token.is_word() && !follows {
                let path = path_of(rest);
                at += 2 * path.len() - 1;
                self.add_reference(&module, path, &source.name, token.line);
            } else {
                match token.text {
                    "{" => braces.push(false),
                    "}" if braces.pop() == Some(true) => {
                        module.pop();
                    }
                    _ => {}
                }
                at += 1;
            }
        }
    }

    fn add_reference(&mut self, module: &[String], path: Path, file: &str, line: usize) {
        let file = file.to_owned();
        let references = &mut self.add_module(module).references;
        references.push(Reference { path, file, line });
    }

    /// Adds what the `use` brings into `module` whose tree `tokens` begin with; returns how many tokens it has.
    fn add_use(&mut self, module: &[String], file: &str, tokens: &[Token<'_>]) -> usize {
        let end = tokens.iter().position(|token| token.text == ";");
        let tokens = &tokens[..end.unwrap_or(tokens.len())];
        let mut leaves = Vec::new();
        use_tree(tokens, &[], &mut leaves);
        for leaf in leaves {
            let into = self.add_module(module);
            match leaf.name.as_deref() {
                Some("*") => into.globs.push(leaf.path.clone()),
                Some(name) => {
                    into.aliases.insert(name.to_owned(), leaf.path.clone());
                }
                None => {}
            }
            self.add_reference(module, leaf.path, file, leaf.line);
        }
        tokens.len()
    }

    /// The modules that `path`, written in the module `user`, names: where what it names is declared, and any that hand
    /// the name on. Empty if it leads out of the crate.
    fn used_by(&self, user: &[String], path: &[String], depth: usize) -> Vec<Path> {
        let Some(first) = path.first().map(String::as_str) else {
            return Vec::new();
        };
        if first == "crate" || first == self.name {
            return self.follow(Path::new(), &path[1..], depth);
        }
        let is_relative = matches!(first, "self" | "super");
        if is_relative || self.knows(user, first, depth) {
            self.follow(user.to_vec(), path, depth)
        } else {
            Vec::new()
        }
    }

    /// Whether `name` means something in the module `at`.
    fn knows(&self, at: &[String], name: &str, depth: usize) -> bool {
        self.modules.get(at).is_some_and(|module| {
            module.children.contains(name)
                || module.declared.contains(name)
                || module.aliases.contains_key(name)
                || self.glob_with(at, module, name, depth).is_some()
        })
    }

    /// The module that the module `at` has every name of, and that knows `name`.
    fn glob_with(&self, at: &[String], module: &Module, name: &str, depth: usize) -> Option<Path> {
        if depth > MAX_DEPTH {
            return None;
        }
        let globs = module.globs.iter();
        let mut modules = globs.filter_map(|path| self.used_by(at, path, depth + 1).pop());
        modules.find(|path| path != at && self.knows(path, name, depth + 1))
    }

    fn follow(&self, mut at: Path, path: &[String], depth: usize) -> Vec<Path> {
        for (index, name) in path.iter().enumerate() {
            let Some(module) = self.modules.get(&at) else {
                break;
            };
            if name == "super" {
                at.pop();
            } else if module.children.contains(name) {
                at.push(name.clone());
            } else if depth > MAX_DEPTH || module.declared.contains(name) {
                break;
            } else if let Some(alias) = module.aliases.get(name) {
                let whole = [alias.as_slice(), &path[index + 1..]].concat();
                let mut used = self.used_by(&at, &whole, depth + 1);
                used.insert(0, at);
                return used;
            } else if let Some(glob) = self.glob_with(&at, module, name, depth) {
                let mut used = self.follow(glob, &path[index..], depth + 1);
                used.insert(0, at);
                return used;
            } else if name != "self" {
                break;
            }
        }
        vec![at]
    }
}

/// How often a name may be handed on: more would be a name that stands for itself.
const MAX_DEPTH: usize = 8;

/// The words joined by `::` that `tokens` begin with.
fn path_of(tokens: &[Token<'_>]) -> Path {
    let mut path = vec![tokens[0].text.to_owned()];
    let pairs = tokens[1..].chunks_exact(2);
    let pairs = pairs.take_while(|pair| pair[0].text == "::" && pair[1].is_word());
    path.extend(pairs.map(|pair| pair[1].text.to_owned()));
    path
}

/// A path that a `use` brings in, and the name that it has there: `*` for every name of it, none for `_`.
struct Leaf {
    path: Path,
    name: Option<String>,
    line: usize,
}

/// Adds the leaves of the tree that `tokens` are, under `prefix`.
fn use_tree(tokens: &[Token<'_>], prefix: &[String], leaves: &mut Vec<Leaf>) {
    let Some(first) = tokens.first() else {
        return;
    };
    let mut path = prefix.to_vec();
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "::" => {}
            "{" => {
                let inner = &tokens[at + 1..tokens.len() - 1];
                for branch in branches(inner) {
                    use_tree(branch, &path, leaves);
                }
                return;
            }
            "*" => {
                let name = Some("*".to_owned());
                let line = token.line;
                leaves.push(Leaf { path, name, line });
                return;
            }
            "as" => break,
            "self" if !path.is_empty() => {}
            word => path.push(word.to_owned()),
        }
    }
    let name = match tokens {
        [.., word, name] if word.text == "as" => Some(name.text.to_owned()),
        _ => path.last().cloned(),
    };
    let name = name.filter(|name| name != "_");
    let line = first.line;
    leaves.push(Leaf { path, name, line });
}

/// `tokens` split at the commas that stand in no brace.
fn branches<'a, 'b>(tokens: &'a [Token<'b>]) -> Vec<&'a [Token<'b>]> {
    let mut depth = 0_usize;
    let between = tokens.split(|token| {
        match token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        depth == 0 && token.text == ","
    });
    between.collect()
}

/// Modules of one folder each of which uses all others, at least by way of others.
pub struct Circle {
    pub folder: String,
    pub members: Vec<String>,
    /// Who uses whom among them, and where.
    pub edges: Vec<String>,
}

/// The circles between modules of the crate in `folder`.
pub fn circles(tree: &Tree, folder: &str) -> Vec<Circle> {
    let mut circles = Vec::new();
    for (path, edges) in edges(tree, folder) {
        let mut names: BTreeSet<&String> = edges.keys().map(|(from, _)| from).collect();
        while let Some(name) = names.pop_first() {
            let reached = reachable(&edges, name);
            let back = |other: &&&String| reachable(&edges, other).contains(name);
            let mut members: Vec<String> =
                reached.iter().filter(back).map(|&n| n.clone()).collect();
            members.retain(|other| other != name);
            if members.is_empty() {
                continue;
            }
            members.insert(0, name.clone());
            names.retain(|name| !members.contains(name));
            let among = edges
                .iter()
                .filter(|((from, to), _)| members.contains(from) && members.contains(to));
            circles.push(Circle {
                folder: [&[folder.to_owned()], path.as_slice()].concat().join("/"),
                edges: among
                    .map(|((from, to), place)| format!("{from} → {to} ({place})"))
                    .collect(),
                members,
            });
        }
    }
    circles
}

/// The modules that `name` uses, themselves or by way of others.
fn reachable<'a>(edges: &'a Edges, name: &str) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![name];
    while let Some(name) = next.pop() {
        for (_, to) in edges.keys().filter(|(from, _)| from == name) {
            if reached.insert(to) {
                next.push(to);
            }
        }
    }
    reached
}

/// The modules of the crate's root from the lowest floor to the highest: none uses one of a floor above its own.
pub const FLOORS: &[&[&str]] = &[
    &["digest", "error", "estimate", "rouge"],
    &["message", "thought"],
    &["profile"],
    &["home", "retrieval"],
    &["llama", "bases"],
    &["prompt"],
    &["train", "decode"],
    &["voice", "bundle"],
    &["eval", "serve"],
    &["cli"],
];

/// Who at the root of the crate in `src` uses a module of a floor above, and where.
pub fn arrows_upward(tree: &Tree) -> Vec<String> {
    let edges = edges(tree, "src").remove(&Path::new()).unwrap_or_default();
    edges
        .iter()
        .filter(|((from, to), _)| floor(from) < floor(to) && floor(from).is_some())
        .map(|((from, to), place)| format!("{from} → {to} ({place})"))
        .collect()
}

/// The modules at the root of the crate in `src` that have no floor.
pub fn without_floor(tree: &Tree) -> Vec<String> {
    let sources = product(tree, "src");
    let names: BTreeSet<&String> = sources.iter().filter_map(|s| s.module.first()).collect();
    let homeless = names.into_iter().filter(|name| floor(name).is_none());
    homeless.cloned().collect()
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&name))
}

/// Who uses whom at the root of the crate in `src`, one module a line.
pub fn root_edges(tree: &Tree) -> Vec<String> {
    let edges = edges(tree, "src").remove(&Path::new()).unwrap_or_default();
    let mut uses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (from, to) in edges.into_keys() {
        uses.entry(from).or_default().push(to);
    }
    uses.iter()
        .map(|(from, to)| format!("{from} → {}", to.join(" ")))
        .collect()
}
