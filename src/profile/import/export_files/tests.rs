use std::io::Write;

use proptest::prelude::*;
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::{FullFileOptions, SimpleFileOptions};

use super::*;

const TEXT: &str = "From a@x\nthe same words again and again and again and again";

/// A zip archive with these files, each packed by the method.
fn archive(files: &[(&str, &str)], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, text) in files {
        zip.start_file(*name, options).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn stored(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn text(file: &ExportFile) -> Result<String> {
    file.content(1 << 20)
        .map(|it| String::from_utf8(it).unwrap())
}

fn all(path: &Path) -> Result<Vec<(String, String)>> {
    let files = ExportFiles::find(path)?;
    files
        .iter()
        .map(|it| Ok((it.name().to_owned(), text(it)?)))
        .collect()
}

/// The message of an archive that cannot be read, without its path.
fn refusal(bytes: &[u8]) -> String {
    let folder = TempDir::new().unwrap();
    let path = stored(&folder, "export.zip", bytes);
    let error = all(&path).unwrap_err();
    let message = match error {
        Error::Io { source, .. } => source.to_string(),
        error => error.to_string(),
    };
    message.replace(path.to_str().unwrap(), "export.zip")
}

#[test]
fn a_folder_and_an_archive_hold_the_same_files() {
    let folder = TempDir::new().unwrap();
    let files = [("b/Sent.mbox", TEXT), ("a.json", "[]"), ("b/.hidden", "x")];
    for (name, text) in files {
        stored(&folder, &format!("all/{name}"), text.as_bytes());
    }
    let mut expected = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    expected.sort();
    assert_eq!(all(&folder.path().join("all")).unwrap(), expected);
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let path = stored(&folder, "export.zip", &archive(&files, method));
        assert_eq!(all(&path).unwrap(), expected);
    }
    let found = ExportFiles::find(&folder.path().join("export.zip")).unwrap();
    let mail = found.get("b/Sent.mbox").unwrap();
    assert_eq!(
        (mail.folder(), mail.file_name(), mail.extension().as_str()),
        ("b/", "Sent.mbox", "mbox")
    );
    assert_eq!(
        (mail.n_bytes(), mail.is_hidden()),
        (TEXT.len() as u64, false)
    );
    assert!(found.get("b/.hidden").unwrap().is_hidden());
    assert_eq!(mail.path(), folder.path().join("export.zip/b/Sent.mbox"));
    assert!(found.get("Sent.mbox").is_none());
}

#[test]
fn archives_in_a_folder_are_part_of_it() {
    let folder = TempDir::new().unwrap();
    let inner = archive(&[("Mail/Sent.mbox", TEXT)], CompressionMethod::Deflated);
    stored(&folder, "takeout-1.ZIP", &inner);
    stored(&folder, "letter.txt", b"Tea\nGladly");
    let names: Vec<_> = all(folder.path())
        .unwrap()
        .into_iter()
        .map(|it| it.0)
        .collect();
    assert_eq!(names, ["letter.txt", "takeout-1.ZIP/Mail/Sent.mbox"]);
    // An archive in an archive is a file.
    let path = stored(
        &folder,
        "outer/outer.zip",
        &archive(&[("a.zip", "PK")], CompressionMethod::Stored),
    );
    assert_eq!(all(&path).unwrap(), [("a.zip".to_owned(), "PK".to_owned())]);
}

#[test]
fn archives_that_cannot_be_read_say_why() {
    let good = archive(&[("a.txt", TEXT)], CompressionMethod::Deflated);
    let n_name = 30 + "a.txt".len();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        refusal(&bytes)
    };
    assert_eq!(
        changed(&|it| it.truncate(40)),
        "export.zip: is a zip archive that cannot be read (invalid Zip archive: Could not find EOCD); download it again"
    );
    let damaged = changed(&|it| it[n_name..n_name + 8].fill(0xff));
    assert!(damaged.starts_with("the archive is damaged ("), "{damaged}");
    let directory = good.windows(4).rposition(|it| it == b"PK\x01\x02").unwrap();
    assert_eq!(
        changed(&|it| {
            it[6] |= 1;
            it[directory + 8] |= 1;
        }),
        "export.zip/a.txt: is encrypted; unpack the archive with its password, and import the folder"
    );
    let method = changed(&|it| {
        it[8] = 14;
        it[directory + 10] = 14;
    });
    assert!(
        method.contains("which cannot be read; unpack the archive"),
        "{method}"
    );
    let huge = changed(&|it| it[directory + 24..directory + 28].fill(0xf0));
    assert!(huge.contains("MiB in an archive of 1 MiB"), "{huge}");
    // More bytes than announced.
    let more = changed(&|it| it[directory + 24] -= 1);
    assert!(more.starts_with("the archive is damaged ("), "{more}");
}

#[test]
fn a_file_outside_of_the_archive_is_refused() {
    let mut zip = ZipWriter::new(io::Cursor::new(Vec::new()));
    zip.start_file("../a.txt", FullFileOptions::default())
        .unwrap();
    let bytes = zip.finish().unwrap().into_inner();
    assert!(refusal(&bytes).contains("lies outside of it"));
}

proptest! {
    #[test]
    fn no_change_of_an_archive_panics(changes in prop::collection::vec((0..400_usize, any::<u8>()), 1..6), cut in 0..400_usize) {
        let folder = TempDir::new().unwrap();
        let mut bytes = archive(&[("a.txt", TEXT), ("b/c.json", "[1, 2]")], CompressionMethod::Deflated);
        for (place, value) in changes {
            let place = place % bytes.len();
            bytes[place] = value;
        }
        bytes.truncate(bytes.len() - cut.min(40) / 20 * 8);
        let path = stored(&folder, "export.zip", &bytes);
        if let Ok(files) = ExportFiles::find(&path) {
            for file in files.iter() {
                if let Ok(content) = file.content(1 << 20) {
                    prop_assert!(content.len() as u64 <= 1 << 20);
                }
            }
        }
    }
}
