//! The command `eval`: the paper's comparison of methods.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::training::signal_after;
use super::{Sandbox, error, stderr, stdout};

/// A tiny model, and two tasks with three users and two others each.
fn with_tasks() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tiny_model();
    std::fs::create_dir(sandbox.path().join("lamp")).unwrap();
    let users = ["u v", "w", "x", "other", "another"];
    let headline = |user: &str, n: usize| {
        (
            json!({ "text": format!("alice {user} {n}"), "title": format!("dear {user} {n}") }),
            format!("Generate a headline for the following article: alice {user} {n}"),
        )
    };
    let title = |user: &str, n: usize| {
        (
            json!({ "abstract": format!("wine {user} {n}"), "title": format!("thanks {user} {n}") }),
            format!("Generate a title for the following abstract of a paper: wine {user} {n}"),
        )
    };
    let task = |name: &str, item: &dyn Fn(&str, usize) -> (Value, String)| {
        let user = |user: &&str| {
            let held_out = |n| {
                let (item, input) = item(user, n);
                json!({ "id": format!("{user}/{n}"), "input": input, "output": item["title"] })
            };
            json!({
                "user_id": user,
                "profile": (0..4).map(|n| item(user, n).0).collect::<Vec<_>>(),
                "dev": [held_out(5)],
                "query": [held_out(6), held_out(7)],
            })
        };
        let users: Vec<_> = users.iter().map(user).collect();
        let lamp = json!({ "task": name, "users": users });
        sandbox.file(&format!("lamp/{name}.json"), &lamp.to_string());
        json!({ "targets": ["u v", "w", "x"], "others": ["other", "another"] })
    };
    let splits = json!({
        "news_headline": task("news_headline", &headline),
        "scholarly_title": task("scholarly_title", &title),
    });
    sandbox.file("lamp/splits.json", &splits.to_string());
    let short = json!({ "user": short_user() });
    let settings = json!({ "news_headline": short, "scholarly_title": short });
    sandbox.file("settings.json", &settings.to_string());
    sandbox
}

/// Settings with which users' adapters are trained quickly. Pairs are by reward: the random tiny model hardly ever ends a
/// text by itself, so there are none by likeness.
fn short_user() -> Value {
    json!({
        "mine": { "max_new_tokens": 8, "preference": "reward" },
        "dpo": { "fit": { "epochs": 1 } },
        "lora": { "rank": 2 },
    })
}

const STUDY: [&str; 10] = [
    "--data",
    "lamp",
    "--split",
    "query",
    "--task",
    "news_headline,scholarly_title",
    "--settings",
    "settings.json",
    "-m",
    "tiny.gguf",
];

/// The arguments of an `eval` command on the study; `options` replace the study's own.
fn eval(command: &'static str, options: &[&'static str]) -> Vec<&'static str> {
    let mut arguments = vec!["eval", command];
    let study = STUDY
        .chunks(2)
        .filter(|option| !options.contains(&option[0]));
    arguments.extend(study.flatten());
    arguments.extend(options);
    arguments
}

/// The figures of a report, without the times.
fn figures(sandbox: &Sandbox, options: &[&'static str]) -> Value {
    let report = sandbox.run(&eval("report", &[&["--json"], options].concat()));
    assert!(report.status.success(), "{}", stderr(&report));
    let mut figures: Value = serde_json::from_str(&stdout(&report)).unwrap();
    // The number of the run depends on the results folder.
    for task in figures["inputs"].as_array_mut().unwrap() {
        task.as_object_mut().unwrap().remove("query_run").unwrap();
    }
    for task in figures["tasks"].as_object_mut().unwrap().values_mut() {
        for row in task["rows"].as_object_mut().unwrap().values_mut() {
            for time in ["seconds", "training_seconds"] {
                row.as_object_mut().unwrap().remove(time).unwrap();
            }
        }
    }
    figures
}

#[test]
fn an_evaluation_that_is_stopped_and_split_over_two_machines_gives_the_same_figures() {
    let sandbox = with_tasks();
    let none = sandbox.run(&eval("report", &[]));
    assert!(error(&none).contains("`cope-llama eval run`"));
    let started = Instant::now();
    let run = sandbox.run(&eval("run", &[]));
    assert!(run.status.success(), "{}", stderr(&run));
    let taken = started.elapsed();
    let whole = figures(&sandbox, &[]);
    for task in ["news_headline", "scholarly_title"] {
        let task = &whole["tasks"][task];
        assert_eq!(
            (&task["n_users"], &task["n_queries"]),
            (&json!(3), &json!(6))
        );
        let rows = task["rows"].as_object().unwrap();
        assert_eq!(rows.len(), 12);
        // Greedy decoding with a contrast of 0 gives the texts of the user's model alone.
        assert_eq!(rows["no-contrast"], rows["dpo-only"]);
        assert_ne!(rows["base"], rows["cope"]);
    }
    assert_eq!(whole["comparisons"].as_array().unwrap().len(), 10);
    let again = sandbox.run(&eval("run", &[]));
    assert_eq!(stderr(&again), "72 of 72 units of work are done\n");

    // Two machines share the study; the first is stopped several times.
    let parts = [("0/2", "one", "one.jsonl"), ("1/2", "two", "two.jsonl")];
    for (shard, results, scores) in parts {
        let arguments = eval("run", &["--results", results, "--shard", shard]);
        if shard == "0/2" {
            for n in 1..4 {
                let mut command = sandbox.command(&arguments);
                let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
                let delay = Duration::from_secs_f64(taken.as_secs_f64() * 0.1 * f64::from(n));
                let signal = if n == 2 { "-INT" } else { "-KILL" };
                signal_after(&mut quiet.spawn().unwrap(), delay, signal);
            }
        }
        let run = sandbox.run(&arguments);
        assert!(run.status.success(), "{}", stderr(&run));
        let kept = eval("report", &["--results", results, "--scores", scores]);
        let kept = sandbox.run(&kept);
        assert!(stdout(&kept).contains("**36 units of work are not done yet.**"));
    }
    let texts = std::fs::read_to_string(sandbox.path().join("one.jsonl")).unwrap();
    assert!(!texts.contains("\"text\""));
    let joined = [
        "--results",
        "both",
        "--known",
        "one.jsonl",
        "--known",
        "two.jsonl",
    ];
    assert_eq!(figures(&sandbox, &joined), whole);
    let nothing = sandbox.run(&eval("run", &joined));
    assert_eq!(stderr(&nothing), "72 of 72 units of work are done\n");
}

#[test]
fn a_changed_setting_repeats_only_the_work_that_depends_on_it() {
    let sandbox = with_tasks();
    let methods = [
        "--method",
        "tam,oppu,contrast-only",
        "--task",
        "news_headline",
    ];
    let run_with = |settings: &Value, limits: &[&'static str]| {
        let settings = json!({ "news_headline": settings });
        sandbox.file("settings.json", &settings.to_string());
        let run = sandbox.run(&eval("run", &[&methods, limits].concat()));
        assert!(run.status.success(), "{}", stderr(&run));
        stderr(&run)
            .lines()
            .filter(|line| line.contains("ROUGE-L"))
            .count()
    };
    let run = |settings: &Value| run_with(settings, &[]);
    let mut settings = json!({ "user": short_user() });
    assert_eq!(run(&settings), 9);
    settings["decoding"] = json!({ "contrast-only": { "contrast": 0.9 } });
    assert_eq!(run(&settings), 3);
    settings["user"]["dpo"]["beta"] = json!(0.3);
    assert_eq!(run(&settings), 0);
    settings["user"]["sft"] = json!({ "epochs": 1 });
    assert_eq!(run(&settings), 6);
    settings["task"] = json!({ "sft": { "epochs": 1 } });
    assert_eq!(run(&settings), 9);
    // There are two others, so that this limit changes nothing.
    assert_eq!(run_with(&settings, &["--others", "2"]), 0);
    assert_eq!(run_with(&settings, &["--items", "2"]), 6);
    assert_eq!(run_with(&settings, &["--others", "1"]), 9);

    let run_number = || {
        let report = sandbox.run(&eval("report", &[&methods[..], &["--json"]].concat()));
        let report: Value = serde_json::from_str(&stdout(&report)).unwrap();
        report["inputs"][0]["query_run"].clone()
    };
    assert_eq!(run_number(), 5);
    let first = json!({ "news_headline": { "user": short_user() } });
    sandbox.file("settings.json", &first.to_string());
    assert_eq!(run_number(), 1);
}

#[test]
fn the_base_reads_the_prompt_with_items_or_without_them() {
    let sandbox = with_tasks();
    // A contrast so strong that another prompt of the base changes the answers of the tiny model.
    let strong = json!({ "cope-rag": { "contrast": 4.0, "plausibility": 0.01 } });
    let settings = json!({ "news_headline": { "user": short_user(), "decoding": strong } });
    sandbox.file("settings.json", &settings.to_string());
    let options = [
        "--method",
        "cope-rag,cope-rag-bare-base",
        "--task",
        "news_headline",
    ];
    let run = sandbox.run(&eval("run", &options));
    assert!(run.status.success(), "{}", stderr(&run));
    let figures = figures(&sandbox, &options);
    let rows = &figures["tasks"]["news_headline"]["rows"];
    assert_eq!(rows["cope-rag-bare-base"]["n_answers"], 6);
    assert_ne!(rows["cope-rag-bare-base"], rows["cope-rag"]);
    let comparison = &figures["comparisons"][0];
    assert_eq!(
        (&comparison["method"], &comparison["over"]),
        (&json!("cope-rag-bare-base"), &json!("cope-rag"))
    );
    let report = sandbox.run(&eval("report", &options));
    assert!(stdout(&report).contains("| CoPe + RAG, base without items |"));
}

#[test]
fn trials_are_logged_once_and_only_reported_for_the_same_base_and_limits() {
    let sandbox = with_tasks();
    let dev = ["--split", "dev", "--task", "news_headline"];
    let log = || std::fs::read_to_string(sandbox.path().join("trials.jsonl")).unwrap();
    let tune = |limits: &[&'static str]| {
        let options = [
            "--setting",
            "contrast-only/plausibility",
            "--log",
            "trials.jsonl",
        ];
        let tune = sandbox.run(&eval("tune", &[&dev[..], &options, limits].concat()));
        assert!(tune.status.success(), "{}", stderr(&tune));
        stdout(&tune)
    };
    let printed = tune(&[]);
    assert_eq!(printed, log());
    let trials: Vec<Value> = printed
        .lines()
        .map(|trial| serde_json::from_str(trial).unwrap())
        .collect();
    let values: Vec<_> = trials.iter().map(|it| it["value"].to_string()).collect();
    assert_eq!(values, ["0.1", "0.05", "0.2", "0.3", "0.5"]);
    assert!(trials.iter().all(|it| it["n_answers"] == 3));
    // A second run prints the trials again and does not log them again.
    assert_eq!(tune(&[]), printed);
    assert_eq!(log(), printed);

    let report = |limits: &[&'static str]| {
        let trials = ["--trials", "trials.jsonl"];
        sandbox.run(&eval("report", &[&dev[..], &trials, limits].concat()))
    };
    assert!(
        stdout(&report(&[]))
            .contains("| news_headline | /decoding/contrast-only/plausibility | `0.05` |")
    );
    let other = error(&report(&["--users", "2"]));
    assert!(
        other.contains("trials.jsonl: trials of another base or other limits"),
        "{other}"
    );
}

#[test]
fn a_study_with_invalid_options_is_refused_in_one_line() {
    let sandbox = with_tasks();
    let refusal = |options: &[&'static str]| error(&sandbox.run(&eval("run", options)));
    sandbox.file("wrong.json", r#"{"news_headline": {"alpha": 1}}"#);
    for (options, word) in [
        (
            &["--task", "news"][..],
            "has no task \"news\"; it has news_headline, scholarly_title",
        ),
        (&["--settings", "wrong.json"], "no field \"alpha\""),
        (&["--shard", "2/2"], "the last 1/2"),
        (&["--shard", "/2"], "array of jobs"),
        (&["--data", "nowhere"], "splits.json"),
    ] {
        let message = refusal(options);
        assert!(message.contains(word), "{message}");
    }
    let wrong = sandbox.run(&eval("run", &["--method", "best"]));
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("[possible values: base, rag, pag, tam, oppu, cope,"));
}
