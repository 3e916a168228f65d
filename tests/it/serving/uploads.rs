//! Files that the page uploads: what is shown before anything is taken, what is taken, and what is left behind.

use std::io::{Cursor, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cope_llama::home::UserName;
use cope_llama::serve::KeyOf;
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{Refusal, Reply, Server, agent, merge, reply};

const CHAT: &str = "\
01/02/2026, 10:00 - Tom Berg: Are you coming on Friday?
01/02/2026, 10:01 - Nora Lind: Of course, with the cake. My PIN is 4711.
01/02/2026, 10:02 - Tom Berg: Lovely
01/02/2026, 10:03 - Nora Lind: And I bring the good plates
";

fn upload(server: &Server, user: &str, name: &str, body: impl AsRef<[u8]>) -> Reply {
    let path = format!("/api/users/{user}/uploads?file={name}");
    let request = agent().post(server.url(&path));
    let request = request.header("Content-Type", "application/octet-stream");
    reply(request.send(body.as_ref()).unwrap())
}

/// The path of an upload that was accepted.
fn path_of(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.text);
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    format!("/api/users/ann/uploads/{id}")
}

/// The preview of an upload, once it was read.
fn preview(server: &Server, path: &str) -> Value {
    let begun = Instant::now();
    loop {
        let reply = server.get(path, None);
        assert_eq!(reply.status, 200, "{}", reply.text);
        let preview = reply.json();
        if preview["state"] != "reading" {
            return preview;
        }
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

/// The folders of the uploads of ann.
fn left(server: &Server) -> Vec<PathBuf> {
    let uploads = server.home.root().join("users/ann/uploads");
    let entries = std::fs::read_dir(uploads).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_chat_is_taken_after_the_person_has_said_who_they_are() {
    let server = Server::new();
    let path = path_of(&upload(&server, "ann", "WhatsApp%20Chat.txt", CHAT));
    let needs = preview(&server, &path);
    assert_eq!(needs["state"], "needs", "{needs}");
    assert_eq!(needs["file"], "WhatsApp Chat.txt");
    assert_eq!(needs["needs"]["option"], "authors");
    assert_eq!(
        needs["needs"]["choices"],
        json!([{ "name": "Nora Lind", "n": 2 }, { "name": "Tom Berg", "n": 2 }])
    );
    let message = needs["message"].as_str().unwrap();
    assert!(
        message.starts_with("WhatsApp Chat.txt: whose messages"),
        "{message}"
    );

    let read = preview(&server, &format!("{path}?author=Nora%20Lind"));
    assert_eq!(read["state"], "read", "{read}");
    assert_eq!(
        (&read["n"], &read["new"], &read["known"]),
        (&json!(2), &json!(2), &json!(0))
    );
    assert_eq!(read["masked"], json!([["PIN", 1]]));
    assert_eq!(read["applies"], json!(["authors"]));
    let sample = &read["samples"][0];
    assert_eq!(sample["prompt"][0]["content"], "Are you coming on Friday?");
    assert_eq!(
        sample["response"],
        "Of course, with the cake. My PIN is [PIN]."
    );
    let kept = preview(
        &server,
        &format!("{path}?author=Nora%20Lind&keep_secrets=true"),
    );
    assert_eq!(kept["masked"], json!([]));
    let ann = server.home.user(UserName::new("ann").unwrap()).unwrap();
    assert!(ann.profile().unwrap().history.is_empty());

    let take = |more: Value| {
        let mut body = json!({ "author": ["Nora Lind"] });
        merge(&mut body, &more);
        server.post(&path, &body, None)
    };
    // Nothing is taken while somebody else changes the texts, and the upload stays.
    let lock = ann.lock().unwrap();
    let message = "another cope-llama is importing or training ann";
    take(json!({})).assert_refused(&Refusal::new(409, "conflict_error", message));
    drop(lock);
    let taken = take(json!({ "held_out": true }));
    assert_eq!(taken.json(), json!({ "new": 2, "known": 0 }));
    let held_out = ann.profile().unwrap().held_out;
    assert_eq!(
        held_out[0].response,
        "Of course, with the cake. My PIN is [PIN]."
    );
    assert_eq!(left(&server), Vec::<PathBuf>::new());
    assert_eq!(take(json!({})).status, 404);

    let again = path_of(&upload(&server, "ann", "again.txt", CHAT));
    let known = preview(&server, &format!("{again}?author=Nora%20Lind"));
    assert_eq!((&known["new"], &known["known"]), (&json!(0), &json!(2)));
}

#[test]
fn a_file_of_which_nothing_can_be_taken_says_why_by_its_own_name() {
    let server = Server::new();
    for (name, content, message) in [
        (
            "a.pdf",
            "%PDF-1.4",
            "a.pdf: is a PDF document; save its text as .txt",
        ),
        ("b.jsonl", "{\"prompt\": \"a\"}\n", "b.jsonl: "),
    ] {
        let path = path_of(&upload(&server, "ann", name, content));
        let failed = preview(&server, &path);
        assert_eq!(failed["state"], "failed", "{failed}");
        let told = failed["message"].as_str().unwrap();
        assert!(told.starts_with(message), "{told}");
        let taken = server.post(&path, &json!({}), None);
        taken.assert_refused(&Refusal::new(400, "invalid_request_error", told));
    }
    let table = path_of(&upload(&server, "ann", "t.csv", "q,\"a, b\"\nhi,hello\n"));
    let needs = preview(&server, &table);
    let choices = json!([{ "name": "q", "n": null }, { "name": "a, b", "n": null }]);
    assert_eq!(needs["needs"]["option"], "columns");
    assert_eq!(needs["needs"]["choices"], choices);
    let read = preview(&server, &format!("{table}?columns=q&columns=a,%20b"));
    assert_eq!(read["samples"][0]["response"], "hello", "{read}");
}

/// A zip archive with a text, and what else `add` puts into it.
fn archive(add: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    zip.start_file("notes/a.txt", options).unwrap();
    zip.write_all(b"Title\nhello").unwrap();
    add(&mut zip);
    zip.finish().unwrap().into_inner()
}

#[test]
fn an_archive_reaches_no_file_outside_of_itself() {
    let server = Server::new();
    let secret = server.fixture.folder.path().join("secret.txt");
    std::fs::write(&secret, "Secret\nof the host").unwrap();
    let options = SimpleFileOptions::default();
    let linked = archive(|zip| {
        for target in [secret.to_str().unwrap(), "../../../../../secret.txt"] {
            let name = format!("notes/{}.txt", target.len());
            zip.add_symlink(name, target, options).unwrap();
        }
    });
    let read = preview(&server, &path_of(&upload(&server, "ann", "a.zip", linked)));
    assert_eq!(
        (&read["state"], &read["n"]),
        (&json!("read"), &json!(1)),
        "{read}"
    );
    assert_eq!(read["samples"][0]["response"], "hello");

    let outside = archive(|zip| {
        zip.start_file("../../evil.txt", options).unwrap();
        zip.write_all(b"Title\nevil").unwrap();
    });
    let failed = preview(&server, &path_of(&upload(&server, "ann", "b.zip", outside)));
    assert_eq!(failed["state"], "failed", "{failed}");
    let message = "b.zip: is an archive with a file that lies outside of it, which no export has";
    assert_eq!(failed["message"], message);
}

#[test]
fn an_upload_that_is_dropped_too_long_or_cut_short_leaves_nothing() {
    let server = Server::with(|options| options.limits.uploads = 1000);
    let path = path_of(&upload(&server, "ann", "a.txt", "Title\nhello"));
    assert_eq!(left(&server).len(), 1);
    let removed = reply(agent().delete(server.url(&path)).call().unwrap());
    assert_eq!(removed.status, 200);
    assert_eq!(server.get(&path, None).status, 404);

    let half = path_of(&upload(&server, "ann", "b.txt", vec![b'a'; 600]));
    let message = "a user's uploads together may have 0 MiB";
    let refusal = Refusal::new(413, "invalid_request_error", message);
    upload(&server, "ann", "c.txt", vec![b'a'; 600]).assert_refused(&refusal);
    assert_eq!(left(&server).len(), 1);
    reply(agent().delete(server.url(&half)).call().unwrap());
    upload(&server, "ann", "d.txt", "").assert_refused(&Refusal::new(
        400,
        "invalid_request_error",
        "the file is empty",
    ));

    let path = server.url("/api/users/ann/uploads?file=e.txt");
    let plain = agent().post(path).header("Content-Type", "text/plain");
    reply(plain.send("hello").unwrap()).assert_refused(&Refusal::new(
        400,
        "invalid_request_error",
        "the body has to be a file: send `Content-Type: application/octet-stream`",
    ));

    // The client goes away in the middle.
    let mut client = std::net::TcpStream::connect(server.address()).unwrap();
    let head = "POST /api/users/ann/uploads?file=e.txt HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\nContent-Length: 900\r\n\r\nhello";
    client.write_all(head.as_bytes()).unwrap();
    let begun = Instant::now();
    while left(&server).is_empty() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the upload does not begin"
        );
    }
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let _ = client.read_to_end(&mut Vec::new());
    while !left(&server).is_empty() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the upload is kept"
        );
    }
}

#[test]
fn an_upload_belongs_to_its_user_and_comes_from_no_other_site() {
    let server = Server::new();
    let path = path_of(&upload(&server, "ann", "a.txt", "Title\nhello"));
    let of_bob = path.replace("/ann/", "/bob/");
    assert_eq!(server.get(&of_bob, None).status, 404);
    let foreign = agent()
        .post(server.url("/api/users/ann/uploads?file=evil.txt"))
        .header("Origin", "http://evil.example")
        .header("Content-Type", "text/plain")
        .send("Title\nevil");
    reply(foreign.unwrap()).assert_refused(&Refusal::new(
        403,
        "permission_error",
        "pages of http://evil.example may not use this server",
    ));
    assert_eq!(left(&server).len(), 1);

    let bob = server.home.user(UserName::new("bob").unwrap()).unwrap();
    let key = KeyOf::User(bob).make(&server.home).unwrap();
    assert_eq!(upload(&server, "ann", "b.txt", "x").status, 401);
    let key = Some(key.as_str());
    for path in [&path, &of_bob] {
        assert_eq!(server.get(path, key).status, 404);
        assert_eq!(server.post(path, &json!({}), key).status, 404);
    }
    // What a user who was deleted has uploaded is gone, also for one of the same name.
    let ann = server.home.user(UserName::new("ann").unwrap()).unwrap();
    ann.delete().unwrap();
    server
        .home
        .create_user(UserName::new("ann").unwrap())
        .unwrap();
    let admin = KeyOf::Admin.make(&server.home).unwrap();
    assert_eq!(server.get(&path, Some(&admin)).status, 404);
}
