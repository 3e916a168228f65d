//! Models of Hugging Face's Hub, downloaded into its own cache, so that Python's `huggingface_hub` and llama.cpp find what
//! was downloaded here, and the other way round.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use super::hub_cache::HubCache;
use super::hub_client::{HubClient, HubFailure, encoded};
use super::hub_download::{Download, HubEvent, is_whole, link_to, write_text};
use super::hub_file::{HubModel, WantedFile, is_model_file, parts_of};
use super::hub_listing::{HubListing, ListedFile};
use super::places::Places;
use crate::{Error, Result};

/// The Hub of Hugging Face itself.
const ENDPOINT: &str = "https://huggingface.co";
/// The most files that a message names.
const MAX_NAMED: usize = 12;

/// The Hub, and the cache of its files on this machine.
pub struct Hub {
    client: HubClient,
    cache: HubCache,
    is_offline: bool,
}

impl Hub {
    /// The Hub and the cache by Hugging Face's variables: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` and those of
    /// [`Places`].
    ///
    /// # Errors
    ///
    /// [`Error::Input`], if the endpoint or the token cannot be one, or no home directory is known.
    pub fn of_environment(places: &Places) -> Result<Self> {
        let text = |name| env::var(name).ok().filter(|text| !text.is_empty());
        let file = || fs::read_to_string(places.hub_token.as_ref()?).ok();
        let token = text("HF_TOKEN").or_else(file);
        let token = token.map(|token| token.trim().to_owned());
        let offline = text("HF_HUB_OFFLINE").unwrap_or_default();
        let cache = places.hub_caches.first().ok_or_else(|| {
            Error::input("no home directory is known: set HF_HUB_CACHE to a folder for models")
        })?;
        Ok(Self {
            client: HubClient::new(
                &text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()),
                token.filter(|token| !token.is_empty()),
            )?,
            cache: HubCache::at(cache),
            is_offline: ["1", "ON", "YES", "TRUE"].contains(&&*offline.to_ascii_uppercase()),
        })
    }

    /// The path of a model in the cache, after what is missing has been downloaded. If the Hub does not answer, the model is
    /// the one that lies in the cache. `stop` says whether the person has interrupted the work.
    ///
    /// # Errors
    ///
    /// [`Error::Input`], if there is no such model; [`Error::Lack`], if it cannot be downloaded; [`Error::Io`], if the cache
    /// cannot be written; [`Error::Interrupted`] after an interrupt, from which the same call goes on.
    pub fn get(
        &self,
        model: &HubModel,
        stop: &AtomicBool,
        observe: &mut dyn FnMut(HubEvent),
    ) -> Result<PathBuf> {
        if self.is_offline {
            return self.cache.find(model).ok_or_else(|| {
                Error::lack(format_args!(
                    "{} is not in the cache, and HF_HUB_OFFLINE forbids to download it",
                    model.repo
                ))
            });
        }
        let listing = match HubListing::fetch(&self.client, &model.repo) {
            Ok(listing) => listing,
            Err(failure) => {
                let error = self.refused(model, &failure);
                let Some(path) = self.cache.find(model) else {
                    return Err(error);
                };
                observe(HubEvent::Note(format!(
                    "{error}; the copy in the cache is used"
                )));
                return Ok(path);
            }
        };
        let files = chosen(model, &listing)?;
        for file in &files {
            self.get_file(model, &listing, file, stop, observe)?;
        }
        let repo = self.cache.repo(&model.repo);
        let branch = repo.join("refs").join(&listing.branch);
        if fs::read_to_string(&branch).ok().as_ref() != Some(&listing.commit) {
            write_text(&branch, &listing.commit)?;
        }
        Ok(self.in_snapshot(model, &listing, &files[0]))
    }

    /// Makes sure that a file is in the snapshot.
    fn get_file(
        &self,
        model: &HubModel,
        listing: &HubListing,
        file: &ListedFile,
        stop: &AtomicBool,
        observe: &mut dyn FnMut(HubEvent),
    ) -> Result<()> {
        let repo = self.cache.repo(&model.repo);
        let path = self.in_snapshot(model, listing, file);
        let blob = repo.join("blobs").join(&file.etag);
        // A file system without links has the file itself in the snapshot.
        if !blob.exists() && is_whole(&path, file) {
            return Ok(());
        }
        if !is_whole(&blob, file) {
            let (name, commit) = (encoded(&file.path), &listing.commit);
            let download = Download {
                client: &self.client,
                path: format!("/{}/resolve/{commit}/{name}", model.repo),
                file,
                stop,
                observe,
            };
            download.into_blob(&blob, &self.cache.lock(&model.repo, &file.etag))?;
        }
        link_to(&blob, &path, &repo)
    }

    fn in_snapshot(&self, model: &HubModel, listing: &HubListing, file: &ListedFile) -> PathBuf {
        let snapshots = self.cache.repo(&model.repo).join("snapshots");
        snapshots.join(&listing.commit).join(&file.path)
    }

    /// The error for a repository that the Hub does not list.
    fn refused(&self, model: &HubModel, failure: &HubFailure) -> Error {
        let (repo, host) = (&model.repo, self.client.host());
        let HubFailure::Status { status, .. } = failure else {
            return Error::lack(format_args!("cannot list the files of {repo}: {failure}"));
        };
        match (status, self.client.has_token()) {
            (401 | 404, false) => Error::Input(format!(
                "{host} has no repository {repo} that everybody may read (status {status}); check the name, or set HF_TOKEN to a token for it"
            )),
            (401 | 404, true) => Error::Input(format!(
                "{host} has no repository {repo} that the token may read (status {status}); check the name and the token"
            )),
            (403, _) => Error::Input(format!(
                "{host} refuses access to {repo} (status 403); if it has terms to agree to, do so on its page, and set HF_TOKEN"
            )),
            _ => Error::lack(format_args!("cannot list the files of {repo}: {failure}")),
        }
    }
}

/// The files of the wanted model, at least one.
fn chosen(model: &HubModel, listing: &HubListing) -> Result<Vec<ListedFile>> {
    let paths: Vec<&str> = listing.files.iter().map(|file| &*file.path).collect();
    let first = model.file.choose(&paths);
    let first = first.ok_or_else(|| none_of(model, &paths))?;
    let part = |path: String| {
        let found = listing.files.iter().find(|file| file.path == path);
        found.cloned().ok_or_else(|| {
            Error::Input(format!(
                "{} lacks {path}, a part of the model in parts {first}",
                model.repo
            ))
        })
    };
    parts_of(first).into_iter().map(part).collect()
}

/// The error for a repository without the wanted file.
fn none_of(model: &HubModel, paths: &[&str]) -> Error {
    let repo = &model.repo;
    let mut models: Vec<&str> = paths
        .iter()
        .copied()
        .filter(|it| is_model_file(it))
        .collect();
    if models.is_empty() {
        return Error::Input(format!(
            "{repo} has no GGUF file; look for a repository with its GGUF files, often named {}-GGUF",
            repo.as_str().rsplit('/').next().unwrap_or_default()
        ));
    }
    let what = match &model.file {
        WantedFile::Quant(quant) => format!("no file of quantisation {quant}"),
        WantedFile::Path(path) => format!("no file {path}"),
        WantedFile::Usual => "no model".to_owned(),
    };
    let n_more = models.len().saturating_sub(MAX_NAMED);
    models.truncate(MAX_NAMED);
    let more = match n_more {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    Error::Input(format!(
        "{repo} has {what}; it has {}{more}",
        models.join(", ")
    ))
}
