//! Trainings on the tiny model that start from another user's adapter.

use std::fs;

use cope_convert::Adapter;
use cope_llama::Error;
use cope_llama::error::Missing;
use cope_llama::home::{Home, Stage, StartAdapter, UserFolder, UserName};
use cope_llama::profile::Example;
use cope_llama::train::TrainConfig;
use cope_llama::train::lora::TargetModule;

use super::stops::stop_at_every_step;
use super::{STAGES, Setting};
use crate::tiny::tiny_adapter;

/// Gives the home of `setting` another user, whose adapter after SFT is a random one of this seed.
fn add_user(setting: &Setting, name: &str, seed: u64) -> UserFolder {
    let home = Home::at(setting.fixture.folder.path().join("home"));
    let user = home.create_user(UserName::new(name).unwrap()).unwrap();
    let adapter = Adapter {
        base_sha256: Some(setting.base.sha256.clone()),
        ..tiny_adapter(seed, 4, &["attn_q", "ffn_up"])
    };
    adapter.write_gguf(&user.sft()).unwrap();
    user
}

/// The settings of a training of alice that starts from the adapter of `source`.
fn starting_from(setting: &Setting, source: &UserFolder) -> cope_llama::Result<TrainConfig> {
    let mut config = Setting::config();
    let path = &setting.fixture.path;
    config.start_from(source, &setting.folder, path, &setting.base)?;
    Ok(config)
}

/// The adapters that the manifest says SFT and `adapter.gguf` started from.
fn recorded(setting: &Setting) -> [Option<StartAdapter>; 2] {
    let manifest = setting.folder.manifest().unwrap().unwrap();
    let sft = manifest.stages[&Stage::Sft].start.clone();
    [sft, manifest.adapter.and_then(|adapter| adapter.start)]
}

fn is_start_missing(error: &Error) -> bool {
    matches!(error, Error::Missing(Missing::StartAdapter { user }) if user == "alice")
}

#[test]
fn sft_begins_with_the_other_users_weights() {
    let setting = Setting::new();
    let bob = add_user(&setting, "bob", 5);
    let mut config = starting_from(&setting, &bob).unwrap();
    assert_eq!((config.lora.rank, config.lora.lora_alpha), (4, 8.0));
    let targets = [TargetModule::Q, TargetModule::Up];
    assert_eq!(config.lora.target_modules, targets);

    let read = |user: &UserFolder| Adapter::read_gguf(&user.sft()).unwrap();
    // Steps of length zero leave the weights as they were.
    config.sft.learning_rate = 0.0;
    setting.train(&config, &[Stage::Sft]).unwrap();
    assert_eq!(read(&setting.folder).tensors, read(&bob).tensors);
    config.sft.learning_rate = 1e-3;
    setting.train(&config, &STAGES).unwrap();
    let (alice, bob) = (read(&setting.folder), read(&bob));
    assert_eq!(
        (alice.lora_alpha, alice.rank(), alice.name.as_deref()),
        (8.0, 4, Some("alice"))
    );
    let names = |adapter: &Adapter| -> Vec<_> {
        let tensors = adapter.tensors.iter();
        tensors.map(|tensor| tensor.name.clone()).collect()
    };
    assert_eq!(names(&alice), names(&bob));
    assert_ne!(alice.tensors, bob.tensors);
}

#[test]
fn the_manifest_says_from_whom_a_training_started() {
    let setting = Setting::new();
    let bob = add_user(&setting, "bob", 5);
    let config = starting_from(&setting, &bob).unwrap();
    let start = StartAdapter {
        user: "bob".into(),
        sha256: cope_convert::sha256(&bob.sft()).unwrap(),
    };
    assert_eq!(config.start, Some(start.clone()));
    setting.train(&config, &STAGES).unwrap();
    assert_eq!(recorded(&setting), [Some(start.clone()), Some(start)]);
    let manifest = setting.folder.manifest().unwrap().unwrap();
    let repeated = TrainConfig::from_manifest(&manifest);
    assert_eq!(
        (&repeated.start, &repeated.lora),
        (&config.start, &config.lora)
    );
    assert_eq!(setting.train(&repeated, &STAGES).unwrap(), []);

    // Without a start, everything is trained again from random weights, as for a user who never had one.
    assert_eq!(setting.train(&Setting::config(), &STAGES).unwrap(), STAGES);
    assert_eq!(recorded(&setting), [None, None]);
    let fresh = Setting::new();
    fresh.train(&Setting::config(), &STAGES).unwrap();
    assert_eq!(setting.files(), fresh.files());
}

#[test]
fn another_start_trains_sft_again() {
    let setting = Setting::new();
    let (bob, carol) = (add_user(&setting, "bob", 5), add_user(&setting, "carol", 6));
    let config = starting_from(&setting, &bob).unwrap();
    let ran = |config: &TrainConfig| setting.train(config, &[Stage::Sft]).unwrap();
    assert_eq!(ran(&config), [Stage::Sft]);
    assert_eq!(ran(&config), []);
    let from_bob = fs::read(setting.folder.sft()).unwrap();
    assert_eq!(ran(&starting_from(&setting, &carol).unwrap()), [Stage::Sft]);
    assert_ne!(fs::read(setting.folder.sft()).unwrap(), from_bob);
    assert_eq!(ran(&config), [Stage::Sft]);
    assert_eq!(fs::read(setting.folder.sft()).unwrap(), from_bob);
    // Bob is trained again, and so has another adapter.
    add_user(&setting, "bob", 7);
    assert_eq!(ran(&starting_from(&setting, &bob).unwrap()), [Stage::Sft]);
    assert_ne!(fs::read(setting.folder.sft()).unwrap(), from_bob);
}

#[test]
fn the_start_is_read_only_while_sft_needs_it() {
    let setting = Setting::new();
    let bob = add_user(&setting, "bob", 5);
    let config = starting_from(&setting, &bob).unwrap();
    setting.train(&config, &STAGES).unwrap();
    let before = setting.files();
    bob.delete().unwrap();
    assert_eq!(setting.train(&config, &STAGES).unwrap(), []);
    let mut other_dpo = config.clone();
    other_dpo.dpo.beta = 0.3;
    let ran = setting.train(&other_dpo, &STAGES).unwrap();
    assert_eq!(ran, [Stage::Dpo, Stage::Calibrate]);

    let mut profile = setting.folder.profile().unwrap();
    profile.history.push(Example::new("wine", "dear alice"));
    setting.folder.save_profile(&profile).unwrap();
    let error = setting.train(&config, &STAGES).unwrap_err();
    assert!(is_start_missing(&error), "{error}");
    assert!(!error.to_string().contains("bob"), "{error}");
    // An adapter that has changed counts as missing too.
    add_user(&setting, "bob", 6);
    let error = setting.train(&config, &STAGES).unwrap_err();
    assert!(is_start_missing(&error), "{error}");
    assert_eq!(setting.files()[0], before[0]);
    // The same adapter again is the one that was asked for.
    add_user(&setting, "bob", 5);
    assert_eq!(setting.train(&config, &STAGES).unwrap(), STAGES);
}

#[test]
fn a_training_from_another_user_that_is_stopped_ends_with_the_same_bytes() {
    let new = || {
        let setting = Setting::new();
        let bob = add_user(&setting, "bob", 5);
        let config = starting_from(&setting, &bob).unwrap();
        (setting, config)
    };
    assert_eq!(stop_at_every_step(new), 6 + 2 + 3 + 2);
}

#[test]
fn an_undone_training_brings_back_what_its_adapter_started_from() {
    let setting = Setting::new();
    let bob = add_user(&setting, "bob", 5);
    setting.train(&Setting::config(), &STAGES).unwrap();
    let first = fs::read(setting.folder.adapter()).unwrap();
    let config = starting_from(&setting, &bob).unwrap();
    setting.train(&config, &STAGES).unwrap();
    let second = fs::read(setting.folder.adapter()).unwrap();
    assert_ne!(first, second);

    let lock = setting.folder.lock().unwrap();
    setting.folder.restore_previous(&lock).unwrap();
    drop(lock);
    assert_eq!(fs::read(setting.folder.adapter()).unwrap(), first);
    // The adapter of SFT is still the newer one, so bob's weights live on there.
    assert_eq!(recorded(&setting), [config.start.clone(), None]);
    let manifest = setting.folder.manifest().unwrap().unwrap();
    let starts: Vec<_> = manifest.starts().collect();
    assert_eq!(starts, [config.start.as_ref().unwrap()]);
    let ran = setting.train(&config, &STAGES).unwrap();
    assert_eq!(ran, [Stage::Calibrate]);
    assert_eq!(fs::read(setting.folder.adapter()).unwrap(), second);
    assert_eq!(recorded(&setting), [config.start.clone(), config.start]);
}

#[test]
fn a_start_that_does_not_fit_is_refused() {
    let setting = Setting::new();
    let refused = |source: &UserFolder| starting_from(&setting, source).unwrap_err();
    let own = refused(&setting.folder).to_string();
    assert!(own.contains("and not from the user's own"), "{own}");

    let bob = add_user(&setting, "bob", 5);
    fs::remove_file(bob.sft()).unwrap();
    let untrained = refused(&bob);
    let is_bob = matches!(&untrained, Error::Missing(Missing::Adapter { user }) if user == "bob");
    assert!(is_bob, "{untrained}");

    let mut adapter = tiny_adapter(5, 4, &["attn_q"]);
    adapter.base_sha256 = Some("0".repeat(64));
    adapter.write_gguf(&bob.sft()).unwrap();
    let other_base = refused(&bob).to_string();
    assert!(
        other_base.contains("the base with SHA-256 0000"),
        "{other_base}"
    );

    adapter.base_sha256 = Some(setting.base.sha256.clone());
    adapter.task_sha256 = Some("7".repeat(64));
    adapter.write_gguf(&bob.sft()).unwrap();
    let other_task = refused(&bob).to_string();
    assert!(
        other_task.contains("bob/sft.gguf was trained on top of the task adapter with SHA-256 777777777777…, and this training is without a task adapter"),
        "{other_task}"
    );
}

#[test]
fn the_start_and_the_training_share_the_task_adapter() {
    let mut setting = Setting::new();
    let bob = add_user(&setting, "bob", 5);
    let path = setting.fixture.folder.path().join("task.gguf");
    tiny_adapter(1, 2, &["attn_q"]).write_gguf(&path).unwrap();
    setting.base.task_sha256 = Some(setting.folder.add_task(&path).unwrap());
    let error = starting_from(&setting, &bob).unwrap_err().to_string();
    assert!(
        error.contains("was trained without a task adapter, and this training is on top of"),
        "{error}"
    );
    let mut adapter = Adapter::read_gguf(&bob.sft()).unwrap();
    adapter.task_sha256.clone_from(&setting.base.task_sha256);
    adapter.write_gguf(&bob.sft()).unwrap();
    let config = starting_from(&setting, &bob).unwrap();
    assert_eq!(setting.train(&config, &STAGES).unwrap(), STAGES);
    let trained = Adapter::read_gguf(&setting.folder.adapter()).unwrap();
    assert_eq!(trained.task_sha256, setting.base.task_sha256);

    // Without the task adapter, the stages after SFT have no adapter to go on from.
    setting.base.task_sha256 = None;
    let error = setting
        .train(&Setting::config(), &[Stage::Mine])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("alice/sft.gguf was trained on top of"),
        "{error}"
    );
}
