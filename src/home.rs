//! Every path on disk; nothing else joins data paths. Folders are the owner's alone (0700), and so are files (0600).
//!
//! ```text
//! $COPE_HOME, or cope-llama in the XDG data directory
//! ├── models/<file>.gguf      bases, and hashes.json: their SHA-256, so that none is hashed twice
//! ├── users/<name>/           see UserFolder
//! ├── tasks/<name>/           laid out as a user's
//! ├── admin_key.json          the hash of the administrator's key to the server
//! └── eval/                   see eval::Store
//! ```

mod adapter_folder;
mod export;
mod jsonl;
mod manifest;
mod user_folder;
mod user_name;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{BufReader, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use etcetera::BaseStrategy;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use adapter_folder::{AdapterFolder, Lock};
pub use jsonl::{append_jsonl, read_jsonl, write_jsonl};
pub use manifest::{BaseRef, Manifest, Stage, StageRecord};
pub use user_folder::UserFolder;
pub use user_name::UserName;

use crate::error::Missing;
use crate::{Error, Result};

/// The folder that holds everything that the program keeps.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// `$COPE_HOME`, or `cope-llama` in the user's data directory. Nothing is created yet.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when neither is known.
    pub fn open() -> Result<Self> {
        if let Some(root) = std::env::var_os("COPE_HOME").filter(|root| !root.is_empty()) {
            return Ok(Self::at(root));
        }
        let directories = etcetera::choose_base_strategy().map_err(|_| {
            Error::input(
                "no home directory is known: set COPE_HOME to a folder for models and users",
            )
        })?;
        Ok(Self::at(directories.data_dir().join("cope-llama")))
    }

    /// A home at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a base: an absolute path stays, a file name is one of the models folder.
    #[must_use]
    pub fn base(&self, file: &str) -> PathBuf {
        self.models().join(file)
    }

    /// The folder of the bases, created where it is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be created.
    pub fn create_models(&self) -> Result<PathBuf> {
        create_folder(&self.models())?;
        Ok(self.models())
    }

    /// The hash of the administrator's key to the server.
    #[must_use]
    pub fn admin_key(&self) -> PathBuf {
        self.root.join("admin_key.json")
    }

    /// Where evaluations keep their results.
    #[must_use]
    pub fn evaluations(&self) -> PathBuf {
        self.root.join("eval")
    }

    /// With which settings an evaluation in this folder has answered `query`.
    #[must_use]
    pub fn query_runs(&self) -> PathBuf {
        self.root.join("query-runs.jsonl")
    }

    /// The bases that are there, by name.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the folder cannot be read.
    pub fn bases(&self) -> Result<Vec<PathBuf>> {
        let mut bases = entries(&self.models())?;
        bases.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "gguf")
        });
        Ok(bases)
    }

    /// The reference to the base at `path` that a manifest keeps: its hash is read from `hashes.json` when the file
    /// still has the length and the time of change that are noted there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file cannot be read; [`Error::Convert`] when it is no GGUF.
    pub fn base_ref(&self, path: &Path) -> Result<BaseRef> {
        let path = fs::canonicalize(path).map_err(Error::io("open", path))?;
        let gguf = cope_convert::gguf::Gguf::open(&path)?;
        let inside = fs::canonicalize(self.models())
            .ok()
            .and_then(|models| path.strip_prefix(models).ok());
        Ok(BaseRef {
            file: inside.unwrap_or(&path).to_string_lossy().into_owned(),
            sha256: self.sha256(&path)?,
            architecture: gguf.architecture()?.to_owned(),
            task_sha256: None,
        })
    }

    /// The folder of a task, created where it is missing: laid out as a user's, whose history is many users' items.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be created.
    pub fn create_task(&self, name: UserName) -> Result<AdapterFolder> {
        let folder = self.task_folder(name);
        create_folder(folder.path())?;
        Ok(folder)
    }

    /// The folder of a task that is there.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when there is no such task.
    pub fn task(&self, name: UserName) -> Result<AdapterFolder> {
        let folder = self.task_folder(name);
        if folder.sft().is_file() {
            Ok(folder)
        } else {
            let name = folder.name().to_string();
            Err(Missing::Task { name }.into())
        }
    }

    /// The users, by name.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the folder cannot be read.
    pub fn users(&self) -> Result<Vec<UserFolder>> {
        let names = entries(&self.users_folder())?
            .into_iter()
            .filter(|path| path.is_dir());
        Ok(names
            .filter_map(|path| UserName::new(path.file_name()?.to_str()?).ok())
            .map(|name| self.user_folder(name))
            .collect())
    }

    /// The folder of a user who is there.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when there is no such user.
    pub fn user(&self, name: UserName) -> Result<UserFolder> {
        let folder = self.user_folder(name);
        if folder.path().is_dir() {
            Ok(folder)
        } else {
            Err(self.unknown_user(folder.name()))
        }
    }

    /// The folder of a user, created where it is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be created.
    pub fn create_user(&self, name: UserName) -> Result<UserFolder> {
        let folder = self.user_folder(name);
        create_folder(folder.path())?;
        Ok(folder)
    }

    /// Where a chat without a user keeps the lines that were typed; its folder is created where it is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be created.
    pub fn typed_lines(&self) -> Result<PathBuf> {
        create_folder(&self.root)?;
        Ok(self.root.join("typed_lines"))
    }

    fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    fn users_folder(&self) -> PathBuf {
        self.root.join("users")
    }

    fn user_folder(&self, name: UserName) -> UserFolder {
        UserFolder::at(self.users_folder().join(name.as_str()), name)
    }

    fn task_folder(&self, name: UserName) -> AdapterFolder {
        AdapterFolder::at(self.root.join("tasks").join(name.as_str()), name)
    }

    fn unknown_user(&self, name: &UserName) -> Error {
        let users = self.users().unwrap_or_default();
        Missing::User {
            name: name.to_string(),
            known: users.iter().map(|user| user.name().to_string()).collect(),
        }
        .into()
    }

    fn sha256(&self, path: &Path) -> Result<String> {
        let seen = FileStamp::of(&fs::metadata(path).map_err(Error::io("read", path))?);
        let cache = self.models().join("hashes.json");
        // A cache that cannot be read is a cache that is empty.
        let hashes = read_json_if_there::<BTreeMap<PathBuf, Hashed>>(&cache);
        let mut hashes = hashes.unwrap_or_default().unwrap_or_default();
        if let Some(hashed) = hashes.get(path).filter(|hashed| hashed.seen == seen) {
            return Ok(hashed.sha256.clone());
        }
        let sha256 = cope_convert::sha256(path)?;
        hashes.retain(|path, _| path.exists());
        hashes.insert(
            path.to_owned(),
            Hashed {
                seen,
                sha256: sha256.clone(),
            },
        );
        self.create_models()?;
        write_json(&cache, &hashes)?;
        Ok(sha256)
    }
}

/// What tells that a file has not been changed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct FileStamp {
    bytes: u64,
    modified_nanoseconds: u64,
}

impl FileStamp {
    fn of(metadata: &Metadata) -> Self {
        let modified = metadata
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_nanoseconds = modified.map_or(0, |time| time.as_nanos() as u64);
        Self {
            bytes: metadata.len(),
            modified_nanoseconds,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Hashed {
    #[serde(flatten)]
    seen: FileStamp,
    sha256: String,
}

/// Writes `path` beside its place and renames it into it, so that nothing half-written ever has its name.
///
/// # Errors
///
/// [`Error::Convert`], for example when the disk is full; the file at `path` is then as it was.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    Ok(cope_convert::write_atomic(path, write)?)
}

/// Writes a file that is one JSON value.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write_atomic(path, |writer| {
        serde_json::to_writer_pretty(&mut *writer, value)?;
        writer.write_all(b"\n")
    })
}

pub(crate) fn create_folder(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::io("create", path))
}

/// What is in a folder, by name; nothing when it is not there.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", folder)(error)),
    };
    let mut paths = listing
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(Error::io("read", folder))?;
    paths.sort();
    Ok(paths)
}

/// Removes a file, if it is there.
///
/// # Errors
///
/// [`Error::Io`] when it is there and cannot be removed.
pub fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The value of a file of JSON; `None` when the file is not there.
pub(crate) fn read_json_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(file) = open_if_there(path)? else {
        return Ok(None);
    };
    let value = serde_json::from_reader(BufReader::new(file));
    value.map(Some).map_err(|error| Error::Damaged {
        path: path.to_owned(),
        reason: format!("{error}; delete the file"),
    })
}

/// A file for reading; `None` when it is not there.
fn open_if_there(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open", path)(error)),
    }
}
