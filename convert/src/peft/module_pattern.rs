//! Settings of single modules, such as PEFT's `rank_pattern` and `alpha_pattern`.

use std::fmt;
use std::marker::PhantomData;

use regex_lite::Regex;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// A value for each module whose name ends as a regular expression says. The order counts: the first that matches is
/// taken.
#[derive(Debug)]
pub(super) struct Pattern<T>(Vec<(String, T)>);

impl<T> Default for Pattern<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy> Pattern<T> {
    /// The values with their expressions compiled; an error names an expression that cannot be.
    pub fn compile(&self) -> Result<Compiled<T>, String> {
        let compiled = self.0.iter().map(|(ending, value)| {
            let regex = Regex::new(&format!(r"^(.*\.)?({ending})$"));
            regex.map(|it| (it, *value)).map_err(|_| ending.clone())
        });
        compiled.collect::<Result<_, _>>().map(Compiled)
    }
}

/// A [`Pattern`] that can be looked up.
#[derive(Debug)]
pub(super) struct Compiled<T>(Vec<(Regex, T)>);

impl<T: Copy> Compiled<T> {
    /// No value for any module.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// The value for a module such as `model.layers.0.self_attn.q_proj`.
    pub fn get(&self, module: &str) -> Option<T> {
        let found = self.0.iter().find(|(regex, _)| regex.is_match(module));
        found.map(|(_, value)| *value)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pattern<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PatternVisitor(PhantomData))
    }
}

struct PatternVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PatternVisitor<T> {
    type Value = Pattern<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of numbers")
    }

    /// Collects the entries in the file's order, which a map would lose. As in Python, a name that occurs again changes
    /// the value and keeps its place.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pattern<T>, A::Error> {
        let mut entries: Vec<(String, T)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, T>()? {
            match entries.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = value,
                None => entries.push((name, value)),
            }
        }
        Ok(Pattern(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_expression_that_matches_the_end_of_a_name_is_taken() {
        let json = r#"{"q_proj": 8, "^model.layers.(0|1).self_attn.\\w_proj": 2, "layers.1.self_attn.k_proj": 3}"#;
        let pattern: Pattern<u32> = serde_json::from_str(json).unwrap();
        let pattern = pattern.compile().unwrap();
        for (module, value) in [
            ("model.layers.0.self_attn.q_proj", Some(8)),
            ("model.layers.1.self_attn.k_proj", Some(2)),
            ("language_model.model.layers.1.self_attn.k_proj", Some(3)),
            ("model.layers.2.self_attn.k_proj", None),
            ("model.layers.0.self_attn.iq_proj", None),
            ("q_proj", Some(8)),
        ] {
            assert_eq!(pattern.get(module), value, "{module}");
        }
    }

    #[test]
    fn an_expression_that_is_none_is_named() {
        let pattern: Pattern<u32> = serde_json::from_str(r#"{"q_(": 8}"#).unwrap();
        assert_eq!(pattern.compile().unwrap_err(), "q_(");
    }
}
