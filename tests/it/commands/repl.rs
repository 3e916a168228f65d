//! The commands of a chat, with its lines on stdin.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::decoding::with_adapter;
use super::{Sandbox, error, stderr, stdout};

/// A chat whose answers are ASCII letters and as exact as passes of any length can be.
const CHAT: [&str; 9] = [
    "chat",
    "-m",
    "tiny.gguf",
    "-n",
    "16",
    "--cache-type",
    "f32",
    "--grammar",
    "root ::= [a-z ]+",
];

/// Greedy answers of a voice.
const VOICE: [&str; 8] = [
    "--lora",
    "adapter.gguf",
    "--contrast",
    "0.5",
    "--temp",
    "0",
    "-s",
    "42",
];

/// Greedy answers of the base.
const BASE: [&str; 2] = ["--temp", "0"];

/// Stdout and stderr of a chat that succeeds.
fn chat(sandbox: &Sandbox, options: &[&str], input: &str) -> (String, String) {
    let output = sandbox.run_with(&[&CHAT[..], options].concat(), input);
    assert!(output.status.success(), "{}", stderr(&output));
    (stdout(&output), stderr(&output))
}

/// The last line on stderr of a chat that fails.
fn last_error(sandbox: &Sandbox, options: &[&str], input: &str) -> String {
    let output = sandbox.run_with(&[&CHAT[..], options].concat(), input);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let last = stderr(&output).lines().last().unwrap().to_owned();
    assert!(last.starts_with("error: "), "{last}");
    last
}

fn saved(sandbox: &Sandbox, name: &str) -> Value {
    let path = sandbox.path().join(format!("home/chats/{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn settings_are_changed_and_shown() {
    let sandbox = with_adapter();
    let (before, _) = chat(&sandbox, &VOICE, "/show\n");
    for line in [
        "model              tiny.gguf",
        "user               none",
        "adapter            adapter.gguf",
        "contrast           0.5",
        "scale              1",
        "temperature        0",
        "regen_temperature  0.7",
        "seed               42",
        "predict            16",
        "system             none",
        "messages           0",
    ] {
        assert!(
            before.lines().any(|found| found == line),
            "{line}: {before}"
        );
    }
    let changes = "/set temperature 0.5\n/set top_k 3\n/set top_p 0.9\n/set min_p 0.1\n/set seed 9\n\
        /set predict 4\n/set scale 0.25\n/contrast 0.3\n/set plausibility 0.2\n/set system Be brief.\n";
    let (after, notes) = chat(&sandbox, &VOICE, &format!("{changes}hello\n/show\n"));
    for line in [
        "temperature        0.5",
        "top_k              3",
        "top_p              0.9",
        "min_p              0.1",
        "seed               9",
        "predict            4",
        "scale              0.25",
        "contrast           0.3",
        "plausibility       0.2",
        "system             Be brief.",
        "messages           2",
    ] {
        assert!(after.lines().any(|found| found == line), "{line}: {after}");
    }
    assert!(
        notes.starts_with("[temperature 0.5]\n[top_k 3]\n"),
        "{notes}"
    );
    assert!(notes.contains("[ended after 4 tokens;"), "{notes}");

    // The settings give the answer that options of the command line give.
    let options = [
        "--temp",
        "0.5",
        "--top-k",
        "3",
        "--top-p",
        "0.9",
        "--min-p",
        "0.1",
        "-s",
        "9",
        "-n",
        "4",
        "--lora-scaled",
        "adapter.gguf",
        "0.25",
        "--contrast",
        "0.3",
        "--plausibility",
        "0.2",
        "--system-prompt",
        "Be brief.",
        "--cache-type",
        "f32",
        "--grammar",
        "root ::= [a-z ]+",
    ];
    let options = [&["chat", "-m", "tiny.gguf"][..], &options].concat();
    let by_options = sandbox.run_with(&options, "hello\n");
    assert_eq!(after.lines().next(), stdout(&by_options).lines().next());

    for (line, why) in [
        (
            "/set warmth 2",
            "unknown setting \"warmth\"; there are temperature, ",
        ),
        ("/set top_k many", "/set top_k needs a whole number"),
        (
            "/set temperature -1",
            "the temperature must be 0 or more, not -1",
        ),
        (
            "/set scale -1",
            "the scale of an adapter must be 0 or more, not -1",
        ),
        ("/set", "/set needs a setting and a value"),
    ] {
        let message = error(&sandbox.run_with(&[&CHAT[..], &VOICE].concat(), line));
        assert!(message.contains(why), "{message}");
    }
    for line in [
        "/set scale 1\n",
        "/contrast 0.5\n",
        "/set plausibility 0.5\n",
    ] {
        let base = error(&sandbox.run_with(&[&CHAT[..], &BASE].concat(), line));
        assert!(base.contains("only the base can answer"), "{base}");
    }
}

#[test]
fn a_new_scale_forgets_what_was_read_with_the_old_one() {
    let sandbox = with_adapter();
    let fresh = |scale| {
        let voice = ["--lora-scaled", "adapter.gguf", scale, "--contrast", "0"];
        let options = [&voice[..], &BASE].concat();
        chat(&sandbox, &options, "dear alice, the wine\n").0
    };
    let answers = ["1", "0.3", "0"].map(fresh);
    assert!(answers[0] != answers[1] && answers[1] != answers[2]);
    let again = "/clear\ndear alice, the wine\n";
    let input = format!(
        "dear alice, the wine\n/set scale 0.3\n{again}/set scale 0\n{again}/set scale 1\n{again}"
    );
    let voice = ["--lora", "adapter.gguf", "--contrast", "0"];
    let options = [&voice[..], &BASE].concat();
    let (changed, _) = chat(&sandbox, &options, &input);
    assert_eq!(changed, answers.concat() + &answers[0]);
    // At a scale of 0 the user model is the base.
    assert_eq!(
        chat(&sandbox, &BASE, "dear alice, the wine\n").0,
        answers[2]
    );
}

#[test]
fn a_saved_chat_goes_on_as_if_it_had_not_been_left() {
    let sandbox = with_adapter();
    let (whole, _) = chat(
        &sandbox,
        &VOICE,
        "/set system Be brief.\n/contrast 0.2\nhello\nthanks\n",
    );
    let first = "/set system Be brief.\n/contrast 0.2\nhello\n/save letters\n";
    let (first, notes) = chat(&sandbox, &VOICE, first);
    assert!(
        notes.contains("[saved 2 messages; /load letters brings them back]"),
        "{notes}"
    );
    let (second, notes) = chat(&sandbox, &VOICE, "/load letters\nthanks\n/save\n/show\n");
    assert!(notes.starts_with("[loaded letters: 2 messages]"), "{notes}");
    let (second, shown) = second.split_at(whole.len() - first.len());
    assert_eq!(first + second, whole);
    for line in [
        "contrast           0.2",
        "system             Be brief.",
        "messages           4",
    ] {
        assert!(shown.lines().any(|found| found == line), "{line}: {shown}");
    }
    let file = sandbox.path().join("home/chats/letters.json");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(
        saved(&sandbox, "letters")["messages"][2]["content"],
        "thanks"
    );

    for (lines, why) in [
        ("/save letters\n", "there is a saved chat letters already"),
        (
            "/load letters\n/clear\n/save letters\n",
            "there is a saved chat letters already",
        ),
        ("/save ../letters\n", "not a valid name"),
        ("/load other\n", "no saved chat other, there are: letters"),
        ("/save\n", "/save needs a name"),
    ] {
        let message = last_error(&sandbox, &VOICE, lines);
        assert!(message.contains(why), "{lines}: {message}");
    }
    let text = std::fs::read_to_string(&file).unwrap();
    let hot = text.replace("\"temperature\": 0.0", "\"temperature\": -1.0");
    assert_ne!(hot, text);
    for (damaged, why) in [
        (
            hot.as_str(),
            "the saved chat letters cannot be used: the temperature must be 0 or more",
        ),
        (&text[..text.len() / 2], "chats/letters.json: "),
    ] {
        std::fs::write(&file, damaged).unwrap();
        let message = last_error(&sandbox, &VOICE, "/load letters\n");
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn a_chat_of_the_page_goes_on_at_the_terminal_and_keeps_its_title() {
    let sandbox = with_adapter();
    // The page stores some of the settings, or none.
    let message = json!({ "role": "user", "content": "hello" });
    let chat_of_page =
        json!({ "title": "Cake", "settings": { "contrast": 0.25 }, "messages": [message] });
    let chats = sandbox.path().join("home/chats");
    std::fs::create_dir_all(&chats).unwrap();
    std::fs::write(chats.join("cake-1.json"), chat_of_page.to_string()).unwrap();
    std::fs::write(chats.join("bare.json"), r#"{"messages":[]}"#).unwrap();
    let lines = "/set temperature 0.5\n/load bare\n/load cake-1\nthanks\n/save\n/show\n";
    let (shown, notes) = chat(&sandbox, &VOICE, lines);
    assert!(notes.contains("[loaded cake-1: 1 messages]"), "{notes}");
    for line in ["contrast           0.25", "temperature        0.5"] {
        assert!(shown.lines().any(|found| found == line), "{line}: {shown}");
    }
    let saved = saved(&sandbox, "cake-1");
    assert_eq!(saved["title"], "Cake");
    assert_eq!(saved["messages"].as_array().unwrap().len(), 3);
}

#[test]
fn quotes_hold_the_lines_of_a_message_together() {
    let sandbox = with_adapter();
    let block = "\"\"\"";
    let input = format!(
        "/set system {block}\nBe brief.\nBe kind.\n{block}\n{block}/hello\n  there{block}\n/save it\n/bye\nnever\n"
    );
    let (answer, _) = chat(&sandbox, &VOICE, &input);
    assert_eq!(answer.lines().count(), 1, "{answer}");
    let saved = saved(&sandbox, "it");
    assert_eq!(saved["settings"]["system"], "Be brief.\nBe kind.");
    assert_eq!(saved["messages"][0]["content"], "/hello\n  there");
    assert_eq!(saved["messages"].as_array().unwrap().len(), 2);

    let open = last_error(&sandbox, &VOICE, &format!("{block}hello\n/quit\n"));
    assert!(open.contains("has no end"), "{open}");
}

#[test]
fn why_marks_what_the_contrast_changed_in_the_last_answer() {
    let sandbox = with_adapter();
    let asked = "dear alice, the wine";
    let (shown, notes) = chat(&sandbox, &VOICE, &format!("{asked}\n/why\n"));
    let (answer, marked) = shown.split_once('\n').unwrap();
    assert_eq!(
        marked.trim_end_matches('\n').replace(['[', ']'], ""),
        answer
    );
    assert_ne!(marked.trim_end_matches('\n'), answer);
    let generate = [
        &["generate"][..],
        &CHAT[1..],
        &VOICE,
        &["-p", asked, "--explain"],
    ]
    .concat();
    let explained = sandbox.run(&generate);
    assert_eq!(stdout(&explained), marked, "{}", stderr(&explained));
    let legend = stderr(&explained).lines().last().unwrap().to_owned();
    assert!(
        legend.starts_with("[marked: the contrast changed "),
        "{legend}"
    );
    assert!(notes.lines().any(|line| line == legend), "{notes}");

    // Without contrast nothing is changed, drawn or not.
    let drawn = format!("/contrast 0\n/set temperature 2\n{asked}\n/why\n");
    let (_, notes) = chat(&sandbox, &VOICE, &drawn);
    assert!(notes.contains("choice, 0 of 16 tokens]"), "{notes}");

    let edited = format!("{asked}\n/save it\n/load it\n/why\n");
    for (options, lines, why) in [
        (&VOICE[..], "/why\n", "nothing was answered yet"),
        (
            &VOICE[..],
            &edited,
            "is not as the model gave it in this chat",
        ),
        (&BASE[..], "hello\n/why\n", "only the base can answer"),
    ] {
        let message = last_error(&sandbox, options, lines);
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn another_answer_is_drawn_with_the_next_seed() {
    let sandbox = with_adapter();
    let hello = |temperature, seed| {
        let options = [&VOICE[..4], &["--temp", temperature, "-s", seed]].concat();
        chat(&sandbox, &options, "hello\n").0
    };
    let (shown, notes) = chat(&sandbox, &VOICE, "hello\n/regen\n/regen\n");
    let expected = [hello("0", "42"), hello("0.7", "43"), hello("0.7", "44")];
    assert_eq!(shown, expected.concat());
    assert!(expected[0] != expected[1] && expected[1] != expected[2]);
    assert!(
        notes.contains("[drawn at temperature 0.7 with seed 43]"),
        "{notes}"
    );

    let input =
        "/set regen_temperature 1.5\n/set seed 7\nhello\n/regen\n/set temperature 0.9\n/regen\n";
    let (shown, _) = chat(&sandbox, &VOICE, input);
    let expected = [hello("0", "7"), hello("1.5", "8"), hello("0.9", "9")];
    assert_eq!(shown, expected.concat());
}

#[test]
fn a_comparison_shows_the_answer_that_was_given() {
    let sandbox = with_adapter();
    let hello = |temperature, seed| {
        let options = [&VOICE[..4], &["--temp", temperature, "-s", seed]].concat();
        chat(&sandbox, &options, "hello\n").0
    };
    let joined = |text: &str| text.split_whitespace().collect::<String>();
    // CoPe's answer is in the last of three columns.
    let compared = |input: &str| {
        let shown = chat(&sandbox, &VOICE, input).0;
        let rows = shown.lines().skip_while(|it| !it.starts_with('─')).skip(1);
        let column = |row: &str| row.chars().skip(2 * 27).collect::<String>();
        joined(&rows.map(column).collect::<String>())
    };
    let (first, again) = (hello("0", "42"), hello("0.7", "43"));
    assert_ne!(first, again);
    let (first, again) = (joined(&first), joined(&again));
    assert_eq!(compared("hello\n/compare\n"), first);
    assert_eq!(compared("hello\n/regen\n/compare\n"), again);
    // The other arms draw with the seed of the answer that is shown: 43 is the second one's.
    let base_of = |input: &str| {
        let shown = chat(&sandbox, &VOICE, input).0;
        let rows = shown.lines().skip_while(|it| !it.starts_with('─')).skip(1);
        joined(
            &rows
                .map(|row| row.chars().take(26).collect::<String>())
                .collect::<String>(),
        )
    };
    let of_base = |seed| joined(&chat(&sandbox, &["--temp", "0.7", "-s", seed], "hello\n").0);
    assert_ne!(of_base("42"), of_base("43"));
    assert_eq!(base_of("hello\n/regen\n/compare\n"), of_base("43"));
    // With other settings than those of the answer, there is another one.
    let drawn = joined(&hello("0.7", "42"));
    assert_eq!(
        compared("hello\n/regen\n/set seed 42\n/set temperature 0.7\n/compare\n"),
        drawn
    );
}

#[test]
fn an_adapter_file_has_a_scale_on_the_command_line() {
    let sandbox = with_adapter();
    let generate = |voice: &[&str]| {
        let prompt = [
            "generate",
            "-m",
            "tiny.gguf",
            "-p",
            "dear alice",
            "-n",
            "16",
        ];
        let exact = ["--temp", "0", "--cache-type", "f32"];
        sandbox.run(&[&prompt[..], &exact, voice].concat())
    };
    let whole = generate(&["--lora", "adapter.gguf"]);
    assert!(whole.status.success(), "{}", stderr(&whole));
    let scaled = |scale| generate(&["--lora-scaled", "adapter.gguf", scale]);
    assert_eq!(stdout(&scaled("1")), stdout(&whole));
    assert_ne!(stdout(&scaled("0.2")), stdout(&whole));
    for (scale, why) in [
        ("much", "--lora-scaled needs a file and a number"),
        ("-1", "the scale of an adapter must be 0 or more, not -1"),
        ("nan", "the scale of an adapter must be 0 or more, not NaN"),
    ] {
        let message = error(&scaled(scale));
        assert!(message.contains(why), "{message}");
    }
}
