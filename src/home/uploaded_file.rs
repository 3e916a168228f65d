//! Files that the page has uploaded, until their texts are taken.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{UserFolder, create_folder, remove_folder_if_there};
use crate::{Error, Result};

/// The most characters of an extension. Longer ones are no extensions.
const MAX_EXTENSION: usize = 16;

/// A file in a folder of its own within the user's, which is deleted when this is dropped.
#[derive(Debug)]
pub struct UploadedFile {
    folder: TempDir,
    path: PathBuf,
}

impl UploadedFile {
    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The random name of the file's folder: 32 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        let id = self.folder.path().file_name().unwrap_or_default();
        id.to_string_lossy().into_owned()
    }
}

impl UserFolder {
    /// Creates an empty file for an upload. Only the extension of `name` becomes part of its path, since it can tell the
    /// format.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be created.
    pub fn create_upload(&self, name: &str) -> Result<(UploadedFile, File)> {
        let uploads = self.uploads();
        create_folder(&uploads)?;
        let id: u128 = rand::random();
        let folder = tempfile::Builder::new()
            .prefix(&format!("{id:032x}"))
            .rand_bytes(0)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&uploads)
            .map_err(Error::io("create", &uploads))?;
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        let is_extension = extension.len() <= MAX_EXTENSION
            && extension.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let path = if is_extension {
            folder.path().join("upload").with_extension(extension)
        } else {
            folder.path().join("upload")
        };
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(Error::io("create", &path))?;
        Ok((UploadedFile { folder, path }, file))
    }

    /// Deletes the files that a server has left when it ended.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when one cannot be removed.
    pub fn remove_uploads(&self) -> Result<()> {
        remove_folder_if_there(&self.uploads())
    }

    fn uploads(&self) -> PathBuf {
        self.path().join("uploads")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::home::{Home, UserName};

    #[test]
    fn an_upload_stays_in_its_users_folder_whatever_its_name_is_and_is_deleted_when_it_is_dropped()
    {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let ann = home.create_user(UserName::new("ann").unwrap()).unwrap();
        for (name, file) in [
            ("Chat with Bob.TXT", "upload.TXT"),
            ("../../evil.zip", "upload.zip"),
            ("a.../etc/passwd", "upload"),
            ("a.t\0t", "upload"),
            ("no extension", "upload"),
            ("long.extensionthatisnone", "upload"),
            ("", "upload"),
        ] {
            let (upload, _file) = ann.create_upload(name).unwrap();
            let id = upload.id();
            assert!(id.len() == 32 && id.bytes().all(|it| it.is_ascii_hexdigit()));
            let path = ann.path().join("uploads").join(&id).join(file);
            assert_eq!(upload.path(), path, "{name:?}");
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&path), 0o600);
            assert_eq!(mode(path.parent().unwrap()), 0o700);
            drop(upload);
            assert!(!path.parent().unwrap().exists());
        }
        std::mem::forget(ann.create_upload("left.txt").unwrap());
        ann.remove_uploads().unwrap();
        assert!(!ann.path().join("uploads").exists());
    }
}
