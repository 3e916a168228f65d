//! The files of an import, wherever they lie: in a folder, in a zip archive, in zip archives within a folder, or one alone.
//! Nothing is unpacked: each file is read as a stream.

use std::ffi::OsStr;
use std::fs::{self, DirEntry, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use zip::read::ZipArchiveMetadata;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive, ZipReadOptions};

use super::source::{entries, malformed, open};
use crate::{Error, Result};

/// The most files of a folder or an archive; more are hardly one person's texts.
const MAX_FILES: usize = 500_000;

/// An archive that announces more than this many bytes, and more than [`MAX_RATIO`] times its own length, is refused. Text
/// shrinks to a fifth or a tenth.
const MAX_UNCHECKED_BYTES: u64 = 1 << 30;
const MAX_RATIO: u64 = 200;

/// The beginning of a zip archive with files in it.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// The files at a path.
pub(super) struct ExportFiles {
    root: PathBuf,
    files: Vec<ExportFile>,
}

/// A file on the disk or in an archive.
#[derive(Clone)]
pub(super) struct ExportFile {
    /// The path inside the folder or archive, with `/` between its parts; for a file alone its name.
    name: String,
    /// Where it lies. For a file of an archive, that is the archive's path with the path inside.
    path: PathBuf,
    n_bytes: u64,
    archive: Option<(Arc<Archive>, usize)>,
}

/// A zip archive whose list of files has been read.
struct Archive {
    path: PathBuf,
    metadata: Arc<ZipArchiveMetadata>,
}

impl ExportFiles {
    /// The files of a folder or an archive, in the order of their names, or a file alone. Symbolic links within folders and
    /// archives are left out.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a folder or a file cannot be read; [`Error::Input`] when an archive is damaged, or announces far
    /// more than it can hold, or there are too many files.
    pub fn find(path: &Path) -> Result<Self> {
        let mut found = Self {
            root: path.to_owned(),
            files: Vec::new(),
        };
        if path.is_dir() {
            found.add_folder(path, "")?;
        } else if is_archive(path)? {
            found.add_archive(path, "")?;
        } else {
            found.files.push(ExportFile::on_disk(path)?);
        }
        found.files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The path that was given.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file that the person gave, or that is the only one of a folder or an archive. Hidden files do not count.
    pub fn alone(&self) -> Option<&ExportFile> {
        let mut seen = self.files.iter().filter(|file| !file.is_hidden());
        let first = seen.next();
        match (first, self.files.as_slice()) {
            (_, [file]) => Some(file),
            _ => first.filter(|_| seen.next().is_none()),
        }
    }

    /// The files, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &ExportFile> {
        self.files.iter()
    }

    /// The file with this path inside the folder or archive.
    pub fn get(&self, name: &str) -> Option<&ExportFile> {
        let found = self
            .files
            .binary_search_by(|file| file.name.as_str().cmp(name));
        found.ok().map(|index| &self.files[index])
    }

    /// Adds the files of a folder, whose names begin with `prefix`.
    fn add_folder(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        for entry in entries(folder)? {
            let path = entry.path();
            let kind = entry.file_type().map_err(Error::io("read", &path))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if kind.is_dir() {
                if entry.file_name() != ".git" {
                    self.add_folder(&path, &format!("{name}/"))?;
                }
            } else if kind.is_file() && has_extension(&path, "zip") && is_archive(&path)? {
                self.add_archive(&path, &format!("{name}/"))?;
            } else if kind.is_file() {
                let n_bytes = entry_bytes(&entry)?;
                self.push(ExportFile {
                    name,
                    path,
                    n_bytes,
                    archive: None,
                })?;
            }
        }
        Ok(())
    }

    fn add_archive(&mut self, path: &Path, prefix: &str) -> Result<()> {
        let archive = Arc::new(Archive::read(path)?);
        for index in 0..archive.metadata.len() {
            let entry = archive
                .metadata
                .entry(index)
                .map_err(|it| archive.failed(&it))?;
            let Some(inside) = entry.enclosed_name() else {
                return Err(malformed(
                    path,
                    "is an archive with a file that lies outside of it, which no export has",
                ));
            };
            if entry.is_file() {
                self.push(ExportFile {
                    name: format!("{prefix}{}", slashed(&inside)),
                    path: path.join(&inside),
                    n_bytes: entry.size(),
                    archive: Some((Arc::clone(&archive), index)),
                })?;
            }
        }
        Ok(())
    }

    fn push(&mut self, file: ExportFile) -> Result<()> {
        if self.files.len() == MAX_FILES {
            let what = format!("holds more than {MAX_FILES} files");
            return Err(malformed(&self.root, what));
        }
        self.files.push(file);
        Ok(())
    }
}

impl ExportFile {
    /// The file at a path.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when there is none.
    pub fn on_disk(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or(path.as_os_str());
        let metadata = fs::metadata(path).map_err(Error::io("open", path))?;
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            path: path.to_owned(),
            n_bytes: metadata.len(),
            archive: None,
        })
    }

    /// The path inside the folder or archive, with `/` between its parts; for a file alone its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the file without the folders around it.
    pub fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }

    /// The extension in lower case, and `""` where there is none.
    pub fn extension(&self) -> String {
        let extension = Path::new(self.file_name()).extension();
        let extension = extension.and_then(OsStr::to_str).unwrap_or_default();
        extension.to_ascii_lowercase()
    }

    /// The folder around the file: `""`, or a path that ends in `/`.
    pub fn folder(&self) -> &str {
        &self.name[..self.name.len() - self.file_name().len()]
    }

    /// Whether the file or a folder around it is hidden, or is what macOS adds to archives.
    pub fn is_hidden(&self) -> bool {
        let mut parts = self.name.split('/');
        parts.any(|part| part.starts_with('.') || part == "__MACOSX")
    }

    /// The file of this name in the same folder, if there is one.
    pub fn beside(&self, name: &str) -> Option<Self> {
        let path = self.path.with_file_name(name);
        let Some((archive, _)) = &self.archive else {
            return Self::on_disk(&path).ok().filter(|_| path.is_file());
        };
        let inside = path.strip_prefix(&archive.path).ok()?;
        let mut indices = 0..archive.metadata.len();
        let entry = |index: usize| archive.metadata.entry(index).ok();
        let index = indices.find(|&index| {
            let found = entry(index).and_then(|entry| entry.enclosed_name());
            found.is_some_and(|found| found == inside)
        })?;
        Some(Self {
            name: format!("{}{name}", self.folder()),
            n_bytes: entry(index)?.size(),
            archive: Some((Arc::clone(archive), index)),
            path,
        })
    }

    /// Where the file lies, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The length in bytes.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Whether the file lies in an archive.
    pub fn is_zipped(&self) -> bool {
        self.archive.is_some()
    }

    /// Reads the file from its beginning by `read`.
    ///
    /// # Errors
    ///
    /// Those of `read`; [`Error::Io`] when the file cannot be opened; [`Error::Input`] when it is encrypted, or packed by a
    /// method that is not known. Where an archive is damaged, the reader fails.
    pub fn read<T>(&self, read: impl FnOnce(&mut dyn BufRead) -> Result<T>) -> Result<T> {
        let Some((archive, index)) = &self.archive else {
            return read(&mut BufReader::with_capacity(BUFFER, open(&self.path)?));
        };
        let mut file = open(&archive.path)?;
        let entry = archive.metadata.entry(*index);
        let entry = entry.map_err(|it| archive.failed(&it))?;
        let method = entry.compression();
        if entry.encrypted() {
            return Err(malformed(
                &self.path,
                "is encrypted; unpack the archive with its password, and import the folder",
            ));
        }
        if !METHODS.contains(&method) {
            return Err(malformed(
                &self.path,
                format_args!(
                    "is packed by {method}, which cannot be read; unpack the archive, and import the folder"
                ),
            ));
        }
        let reader = entry.with_reader(&mut file, ZipReadOptions::new());
        let reader = reader.map_err(|it| archive.failed(&it))?;
        read(&mut BufReader::with_capacity(BUFFER, Unpacked(reader)))
    }

    /// The first `n_bytes` bytes, or all if there are fewer.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Input`] when it cannot be read.
    pub fn beginning(&self, n_bytes: u64) -> Result<Vec<u8>> {
        self.read(|reader| {
            let mut bytes = Vec::with_capacity(n_bytes.min(self.n_bytes) as usize);
            let read = reader.take(n_bytes).read_to_end(&mut bytes);
            read.map_err(Error::io("read", &self.path))?;
            Ok(bytes)
        })
    }

    /// The content of a file of at most `max_bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be read; [`Error::Input`] when it is larger.
    pub fn content(&self, max_bytes: u64) -> Result<Vec<u8>> {
        let bytes = self.beginning(max_bytes + 1)?;
        if bytes.len() as u64 > max_bytes {
            let what = format!("is larger than {} MiB; split it", max_bytes >> 20);
            return Err(malformed(&self.path, what));
        }
        Ok(bytes)
    }
}

/// The size of the buffers that files are read through.
const BUFFER: usize = 64 << 10;

/// The methods by which files are packed that can be unpacked.
const METHODS: [CompressionMethod; 3] = [
    CompressionMethod::Stored,
    CompressionMethod::Deflated,
    CompressionMethod::Deflate64,
];

impl Archive {
    fn read(path: &Path) -> Result<Self> {
        let file = open(path)?;
        let n_bytes = file.metadata().map_err(Error::io("read", path))?.len();
        let archive = ZipArchive::new(BufReader::new(file));
        let archive = archive.map_err(|it| damaged(path, &it))?;
        let metadata = archive.metadata();
        let archive = Self {
            path: path.to_owned(),
            metadata,
        };
        let mut n_unpacked = 0_u64;
        for index in 0..archive.metadata.len() {
            let entry = archive
                .metadata
                .entry(index)
                .map_err(|it| archive.failed(&it))?;
            n_unpacked = n_unpacked.saturating_add(entry.size());
        }
        if n_unpacked > MAX_UNCHECKED_BYTES && n_unpacked / MAX_RATIO > n_bytes {
            return Err(malformed(
                path,
                format_args!(
                    "announces {} MiB in an archive of {} MiB, which no texts can be packed into",
                    n_unpacked >> 20,
                    n_bytes.div_ceil(1 << 20)
                ),
            ));
        }
        Ok(archive)
    }

    fn failed(&self, error: &ZipError) -> Error {
        damaged(&self.path, error)
    }
}

fn damaged(path: &Path, error: &ZipError) -> Error {
    malformed(
        path,
        format_args!("is a zip archive that cannot be read ({error}); download it again"),
    )
}

/// A file that is unpacked while it is read.
struct Unpacked<R>(R);

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            if error.kind() == ErrorKind::Interrupted {
                return error;
            }
            let what = format!("the archive is damaged ({error}); download it again");
            io::Error::new(ErrorKind::InvalidData, what)
        })
    }
}

/// Whether a file begins as a zip archive.
pub(super) fn is_archive(path: &Path) -> Result<bool> {
    let mut beginning = Vec::new();
    let file: File = open(path)?;
    let read = file.take(4).read_to_end(&mut beginning);
    read.map_err(Error::io("read", path))?;
    Ok(beginning == ZIP_MAGIC)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension()
        .is_some_and(|it| it.eq_ignore_ascii_case(extension))
}

fn entry_bytes(entry: &DirEntry) -> Result<u64> {
    let metadata = entry.metadata().map_err(Error::io("read", &entry.path()))?;
    Ok(metadata.len())
}

/// A path inside an archive with `/` between its parts.
fn slashed(path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_string_lossy()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests;
