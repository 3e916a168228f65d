//! The table of rules: patterns of secrets, with the checks that a match must also pass.

use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::{Captures, Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use super::phrases;
use super::table::{SecretRule, rows};

const RULES: &str = include_str!("rules.tsv");

/// All rules; of two matches of one text the earlier rule names the kind.
pub(super) static ALL: LazyLock<SecretRules> = LazyLock::new(SecretRules::new);

/// All rules, ready to be searched for.
pub(super) struct SecretRules {
    all: Vec<SecretRule>,
    patterns: Vec<Regex>,
    /// Tells in one pass which patterns a text has at all.
    set: RegexSet,
}

impl SecretRules {
    fn new() -> Self {
        let forms = rows::<5>(RULES)
            .map(|[kind, check, pattern, ..]| SecretRule::new(kind, check, pattern));
        let rules: Vec<_> = forms.chain(phrases::rules()).collect();
        let sources = || rules.iter().map(|rule| rule.pattern.as_str());
        let compile = |source| RegexBuilder::new(source).unicode(false).build();
        let mut set = RegexSetBuilder::new(sources());
        // The classes and boundaries of the forms are those of ASCII, since tokens are ASCII, and words of scripts without
        // blanks may stand right beside them.
        let set = set
            .unicode(false)
            .size_limit(64 << 20)
            .dfa_size_limit(16 << 20);
        Self {
            patterns: sources()
                .map(|source| compile(source).expect("a pattern of the table compiles"))
                .collect(),
            set: set.build().expect("the patterns compile together"),
            all: rules,
        }
    }

    /// The matches in a text, each with its rule: those that pass their checks, of the kinds for which `is_wanted`.
    pub fn find(
        &self,
        text: &str,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Vec<(Range<usize>, &'static str)> {
        let mut found = Vec::new();
        for index in self.set.matches(text.as_bytes()) {
            let rule = &self.all[index];
            if !is_wanted(rule.kind) {
                continue;
            }
            let mut from = 0;
            while let Some(captures) = self.patterns[index].captures_at(text.as_bytes(), from) {
                let (range, is_part) = secret(&captures);
                let range = on_characters(text, range);
                let part = (rule.check)(&text[range.clone()]);
                // What was taken for a secret may hold the word before one: "the password: the password is …". It is not
                // read again and again where it is long.
                from = match part {
                    None if is_part && range.start > from && range.len() < 200 => range.start,
                    _ => range.end,
                };
                if let Some(part) = part {
                    let (start, end) = (range.start + part.start, range.start + part.end);
                    found.push((start..end, rule.kind));
                }
            }
        }
        found
    }
}

/// The part of a match that is the secret, a named group or all of it, and whether it is a group.
fn secret(captures: &Captures) -> (Range<usize>, bool) {
    let mut groups = captures.iter().flatten().map(|group| group.range());
    let whole = groups.next().expect("a match has a whole");
    groups.next().map_or((whole, false), |group| (group, true))
}

/// The range widened to whole characters.
fn on_characters(text: &str, range: Range<usize>) -> Range<usize> {
    let start = (0..=range.start)
        .rev()
        .find(|&at| text.is_char_boundary(at));
    let end = (range.end..=text.len()).find(|&at| text.is_char_boundary(at));
    start.unwrap_or(0)..end.unwrap_or(text.len())
}
