//! Rust text taken apart: code, comments, tokens, and the tests that stand among the code.

use std::ops::Range;

use super::tree::Tree;

/// The folders of the product's crates, with the names under which they are used.
pub const CRATES: [(&str, &str); 4] = [
    ("src", "cope_llama"),
    ("contrast/src", "cope_contrast"),
    ("convert/src", "cope_convert"),
    ("sampler/src", "cope_sampler"),
];

/// A Rust file of a crate.
pub struct Source {
    /// Path from the root of the tree.
    pub name: String,
    /// The path of its module in its crate: empty for `lib.rs` and `main.rs`.
    pub module: Vec<String>,
    /// Without comments, strings, characters and lifetimes.
    pub code: String,
}

/// The sources of the crate in `folder`, tests and all.
pub fn sources(tree: &Tree, folder: &str) -> Vec<Source> {
    let start = format!("{folder}/");
    let files = tree.texts(".rs");
    files
        .filter_map(|(name, text)| {
            Some(Source {
                name: name.to_owned(),
                module: module_of(name.strip_prefix(&start)?),
                code: split(text).0,
            })
        })
        .collect()
}

/// The sources of the crate in `folder` without its tests: files named `tests.rs`, what stands under `#[cfg(test)]`, and
/// the files of modules that are declared there.
pub fn product(tree: &Tree, folder: &str) -> Vec<Source> {
    let mut kept = sources(tree, folder);
    let mut of_tests = Vec::new();
    for source in &mut kept {
        let (code, modules) = without_tests(&source.code);
        source.code = code;
        of_tests.extend(modules.into_iter().map(|name| {
            let mut path = source.module.clone();
            path.push(name);
            path
        }));
    }
    kept.retain(|source| {
        let module = &source.module;
        !module.iter().any(|part| part == "tests")
            && !of_tests.iter().any(|path| module.starts_with(path))
    });
    kept
}

/// The path of the module that the file `name`, from the crate's own folder, holds.
fn module_of(name: &str) -> Vec<String> {
    let name = name.strip_suffix(".rs").unwrap_or(name);
    let mut path: Vec<String> = name.split('/').map(str::to_owned).collect();
    if matches!(name, "lib" | "main") || name.ends_with("/mod") {
        path.pop();
    }
    path
}

#[derive(PartialEq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// `text` in two copies of its shape: the code and the comments, each with blanks for all else.
pub fn split(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let mut at = 0;
    while at < chars.len() {
        let (kind, length) = piece(&chars[at..]);
        for &char in &chars[at..at + length] {
            let blank = if char == '\n' { '\n' } else { ' ' };
            code.push(if kind == Kind::Code { char } else { blank });
            comments.push(if kind == Kind::Comment { char } else { blank });
        }
        at += length;
    }
    (code, comments)
}

/// The kind and the length of the piece that `rest` begins with.
fn piece(rest: &[char]) -> (Kind, usize) {
    if rest.starts_with(&['/', '/']) {
        let end = rest.iter().position(|&char| char == '\n');
        return (Kind::Comment, end.unwrap_or(rest.len()));
    }
    if rest.starts_with(&['/', '*']) {
        return (Kind::Comment, block_comment(rest));
    }
    if let Some(length) = literal(rest) {
        return (Kind::Literal, length);
    }
    let word = rest.iter().take_while(|char| is_of_word(**char)).count();
    (Kind::Code, word.max(1))
}

/// The length of the comment, with comments in it, that `rest` begins with.
fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(&['/', '*']) {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(&['*', '/']) {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of the string, character or lifetime that `rest` begins with.
fn literal(rest: &[char]) -> Option<usize> {
    let mut at = usize::from(matches!(rest[0], 'b' | 'c'));
    if rest.get(at) == Some(&'\'') {
        return Some(at + quoted_char(&rest[at..]));
    }
    let is_raw = rest.get(at) == Some(&'r');
    at += usize::from(is_raw);
    let hashes = rest[at..].iter().take_while(|char| **char == '#').count();
    let hashes = if is_raw { hashes } else { 0 };
    at += hashes;
    if rest.get(at) != Some(&'"') {
        return None;
    }
    at += 1;
    while at < rest.len() {
        let after = &rest[at + 1..];
        match rest[at] {
            '\\' if !is_raw => at += 1,
            '"' if after.len() >= hashes && after[..hashes].iter().all(|&char| char == '#') => {
                return Some(at + 1 + hashes);
            }
            _ => {}
        }
        at += 1;
    }
    Some(rest.len())
}

/// The length of the character or lifetime that `rest`, which begins with a quote, begins with.
fn quoted_char(rest: &[char]) -> usize {
    if rest.get(1) == Some(&'\\') {
        let end = rest.iter().skip(3).position(|&char| char == '\'');
        return end.map_or(rest.len(), |end| end + 4);
    }
    if rest.get(2) == Some(&'\'') {
        return 3;
    }
    let name = rest[1..].iter().take_while(|char| is_of_word(**char));
    1 + name.count()
}

fn is_of_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// A word, `::`, or one other character that is no space.
#[derive(Clone, Copy)]
pub struct Token<'a> {
    pub text: &'a str,
    /// From 1.
    pub line: usize,
    /// In bytes from the start of the code.
    pub start: usize,
}

impl Token<'_> {
    pub fn is_word(&self) -> bool {
        self.text.starts_with(is_of_word)
    }
}

/// The tokens of code from which comments and strings have been taken.
pub fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut start, mut line) = (0, 1);
    while let Some(char) = code[start..].chars().next() {
        let rest = &code[start..];
        let length = if is_of_word(char) {
            rest.find(|char| !is_of_word(char)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            char.len_utf8()
        };
        if char == '\n' {
            line += 1;
        } else if !char.is_whitespace() {
            let text = &rest[..length];
            tokens.push(Token { text, line, start });
        }
        start += length;
    }
    tokens
}

/// Whether the texts of `tokens` begin with `texts`.
pub fn begins(tokens: &[Token<'_>], texts: &[&str]) -> bool {
    tokens.len() >= texts.len()
        && tokens
            .iter()
            .zip(texts)
            .all(|(token, text)| token.text == *text)
}

/// `code` with blanks for every item under `#[cfg(test)]`, and the names of the modules declared by such items.
pub fn without_tests(code: &str) -> (String, Vec<String>) {
    let tokens = tokens(code);
    let mut blanks: Vec<Range<usize>> = Vec::new();
    let mut modules = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        if !begins(rest, &["#", "[", "cfg", "(", "test", ")", "]"])
            && !begins(rest, &["#", "[", "cfg", "(", "all", "(", "test", ","])
        {
            at += 1;
            continue;
        }
        let end = at + item_length(rest);
        let last = tokens[end - 1];
        blanks.push(tokens[at].start..last.start + last.text.len());
        let item = &tokens[at..end];
        let declared = item.windows(3).filter(|three| begins(three, &["mod"]));
        modules.extend(
            declared
                .filter(|three| three[2].text == ";")
                .map(|three| three[1].text.to_owned()),
        );
        at = end;
    }
    let is_blank = |at| blanks.iter().any(|blank| blank.contains(&at));
    let kept = code.char_indices().map(|(at, char)| match char {
        char if char != '\n' && is_blank(at) => ' ',
        char => char,
    });
    (kept.collect(), modules)
}

/// How many tokens the item has that `tokens`, which begin with an attribute, begin with.
fn item_length(tokens: &[Token<'_>]) -> usize {
    let mut at = 0;
    while begins(&tokens[at..], &["#"]) {
        at += 1 + group_length(&tokens[at + 1..]);
    }
    if begins(&tokens[at..], &["pub"]) {
        at += 1;
        if begins(&tokens[at..], &["("]) {
            at += group_length(&tokens[at..]);
        }
    }
    let rest = &tokens[at..];
    let is_function = begins(rest, &["const", "fn"]) || begins(rest, &["const", "unsafe", "fn"]);
    let first = rest.first().map_or("", |token| token.text);
    let ends_with_brace = is_function
        || matches!(
            first,
            "mod"
                | "fn"
                | "struct"
                | "enum"
                | "trait"
                | "impl"
                | "unsafe"
                | "async"
                | "macro_rules"
        );
    let ends_with_semicolon =
        !ends_with_brace && matches!(first, "use" | "const" | "static" | "type" | "let");
    while at < tokens.len() {
        match tokens[at].text {
            ";" => return at + 1,
            // A field, a variant or an arm.
            "," if !ends_with_brace && !ends_with_semicolon => return at + 1,
            "}" | ")" | "]" => return at,
            "{" if !ends_with_semicolon => return at + group_length(&tokens[at..]),
            "{" | "(" | "[" => at += group_length(&tokens[at..]),
            _ => at += 1,
        }
    }
    at
}

/// How many tokens stand from the bracket that `tokens` begin with to the one that closes it.
pub fn group_length(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}
