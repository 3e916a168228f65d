//! Importers of histories: the examples in well-formed files, and the errors for malformed ones.

mod exports;
mod mails;
mod repositories;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use cope_llama::Error;
use cope_llama::error::Unspecified;
use cope_llama::message::Message;
use cope_llama::profile::{Example, HistoryPart, ImportOptions, Imported, Profile, import, lamp};
use tempfile::TempDir;

/// A temporary folder with files to import.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn import(&self, name: &str, content: impl AsRef<[u8]>) -> Vec<Example> {
        self.import_with(name, content, &ImportOptions::default())
            .examples
    }

    fn import_with(
        &self,
        name: &str,
        content: impl AsRef<[u8]>,
        options: &ImportOptions,
    ) -> Imported {
        import(&self.file(name, content), options).unwrap()
    }

    /// The message of a failed import, without the folder.
    fn refusal(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let message = import(&self.file(name, content), &ImportOptions::default())
            .unwrap_err()
            .to_string();
        assert_eq!(message.lines().count(), 1, "{message}");
        message.replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// The reasons for skipped items with their numbers.
fn skipped(imported: &Imported) -> Vec<(&str, usize)> {
    let skipped = imported.skipped.iter();
    skipped.map(|(why, n)| (why.as_str(), *n)).collect()
}

#[test]
fn jsonl_has_pairs_or_messages() {
    let folder = Folder::new();
    let text = concat!(
        "\u{feff}{\"prompt\": \"One?\", \"response\": \"Two.\", \"id\": 7}\r\n",
        "\n",
        "{\"prompt\": \"Three?\", \"completion\": \"Four.\"}\n",
        "{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": \"A\"}, ",
        "{\"role\": \"assistant\", \"content\": \"B\"}, {\"role\": \"user\", \"content\": \"C\"}, ",
        "{\"role\": \"assistant\", \"content\": \"D\"}]}",
    );
    let before = vec![Message::system("S"), Message::user("A")];
    let after = [
        before.clone(),
        vec![Message::assistant("B"), Message::user("C")],
    ]
    .concat();
    let expected = [
        Example::new("One?", "Two."),
        Example::new("Three?", "Four."),
        Example {
            prompt: before,
            response: "B".into(),
        },
        Example {
            prompt: after,
            response: "D".into(),
        },
    ];
    assert_eq!(folder.import("a.jsonl", text), expected);
}

#[test]
fn texts_have_a_title_and_a_body() {
    let folder = Folder::new();
    let walk = Example::new("Write a text titled \"A walk\".", "It rained.\n\nWe went.");
    assert_eq!(
        folder.import("a.txt", "\nA walk\nIt rained.\n\nWe went.\n"),
        std::slice::from_ref(&walk)
    );
    assert_eq!(
        folder.import("b.md", "# A walk\n\nIt rained.\n\nWe went.\n"),
        std::slice::from_ref(&walk)
    );
    let front = "---\r\ndate: 2024\r\ntitle: \"A walk\"\r\n---\r\nIt rained.\r\n\r\nWe went.\r\n";
    assert_eq!(folder.import("c.MD", front), std::slice::from_ref(&walk));
    assert_eq!(
        folder.import(
            "d.md",
            "---\ndate: 2024\n---\n## A walk\nIt rained.\n\nWe went."
        ),
        [walk]
    );
}

#[test]
fn the_content_of_a_file_tells_json_and_not_its_name() {
    let folder = Folder::new();
    let item = r#"{"prompt": "One?", "response": "Two."}"#;
    let expected = [Example::new("One?", "Two.")];
    for (name, text) in [
        ("a.json", item.to_owned()),
        ("a.jsonl", format!("[{item}]")),
        ("a.json", format!("{item}\n")),
        ("a.txt", format!("\u{feff}\r\n{item}")),
        ("a.csv", format!("[\n  {item}\n]")),
        ("a.sft", item.to_owned()),
        ("a", item.to_owned()),
    ] {
        assert_eq!(folder.import(name, text), expected, "{name}");
    }
    let post = "{\n  \"title\": \"A walk\"\n}\n\nIt rained.";
    let post = folder.import("a.md", post);
    assert_eq!(post[0].response, "\"title\": \"A walk\"\n}\n\nIt rained.");
}

#[test]
fn a_lamp_file_may_hold_numbers_and_names_its_wrong_field() {
    let folder = Folder::new();
    let lamp = |task: &str, user: &str, item: &str| {
        format!(r#"{{"task": "{task}", "users": [{{"user_id": {user}, "profile": [{item}]}}]}}"#)
    };
    let review = |overall: &str| {
        let item = r#"{"overall": 5.0, "summary": "good", "description": "a kettle", "reviewText": "It boils."}"#;
        lamp("product_review", "12", &item.replace("5.0", overall))
    };
    let read = folder.import("a.json", review("5.0"));
    assert_eq!(read, folder.import("a.json", review("\"5.0\"")));
    assert!(
        read[0].prompt[1].content.contains("rating of \"5.0\""),
        "{read:?}"
    );
    assert_eq!(
        folder.refusal("a.json", review("[5]")),
        "a.json: no LaMP file that can be read: users[0].profile[0].overall: is a list, where a text is needed (line 1, column 80)"
    );
    let headline = folder.import(
        "a.json",
        lamp("LaMP_4", "1", r#"{"text": "T", "title": "R"}"#),
    );
    assert_eq!(headline[0].response, "R");
    let unknown = folder.refusal("a.json", lamp("LaMP_9", "1", ""));
    assert!(
        unknown.starts_with("a.json: the task \"LaMP_9\" is unknown; known are news_headline, "),
        "{unknown}"
    );
}

#[test]
fn a_user_is_chosen_from_a_lamp_file() {
    let folder = Folder::new();
    let text = r#"{"task": "news_headline (LaMP-4)", "users": [
        {"user_id": "1", "profile": [{"id": "a", "text": "It rained.", "title": "Rain"}],
         "dev": [], "query": [{"id": "q", "input": "Generate a headline for the following article: Sun.", "output": "Sun"}]},
        {"user_id": "2", "profile": []}]}"#;
    let path = folder.file("a.json", text);
    let options = |user: &str| ImportOptions {
        lamp_user: Some(user.to_owned()),
        ..ImportOptions::default()
    };
    let examples = import(&path, &options("1")).unwrap().examples;
    let system = Message::system("You are a news headline generator.");
    let article = Message::user("Generate a headline for the following article: It rained.");
    assert_eq!(
        examples,
        [Example {
            prompt: vec![system.clone(), article],
            response: "Rain".into()
        }]
    );
    let query = &lamp::read(&path).unwrap().users[0].query;
    assert_eq!(query[0].id, "q");
    assert_eq!(query[0].example.prompt[0], system);

    let error = import(&path, &ImportOptions::default()).unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Unspecified(Unspecified::LampUser {
                asked: None,
                ids,
                ..
            }) if ids == &["1", "2"]
        ),
        "{error:?}"
    );
    assert_eq!(
        folder.refusal("a.json", text),
        "a.json: holds 2 users (1, 2, …)"
    );
    let error = import(&path, &options("3")).unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Unspecified(Unspecified::LampUser { asked: Some(id), .. }) if id == "3"
        ),
        "{error:?}"
    );
    let message = error.to_string();
    assert!(message.contains("has no user \"3\""), "{message}");
    assert_eq!(
        import(&path, &options("2")).unwrap_err().to_string(),
        format!("{}: holds no items", path.display())
    );
}

#[test]
fn lamp_is_read_as_it_is_published() {
    let folder = Folder::new();
    let options = |user: &str| ImportOptions {
        lamp_user: Some(user.to_owned()),
        ..ImportOptions::default()
    };
    let headlines = |path: &Path, user: &str| -> Vec<String> {
        let examples = import(path, &options(user)).unwrap().examples;
        examples.into_iter().map(|it| it.response).collect()
    };
    let question = |id: u32, more: &str| {
        format!(
            r#"{{"id": "{id}", "input": "Generate a headline for the following article: A mill."{more}, "profile": [{{"id": "{id}0", "text": "The ferry.", "title": "Noon"}}, {{"id": "{id}1", "text": "A goat.", "title": ""}}]}}"#
        )
    };
    let questions = format!("[{}, {}]", question(110, ""), question(111, ""));
    let path = folder.file("dev_questions.json", &questions);
    assert_eq!(headlines(&path, "110"), ["Noon"]);
    let golds = r#"{"task": "LaMP_4", "golds": [{"id": "110", "output": "Mill"}, {"id": 111, "output": "Rain"}]}"#;
    let outputs = folder.file("dev_outputs.json", golds);
    assert_eq!(headlines(&path, "111"), ["Noon", "Rain"]);
    assert_eq!(headlines(folder.0.path(), "110"), ["Noon", "Mill"]);
    let imported = import(&path, &options("110")).unwrap();
    let left = [("an item of a profile that lacks a text".to_owned(), 1)];
    assert_eq!(imported.skipped, left.into());
    let read = lamp::read(&path).unwrap();
    assert_eq!(read.users[1].query[0].example.response, "Rain");
    assert_eq!(
        folder.refusal("dev_questions.json", &questions),
        "dev_questions.json: holds 2 users (110, 111, …)"
    );
    assert!(lamp::is_lamp(&path).unwrap() && lamp::is_lamp(&outputs).unwrap());
    assert_eq!(
        folder.refusal("dev_outputs.json", golds),
        "dev_outputs.json: holds the golds of LaMP's questions alone; import the questions (dev_questions.json), beside which it is read"
    );

    // The rows of one user are joined, in one file or in lines.
    let gold = |user: &str, gold: &str| {
        question(1, &format!(r#", {user}, "output": "{gold}""#)).replace("\"id\": \"1\", ", "")
    };
    let user = r#""user_id": 7"#;
    let merged = format!("[{}, {}]", gold(user, "Mill"), gold(user, "Rain"));
    assert_eq!(
        headlines(&folder.file("merged.json", merged), "7"),
        ["Noon", "Mill", "Rain"]
    );
    for field in ["name", "author", "reviewerId"] {
        let line = gold(&format!(r#""{field}": "ann""#), "Mill");
        let path = folder.file("a.jsonl", format!("{line}\n{line}\n"));
        assert_eq!(headlines(&path, "ann"), ["Noon", "Mill", "Mill"], "{field}");
    }
    let wrong = question(3, "").replace("\"Noon\"", "[1]");
    assert_eq!(
        folder.refusal("b.json", format!("[{}, {wrong}]", question(2, ""))),
        "b.json: line 1, item 2: the question \"3\": profile[0].title: is a list, where a text is needed"
    );
    let unknown = question(4, "").replace("Generate a headline", "Which tag");
    let refusal = folder.refusal("c.json", format!("[{unknown}]"));
    assert!(
        refusal.contains("the task of the question \"Which tag"),
        "{refusal}"
    );
}

/// The held-out items of real files have the benchmark's own wording; the prompts made from profiles must have the same.
#[test]
fn prompts_of_lamp_profiles_have_the_wording_of_held_out_items() {
    let folder = Folder::new();
    let cases = [
        (
            "news_headline",
            r#"{"text": "T", "title": "R"}"#,
            "Generate a headline for the following article: T",
        ),
        (
            "scholarly_title",
            r#"{"abstract": "T", "title": "R"}"#,
            "Generate a title for the following abstract of a paper: T",
        ),
        (
            "abstract_generation",
            r#"{"title": "T", "abstract": "R"}"#,
            "Generate an abstract for the title \"T\"",
        ),
        (
            "product_review",
            r#"{"overall": "4.0", "description": "D", "summary": "S", "reviewText": "R"}"#,
            "Generate the review text written by a reviewer who has a given an overall rating of \"4.0\" for a product \
             with description \"D\". The summary of the review text is \"S\".",
        ),
        (
            "product_review",
            r#"{"overall": "90", "description": "Barolo (Nebbiolo)", "summary": "Barolo", "reviewText": "R"}"#,
            "Generate the review text written by a reviewer who has a given an overall rating of \"90\" for a product \
             with description \"Barolo (Nebbiolo)\".",
        ),
        (
            "topic_writing",
            r#"{"summary": "T", "content": "R"}"#,
            "Generate the content for a forum post answering \"T\"",
        ),
        (
            "topic_writing",
            r#"{"title": "T", "summary": "", "content": "R"}"#,
            "Generate the content for a blog post titled \"T\"",
        ),
    ];
    for (task, item, prompt) in cases {
        let text =
            format!(r#"{{"task": "{task}", "users": [{{"user_id": "1", "profile": [{item}]}}]}}"#);
        let examples = folder.import("a.json", text);
        assert_eq!(examples[0].prompt[1].content, prompt);
        assert_eq!(examples[0].response, "R");
    }
}

#[test]
fn errors_in_jsonl_name_the_line() {
    let folder = Folder::new();
    let good = "{\"prompt\": \"One?\", \"response\": \"Two.\"}\n";
    let line = |line: &str| folder.refusal("a.jsonl", format!("{good}\n{line}\n{good}"));
    assert_eq!(
        line("{\"prompt\": \"One?\""),
        "a.jsonl: line 3: no valid JSON (expected `,` or `}`, line 4, column 1)"
    );
    for (item, message) in [
        (
            "{\"prompt\": \"One?\"}",
            "a JSON object with the field \"prompt\" is in none of the forms that can be read: {\"prompt\": …, \"response\": …}, ",
        ),
        (
            "{\"prompt\": \"One?\", \"response\": \" \"}",
            "the field \"response\" is empty; each item needs its texts, in one of the forms {\"prompt\": …, \"response\": …}, ",
        ),
        (
            "{\"prompt\": \"\", \"response\": \"a\"}",
            "the field \"prompt\" is empty; ",
        ),
    ] {
        let message = format!("a.jsonl: line 3: {message}");
        assert!(line(item).starts_with(&message), "{}", line(item));
    }

    let bytes = [good.as_bytes(), b"{\"prompt\": \"\xff\"}"].concat();
    assert_eq!(
        folder.refusal("a.jsonl", bytes),
        "a.jsonl: line 2: no valid JSON (no UTF-8, line 2, column 13)"
    );
}

#[test]
fn items_of_which_nothing_can_be_learnt_are_counted() {
    let folder = Folder::new();
    let good = "{\"prompt\": \"One?\", \"response\": \"Two.\"}\n";
    let long = format!(
        "{{\"prompt\": \"a\", \"response\": \"{}\"}}",
        "b".repeat(1 << 20)
    );
    for (item, why) in [
        ("{\"messages\": []}", "a chat without an answer"),
        (
            "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}",
            "an answer without a question before it",
        ),
        (&long, "longer than 24000 bytes"),
    ] {
        let text = format!("{good}\n{item}\n");
        let imported = folder.import_with("a.jsonl", text, &ImportOptions::default());
        assert_eq!(imported.examples, [Example::new("One?", "Two.")], "{why}");
        assert_eq!(imported.skipped, [(why.to_owned(), 1)].into(), "{item}");
    }
}

#[test]
fn files_without_examples_and_of_unknown_formats_are_refused() {
    let folder = Folder::new();
    assert_eq!(
        folder.refusal("a.jsonl", "\n \n"),
        "a.jsonl: holds no items"
    );
    assert_eq!(
        folder.refusal("a.txt", "A title alone\n\n"),
        "a.txt: has no text after its title: write the title on the first line, the text below it"
    );
    assert_eq!(folder.refusal("a.json", "[]"), "a.json: holds no items");
    assert!(
        folder
            .refusal("a.pdf", "x")
            .starts_with("a.pdf: is of an unknown format")
    );
    let missing = import(Path::new("/no/such.jsonl"), &ImportOptions::default()).unwrap_err();
    assert!(matches!(missing, Error::Io { .. }), "{missing:?}");
    assert_eq!(missing.to_string(), "cannot open /no/such.jsonl");
}

#[test]
fn files_that_are_no_text_in_utf_8_say_what_they_are() {
    let folder = Folder::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n";
    let pointed = "is a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`";
    let utf_16 = "is in UTF-16; save it in UTF-8";
    for name in ["a.txt", "a.md", "a.csv", "a.tsv", "a.jsonl", "a.mbox"] {
        for (bytes, what) in [
            (pointer.as_bytes(), pointed),
            (b"\xff\xfet\0", utf_16),
            (b"\xfe\xff\0t", utf_16),
            (b"t\0i\0", utf_16),
            (b"\x1f\x8b\x08\0", "is compressed by gzip; unpack it first"),
        ] {
            assert_eq!(folder.refusal(name, bytes), format!("{name}: {what}"));
        }
    }
    let posts = Folder::new();
    posts.file("a.md", pointer);
    posts.file("b.md", "# A walk\n\nIt rained.");
    let imported = import(posts.0.path(), &ImportOptions::default()).unwrap();
    assert_eq!(imported.examples.len(), 1);
    assert_eq!(
        imported.skipped,
        [(format!("a file that {pointed}"), 1)].into()
    );
}

#[test]
fn an_example_is_added_once_and_to_one_part_only() {
    let example = |n: usize| Example::new(format!("{n}?"), "yes");
    let mut profile = Profile::default();
    let added = profile.add(
        HistoryPart::History,
        vec![example(1), example(2), example(1)],
    );
    assert_eq!((added.new, added.known), (2, 1));
    let added = profile.add(HistoryPart::HeldOut, vec![example(2), example(3)]);
    assert_eq!((added.new, added.known), (1, 1));
    assert_eq!(profile.history, [example(1), example(2)]);
    assert_eq!(profile.held_out, [example(3)]);
}

#[test]
fn an_example_is_stored_as_one_line_of_messages() {
    let example = Example::new("One?\n", "Two \"2\".\n");
    let line = serde_json::to_string(&example).unwrap();
    assert_eq!(
        line,
        r#"{"messages":[{"role":"user","content":"One?\n"},{"role":"assistant","content":"Two \"2\".\n"}]}"#
    );
    assert_eq!(serde_json::from_str::<Example>(&line).unwrap(), example);
}
