//! The users whose queries are decoded: one real user of each task, with an adapter.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use cope_convert::gguf::Gguf;
use cope_llama::decode::{Arm, Contrast, Decoder, DecoderOptions, Statistics};
use cope_llama::home::{Home, UserName};
use cope_llama::llama::{ContextOptions, LoraAdapter, Model, Token, Twin};
use cope_llama::profile::{Profile, lamp};
use cope_llama::prompt::ChatTemplate;
use serde_json::Value;

use crate::Options;

pub const TASKS: [&str; 5] = [
    "news_headline_huffpost",
    "scholarly_title_acl",
    "abstract_generation_acl",
    "product_review_wine",
    "topic_writing_stackexchange",
];

/// A user of a task: twin contexts, and held-out prompts.
pub struct Subject {
    pub task: &'static str,
    pub model: Arc<Model>,
    pub adapter: Arc<LoraAdapter>,
    pub adapter_path: PathBuf,
    pub twin: Twin,
    pub prompts: Vec<Vec<Token>>,
}

impl Subject {
    /// CoPe's answer, starting with empty caches.
    pub fn answer(
        &mut self,
        prompt: &[Token],
        options: &DecoderOptions,
    ) -> Result<(Vec<Token>, Statistics)> {
        self.twin.base.truncate(0);
        self.twin.user.truncate(0);
        self.answer_again(prompt, options)
    }

    /// CoPe's answer, reusing the prefix of the prompt that is in the caches.
    pub fn answer_again(
        &mut self,
        prompt: &[Token],
        options: &DecoderOptions,
    ) -> Result<(Vec<Token>, Statistics)> {
        let policy = self.twin.policy(Arm::Cope(Contrast::default()));
        let mut decoder = Decoder::new(policy, &*self.model, prompt, options.clone())?;
        decoder.by_ref().try_for_each(|piece| piece.map(drop))?;
        Ok((decoder.response().to_vec(), *decoder.statistics()))
    }
}

/// The queries of a [`Subject`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Queries {
    /// The queries of the user whose adapter it is.
    Own,
    /// The queries of all users that the task is measured with.
    AllUsers,
}

/// The longest prompt in tokens; longer ones would leave no room for an answer.
const MAX_PROMPT: usize = 1500;

/// The users of all tasks with the model at `path`. Missing adapters are trained. `whose` says whose queries are taken.
pub fn subjects(options: &Options, path: &Path, whose: Queries) -> Result<Vec<Subject>> {
    let splits = std::fs::read_to_string(options.data.join("splits.json"))?;
    let splits: Value = serde_json::from_str(&splits)?;
    let model = Model::load(path, Some(0))?;
    let template = ChatTemplate::of_model(&model)?;
    let base = Gguf::open(path)?;
    let name = path.file_stem().context("a model has a name")?;
    let home = Home::at(options.adapters.join(name));
    let mut subjects = Vec::new();
    for task in TASKS
        .into_iter()
        .filter(|task| task.contains(&options.task))
    {
        let lamp = lamp::read(&options.data.join(format!("{task}.json")))?;
        let targets = splits[task]["targets"].as_array().context("targets")?;
        let is_target = |user: &&lamp::User| targets.iter().any(|it| it == user.id.as_str());
        let mut users = lamp.users.iter().filter(is_target);
        let user = users.next().context("a task has a user")?;
        let adapter_path = train(options, &home, path, task, user)?;
        let adapter =
            LoraAdapter::load(&model, &adapter_path, &base, &home.base_ref(path)?.sha256)?;
        let twin = Twin::new(
            &model,
            None,
            Arc::clone(&adapter),
            1.0,
            &ContextOptions::default(),
        )?;
        let mut queries: Vec<_> = user.query.iter().chain(&user.dev).collect();
        if whose == Queries::AllUsers {
            queries.extend(users.flat_map(|user| user.query.iter().chain(&user.dev)));
        }
        let mut prompts = Vec::new();
        for query in queries {
            let prompt = template.prompt_tokens(&model, &query.example.prompt)?;
            if prompt.len() <= MAX_PROMPT {
                prompts.push(prompt);
            }
        }
        subjects.push(Subject {
            task,
            model: Arc::clone(&model),
            adapter,
            adapter_path,
            twin,
            prompts,
        });
    }
    Ok(subjects)
}

fn train(
    options: &Options,
    home: &Home,
    model: &Path,
    task: &str,
    user: &lamp::User,
) -> Result<PathBuf> {
    let name = UserName::new(&task.replace('_', "-"))?;
    let folder = match home.user(name.clone()) {
        Ok(folder) => folder,
        Err(_) => home.create_user(name)?,
    };
    if !folder.adapter().exists() {
        let first = user.history.len().saturating_sub(options.items);
        folder.save_profile(&Profile {
            history: user.history[first..].to_vec(),
            held_out: Vec::new(),
        })?;
        let status = Command::new(env!("CARGO_BIN_EXE_cope-llama"))
            .args(["train", folder.name().as_str(), "--hold-out", "0", "-m"])
            .arg(model)
            .env("COPE_HOME", home.root())
            .status()?;
        ensure!(status.success(), "training failed");
    }
    Ok(folder.adapter())
}
