//! Finds secrets and what tells of persons in texts, and puts placeholders in their place.
//!
//! A placeholder names the kind alone, `[card number]`. So a secret has the same placeholder in every import, a text that is
//! imported twice is masked alike and known the second time, and nothing about the secret has to be stored. Two secrets of
//! one kind are not told apart, which a style does not need.

mod checks;
mod identities;
mod numbers;
mod phrases;
mod rules;
mod seed_phrase;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use clap::ValueEnum;

/// The choice of what is masked in the texts of an import. By default these are secrets: passwords, keys, tokens, private keys, PINs,
/// seed phrases, and the numbers of cards, accounts and identity papers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masking {
    /// Whether secrets stay in the texts.
    pub keeps_secrets: bool,
    /// Contacts that are masked too.
    pub contacts: Vec<Contact>,
    /// Names that are masked wherever they stand as whole words, written as here.
    pub names: Vec<String>,
    /// E-mail addresses that are not masked: the user's own.
    pub own_addresses: Vec<String>,
}

/// A way to reach a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Contact {
    /// E-mail addresses.
    Email,
    /// Phone numbers.
    Phone,
    /// IP addresses.
    Ip,
}

/// The number of masked texts by their kind.
pub type Masked = BTreeMap<&'static str, usize>;

const NAME: &str = "name";

impl Contact {
    /// All of them.
    const ALL: [Self; 3] = [Self::Email, Self::Phone, Self::Ip];

    /// The kind in the table of rules, which is the placeholder's text.
    fn kind(self) -> &'static str {
        match self {
            Self::Email => "e-mail address",
            Self::Phone => "phone number",
            Self::Ip => "IP address",
        }
    }
}

impl Masking {
    /// Masks texts in their place, and counts what it masked.
    pub fn mask<'a>(&self, texts: impl Iterator<Item = &'a mut String>, masked: &mut Masked) {
        for text in texts {
            if let Some(clean) = self.masked(text, masked) {
                *text = clean;
            }
        }
    }

    /// The text with placeholders; `None` when nothing is to be masked.
    fn masked(&self, text: &str, masked: &mut Masked) -> Option<String> {
        let found = self.find(text);
        let mut clean = String::with_capacity(text.len());
        let mut end = 0;
        for (range, kind) in &found {
            clean.push_str(&text[end..range.start]);
            clean.push('[');
            clean.push_str(kind);
            clean.push(']');
            end = range.end;
            *masked.entry(kind).or_default() += 1;
        }
        clean.push_str(&text[end..]);
        (!found.is_empty()).then_some(clean)
    }

    /// The places of what is masked in a text, in their order and apart from each other.
    fn find(&self, text: &str) -> Vec<(Range<usize>, &'static str)> {
        let mut found = rules::ALL.find(text, |kind| self.is_masked(kind));
        if !self.keeps_secrets {
            let phrases = seed_phrase::find(text).into_iter();
            found.extend(phrases.map(|range| (range, "seed phrase")));
        }
        found.retain(|(range, _)| !self.is_own_address(&text[range.clone()]));
        found.extend(self.named(text).map(|range| (range, NAME)));
        // The sort is stable: of two matches at one place, the rule that comes first in the table names the kind.
        found.sort_by_key(|(range, _)| range.start);
        let mut apart: Vec<(Range<usize>, &'static str)> = Vec::new();
        for (range, kind) in found {
            match apart.last_mut() {
                Some((last, _)) if range.start < last.end => last.end = last.end.max(range.end),
                _ => apart.push((range, kind)),
            }
        }
        apart
    }

    fn is_masked(&self, kind: &str) -> bool {
        match Contact::ALL
            .into_iter()
            .find(|contact| contact.kind() == kind)
        {
            Some(contact) => self.contacts.contains(&contact),
            None => !self.keeps_secrets,
        }
    }

    fn is_own_address(&self, text: &str) -> bool {
        let mut own = self.own_addresses.iter();
        own.any(|address| address.eq_ignore_ascii_case(text))
    }

    /// The places of the names in a text.
    fn named<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Range<usize>> {
        let names = self.names.iter().filter(|name| !name.trim().is_empty());
        names.flat_map(|name| {
            let places = text.match_indices(name.trim());
            let ranges = places.map(|(at, name)| at..at + name.len());
            ranges.filter(|range| is_whole_word(text, range))
        })
    }
}

/// Whether no word goes on before or after a part of a text. Scripts without capitals write words without blanks.
fn is_whole_word(text: &str, part: &Range<usize>) -> bool {
    let continues = |inner: Option<char>, outer: Option<char>| {
        let has_case = |c: char| c.is_lowercase() || c.is_uppercase() || c.is_ascii_digit();
        inner.is_some_and(has_case) && outer.is_some_and(char::is_alphanumeric)
    };
    let inner = &text[part.clone()];
    let (before, after) = (&text[..part.start], &text[part.end..]);
    !continues(inner.chars().next(), before.chars().next_back())
        && !continues(inner.chars().next_back(), after.chars().next())
}
