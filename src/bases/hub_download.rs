//! Downloads one file of the Hub into a cache: under a lock, from where an earlier download stopped, and kept only when its
//! length and its SHA-256 are right.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ureq::http::header::CONTENT_RANGE;
use ureq::http::{HeaderMap, StatusCode};

use super::hub_client::{HubClient, HubFailure};
use super::hub_file::is_gguf;
use super::hub_listing::ListedFile;
use crate::{Error, Result};

/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;
/// Time between two looks at a lock, or at whether a wait was interrupted.
const POLL: Duration = Duration::from_millis(50);
/// The waits before a request is made again, each after one that brought no byte.
const WAITS: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// News of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubEvent {
    /// A file is being downloaded, of which a part may be there.
    Started {
        /// Its path in the repository.
        file: String,
        /// Its length.
        bytes: u64,
        /// Bytes that are there.
        done: u64,
    },
    /// So many bytes of the file are there.
    Progress(u64),
    /// All bytes are there, and their SHA-256 is being computed.
    Checking,
    /// Something that the person should know.
    Note(String),
}

/// A download that was started, and may be interrupted.
pub struct Download<'a> {
    pub client: &'a HubClient,
    /// The file's path on the Hub.
    pub path: String,
    pub file: &'a ListedFile,
    pub stop: &'a AtomicBool,
    pub observe: &'a mut dyn FnMut(HubEvent),
}

impl Download<'_> {
    /// Puts the file at `blob`, if it is not there yet. `lock` is the file that downloads of it lock.
    pub fn into_blob(mut self, blob: &Path, lock: &Path) -> Result<()> {
        create_folder(lock.parent().unwrap_or(lock))?;
        let _lock = self.lock(lock)?;
        if is_whole(blob, self.file) {
            return Ok(());
        }
        if let Ok(found) = fs::metadata(blob) {
            (self.observe)(HubEvent::Note(format!(
                "{} is damaged ({} of {} bytes, or not what its name says): it is downloaded again",
                blob.display(),
                found.len(),
                self.file.bytes
            )));
        }
        create_folder(blob.parent().unwrap_or(blob))?;
        let incomplete = beside(blob, "incomplete");
        let is_resumed = fs::metadata(&incomplete).is_ok_and(|it| it.len() > 0);
        self.fill(&incomplete)?;
        let mut is_right = self.is_right(&incomplete)?;
        if !is_right && is_resumed {
            // What lay there may be another program's, which fills such files in another order.
            fs::remove_file(&incomplete).map_err(Error::io("remove", &incomplete))?;
            self.fill(&incomplete)?;
            is_right = self.is_right(&incomplete)?;
        }
        if !is_right {
            fs::remove_file(&incomplete).map_err(Error::io("remove", &incomplete))?;
            return Err(Error::lack(format_args!(
                "{} came with wrong bytes: its SHA-256 is not the one that {} lists; nothing was kept, try again later",
                self.file.path,
                self.client.host()
            )));
        }
        fs::rename(&incomplete, blob).map_err(Error::io("rename", &incomplete))
    }

    /// Waits for the lock. Where the file system has no locks, none is held.
    fn lock(&mut self, path: &Path) -> Result<File> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o644)
            .open(path)
            .map_err(Error::io("open", path))?;
        let mut is_said = false;
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if !std::mem::replace(&mut is_said, true) {
                let what = format!("another program is downloading {}", self.file.path);
                (self.observe)(HubEvent::Note(what));
            }
            self.pause(POLL)?;
        }
        Ok(file)
    }

    /// Downloads what is missing of the file.
    fn fill(&mut self, incomplete: &Path) -> Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o644)
            .open(incomplete)
            .map_err(Error::io("write", incomplete))?;
        let write = |error| Error::io("write", incomplete)(error);
        let mut done = file.metadata().map_err(write)?.len();
        if done > self.file.bytes {
            file.set_len(0).map_err(write)?;
            done = 0;
        }
        (self.observe)(HubEvent::Started {
            file: self.file.path.clone(),
            bytes: self.file.bytes,
            done,
        });
        let mut waits = WAITS.iter();
        while done < self.file.bytes {
            let before = done;
            let Some(failure) = self.fetch(&mut file, incomplete, &mut done)? else {
                continue;
            };
            if done > before {
                waits = WAITS.iter();
            }
            match waits.next() {
                Some(wait) if failure.is_temporary() => self.pause(*wait)?,
                _ => return Err(self.failed(&failure, done)),
            }
        }
        file.sync_all().map_err(write)
    }

    /// One request: appends what it brings. Returns why it did not bring all.
    fn fetch(
        &mut self,
        file: &mut File,
        path: &Path,
        done: &mut u64,
    ) -> Result<Option<HubFailure>> {
        let write = |error| Error::io("write", path)(error);
        let answer = match self.client.file(&self.path, *done) {
            Ok(answer) => answer,
            // The host has fewer bytes than are here.
            Err(HubFailure::Status { status: 416, .. }) if *done > 0 => {
                file.set_len(0).map_err(write)?;
                *done = 0;
                return Ok(None);
            }
            Err(failure) => return Ok(Some(failure)),
        };
        if *done > 0 && !continues(answer.status(), answer.headers(), *done) {
            file.set_len(0).map_err(write)?;
            *done = 0;
        }
        let missing = self.file.bytes - *done;
        let mut body = answer.into_body();
        let sent = body.content_length();
        let no_answer = |reason: String| HubFailure::NoAnswer {
            host: self.client.host(),
            reason,
        };
        if let Some(sent) = sent.filter(|&sent| sent > missing) {
            return Err(self.failed(
                &no_answer(format!(
                    "the file has {sent} bytes where {missing} are listed"
                )),
                *done,
            ));
        }
        let mut reader = body.as_reader().take(missing);
        let mut chunk = vec![0; CHUNK];
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            match reader.read(&mut chunk) {
                Ok(0) if *done == self.file.bytes => return Ok(None),
                Ok(0) => return Ok(Some(no_answer("the connection was cut".into()))),
                Ok(n) => {
                    file.write_all(&chunk[..n]).map_err(write)?;
                    *done += n as u64;
                    (self.observe)(HubEvent::Progress(*done));
                }
                Err(error) => return Ok(Some(no_answer(error.to_string()))),
            }
        }
    }

    /// Whether the bytes are those of the list, as far as it says.
    fn is_right(&mut self, path: &Path) -> Result<bool> {
        (self.observe)(HubEvent::Checking);
        let Some(expected) = self.file.sha256() else {
            return Ok(true);
        };
        Ok(cope_convert::sha256(path)? == expected)
    }

    fn pause(&self, time: Duration) -> Result<()> {
        for _ in 0..time.as_millis().div_ceil(POLL.as_millis()) {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn failed(&self, failure: &HubFailure, done: u64) -> Error {
        let kept = match done {
            0 => "try again later".to_owned(),
            _ => format!("{done} bytes are kept, and the same command goes on from there"),
        };
        let file = &self.file.path;
        Error::lack(format_args!("cannot download {file}: {failure}; {kept}"))
    }
}

/// Whether a blob has the length of the file, and begins as one of its kind.
pub fn is_whole(blob: &Path, file: &ListedFile) -> bool {
    let Ok(mut opened) = File::open(blob) else {
        return false;
    };
    let has_length = opened.metadata().is_ok_and(|it| it.len() == file.bytes);
    let mut start = [0; 4];
    let mut begins_right = || opened.read_exact(&mut start).is_ok() && start == *b"GGUF";
    has_length && (!is_gguf(&file.path) || begins_right())
}

/// Whether an answer goes on at the byte `from`.
fn continues(status: StatusCode, headers: &HeaderMap, from: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|it| it.to_str().ok());
    let begin = format!("bytes {from}-");
    status == StatusCode::PARTIAL_CONTENT && range.is_some_and(|range| range.starts_with(&begin))
}

/// The path of a file with a further extension.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(extension);
    path.with_file_name(name)
}

/// Puts a file with this content at `path` at once. Others may read it, as the other programs' files.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    create_folder(path.parent().unwrap_or(path))?;
    let new = beside(path, "new");
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o644);
    let file = options.open(&new);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(Error::io("write", &new))?;
    fs::rename(&new, path).map_err(Error::io("rename", &new))
}

/// Creates a folder that others may read, as the other programs that use the cache do.
pub fn create_folder(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(Error::io("create", path))
}

/// Puts a relative link to `target` at `link`, both in the folder of one repository.
pub fn link_to(target: &Path, link: &Path, repo: &Path) -> Result<()> {
    let folder = link.parent().unwrap_or(link);
    create_folder(folder)?;
    let depth = folder
        .strip_prefix(repo)
        .map_or(0, |it| it.components().count());
    let inside = target.strip_prefix(repo).unwrap_or(target);
    let relative: PathBuf = std::iter::repeat_n("..", depth).collect();
    let relative = relative.join(inside);
    if fs::read_link(link).is_ok_and(|there| there == relative) {
        return Ok(());
    }
    let new = beside(link, "new");
    crate::home::remove_if_there(&new)?;
    std::os::unix::fs::symlink(&relative, &new)
        .or_else(|_| fs::hard_link(target, &new))
        .map_err(Error::io("create", &new))?;
    fs::rename(&new, link).map_err(Error::io("create", link))
}
