//! Opening regular files, and replacing files at once or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Opens a regular file that should be of `format`, and returns it with its length in bytes. Pipes and devices are
/// refused: they have no length against which the file's claims could be checked.
///
/// # Errors
///
/// The file is missing, is not a regular file, or cannot be opened.
pub(crate) fn open_regular(path: &Path, format: &'static str) -> Result<(File, u64)> {
    let read_error = |reason: std::io::Error| match reason.kind() {
        std::io::ErrorKind::NotFound => Error::Missing {
            path: path.to_owned(),
        },
        _ => Error::Io {
            operation: "read",
            path: path.to_owned(),
            reason,
        },
    };
    // Checked before opening, since opening a pipe would wait for its other end.
    let about = fs::metadata(path).map_err(read_error)?;
    if !about.is_file() {
        let found = if about.is_dir() {
            "is a folder"
        } else {
            "is a device or a pipe"
        };
        return Err(Error::Format {
            path: path.to_owned(),
            format,
            found: found.to_owned(),
        });
    }
    let mut file = File::open(path).map_err(read_error)?;
    if about.len() <= MAX_POINTER_BYTES {
        let mut start = Vec::new();
        file.read_to_end(&mut start).map_err(read_error)?;
        if start.starts_with(POINTER) {
            return Err(Error::LfsPointer {
                path: path.to_owned(),
            });
        }
        file.rewind().map_err(read_error)?;
    }
    Ok((file, about.len()))
}

/// The first line of a pointer of Git LFS, without the version's number.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The longest pointer, in bytes, by Git LFS's specification.
const MAX_POINTER_BYTES: u64 = 1024;

/// A verb phrase for a file of another format, if its first bytes tell the format.
pub(crate) fn describe(start: &[u8]) -> Option<&'static str> {
    let begins = |with: &[u8]| start.starts_with(with);
    // A safetensors file begins with the length of its header, which is an object in JSON.
    let is_safetensors = start.get(4..9) == Some(b"\0\0\0\0{");
    if begins(b"GGUF") {
        Some("is a GGUF file")
    } else if is_safetensors {
        Some("is a safetensors file")
    } else if begins(b"PK\x03\x04") {
        Some("is a zip archive, as PyTorch's pickles are")
    } else if begins(b"\x80\x02") {
        Some("is a pickle")
    } else if begins(b"<") {
        Some("is a web page")
    } else if [b"algg", b"tjgg", b"fmgg", b"lmgg"]
        .iter()
        .any(|magic| begins(*magic))
    {
        Some("is of a format that llama.cpp had before GGUF")
    } else {
        None
    }
}

/// Reads `n_bytes` bytes of the file at `path` from `offset` on.
///
/// # Errors
///
/// The file cannot be read, or has shrunk since it was opened.
pub(crate) fn read_at(path: &Path, offset: u64, n_bytes: u64) -> Result<Vec<u8>> {
    let read = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; n_bytes as usize];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(Error::io("read", path))
}

/// Writes a file under a temporary name in the folder of `path` and renames it to `path`, so that a half-written file
/// never has the final name. On Unix only its owner may read it.
///
/// # Errors
///
/// [`Error::Io`], for example when the disk is full; the file at `path` is then as it was.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    replace_file(path, |out| write(out).map_err(Error::io("write", path)))
}

/// Gives `path` the content that `write` writes, or leaves everything as it was. On Unix only its owner may read the
/// file. Where `path` is a link, the file that it leads to is replaced. A device or a pipe is written into instead.
///
/// # Errors
///
/// The errors of `write`, or the file cannot be written.
pub(crate) fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let io = || Error::io("write", path);
    if path
        .metadata()
        .is_ok_and(|it| !it.is_file() && !it.is_dir())
    {
        let file = OpenOptions::new().write(true).open(path).map_err(io())?;
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        return out.flush().map_err(io());
    }
    let target = if path.is_symlink() {
        path.canonicalize().map_err(io())?
    } else {
        path.to_owned()
    };
    let folder = target
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    // The temporary file has mode 0600, and is removed when dropped.
    let mut file = NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(io())?;
    let mut out = BufWriter::new(&mut file);
    write(&mut out)?;
    out.flush().map_err(io())?;
    drop(out);
    file.as_file().sync_all().map_err(io())?;
    file.persist(&target)
        .map_err(|failed| Error::io("write", path)(failed.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn a_write_that_fails_leaves_everything_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        fs::write(&path, "old").unwrap();
        let failed = replace_file(&path, |out| {
            out.write_all(&vec![0; 100_000]).unwrap();
            Err(Error::io("write", &path)(ErrorKind::StorageFull.into()))
        });
        assert!(matches!(
            failed,
            Err(Error::Io {
                operation: "write",
                ..
            })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_one_and_its_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| folder.path().join(name));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_atomic(&link, |out| out.write_all(b"new")).unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_written_into() {
        use std::os::unix::fs::FileTypeExt;

        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write_atomic(&pipe, |out| out.write_all(b"text")).unwrap();
        assert_eq!(reader.join().unwrap(), b"text");
        assert!(pipe.metadata().unwrap().file_type().is_fifo());
    }
}
