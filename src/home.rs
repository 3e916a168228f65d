//! The data folder: every path on disk. No other module joins data paths. Only their owner can access folders (mode 0700)
//! and files (mode 0600).
//!
//! ```text
//! $COPE_HOME, or cope-llama in the XDG data directory
//! ├── models/<file>.gguf      base models
//! ├── models/hashes.json      cache of the base models' SHA-256
//! ├── users/<name>/           see UserFolder
//! ├── tasks/<name>/           see AdapterFolder
//! ├── admin_key.json          hash of the administrator's key to the server
//! ├── typed_lines             lines typed in chats without a user
//! ├── chats/<name>.json       saved chats without a user, see SavedChats
//! ├── query-runs.jsonl        settings with which evaluations answered the split `query`
//! └── eval/                   results of evaluations, see eval::Store
//! ```
//!
//! A user's profile is saved and read like this:
//!
//! ```
//! use cope_llama::home::{Home, UserName};
//! use cope_llama::profile::{Example, HistoryPart};
//!
//! let folder = tempfile::tempdir().unwrap();
//! let home = Home::at(folder.path().join("home"));
//! let alice = home.create_user(UserName::new("alice")?)?;
//! let mut profile = alice.profile()?;
//! profile.add(HistoryPart::History, vec![Example::new("How are you?", "Splendid, dear!")]);
//! alice.save_profile(&profile)?;
//!
//! let alice = home.user(UserName::new("alice")?)?;
//! assert_eq!(alice.profile()?.history[0].response, "Splendid, dear!");
//! # Ok::<(), cope_llama::Error>(())
//! ```

mod adapter_folder;
mod audit_record;
mod calibration;
mod export;
mod guesses;
mod json_lines;
mod manifest;
mod saved_chats;
mod stage;
mod undo;
mod uploaded_file;
mod user_folder;
mod user_name;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{BufReader, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use cope_convert::gguf::{Gguf, is_part};
use etcetera::BaseStrategy;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use adapter_folder::{AdapterFolder, Lock};
pub use audit_record::{AuditRecord, ByArm, CanaryRecord, GivenBack, Membership};
pub use calibration::{
    AdapterSetting, Calibration, CalibrationBasis, CalibrationScores, GainOverBase, GainTexts,
    NoCalibration, SettingScores,
};
pub use guesses::{Guess, GuessScore};
pub use json_lines::{append_jsonl, read_jsonl, write_jsonl};
pub use manifest::{AdapterRecord, BaseRef, Manifest, StageRecord, StartAdapter};
pub use saved_chats::{ListedChat, SavedChat, SavedChats};
pub use stage::Stage;
pub use uploaded_file::UploadedFile;
pub use user_folder::UserFolder;
pub use user_name::UserName;

use crate::error::Missing;
use crate::{Error, Result};

/// The data folder, which holds everything that the program stores.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The home at `$COPE_HOME`, or else at `cope-llama` in the data directory of the operating system's user. Creates
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when `$COPE_HOME` is not set and the data directory is unknown.
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

    /// The home at `root`. Creates nothing.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of the base with this file name in the models folder; an absolute path is returned as it is.
    #[must_use]
    pub fn base(&self, file: &str) -> PathBuf {
        self.models().join(file)
    }

    /// The models folder, which is created if it is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be created.
    pub fn create_models(&self) -> Result<PathBuf> {
        create_folder(&self.models())?;
        Ok(self.models())
    }

    /// The file with the hash of the administrator's key to the server.
    #[must_use]
    pub fn admin_key(&self) -> PathBuf {
        self.root.join("admin_key.json")
    }

    /// The folder of the results of evaluations.
    #[must_use]
    pub fn evaluations(&self) -> PathBuf {
        self.root.join("eval")
    }

    /// The file that records the settings with which evaluations have answered the split `query`.
    #[must_use]
    pub fn query_runs(&self) -> PathBuf {
        self.root.join("query-runs.jsonl")
    }

    /// The GGUF files in the models folder, sorted by name.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the folder cannot be read.
    pub fn bases(&self) -> Result<Vec<PathBuf>> {
        let mut bases = entries(&self.models())?;
        bases.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.extension()
                .is_some_and(|extension| extension == "gguf")
                && (!is_part(path) || name.contains("-00001-of-"))
        });
        Ok(bases)
    }

    /// The reference to the base at `path` that a manifest stores. Its SHA-256 is taken from `hashes.json` when the file
    /// still has the length and modification time recorded there, and computed otherwise.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file cannot be read; [`Error::Convert`] when it is not a GGUF file.
    pub fn base_ref(&self, path: &Path) -> Result<BaseRef> {
        let path = resolved(path)?;
        let gguf = Gguf::open(&path)?;
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

    /// The folder of a task, which is created if it is missing. Its history holds the items of many users.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be created.
    pub fn create_task(&self, name: UserName) -> Result<AdapterFolder> {
        let folder = self.task_folder(name);
        create_folder(folder.path())?;
        Ok(folder)
    }

    /// The folder of an existing, trained task.
    ///
    /// # Errors
    ///
    /// [`Missing::Task`] when there is no such task or it has no adapter.
    pub fn task(&self, name: UserName) -> Result<AdapterFolder> {
        let folder = self.task_folder(name);
        if folder.sft().is_file() {
            Ok(folder)
        } else {
            let name = folder.name().to_string();
            Err(Missing::Task { name }.into())
        }
    }

    /// The folders of all trained tasks, sorted by name.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the folder cannot be read.
    pub fn tasks(&self) -> Result<Vec<AdapterFolder>> {
        let tasks = named_folders(&self.root.join("tasks"))?;
        let tasks = tasks.into_iter().map(|name| self.task_folder(name));
        Ok(tasks.filter(|task| task.sft().is_file()).collect())
    }

    /// The folders of all users, sorted by name.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the folder cannot be read.
    pub fn users(&self) -> Result<Vec<UserFolder>> {
        let users = named_folders(&self.users_folder())?;
        Ok(users
            .into_iter()
            .map(|name| self.user_folder(name))
            .collect())
    }

    /// The folder of an existing user.
    ///
    /// # Errors
    ///
    /// [`Missing::User`] when there is no such user.
    pub fn user(&self, name: UserName) -> Result<UserFolder> {
        let folder = self.user_folder(name);
        if folder.path().is_dir() {
            Ok(folder)
        } else {
            Err(self.unknown_user(folder.name()))
        }
    }

    /// The folder of a user, which is created if it is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when a new user would be called [`UserName::BASE`]; [`Error::Io`] when the folder cannot be
    /// created.
    pub fn create_user(&self, name: UserName) -> Result<UserFolder> {
        let folder = self.user_folder(name);
        let name = folder.name().as_str();
        if name.eq_ignore_ascii_case(UserName::BASE) && !folder.path().is_dir() {
            return Err(Error::Input(format!(
                "a user cannot be called {name}, which stands for the base model; choose another name"
            )));
        }
        create_folder(folder.path())?;
        Ok(folder)
    }

    /// The users whose adapters started from this user's, and know what it knew, sorted by name.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the folder of the users cannot be read.
    pub fn started_from(&self, name: &UserName) -> Result<Vec<UserName>> {
        let mut users = self.users()?;
        users.retain(|user| {
            // A manifest that cannot be read says nothing of what it started from.
            let manifest = user.manifest().ok().flatten();
            let mut starts = manifest.iter().flat_map(Manifest::starts);
            starts.any(|start| start.user == name.as_str())
        });
        Ok(users.iter().map(|user| user.name().clone()).collect())
    }

    /// The file of the lines typed in chats without a user. Its folder is created if it is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be created.
    pub fn typed_lines(&self) -> Result<PathBuf> {
        create_folder(&self.root)?;
        Ok(self.root.join("typed_lines"))
    }

    /// The saved chats without a user.
    #[must_use]
    pub fn chats(&self) -> SavedChats {
        SavedChats::at(self.root.join("chats"))
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
        let seen = FileStamp::of_all(&cope_convert::files(path)?)?;
        let cache = self.models().join("hashes.json");
        // An unreadable cache counts as empty.
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

/// Length and modification time of a file, by which a change of its content is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileStamp {
    bytes: u64,
    modified_nanoseconds: u64,
}

impl FileStamp {
    /// The stamp of the file at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when there is no such file, or it cannot be read.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(Error::io("read", path))?;
        let modified = metadata
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_nanoseconds = modified.map_or(0, |time| time.as_nanos() as u64);
        Ok(Self {
            bytes: metadata.len(),
            modified_nanoseconds,
        })
    }

    /// The stamp of several files together.
    ///
    /// # Errors
    ///
    /// Those of [`FileStamp::of`].
    fn of_all(paths: &[PathBuf]) -> Result<Self> {
        let mut whole = Self {
            bytes: 0,
            modified_nanoseconds: 0,
        };
        for path in paths {
            let one = Self::of(path)?;
            whole.bytes += one.bytes;
            whole.modified_nanoseconds =
                (whole.modified_nanoseconds).wrapping_add(one.modified_nanoseconds);
        }
        Ok(whole)
    }
}

/// The path of a model without links. A part of a model keeps its name, by which the other parts are found, and so does a
/// link to a file without a model's name, as those of Hugging Face's cache are.
fn resolved(path: &Path) -> Result<PathBuf> {
    let open = |reason| Error::io("open", path)(reason);
    let file = fs::canonicalize(path).map_err(open)?;
    let is_gguf = |path: &Path| path.extension().is_some_and(|it| it == "gguf");
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if is_part(path) || is_gguf(path) && !is_gguf(&file) => {
            let folder = Path::new(".").join(folder);
            let open = |reason| Error::io("open", path)(reason);
            Ok(fs::canonicalize(folder).map_err(open)?.join(name))
        }
        _ => Ok(file),
    }
}

#[derive(Serialize, Deserialize)]
struct Hashed {
    #[serde(flatten)]
    seen: FileStamp,
    sha256: String,
}

/// Writes a temporary file in the folder of `path` and renames it to `path`, so that a half-written file never has that
/// name.
///
/// # Errors
///
/// [`Error::Convert`], for example when the disk is full; the file at `path` is then unchanged.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    Ok(cope_convert::write_atomic(path, write)?)
}

/// Writes a file that holds one JSON value.
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

/// The paths in a folder, sorted by name; none when there is no such folder.
///
/// # Errors
///
/// [`Error::Io`] when it exists and cannot be read.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
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

/// The names of the folders in `parent`, sorted; folders whose names are not those of users or tasks are left out.
///
/// # Errors
///
/// [`Error::Io`] when `parent` or what is in it cannot be looked at. They would otherwise seem to be empty.
fn named_folders(parent: &Path) -> Result<Vec<UserName>> {
    let mut names = Vec::new();
    for path in entries(parent)? {
        let is_folder = match fs::metadata(&path) {
            Ok(metadata) => metadata.is_dir(),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(Error::io("read", &path)(error));
            }
            Err(_) => false,
        };
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|_| is_folder) {
            names.extend(UserName::new(name));
        }
    }
    Ok(names)
}

/// Removes a file if it exists.
///
/// # Errors
///
/// [`Error::Io`] when it exists and cannot be removed.
pub fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a folder with everything in it if it exists.
///
/// # Errors
///
/// [`Error::Io`] when it exists and cannot be removed.
fn remove_folder_if_there(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The value of a JSON file; `None` when there is no such file.
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

/// Opens a file for reading; `None` when there is no such file.
fn open_if_there(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open", path)(error)),
    }
}
