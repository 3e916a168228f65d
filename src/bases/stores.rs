//! Models that other programs have downloaded: Hugging Face's cache, Ollama's store, and the folders of LM Studio and
//! GPT4All. They are read and never changed.
//!
//! A model's name begins with the program's: `hf:owner/repo:Q4_K_M`, `ollama:llama3.2:1b`,
//! `lmstudio:publisher/model/file.gguf`, `gpt4all:file.gguf`.

mod model_folder;
mod ollama_store;

use std::fs;
use std::path::PathBuf;

use super::hub_cache::HubCache;
use super::hub_file::HubModel;
use super::places::Places;
use crate::{Error, Result};

/// A program that keeps models on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModelStore {
    /// The cache of Hugging Face's Hub, which llama.cpp uses too.
    HuggingFace,
    /// Ollama.
    Ollama,
    /// LM Studio.
    LmStudio,
    /// GPT4All.
    Gpt4All,
}

impl ModelStore {
    /// All stores.
    pub const ALL: [Self; 4] = [
        Self::HuggingFace,
        Self::Ollama,
        Self::LmStudio,
        Self::Gpt4All,
    ];

    /// The program's name.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::HuggingFace => "Hugging Face",
            Self::Ollama => "Ollama",
            Self::LmStudio => "LM Studio",
            Self::Gpt4All => "GPT4All",
        }
    }

    /// The beginning of its models' names, up to the first colon.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::HuggingFace => "hf",
            Self::Ollama => "ollama",
            Self::LmStudio => "lmstudio",
            Self::Gpt4All => "gpt4all",
        }
    }
}

/// A model in another program's store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredModel {
    /// The program.
    pub store: ModelStore,
    /// The name by which [`find_stored`] finds it.
    pub name: String,
    /// The GGUF file, or the first of its parts.
    pub path: PathBuf,
}

/// The models of some stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredModels {
    /// The models, in the order of the stores and their names.
    pub models: Vec<StoredModel>,
    /// A line about each model and store that cannot be used.
    pub notes: Vec<String>,
}

impl StoredModels {
    fn add(&mut self, store: ModelStore, name: &str, path: PathBuf) {
        let name = format!("{}:{name}", store.prefix());
        // The same name in a second folder of the program is another model, which the program itself would not find.
        if self.models.iter().all(|model| model.name != name) {
            self.models.push(StoredModel { store, name, path });
        }
    }

    fn note(&mut self, store: ModelStore, what: &str, reason: impl std::fmt::Display) {
        self.notes
            .push(format!("{}:{what}: {reason}", store.prefix()));
    }

    fn note_folder(&mut self, store: ModelStore, error: &Error) {
        let error = one_line(error);
        self.notes
            .push(format!("the models of {}: {error}", store.title()));
    }
}

/// The models in all stores of `places`.
#[must_use]
pub fn all_stored(places: &Places) -> StoredModels {
    let mut found = StoredModels::default();
    for store in ModelStore::ALL {
        look(places, store, &mut found);
    }
    found
}

/// The file of the model with this name in the stores of `places`; `None` if the name is not one of a store's model.
///
/// # Errors
///
/// [`Error::Input`], if the store has no such model, or a damaged one.
pub fn find_stored(places: &Places, name: &str) -> Result<Option<PathBuf>> {
    let Some((prefix, rest)) = name.split_once(':') else {
        return Ok(None);
    };
    let of_prefix = |store: &ModelStore| store.prefix() == prefix;
    let Some(store) = ModelStore::ALL.into_iter().find(of_prefix) else {
        return Ok(None);
    };
    let mut found = StoredModels::default();
    look(places, store, &mut found);
    if let Some(model) = found.models.iter().find(|model| is_named(model, name)) {
        return Ok(Some(model.path.clone()));
    }
    if store == ModelStore::HuggingFace {
        let wanted = HubModel::parse(rest)?;
        let mut caches = places.hub_caches.iter().map(HubCache::at);
        if let Some(path) = caches.find_map(|cache| cache.find(&wanted)) {
            return Ok(Some(path));
        }
    }
    let about = format!("{name}: ");
    if let Some(note) = found.notes.iter().find(|note| note.starts_with(&about)) {
        return Err(Error::input(note));
    }
    let known = found.models.iter().map(|model| model.name.as_str());
    let known: Vec<&str> = known.collect();
    Err(Error::Input(format!(
        "{} has no model {name} on this machine; {}",
        store.title(),
        match &*known {
            [] => "it has none that can be used".to_owned(),
            known => format!("there are {}", known.join(", ")),
        }
    )))
}

/// Whether a model has this name. Ollama's tag `latest` may be left out.
fn is_named(model: &StoredModel, name: &str) -> bool {
    let latest = model.store == ModelStore::Ollama;
    let short = model.name.strip_suffix(":latest").filter(|_| latest);
    model.name == name || short == Some(name)
}

fn look(places: &Places, store: ModelStore, found: &mut StoredModels) {
    let folders = match store {
        ModelStore::HuggingFace => &places.hub_caches,
        ModelStore::Ollama => &places.ollama,
        ModelStore::LmStudio => &places.lm_studio,
        ModelStore::Gpt4All => &places.gpt4all,
    };
    for folder in folders {
        let looked = match store {
            ModelStore::HuggingFace => look_in_cache(&HubCache::at(folder), found),
            ModelStore::Ollama => ollama_store::look(folder, found),
            ModelStore::LmStudio | ModelStore::Gpt4All => model_folder::look(folder, store, found),
        };
        if let Err(error) = looked {
            found.note_folder(store, &error);
        }
    }
}

fn look_in_cache(cache: &HubCache, found: &mut StoredModels) -> Result<()> {
    let store = ModelStore::HuggingFace;
    for repo in cache.repos()? {
        let files = match cache.model_files(&repo) {
            Ok(files) => files,
            Err(error) => {
                found.note(store, repo.as_str(), one_line(&error));
                continue;
            }
        };
        for file in &files.names {
            let name = files.name_of(&repo, file);
            let path = files.snapshot.join(file);
            match fs::metadata(&path) {
                Ok(it) if it.is_file() => found.add(store, &name, path),
                _ => found.note(store, &name, "its file is missing from the cache"),
            }
        }
    }
    Ok(())
}

/// An error with its causes.
fn one_line(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
