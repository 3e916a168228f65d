//! The people of a file, with the number of their texts, as errors name them.

use std::fmt;

/// How many people a message lists, and how many characters of each name.
const MAX_LISTED: usize = 12;
const MAX_NAME: usize = 60;

/// The names of people as a file has them, each with the number of their texts, the most first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextCounts(pub Vec<(String, usize)>);

impl fmt::Display for TextCounts {
    /// The first ones, with shortened names: `Nora Lind (7), Tom Berg (5) and 3 more`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = self.0.iter().take(MAX_LISTED);
        let listed: Vec<_> = listed
            .map(|(name, n)| format!("{} ({n})", shown(name)))
            .collect();
        f.write_str(&listed.join(", "))?;
        match self.0.len().saturating_sub(MAX_LISTED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A name as messages show it: shortened, and without what a terminal would obey.
pub(crate) fn shown(name: &str) -> String {
    let is_shown = |it: &char| !it.is_control() && !is_mark(*it);
    let name: String = name.chars().filter(is_shown).collect();
    let name = name.trim();
    match name.char_indices().nth(MAX_NAME) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// Whether a character has no width and only says in which direction a text runs.
pub(crate) fn is_mark(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shortens_names_and_cannot_write_to_the_terminal() {
        let count = |name: &str| (name.to_owned(), 2);
        let mut counts = TextCounts(vec![count("a\u{1b}[2J\u{202e}"), count(&"b".repeat(61))]);
        let long = format!("{}…", "b".repeat(60));
        assert_eq!(counts.to_string(), format!("a[2J (2), {long} (2)"));
        counts
            .0
            .extend((0..21).map(|number| count(&format!("n{number:02}"))));
        assert!(counts.to_string().ends_with("n09 (2) and 11 more"));
    }
}
