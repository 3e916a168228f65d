//! Types and functions that Rust text declares, and the openings of its doc comments.

use super::source::{Token, begins, group_length, tokens};

/// A name that a module declares.
pub struct Declaration {
    /// `struct`, `enum`, `trait`, `type`, `fn`, `const`, `static` or `mod`.
    pub word: String,
    pub name: String,
    /// Declared with `pub` or `pub(…)`.
    pub is_public: bool,
    /// The modules within the file that it stands in.
    pub inside: Vec<String>,
    pub line: usize,
}

impl Declaration {
    pub fn is_type(&self) -> bool {
        matches!(self.word.as_str(), "struct" | "enum" | "trait" | "type")
    }
}

/// The items that `code` declares in its file's own module and in inline modules; not those in functions and `impl`s.
pub fn declarations(code: &str) -> Vec<Declaration> {
    const WORDS: [&str; 8] = [
        "struct", "enum", "trait", "type", "fn", "const", "static", "mod",
    ];
    let tokens = tokens(code);
    let mut inside = Vec::new();
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let token = tokens[at];
        let name = tokens.get(at + 1).filter(|next| next.is_word());
        match (token.text, name) {
            ("mod", Some(name)) if begins(&tokens[at + 2..], &["{"]) => {
                inside.push(name.text.to_owned());
                at += 3;
            }
            (word, Some(name)) if WORDS.contains(&word) && name.text != "fn" => {
                found.push(Declaration {
                    word: word.to_owned(),
                    name: name.text.to_owned(),
                    is_public: is_public(&tokens[..at]),
                    inside: inside.clone(),
                    line: token.line,
                });
                at += 2;
            }
            ("{" | "(" | "[", _) => at += group_length(&tokens[at..]),
            ("}", _) => {
                inside.pop();
                at += 1;
            }
            _ => at += 1,
        }
    }
    found
}

/// Whether the words before an item end with `pub` or `pub(…)`.
fn is_public(before: &[Token<'_>]) -> bool {
    let words = before.iter().rev().map(|token| token.text);
    let mut words = words.skip_while(|word| matches!(*word, "unsafe" | "const" | "async"));
    match words.next() {
        Some("pub") => true,
        Some(")") => {
            // `pub(super)`, `pub(in crate::llama)`: a few words and `::` between the brackets.
            let mut words = words.skip_while(|word| *word != "(");
            words.next();
            words.next() == Some("pub")
        }
        _ => false,
    }
}

pub struct Function {
    pub name: String,
    pub line: usize,
    /// From the line of `fn` to that of its last brace.
    pub lines: usize,
}

/// Every function of `code` that has a body, also in others and in `impl`s.
pub fn functions(code: &str) -> Vec<Function> {
    let tokens = tokens(code);
    let starts = tokens.windows(2).enumerate();
    let named = starts.filter(|(_, two)| two[0].text == "fn" && two[1].is_word());
    named
        .filter_map(|(at, two)| {
            let body = body_at(&tokens, at)?;
            let end = tokens[body + group_length(&tokens[body..]) - 1];
            Some(Function {
                name: two[1].text.to_owned(),
                line: two[0].line,
                lines: end.line - two[0].line + 1,
            })
        })
        .collect()
}

/// Where the body of the function at `at` begins; `None` if it has none.
fn body_at(tokens: &[Token<'_>], mut at: usize) -> Option<usize> {
    loop {
        match tokens.get(at)?.text {
            "{" => return Some(at),
            ";" | "}" => return None,
            "(" | "[" => at += group_length(&tokens[at..]),
            _ => at += 1,
        }
    }
}

/// Openings of doc comments that leave the reader to guess the noun.
pub const OPENINGS: [&str; 5] = ["Of ", "As ", "By ", "What ", "That "];

/// The lines at which a paragraph of a doc comment begins with one of [`OPENINGS`], and their words.
pub fn bad_openings(comments: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let (mut begins, mut in_code) = (true, false);
    for (index, line) in comments.lines().enumerate() {
        let line = line.trim();
        let of_doc = line
            .strip_prefix("//!")
            .or_else(|| line.strip_prefix("///"))
            .filter(|words| !words.starts_with('/'));
        let Some(words) = of_doc.map(str::trim) else {
            (begins, in_code) = (true, false);
            continue;
        };
        if words.starts_with("```") {
            in_code = !in_code;
        }
        if begins && !in_code && OPENINGS.iter().any(|opening| words.starts_with(opening)) {
            found.push((index + 1, words));
        }
        begins = words.is_empty();
    }
    found
}
