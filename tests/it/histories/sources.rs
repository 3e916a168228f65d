//! Importers of tables, mailboxes, folders of posts, git repositories and chats: the user's own texts are taken, and the
//! reasons for skipped items are counted.

use std::fs;

use cope_llama::Error;
use cope_llama::error::Unspecified;
use cope_llama::message::Message;
use cope_llama::profile::{Example, ImportOptions, Speaker, import};

use super::{Folder, skipped};

#[test]
fn two_named_columns_of_a_table_are_imported() {
    let folder = Folder::new();
    let text = "id,question,answer\n1,One?,\"Two,\nof course.\"\n2,Three?, \n3\n";
    let options = |columns: [&str; 2]| ImportOptions {
        columns: Some(columns.map(str::to_owned)),
        ..ImportOptions::default()
    };
    let imported = folder.import_with("a.csv", text, &options(["question", "answer"]));
    assert_eq!(
        imported.examples,
        [Example::new("One?", "Two,\nof course.")]
    );
    assert_eq!(
        skipped(&imported),
        [
            ("the response is empty", 1),
            ("the row is shorter than the first", 1)
        ]
    );
    let tabs = folder.import_with("a.tsv", "q\ta\nx\ty\n", &options(["q", "a"]));
    assert_eq!(tabs.examples, [Example::new("x", "y")]);
    assert_eq!(
        folder.refusal("a.csv", text),
        "a.csv: which columns hold the prompts and the responses? it has id, question, answer"
    );
    let path = folder.file("a.csv", text);
    let error = import(&path, &ImportOptions::default()).unwrap_err();
    assert!(
        matches!(&error, Error::Unspecified(Unspecified::Columns { known, .. }) if known.len() == 3),
        "{error:?}"
    );
    let message = import(&path, &options(["question", "reply"])).unwrap_err();
    assert!(
        message
            .to_string()
            .ends_with("has no column \"reply\"; it has id, question, answer"),
        "{message}"
    );
}

const MAILS: &str = "\
From ann@example.org Mon Mar  2 10:00:00 2026
From: Ann Lee <ann@example.org>
Date: Mon, 2 Mar 2026 10:00:00 +0000
Message-ID: <1@example.org>
Subject: Dinner

Shall we eat?

From bob@example.org Mon Mar  2 11:00:00 2026
From: Bob <BOB@example.org>
Date: Mon, 2 Mar 2026 11:00:00 +0000
Message-ID: <2@example.org>
In-Reply-To: <1@example.org>
Subject: Re: Dinner
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Gladly, at the caf=C3=A9.

On Monday Ann Lee wrote:
> Shall we eat?
--=20
Bob

From bob@example.org Mon Mar  2 12:00:00 2026
From: Bob <bob@example.org>
Date: Sun, 1 Mar 2026 12:00:00 +0000
Subject: The garden
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary=x

--x
Content-Type: text/html

<p>It <b>rained</b>.</p>
--x--

From bob@example.org Mon Mar  2 13:00:00 2026
From: bob@example.org
Subject: Fwd: News

---------- Forwarded message ----------
News.

";

#[test]
fn the_users_own_mails_are_imported_from_mbox_and_maildir() {
    let folder = Folder::new();
    let bob = ImportOptions {
        authors: vec!["bob@example.org".into()],
        ..ImportOptions::default()
    };
    let imported = folder.import_with("a.mbox", MAILS, &bob);
    assert_eq!(
        imported.examples,
        [
            Example::new(
                "Write a mail with the subject \"The garden\".",
                "It rained."
            ),
            Example::new("Answer this mail:\n\nShall we eat?", "Gladly, at the café."),
        ]
    );
    let expected = [("from somebody else", 1), ("nothing but quoted text", 1)];
    assert_eq!(skipped(&imported), expected);

    // The same e-mails in a Maildir give the same examples.
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(folder.0.path().join("mails").join(part)).unwrap();
    }
    for (number, mail) in MAILS.split("\n\nFrom ").enumerate() {
        let mail = mail.split_once('\n').unwrap().1;
        folder.file(&format!("mails/cur/{number}:2,S"), mail);
    }
    let maildir = import(&folder.0.path().join("mails"), &bob).unwrap();
    assert_eq!(maildir, imported);

    assert_eq!(
        folder.refusal("a.mbox", MAILS),
        "a.mbox: whose mails are the user's own? They are by bob@example.org (3), ann@example.org (1)"
    );
    let carol = ImportOptions {
        authors: vec!["carol@example.org".into()],
        ..ImportOptions::default()
    };
    let message = import(&folder.file("a.mbox", MAILS), &carol).unwrap_err();
    assert!(
        message.to_string().ends_with(
            "has no mails by that author; it has some by bob@example.org (3), ann@example.org (1)"
        ),
        "{message}"
    );
}

#[test]
fn a_folder_of_posts_is_read_by_date() {
    let folder = Folder::new();
    fs::create_dir_all(folder.0.path().join("posts/2026/.hidden")).unwrap();
    let post = |name: &str, text: &str| folder.file(&format!("posts/{name}"), text);
    post(
        "b.md",
        "---\ntitle: Second\ndate: 2026-02-01\nauthor: Bob B.\n---\nIt rained.",
    );
    post(
        "2026/a.markdown",
        "+++\ntitle = \"First\"\ndate = \"2026-01-01\"\n+++\nSun.",
    );
    post("c.md", "---\ntitle: Third\nauthor: Ann\n---\nNot by Bob.");
    post("d.md", "---\ntitle: Fourth\ndraft: true\n---\nNot yet.");
    post("e.md", "---\ntitle: Fifth\n---\n");
    post("f.txt", "A letter\nTo Ann.");
    post("README.md", "# About\n\nThese posts.");
    post("2026/.hidden/g.md", "Hidden\nText.");
    let options = ImportOptions {
        authors: vec!["bob".into()],
        ..ImportOptions::default()
    };
    let imported = import(&folder.0.path().join("posts"), &options).unwrap();
    assert_eq!(
        imported.examples,
        [
            Example::new("Write a text titled \"First\".", "Sun."),
            Example::new("Write a text titled \"Second\".", "It rained."),
            Example::new("Write a text titled \"A letter\".", "To Ann."),
        ]
    );
    assert_eq!(
        skipped(&imported),
        [
            ("a draft", 1),
            ("a file about the others", 1),
            ("by another author", 1),
            ("no title, or no text below it", 1)
        ]
    );
}

#[test]
fn either_speaker_of_a_chat_can_be_imported() {
    let folder = Folder::new();
    let sharegpt = r#"[{"conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "A"},
        {"from": "gpt", "value": "B"}, {"from": "human", "value": "C"}, {"from": "gpt", "value": "D"}]}]"#;
    let first = vec![Message::system("S"), Message::user("A")];
    let after = [Message::assistant("B"), Message::user("C")];
    let before = [first.clone(), after.to_vec()].concat();
    let answers = [
        Example {
            prompt: first,
            response: "B".into(),
        },
        Example {
            prompt: before,
            response: "D".into(),
        },
    ];
    assert_eq!(folder.import("a.json", sharegpt), answers);
    let line = sharegpt.trim_matches(['[', ']']).replace('\n', "");
    assert_eq!(folder.import("a.jsonl", line), answers);

    // The branch with "No." is not on the path to the current node and is left out.
    let chatgpt = r#"[{"title": "Tea", "current_node": "d", "mapping": {
        "a": {"parent": null, "message": null},
        "b": {"parent": "a", "message": {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["Which tea?"]}}},
        "x": {"parent": "b", "message": {"author": {"role": "assistant"}, "content": {"content_type": "text", "parts": ["No."]}}},
        "c": {"parent": "b", "message": {"author": {"role": "assistant"}, "content": {"content_type": "text", "parts": ["Green."]}}},
        "d": {"parent": "c", "message": {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["Thanks!"]}}}}}]"#;
    let asked = [
        Example::new("Start a chat about \"Tea\".", "Which tea?"),
        Example {
            prompt: vec![
                Message::user("Start a chat about \"Tea\"."),
                Message::assistant("Which tea?"),
                Message::user("Green."),
            ],
            response: "Thanks!".into(),
        },
    ];
    assert_eq!(folder.import("a.json", chatgpt), asked);
    let options = ImportOptions {
        speaker: Some(Speaker::Assistant),
        ..ImportOptions::default()
    };
    let imported = folder.import_with("a.json", chatgpt, &options);
    assert_eq!(imported.examples, [Example::new("Which tea?", "Green.")]);
    assert!(
        folder
            .refusal("a.json", r#"[{"conversations": 3}]"#)
            .starts_with("a.json: line 1, item 1: the field \"conversations\" is a number")
    );
}
