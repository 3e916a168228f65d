//! Tests of the SHA-256 of files.

use cope_convert::{Error, sha256};

use crate::files::Folder;

#[test]
fn hashes_are_those_of_the_standard() {
    let folder = Folder::new();
    // FIPS 180-4's examples: one block, and a million letters, which do not fit into one read.
    assert_eq!(
        sha256(&folder.file(b"abc")).unwrap(),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(
        sha256(&folder.file(&vec![b'a'; 1_000_000])).unwrap(),
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
    );
}

#[test]
fn a_folder_and_a_missing_file_have_no_hash() {
    let folder = Folder::new();
    assert!(matches!(
        sha256(&folder.join("nothing")),
        Err(Error::Missing { .. })
    ));
    let path = folder.join("file");
    assert!(sha256(path.parent().unwrap()).is_err());
}
