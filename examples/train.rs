//! Trains an adapter on a short history in a temporary home, and writes it to a file.
//!
//! ```text
//! cope-llama model pull
//! cargo run --release --example train -- adapter.gguf
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cope_llama::bases::default_base;
use cope_llama::home::{Home, Stage, UserName};
use cope_llama::profile::{Profile, json};
use cope_llama::train::{TrainConfig, TrainEvent, Training, train};

/// The number of texts that the adapter is trained on: enough to see a change, and few enough to take seconds.
const N_ITEMS: usize = 8;

fn main() -> Result<()> {
    let output: PathBuf = std::env::args()
        .nth(1)
        .context("name the file to write")?
        .into();
    let base_path = Home::open()?.base(&default_base().file);

    // A user with a history. Texts that training must not see would go into `held_out`.
    let folder = tempfile::tempdir()?;
    let home = Home::at(folder.path());
    let user = home.create_user(UserName::new("alice")?)?;
    let lines = include_bytes!("../models/alice/history.jsonl");
    let mut history = json::parse(Path::new("history.jsonl"), lines)?.examples;
    history.truncate(N_ITEMS);
    user.save_profile(&Profile {
        history,
        held_out: Vec::new(),
    })?;

    // SFT alone; `Stage::ALL` adds the mining of pairs, DPO on them, and calibration.
    let training = Training {
        folder: &user,
        base_path: &base_path,
        base: &home.base_ref(&base_path)?,
        config: &TrainConfig::default(),
        stages: &[Stage::Sft],
        stop: None,
    };
    train(training, &mut |event| {
        if let TrainEvent::Step { done, metrics, .. } = event {
            println!("step {done}: {metrics:?}");
        }
        Ok(())
    })?;
    std::fs::copy(user.sft(), &output)?;
    println!("the adapter is in {}", output.display());
    Ok(())
}
