//! Base models: the list of those that can be pulled, which is compiled in from `models/bases.json`, and those that other
//! programs keep on this machine.

mod hub;
mod hub_cache;
mod hub_client;
mod hub_download;
mod hub_file;
mod hub_listing;
mod model_facts;
mod places;
mod published_model;
mod pull;
mod stores;

use std::path::Path;

use serde::Deserialize;

pub use hub::Hub;
pub use hub_download::HubEvent;
pub use hub_file::{HubModel, RepoName, WantedFile};
pub use model_facts::ModelFacts;
pub use places::Places;
pub use published_model::{PublishedModel, TrainingFit, TrainingRoom, published};
pub use pull::pull;
pub use stores::{ModelStore, StoredModel, StoredModels, all_stored, find_stored};

use crate::Result;
use crate::error::Missing;
use crate::home::Home;

/// A base model in the list.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// The name by which the base is pulled.
    pub name: String,
    /// The model and its quantisation, for people to read.
    pub title: String,
    /// The model family, `general.architecture` of the GGUF file.
    pub architecture: String,
    /// The name of the file in the models folder.
    pub file: String,
    /// Length of the file, in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// The name under which Hugging Face has the unquantised model.
    pub repository: String,
    /// The licence of the weights.
    pub licence: String,
    /// Terms that a person must agree to before the base is pulled, if any.
    pub consent: Option<String>,
    /// The name of the Python packages; `{part}` stands for the number of the part, from 1.
    package: String,
    version: String,
    /// The number of packages over which the file is split.
    parts: usize,
}

impl Base {
    /// Whether the models folder has a file of this name and length.
    #[must_use]
    pub fn is_pulled(&self, home: &Home) -> bool {
        let metadata = std::fs::metadata(home.base(&self.file));
        metadata.is_ok_and(|it| it.is_file() && it.len() == self.bytes)
    }

    /// The Python packages that contain the parts of the file, in order, as `NAME==VERSION`.
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

/// All bases; the first is the default.
///
/// # Panics
///
/// The compiled-in list is malformed, which a test rules out.
#[must_use]
pub fn all() -> Vec<Base> {
    serde_json::from_str(include_str!("../models/bases.json"))
        .expect("models/bases.json is checked by a test")
}

/// The base that is used when none is named.
#[must_use]
pub fn default_base() -> Base {
    all().swap_remove(0)
}

/// The name by which the base in this file is pulled, else [its title](title_of).
#[must_use]
pub fn name_of(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default();
    let listed = all().into_iter().find(|base| *base.file == *file);
    listed.map_or_else(|| title_of(path), |base| base.name)
}

/// The name of the file without its extension; of a file without a model's name, as Ollama's are, the name in the other
/// program's store.
#[must_use]
pub fn title_of(path: &Path) -> String {
    if path.extension().is_none_or(|extension| extension != "gguf") {
        let stored = all_stored(&Places::of_this_user()).models;
        if let Some(model) = stored.into_iter().find(|model| model.path == path) {
            return model.name;
        }
    }
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// The base of this name.
///
/// # Errors
///
/// [`Missing::Base`], which lists the known names.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_bases_is_well_formed() {
        let bases = all();
        assert!(!bases.is_empty());
        for base in bases {
            let name = &base.name;
            let is_hex = base.sha256.chars().all(|c| c.is_ascii_hexdigit());
            assert!(is_hex && base.sha256.len() == 64, "{name}");
            let is_pinned = |package: String| package.contains("==") && !package.contains('{');
            assert!(base.packages().all(is_pinned), "{name}");
            let file = Path::new(&base.file);
            assert_eq!(file.extension(), Some("gguf".as_ref()), "{name}");
            assert_eq!(file.components().count(), 1, "{name}");
        }
    }
}
