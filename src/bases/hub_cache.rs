//! The cache of Hugging Face's Hub, in the layout that `huggingface_hub` and llama.cpp share.
//!
//! ```text
//! models--OWNER--NAME/refs/main               the commit that is meant by `main`
//! models--OWNER--NAME/snapshots/COMMIT/FILE   links to blobs
//! models--OWNER--NAME/blobs/ETAG              files under their SHA-256, or the id of git's object
//! .locks/models--OWNER--NAME/ETAG.lock        locked while the blob is downloaded
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use super::hub_file::{HubModel, RepoName, WantedFile, is_model_file, parts_of, quant_of};
use crate::home::entries;
use crate::{Error, Result};

/// Folders inside each other that are looked into in a snapshot.
const DEPTH: usize = 4;

/// A cache, which need not exist.
#[derive(Clone, Debug)]
pub struct HubCache {
    folder: PathBuf,
}

/// The files of a repository's snapshot that are models.
#[derive(Debug)]
pub struct SnapshotFiles {
    /// The snapshot's folder.
    pub snapshot: PathBuf,
    /// Paths in it, sorted; of a model in parts, the first.
    pub names: Vec<String>,
}

impl SnapshotFiles {
    /// The name of a model in `repo`: by its quantisation, if that means this file alone, else by its path.
    #[must_use]
    pub fn name_of(&self, repo: &RepoName, file: &str) -> String {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let by_quant = quant_of(file)
            .filter(|quant| WantedFile::Quant(quant.clone()).choose(&names) == Some(file));
        match by_quant {
            Some(quant) => format!("{repo}:{quant}"),
            None => format!("{repo}/{file}"),
        }
    }
}

impl HubCache {
    /// The cache in `folder`.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self { folder }
    }

    /// The folder of a repository.
    #[must_use]
    pub fn repo(&self, repo: &RepoName) -> PathBuf {
        self.folder.join(repo.folder())
    }

    /// The lock of a blob of a repository.
    #[must_use]
    pub fn lock(&self, repo: &RepoName, etag: &str) -> PathBuf {
        let locks = self.folder.join(".locks").join(repo.folder());
        locks.join(format!("{etag}.lock"))
    }

    /// The repositories of models in the cache, sorted.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], if the cache is there and cannot be read.
    pub fn repos(&self) -> Result<Vec<RepoName>> {
        let folders = entries(&self.folder)?.into_iter();
        let folders = folders.filter(|path| path.join("snapshots").is_dir());
        let repo = |path: PathBuf| RepoName::of_folder(path.file_name()?.to_str()?);
        Ok(folders.filter_map(repo).collect())
    }

    /// The model files of a repository's current snapshot.
    ///
    /// # Errors
    ///
    /// [`Error::Input`], if no snapshot is current; [`Error::Io`], if a folder cannot be read.
    pub fn model_files(&self, repo: &RepoName) -> Result<SnapshotFiles> {
        let snapshot = self.snapshot(repo)?;
        let mut names = Vec::new();
        collect(&snapshot, "", DEPTH, &mut names)?;
        Ok(SnapshotFiles { snapshot, names })
    }

    /// The path of a model in the cache, if all its parts are there.
    #[must_use]
    pub fn find(&self, wanted: &HubModel) -> Option<PathBuf> {
        let files = self.model_files(&wanted.repo).ok()?;
        let names: Vec<&str> = files.names.iter().map(String::as_str).collect();
        let file = match &wanted.file {
            // Its name may be one that is no model's.
            WantedFile::Path(path) if is_inside(path) => path.as_str(),
            WantedFile::Path(_) => return None,
            other => other.choose(&names)?,
        };
        let is_there = |part: &String| files.snapshot.join(part).is_file();
        let whole = parts_of(file).iter().all(is_there);
        whole.then(|| files.snapshot.join(file))
    }

    /// The folder of the snapshot that `main` names, else the first of the other names; where there are no names, the only
    /// snapshot.
    fn snapshot(&self, repo: &RepoName) -> Result<PathBuf> {
        let folder = self.repo(repo);
        let snapshots = folder.join("snapshots");
        let mut refs = entries(&folder.join("refs"))?;
        refs.retain(|path| path.is_file());
        refs.sort_by_key(|path| !path.ends_with("main"));
        for name in refs {
            let commit = fs::read_to_string(&name).map_err(Error::io("read", &name))?;
            let commit = commit.trim();
            if is_commit(commit) && snapshots.join(commit).is_dir() {
                return Ok(snapshots.join(commit));
            }
        }
        match &*entries(&snapshots)? {
            [only] if only.is_dir() => Ok(only.clone()),
            _ => Err(Error::input(
                "none of its snapshots in the cache is the current one; download the model again",
            )),
        }
    }
}

/// Whether a text is the id of one of git's commits.
#[must_use]
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a path of a repository stays inside the folder that it is joined to.
#[must_use]
pub fn is_inside(path: &str) -> bool {
    use std::path::Component;
    let mut components = Path::new(path).components();
    !path.is_empty()
        && !path.contains(['\\', '\0'])
        && components.all(|part| matches!(part, Component::Normal(_)))
}

/// Collects the paths of model files in `folder`, which are links that may lead nowhere.
fn collect(folder: &Path, inside: &str, depth: usize, names: &mut Vec<String>) -> Result<()> {
    for path in entries(folder)? {
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let name = format!("{inside}{file}");
        if path.is_dir() {
            if depth > 0 {
                collect(&path, &format!("{name}/"), depth - 1, names)?;
            }
        } else if is_model_file(&name) {
            names.push(name);
        }
    }
    Ok(())
}
