//! The stages of training on the tiny model: the files that they leave, when they run, and how they resume after a
//! stop.

mod calibration;
mod feedback;
mod replay;
mod start;
mod stops;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cope_convert::Adapter;
use cope_llama::error::Missing;
use cope_llama::home::{BaseRef, Home, Stage, UserFolder, UserName};
use cope_llama::profile::{Example, Pair, Profile};
use cope_llama::train::fit::LrSchedule;
use cope_llama::train::mine::Preference;
use cope_llama::train::{TrainConfig, TrainEvent, TrainObserver, Training, WeightType, train};
use cope_llama::{Error, Result};

use crate::fixture::Fixture;
use crate::tiny::tiny_adapter;

const STAGES: [Stage; 4] = Stage::ALL;

/// A home with one user, and the tiny model as base.
struct Setting {
    fixture: Fixture,
    base: BaseRef,
    folder: UserFolder,
}

impl Setting {
    fn new() -> Self {
        let fixture = Fixture::new();
        let home = Home::at(fixture.folder.path().join("home"));
        let folder = home.create_user(UserName::new("alice").unwrap()).unwrap();
        let example = |(prompt, response): (&str, &str)| Example::new(prompt, response);
        let texts = [
            ("hello alice", "dear you, thanks"),
            ("the wine", "fine wine and thanks"),
            ("a note", "dear alice, the note"),
            ("and you", "fine, thanks"),
            ("the note", "hello you"),
        ];
        let history: Vec<_> = texts.map(example).into();
        let held_out = vec![Example::new("thanks alice", "dear you, fine")];
        folder.save_profile(&Profile { history, held_out }).unwrap();
        let base = BaseRef {
            file: fixture.path.display().to_string(),
            sha256: fixture.base_sha256.clone(),
            architecture: "llama".into(),
            task_sha256: None,
        };
        Self {
            fixture,
            base,
            folder,
        }
    }

    fn config() -> TrainConfig {
        // A random tiny model hardly ever ends a text by itself, so pairs by likeness would be too few.
        let mut config = TrainConfig::paper();
        config.sft.batch_size = 2;
        config.dpo.fit.batch_size = 2;
        config
    }

    /// Trains, and returns the stages that ran; those that were up to date are not among them.
    fn train(&self, config: &TrainConfig, stages: &[Stage]) -> Result<Vec<Stage>> {
        let mut ran = Vec::new();
        self.observed(config, stages, &mut |event| {
            if let TrainEvent::Ended { stage, .. } = event {
                ran.push(stage);
            }
            Ok(())
        })?;
        Ok(ran)
    }

    fn observed(
        &self,
        config: &TrainConfig,
        stages: &[Stage],
        observe: TrainObserver,
    ) -> Result<()> {
        self.stopped_by(None, config, stages, observe)
    }

    fn stopped_by(
        &self,
        stop: Option<&Arc<AtomicBool>>,
        config: &TrainConfig,
        stages: &[Stage],
        observe: TrainObserver,
    ) -> Result<()> {
        let training = Training {
            folder: &self.folder,
            base_path: &self.fixture.path,
            base: &self.base,
            config,
            stages,
            stop,
        };
        train(training, observe)
    }

    /// The bytes of the files that the stages leave: `sft.gguf`, `pairs.jsonl`, `dpo.gguf` and `adapter.gguf`.
    fn files(&self) -> [Vec<u8>; 4] {
        [
            self.folder.sft(),
            self.folder.pairs(),
            self.folder.dpo(),
            self.folder.adapter(),
        ]
        .map(|path| fs::read(path).unwrap())
    }
}

/// The lines of a JSONL file.
fn lines(path: &Path) -> Vec<serde_json::Value> {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn equal_seeds_give_equal_bytes() {
    let (one, two) = (Setting::new(), Setting::new());
    one.train(&Setting::config(), &STAGES).unwrap();
    two.train(&Setting::config(), &STAGES).unwrap();
    assert_eq!(one.files(), two.files());

    let three = Setting::new();
    three
        .train(
            &TrainConfig {
                seed: 1,
                ..Setting::config()
            },
            &STAGES,
        )
        .unwrap();
    assert_ne!(one.files()[2], three.files()[2]);
}

#[test]
fn dpo_uses_the_base_log_probabilities_of_mining_while_they_fit() {
    let setting = Setting::new();
    let mut config = Setting::config();
    // Several random tokens hardly ever make a text that is encoded as the same tokens again; a single one does.
    config.mine.max_new_tokens = 1;
    setting.train(&config, &STAGES).unwrap();
    let path = setting.folder.pairs();
    let mined = lines(&path);
    let is_known = |pair: &serde_json::Value| pair["base_logps"].is_object();
    assert!(mined.iter().any(is_known), "{mined:?}");
    let trained_on = |pairs: &[serde_json::Value]| {
        let text: Vec<_> = pairs.iter().map(ToString::to_string).collect();
        fs::write(&path, text.join("\n")).unwrap();
        setting.train(&config, &[Stage::Dpo]).unwrap();
        let log = lines(&setting.folder.train_log());
        let loss = log.last().unwrap()["loss"].as_f64().unwrap();
        (fs::read(setting.folder.dpo()).unwrap(), loss)
    };
    let edited = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut pairs = mined.clone();
        pairs.iter_mut().for_each(edit);
        trained_on(&pairs)
    };
    let forget = |pair: &mut serde_json::Value| pair["base_logps"] = serde_json::Value::Null;
    let reword = |pair: &mut serde_json::Value| pair["chosen"][0]["content"] = "dear".into();

    // Log-probabilities that DPO computes itself give the same loss as those of mining.
    let (_, known) = edited(&|_| ());
    let (_, computed) = edited(&forget);
    assert!((known - computed).abs() < 1e-4, "{known} {computed}");
    let (_, wrong) = edited(&|pair| {
        if is_known(pair) {
            pair["base_logps"]["chosen"] = (-50.0).into();
        }
    });
    assert!((wrong - computed).abs() > 1e-2, "{wrong} {computed}");
    // Those of another text are ignored.
    let stale = edited(&reword);
    let reworded = edited(&|pair| {
        reword(pair);
        forget(pair);
    });
    assert_eq!(stale, reworded);
}

#[test]
fn micro_batches_give_the_same_losses_and_gradients() {
    let trained = |micro_batch_size| {
        let setting = Setting::new();
        let mut config = Setting::config();
        config.weight_type = WeightType::F32;
        config.sft.batch_size = 4;
        config.sft.micro_batch_size = micro_batch_size;
        setting.train(&config, &[Stage::Sft]).unwrap();
        lines(&setting.folder.train_log())
    };
    let (whole, parts) = (trained(0), trained(1));
    assert_eq!(whole.len(), parts.len());
    for (whole, parts) in whole.iter().zip(&parts) {
        for name in ["loss", "grad_norm"] {
            let (x, y) = (whole[name].as_f64().unwrap(), parts[name].as_f64().unwrap());
            assert!((x - y).abs() < 1e-3 * x.abs(), "{name}: {x}, {y}");
        }
    }
}

#[test]
fn early_stopping_returns_to_the_best_adapter() {
    let setting = Setting::new();
    let mut config = Setting::config();
    config.sft.epochs = 60;
    config.sft.learning_rate = 0.05;
    config.sft.patience = 2;
    let mut figures = None;
    setting
        .observed(&config, &[Stage::Sft], &mut |event| {
            if let TrainEvent::Ended { figures: ended, .. } = event {
                figures = Some(ended);
            }
            Ok(())
        })
        .unwrap();
    let scores: Vec<f64> = lines(&setting.folder.train_log())
        .iter()
        .filter_map(|line| Some(-line["eval_loss"].as_f64()?))
        .collect();
    let best = scores.iter().copied().fold(f64::MIN, f64::max);
    assert!(scores.len() < 40, "{scores:?}");
    assert!(scores.iter().rev().take(2).all(|score| *score <= best) && scores.len() > 2);
    assert!((figures.unwrap()["held_out/logprob"] - best).abs() < 1e-9);
}

#[test]
fn a_stage_runs_only_if_something_it_depends_on_has_changed() {
    let setting = Setting::new();
    let config = Setting::config();
    assert_eq!(setting.train(&config, &STAGES).unwrap(), STAGES);
    assert!(setting.train(&config, &STAGES).unwrap().is_empty());

    let mut other_dpo = config.clone();
    other_dpo.dpo.beta = 0.3;
    let from_dpo = [Stage::Dpo, Stage::Calibrate];
    assert_eq!(setting.train(&other_dpo, &STAGES).unwrap(), from_dpo);

    let mut profile = setting.folder.profile().unwrap();
    profile
        .history
        .push(Example::new("wine", "thanks and fine wine"));
    setting.folder.save_profile(&profile).unwrap();
    assert_eq!(setting.train(&config, &STAGES).unwrap(), STAGES);

    // The same result of DPO needs no other calibration.
    fs::remove_file(setting.folder.dpo()).unwrap();
    assert_eq!(setting.train(&config, &STAGES).unwrap(), [Stage::Dpo]);
    fs::remove_file(setting.folder.adapter()).unwrap();
    assert_eq!(setting.train(&config, &STAGES).unwrap(), [Stage::Calibrate]);
}

#[test]
fn a_stage_can_run_alone_and_names_the_stage_that_it_needs() {
    let setting = Setting::new();
    let error = setting
        .train(&Setting::config(), &[Stage::Dpo])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("run the stage mine first") || error.contains("run the stage sft first"),
        "{error}"
    );
    assert_eq!(
        setting.train(&Setting::config(), &[Stage::Sft]).unwrap(),
        [Stage::Sft]
    );
    assert_eq!(
        setting.train(&Setting::config(), &[Stage::Mine]).unwrap(),
        [Stage::Mine]
    );
    assert_eq!(
        setting.train(&Setting::config(), &[Stage::Dpo]).unwrap(),
        [Stage::Dpo]
    );
    assert!(!setting.folder.adapter().exists());
    let calibrate = [Stage::Calibrate];
    let ran = setting.train(&Setting::config(), &calibrate).unwrap();
    assert_eq!(ran, calibrate);
    fs::remove_file(setting.folder.dpo()).unwrap();
    let error = setting.train(&Setting::config(), &calibrate).unwrap_err();
    assert!(
        error.to_string().contains("run the stage dpo first"),
        "{error}"
    );
}

#[test]
fn training_leaves_pairs_a_log_and_a_manifest() {
    let setting = Setting::new();
    setting.train(&Setting::config(), &STAGES).unwrap();

    let profile = setting.folder.profile().unwrap();
    let pairs: Vec<Pair> = cope_llama::home::read_jsonl(&setting.folder.pairs()).unwrap();
    assert_eq!(pairs.len(), profile.history.len());
    for (pair, example) in pairs.iter().zip(&profile.history) {
        assert_eq!(
            (&pair.prompt, &pair.chosen[0].content),
            (&example.prompt, &example.response)
        );
        assert_ne!(pair.rejected[0].content, example.response);
    }
    let log = lines(&setting.folder.train_log());
    let log_of = |stage: &str| {
        log.iter()
            .filter(|line| line["stage"] == stage)
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!((log_of("sft").len(), log_of("dpo").len()), (6, 3));
    for name in ["loss", "grad_norm", "learning_rate", "epoch"] {
        assert!(log.iter().all(|line| line[name].is_number()), "{name}");
    }
    for name in [
        "rewards/chosen",
        "rewards/rejected",
        "rewards/margins",
        "rewards/accuracies",
        "logps/chosen",
    ] {
        assert!(
            log_of("dpo").iter().all(|line| line[name].is_number()),
            "{name}"
        );
    }
    let manifest = setting.folder.manifest().unwrap().unwrap();
    assert_eq!(manifest.base, setting.base);
    assert_eq!(manifest.stages[&Stage::Sft].settings["lora"]["rank"], 8);
    assert!(manifest.stages[&Stage::Dpo].figures["held_out/margin"].is_finite());

    let adapter = Adapter::read_gguf(&setting.folder.adapter()).unwrap();
    adapter
        .check_fits(&setting.fixture.base, &setting.base.sha256)
        .unwrap();
    assert_eq!(
        adapter.base_sha256.as_deref(),
        Some(setting.base.sha256.as_str())
    );
    assert!(adapter.contrast.is_some() && adapter.plausibility.is_some());
}

#[test]
fn without_pairs_the_adapter_stays_what_sft_made() {
    let setting = Setting::new();
    let mut config = Setting::config();
    config.mine.preference = Preference::Likeness;
    config.mine.max_new_tokens = 1;
    assert_eq!(setting.train(&config, &STAGES).unwrap(), STAGES);
    assert!(lines(&setting.folder.pairs()).is_empty());
    let read = |path: &Path| Adapter::read_gguf(path).unwrap().load().unwrap();
    assert_eq!(read(&setting.folder.adapter()), read(&setting.folder.sft()));
}

#[test]
fn a_users_adapter_is_trained_on_top_of_a_task_adapter() {
    let mut setting = Setting::new();
    let path = setting.fixture.folder.path().join("task.gguf");
    let mut train_on_task = |seed| {
        tiny_adapter(seed, 2, &["attn_q", "ffn_up"])
            .write_gguf(&path)
            .unwrap();
        setting.base.task_sha256 = Some(setting.folder.add_task(&path).unwrap());
        let ran = setting.train(&Setting::config(), &STAGES).unwrap();
        let adapter = Adapter::read_gguf(&setting.folder.adapter()).unwrap();
        assert_eq!(adapter.task_sha256, setting.base.task_sha256);
        (ran.len(), setting.files())
    };
    let (n_stages, files) = train_on_task(1);
    assert_eq!(n_stages, 4);
    assert_eq!(train_on_task(1).0, 0);
    // Another task adapter makes another base, so everything is trained again.
    let (n_stages, others) = train_on_task(2);
    assert!(n_stages == 4 && files != others);
    train_on_task(3);

    // The copies of task adapters stay as long as the user's adapters on top of them: this one and the one before.
    let folder = std::fs::read_dir(setting.folder.path()).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("task-")).count(), 2);

    setting.base.task_sha256 = Some("0".repeat(64));
    let error = setting.train(&Setting::config(), &STAGES).unwrap_err();
    assert!(error.to_string().contains("task adapter"), "{error}");
}

#[test]
fn the_losses_of_sft_and_dpo_fall() {
    let setting = Setting::new();
    let mut config = Setting::config();
    config.sft.epochs = 10;
    config.dpo.fit.epochs = 3;
    setting.train(&config, &STAGES).unwrap();
    let log = lines(&setting.folder.train_log());
    let losses = |stage: &str| -> Vec<f64> {
        log.iter()
            .filter(|line| line["stage"] == stage)
            .map(|line| line["loss"].as_f64().unwrap())
            .collect()
    };
    for stage in ["sft", "dpo"] {
        let losses = losses(stage);
        let epoch = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        assert!(
            epoch(&losses[losses.len() - 3..]) < 0.9 * epoch(&losses[..3]),
            "{stage}: {losses:?}"
        );
    }
}

#[test]
fn a_text_that_is_too_long_is_left_out_and_named_and_one_that_fits_is_needed() {
    let setting = Setting::new();
    let too_long = Example::new("hello", "wine and ".repeat(400));
    let fits = Example::new("hello", "you");
    let train = |history: Vec<Example>| {
        let held_out = vec![fits.clone(), too_long.clone()];
        let profile = Profile { history, held_out };
        setting.folder.save_profile(&profile).unwrap();
        let mut left_out = Vec::new();
        let result = setting.observed(&Setting::config(), &STAGES, &mut |event| {
            if let TrainEvent::LeftOut { file, lines, n_ctx } = event {
                let file = file.file_name().unwrap().to_str().unwrap().to_owned();
                left_out.push((file, lines, n_ctx));
            }
            Ok(())
        });
        (result, left_out)
    };
    let (result, left_out) = train(vec![too_long.clone(), fits.clone(), too_long.clone()]);
    result.unwrap();
    let of_history = ("history.jsonl".to_owned(), vec![1, 3], 512);
    let of_held_out = ("held_out.jsonl".to_owned(), vec![2], 512);
    assert_eq!(left_out, [of_history, of_held_out]);

    let (result, left_out) = train(vec![too_long.clone()]);
    let error = result.unwrap_err().to_string();
    assert!(
        error.contains("history.jsonl: 0 texts fit into the model's context of 512 tokens"),
        "{error}"
    );
    assert!(left_out.is_empty());
}

#[test]
fn an_empty_history_is_missing() {
    let setting = Setting::new();
    setting.folder.save_profile(&Profile::default()).unwrap();
    let error = setting.train(&Setting::config(), &STAGES).unwrap_err();
    let user = matches!(&error, Error::Missing(Missing::History { user }) if user == "alice");
    assert!(user && error.to_string().contains("no history"), "{error}");
}

#[test]
fn a_folder_that_is_being_trained_is_locked() {
    let setting = Setting::new();
    let _lock = setting.folder.lock().unwrap();
    let error = setting.train(&Setting::config(), &STAGES).unwrap_err();
    assert!(
        matches!(&error, Error::Locked(user) if user == "alice"),
        "{error}"
    );
}

#[test]
fn a_loss_that_is_not_finite_is_an_error_that_names_its_step() {
    let setting = Setting::new();
    let mut config = Setting::config();
    config.sft.learning_rate = 1e30;
    let error = setting
        .train(&config, &[Stage::Sft])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("step") && error.contains("learning rate"),
        "{error}"
    );
    assert!(!setting.folder.sft().exists());
}
