//! Training on the user's feedback on answers, and its export.

use std::fs;

use cope_llama::Error;
use cope_llama::home::Stage;
use cope_llama::message::Message;
use cope_llama::profile::feedback::{Feedback, Verdict};
use cope_llama::profile::{ImportOptions, import};

use super::{STAGES, Setting, lines};

fn prompt(text: &str) -> Vec<Message> {
    vec![Message::user(text)]
}

fn feedback(text: &str, response: &str, verdict: Verdict) -> Feedback {
    Feedback {
        prompt: prompt(text),
        response: response.to_owned(),
        verdict,
    }
}

fn bad_answer() -> Feedback {
    feedback("and the note", "wine wine", Verdict::Bad)
}

fn edited_answer() -> [Feedback; 2] {
    Feedback::edit(&prompt("and the wine"), "the note", "dear you")
}

fn good_answer() -> Feedback {
    feedback("alice", "thanks and dear", Verdict::Good)
}

/// A figure of mining or DPO, from the manifest.
fn figure(setting: &Setting, name: &str) -> Option<f64> {
    let manifest = setting.folder.manifest().unwrap().unwrap();
    let records = [Stage::Mine, Stage::Dpo].map(|stage| &manifest.stages[&stage]);
    let mut figures = records.iter().map(|record| &record.figures);
    figures.find_map(|figures| figures.get(name).copied())
}

#[test]
fn edits_become_pairs_and_good_answers_are_mined_for() {
    let setting = Setting::new();
    let config = Setting::config();
    setting.train(&config, &STAGES).unwrap();
    let before = setting.files();
    assert_eq!(figure(&setting, "feedback/pairs"), None);

    // A bad answer alone makes no pair, so nothing is trained.
    setting.folder.add_feedback(&[bad_answer()]).unwrap();
    assert_eq!(setting.train(&config, &STAGES).unwrap(), []);

    // An edit is a pair for DPO.
    setting.folder.add_feedback(&edited_answer()).unwrap();
    let ran = setting.train(&config, &STAGES).unwrap();
    assert_eq!(ran, [Stage::Dpo, Stage::Calibrate]);
    assert_eq!(figure(&setting, "feedback/pairs"), Some(1.0));
    assert_ne!(setting.files()[2], before[2]);

    // For a good answer, mining finds a response to reject.
    let n_pairs = figure(&setting, "pairs").unwrap();
    setting.folder.add_feedback(&[good_answer()]).unwrap();
    let ran = setting.train(&config, &STAGES).unwrap();
    assert_eq!(ran, [Stage::Mine, Stage::Dpo, Stage::Calibrate]);
    assert_eq!(figure(&setting, "pairs"), Some(n_pairs + 1.0));
}

#[test]
fn an_export_holds_the_history_all_pairs_and_the_adapter() {
    let setting = Setting::new();
    setting.folder.add_feedback(&[bad_answer()]).unwrap();
    setting.folder.add_feedback(&edited_answer()).unwrap();
    setting.folder.add_feedback(&[good_answer()]).unwrap();
    setting.train(&Setting::config(), &STAGES).unwrap();
    let n_mined = figure(&setting, "pairs").unwrap();

    let exported = setting.fixture.folder.path().join("exported");
    setting.folder.export(&exported).unwrap();
    let pairs = lines(&exported.join("pairs.jsonl"));
    assert_eq!(pairs.len(), n_mined as usize + 1);
    assert_eq!(pairs.last().unwrap()["chosen"][0]["content"], "dear you");
    let sharegpt = lines(&exported.join("pairs.sharegpt.jsonl"));
    assert_eq!(sharegpt.last().unwrap()["rejected"]["value"], "the note");
    let options = ImportOptions::default();
    let imported = import(&exported.join("history.sharegpt.jsonl"), &options).unwrap();
    assert_eq!(imported.examples, setting.folder.profile().unwrap().history);
    assert_eq!(
        fs::read(exported.join("adapter.gguf")).unwrap(),
        setting.files()[3]
    );
    assert!(!exported.join("lock").exists());

    let error = setting.folder.export(&exported).unwrap_err();
    let refused = matches!(&error, Error::Input(reason) if reason.contains("exists already"));
    assert!(refused, "{error}");
}
