//! Finds a key that an object in a JSON text has twice, of which most readers take one and drop the other.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

/// The path of the first key that an object has twice. A text that is no JSON is left to its reader.
pub fn find(text: &[u8]) -> Option<String> {
    let found = RefCell::new(None);
    let place = TextPlace {
        outer: None,
        step: Step::Whole,
        found: &found,
    };
    // The error of a key that was found is the same as that of a text that is no JSON.
    let _ = place.deserialize(&mut serde_json::Deserializer::from_slice(text));
    found.into_inner()
}

/// The last step of the path to a place.
enum Step {
    /// None: the place is the whole text.
    Whole,
    Key(String),
    Item(usize),
}

/// A place in the text.
struct TextPlace<'a> {
    /// The place of the object or list around it.
    outer: Option<&'a TextPlace<'a>>,
    step: Step,
    /// The path of the key, once it is found.
    found: &'a RefCell<Option<String>>,
}

impl TextPlace<'_> {
    fn inner(&self, step: Step) -> TextPlace<'_> {
        TextPlace {
            outer: Some(self),
            step,
            found: self.found,
        }
    }

    fn path(&self) -> String {
        let outer = self.outer.map(TextPlace::path).unwrap_or_default();
        match &self.step {
            Step::Whole => outer,
            Step::Key(key) if outer.is_empty() => key.clone(),
            Step::Key(key) => format!("{outer}.{key}"),
            Step::Item(number) => format!("{outer}[{number}]"),
        }
    }
}

impl<'de> DeserializeSeed<'de> for TextPlace<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextPlace<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let is_new = keys.insert(key.clone());
            let inner = self.inner(Step::Key(key));
            if !is_new {
                self.found.replace(Some(inner.path()));
                return Err(A::Error::custom("a key is there twice"));
            }
            map.next_value_seed(inner)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut number = 0;
        while (list.next_element_seed(self.inner(Step::Item(number)))?).is_some() {
            number += 1;
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}
