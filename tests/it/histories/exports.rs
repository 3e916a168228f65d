//! Exports as they are downloaded: zip archives and folders with files of several kinds.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use cope_llama::profile::{Example, ImportOptions, Imported, import};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{Folder, skipped};

const CHATGPT: &str = r#"[{"title": "Soup", "current_node": "c", "mapping": {
    "a": {"parent": null, "message": {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["a soup?"]}}},
    "b": {"parent": "a", "message": {"author": {"role": "assistant"}, "content": {"content_type": "text", "parts": ["Leek."]}}},
    "c": {"parent": "b", "message": {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["no leeks"]}}}}}]"#;

const ACTIVITY: &str = r#"[{"header": "Gemini Apps", "title": "Prompted slugs", "time": "2026-03-01T08:00:00Z", "products": ["Gemini Apps"]}]"#;

const SENT: &str = "From 1@xxx Tue Mar 03 10:00:00 +0000 2026\nX-Gmail-Labels: Sent\nFrom: Tom <tom@berg.example>\n\
    Subject: Ladder\nDate: Tue, 3 Mar 2026 10:00:00 +0000\n\nIn the shed.\n";

impl Folder {
    /// A zip archive with these files.
    fn zip(&self, name: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        self.file(name, zip.finish().unwrap().into_inner())
    }
}

fn read(path: &Path) -> Imported {
    import(path, &ImportOptions::default()).unwrap()
}

fn responses(imported: &Imported) -> Vec<&str> {
    imported
        .examples
        .iter()
        .map(|it| it.response.as_str())
        .collect()
}

#[test]
fn an_archive_is_read_as_its_folder_is() {
    let folder = Folder::new();
    let files: [(&str, &[u8]); 9] = [
        ("conversations-000.json", CHATGPT.as_bytes()),
        (
            "conversations-001.json",
            &CHATGPT.replace("Soup", "Stew").into_bytes(),
        ),
        (
            "user.json",
            br#"{"id": "user-x", "email": "tom@berg.example"}"#,
        ),
        ("message_feedback.json", b"[]"),
        (
            "model_comparisons.json",
            br#"[{"id": "x", "input": "a", "output": "not the person's"}]"#,
        ),
        ("chat.html", b"<html></html>"),
        ("file-x-notes.txt", b"Notes\nof somebody else"),
        ("file-y.png", b"\x89PNG"),
        ("__MACOSX/._user.json", b"\0\x05\x16\x07"),
    ];
    let zip = folder.zip("export.zip", &files);
    for (name, bytes) in files {
        let path = folder.0.path().join("export").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let imported = read(&zip);
    assert_eq!(responses(&imported), ["a soup?", "no leeks"].repeat(2));
    assert_eq!(
        skipped(&imported),
        [
            ("a JSON file in no known form", 2),
            ("a file beside a program's chats", 2),
            ("a file that is a picture", 1),
            ("a file that is a web page", 1),
        ]
    );
    assert_eq!(read(&folder.0.path().join("export")), imported);
}

#[test]
fn everything_of_the_users_in_a_folder_is_read() {
    let folder = Folder::new();
    let takeout: [(&str, &[u8]); 3] = [
        ("Takeout/Mail/Gesendet.mbox", SENT.as_bytes()),
        (
            "Takeout/My Activity/Gemini Apps/MyActivity.json",
            ACTIVITY.as_bytes(),
        ),
        ("Takeout/archive_browser.html", b"<html></html>"),
    ];
    folder.zip("takeout-001.zip", &takeout);
    folder.file("letter.txt", "A letter\nDear Ann");
    folder.file("post.md", "# A walk\n\nIt rained.");
    folder.file("set.jsonl", r#"{"prompt": "ladder?", "response": "shed"}"#);
    folder.file("table.csv", "q,a\nx,y\n");
    let all = read(folder.0.path());
    assert_eq!(
        responses(&all),
        ["slugs", "shed", "In the shed.", "It rained.", "Dear Ann"]
    );
    assert_eq!(
        skipped(&all),
        [
            ("a file that is a web page", 1),
            ("a table (--columns names its columns)", 1)
        ]
    );
    let options = ImportOptions {
        columns: Some(["q".into(), "a".into()]),
        ..ImportOptions::default()
    };
    let with_table = import(folder.0.path(), &options).unwrap();
    assert!(with_table.examples.contains(&Example::new("x", "y")));
}

#[test]
fn what_is_wrong_with_an_archive_or_its_only_file_is_told() {
    let folder = Folder::new();
    let told = |files: &[(&str, &[u8])]| {
        let path = folder.zip("a.zip", files);
        let said = import(&path, &ImportOptions::default())
            .unwrap_err()
            .to_string();
        said.replace(&path.display().to_string(), "a.zip")
    };
    assert_eq!(told(&[]), "a.zip: is an empty zip archive");
    let unknown = told(&[("a/b.json", br#"{"x": 1}"#)]);
    assert!(
        unknown.starts_with(
            "a.zip/a/b.json: line 1: a JSON object with the field \"x\" is in none of the forms"
        ),
        "{unknown}"
    );
    assert_eq!(
        told(&[("a.jpg", b"x"), ("b.mp4", b"x"), ("c.bin", b"x")]),
        "a.zip: holds no usable items (1 skipped: a file of an unknown format; 1 skipped: a file that is a film; 1 skipped: a file that is a picture)"
    );
    let nested = told(&[("a.zip", b"PK\x03\x04"), ("b.jpg", b"x")]);
    assert!(
        nested.contains("is a zip archive in another; unpack the outer one first"),
        "{nested}"
    );
    let word = told(&[("[Content_Types].xml", b"x"), ("word/document.xml", b"x")]);
    assert_eq!(
        word,
        "a.zip: is a document of Microsoft Office; save it as .txt, and a table as .csv"
    );
    let broken = told(&[
        ("conversations.json", &CHATGPT.as_bytes()[..400]),
        ("user.json", b"{}"),
    ]);
    assert!(broken.contains("no usable items"), "{broken}");
    for (bytes, what) in [
        (&b"%PDF-1.7"[..], "is a PDF document; save its text as .txt"),
        (
            b"SQLite format 3\0",
            "is a database (SQLite); export the texts from the program that wrote it",
        ),
        (
            b"\x89PNG",
            "is of an unknown format; known are JSON, Parquet, ",
        ),
    ] {
        let said = folder.refusal("x", bytes);
        assert!(said.starts_with(&format!("x: {what}")), "{said}");
    }
    let said = folder.refusal("x.png", b"\x89PNG");
    assert!(
        said.starts_with("x.png: is a picture, and texts are needed"),
        "{said}"
    );
}

/// The files were written by pyarrow 26.0.1.
#[test]
fn rows_of_parquet_are_items() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet");
    let file = |name: &str| golden.join(name).with_extension("parquet");
    let ladder = Example::new("ladder?", "in the shed");
    for codec in ["snappy", "zstd", "gzip", "lz4", "brotli", "none"] {
        let expected = [ladder.clone(), Example::new("soup?", "leek")];
        assert_eq!(read(&file(codec)).examples, expected, "{codec}");
    }
    for layout in ["messages", "columns"] {
        assert_eq!(
            read(&file(layout)).examples,
            std::slice::from_ref(&ladder),
            "{layout}"
        );
    }
    assert_eq!(
        responses(&read(&file("longlamp"))),
        ["We do not steep.", "We steep."]
    );
}

#[test]
fn damaged_parquet_is_refused() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet");
    let folder = Folder::new();
    for name in ["messages", "snappy", "gzip", "lz4"] {
        let bytes = fs::read(golden.join(name).with_extension("parquet")).unwrap();
        for place in 4..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0xff;
            let path = folder.file("a.parquet", &changed);
            if let Err(error) = import(&path, &ImportOptions::default()) {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
}
