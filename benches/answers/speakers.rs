//! A base with the adapters of its users, and their answers to many prompts at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use cope_convert::gguf::Gguf;
use cope_llama::bases;
use cope_llama::decode::{
    Batch, BatchEvent, Contrast, Finish, ModelId, PassSchedule, Policy, Processor, TextRequest,
};
use cope_llama::home::{Home, UserName};
use cope_llama::llama::{ContextOptions, LoraAdapter, Model, Sequences, Token};
use cope_llama::message::Message;
use cope_llama::prompt::ChatTemplate;
use cope_llama::voice::{AdapterSource, Voice, contrast};

use super::Options;
use super::setting::Setting;
use super::texts::Item;

/// A loaded base with the adapters of its users.
pub struct Speakers {
    base: PathBuf,
    model: Arc<Model>,
    template: ChatTemplate,
    pub users: Vec<Speaker>,
}

/// A user's adapter.
pub struct Speaker {
    name: String,
    task: Option<Arc<LoraAdapter>>,
    adapter: Arc<LoraAdapter>,
    contrast: Contrast,
}

/// An arm of the bench: the model or models that answer.
pub enum BenchArm<'a> {
    Base,
    User(&'a Speaker),
    Cope(&'a Speaker),
}

impl BenchArm<'_> {
    pub fn title(&self) -> String {
        match self {
            Self::Base => "base".to_owned(),
            Self::User(user) => format!("user model {}", user.name),
            Self::Cope(user) => format!("CoPe {}", user.name),
        }
    }
}

/// An answer to a prompt.
pub struct BenchAnswer {
    /// The number of the prompt.
    pub item: usize,
    /// The number of the draw.
    pub seed: u32,
    pub text: String,
    pub tokens: Vec<Token>,
    pub finish: Finish,
    /// The mean log-probability of a chosen token, the end included: by the only model, or by CoPe's user model.
    pub logprob: f64,
}

/// The answers that are decoded together.
type BenchBatch = Batch<Sequences, Arc<Model>>;

/// An answer while it is decoded.
#[derive(Default)]
struct Growing {
    text: String,
    logprobs: Vec<f64>,
    end: Option<(Vec<Token>, Finish)>,
}

impl Speakers {
    /// Loads the base and the adapters that `options` name.
    pub fn load(options: &Options) -> Result<Self> {
        let sources = options.users.iter().map(|user| source(user));
        let sources: Vec<_> = sources.collect::<Result<_>>()?;
        let base = match &options.base {
            Some(base) => base.clone(),
            None => default_base(&sources)?,
        };
        ensure!(base.exists(), "{}: there is no such base", base.display());
        let model = Model::load(&base, None)?;
        let (gguf, sha256) = (Gguf::open(&base)?, cope_convert::sha256(&base)?);
        let load = |path: PathBuf| LoraAdapter::load(&model, &path, &gguf, &sha256);
        let mut users = Vec::new();
        for (source, path) in sources.iter().zip(&options.users) {
            let voice = Voice::open(&source.adapter)?.context("a user has an adapter")?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            users.push(Speaker {
                name: name.into_owned(),
                task: voice.base_adapter()?.map(load).transpose()?,
                adapter: load(voice.user_adapter()?)?,
                contrast: contrast(Some(&voice), options.contrast, None)?,
            });
        }
        Ok(Self {
            template: ChatTemplate::of_model(&model)?,
            base,
            model,
            users,
        })
    }

    pub fn base_name(&self) -> String {
        let name = self.base.file_stem().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Answers all `items` by `arm`, each as often as there are seeds, in the order of prompts.
    pub fn answer(
        &self,
        options: &Options,
        arm: &BenchArm,
        setting: &Setting,
        items: &[Item],
    ) -> Result<Vec<BenchAnswer>> {
        let n_seeds = if setting.is_greedy() {
            1
        } else {
            options.seeds
        };
        let prompts = items.iter().map(|item| {
            let messages = [Message::user(&item.prompt)];
            self.template.prompt_tokens(&self.model, &messages)
        });
        let prompts: Vec<Vec<Token>> = prompts.collect::<Result<_, _>>()?;
        let longest = prompts.iter().map(Vec::len).max().unwrap_or_default();
        let n_sequences = options.sequences.min(items.len() * n_seeds as usize);
        let n_ctx = longest + options.n_predict;
        let (mut batch, policy) = self.batch(options, arm, n_ctx, n_sequences)?;
        let mut growing = BTreeMap::new();
        for (number, (item, prompt)) in items.iter().zip(&prompts).enumerate() {
            for seed in 0..n_seeds {
                let n_predict = item.kind.n_predict(options.n_predict);
                let id = batch.push(TextRequest {
                    prompt: prompt.clone(),
                    base_prompt: None,
                    policy,
                    options: setting.options(n_predict, seed_of(number, seed)),
                    explained: Some(0),
                    explains_prompt: false,
                    owner: None,
                })?;
                growing.insert(id, (number, seed, Growing::default()));
            }
        }
        for event in batch {
            let (id, event) = event?;
            let (_, _, answer) = growing.get_mut(&id).context("an event of no text")?;
            answer.add(event)?;
        }
        // The ids rise in the order in which the texts were pushed.
        let answers = growing.into_values();
        answers
            .map(|(item, seed, answer)| answer.finished(item, seed))
            .collect()
    }

    /// An empty batch with the contexts of `arm`, and the policy by which these decode.
    fn batch(
        &self,
        options: &Options,
        arm: &BenchArm,
        n_ctx: usize,
        n_sequences: usize,
    ) -> Result<(BenchBatch, Policy<ModelId>)> {
        let (default, scale) = (ContextOptions::default(), options.scale);
        let n_threads = options.threads.unwrap_or(default.n_threads).max(1);
        let context_options = ContextOptions {
            n_ctx: n_ctx as u32,
            n_threads,
            ..default
        };
        let sequences = |adapter: Option<&Arc<LoraAdapter>>, scale| {
            let adapter = adapter.map(|adapter| (Arc::clone(adapter), scale));
            Sequences::new(&self.model, adapter, &context_options, n_sequences)
        };
        let schedule = PassSchedule::fastest(Processor::Cpu { n_threads });
        let mut batch = Batch::new(Arc::clone(&self.model), schedule, usize::MAX);
        let policy = match arm {
            BenchArm::Base => Policy::Plain(batch.add(sequences(None, 1.0)?)),
            BenchArm::User(user) => {
                Policy::Plain(batch.add(sequences(Some(&user.adapter), scale)?))
            }
            BenchArm::Cope(user) => Policy::Cope {
                user: batch.add(sequences(Some(&user.adapter), scale)?),
                base: batch.add(sequences(user.task.as_ref(), 1.0)?),
                contrast: user.contrast,
            },
        };
        Ok((batch, policy))
    }
}

impl Growing {
    /// Takes note of an event of the answer's text.
    fn add(&mut self, event: BatchEvent) -> Result<()> {
        match event {
            BatchEvent::Choice(choice, _) => self.logprobs.push(f64::from(choice.p_user).ln()),
            BatchEvent::Prompt(..) => {}
            BatchEvent::Text(text) => self.text.push_str(&text),
            BatchEvent::Finished {
                response, finish, ..
            } => self.end = Some((response, finish)),
            BatchEvent::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn finished(self, item: usize, seed: u32) -> Result<BenchAnswer> {
        let (tokens, finish) = self.end.context("an answer has no end")?;
        let logprob = self.logprobs.iter().sum::<f64>() / self.logprobs.len() as f64;
        Ok(BenchAnswer {
            item,
            seed,
            text: self.text,
            tokens,
            finish,
            logprob,
        })
    }
}

/// The seed of a draw for a prompt. A draw depends on the seed and the place in the text alone, so that one seed for all
/// prompts would make their draws alike.
fn seed_of(item: usize, seed: u32) -> u32 {
    seed * 100_003 + item as u32
}

/// Where the adapter of a user comes from.
struct UserSource {
    adapter: AdapterSource,
    home: Option<Home>,
}

/// The adapter of a user given as the data folder and the name, or as a file.
fn source(user: &Path) -> Result<UserSource> {
    if user.is_file() {
        return Ok(UserSource {
            adapter: AdapterSource::File(user.to_owned()),
            home: None,
        });
    }
    let name = user.file_name().and_then(|name| name.to_str());
    let name = UserName::new(name.context("a user is named as HOME/NAME")?)?;
    let home = Home::at(user.parent().unwrap_or(Path::new("")));
    Ok(UserSource {
        adapter: AdapterSource::User(home.user(name)?),
        home: Some(home),
    })
}

/// The base that the first user was trained on, else the default base.
fn default_base(sources: &[UserSource]) -> Result<PathBuf> {
    if let Some(UserSource {
        adapter: AdapterSource::User(user),
        home: Some(home),
    }) = sources.first()
        && let Some(manifest) = user.manifest()?
    {
        return Ok(home.base(&manifest.base.file));
    }
    Ok(Home::open()?.base(&bases::default_base().file))
}
