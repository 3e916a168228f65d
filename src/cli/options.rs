//! Options that several commands share. Names are llama.cpp's where it has one.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use cope_llama::bases;
use cope_llama::decode::{Arm, Contrast, DecodeOptions, Sampling};
use cope_llama::home::{Home, UserFolder, UserName};
use cope_llama::llama::ContextOptions;

/// Which base it is.
#[derive(Args)]
#[command(next_help_heading = "Model")]
pub struct BaseArg {
    /// The base: a GGUF file, or a name of `model list` [default: the user's, else the first of that list]
    #[arg(short, long, value_name = "FILE|NAME")]
    model: Option<PathBuf>,
}

/// Which base is loaded, and how.
#[derive(Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    #[command(flatten)]
    pub base: BaseArg,
    /// Room for tokens, at most what the model was trained on
    #[arg(short, long, value_name = "N", default_value_t = ContextOptions::default().n_ctx)]
    ctx_size: u32,
    /// Threads to compute with [default: one a core]
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,
    /// Layers to keep on a GPU, also spelled -ngl [default: all]
    #[arg(long, alias = "n-gpu-layers", value_name = "N")]
    pub gpu_layers: Option<u32>,
}

impl BaseArg {
    /// The file of the base for `user`.
    pub fn path(&self, home: &Home, user: Option<&UserFolder>) -> Result<PathBuf> {
        if let Some(model) = &self.model {
            return Ok(named_base(home, model));
        }
        if let Some(manifest) = user.map(UserFolder::manifest).transpose()?.flatten() {
            return Ok(home.base(&manifest.base.file));
        }
        default_base(home)
    }
}

impl ModelArgs {
    pub fn context(&self) -> ContextOptions {
        let default = ContextOptions::default();
        ContextOptions {
            n_ctx: self.ctx_size,
            n_threads: self.threads.unwrap_or(default.n_threads).max(1),
            ..default
        }
    }
}

/// A name of the list stands for its file, unless there is a file of that name.
fn named_base(home: &Home, model: &Path) -> PathBuf {
    let listed = model.to_str().and_then(|name| bases::find(name).ok());
    match listed {
        Some(base) if !model.exists() => home.base(&base.file),
        _ => model.to_owned(),
    }
}

fn default_base(home: &Home) -> Result<PathBuf> {
    let path = home.base(&bases::default_base().file);
    if !path.exists() {
        anyhow::bail!("no base model is here: run `cope-llama model pull`, or name one with -m");
    }
    Ok(path)
}

/// Who speaks.
#[derive(Args)]
#[command(next_help_heading = "Voice")]
pub struct VoiceArgs {
    /// The user whose voice it is
    #[arg(long, value_name = "NAME", conflicts_with = "lora")]
    user: Option<String>,
    /// An adapter file in place of a user's
    #[arg(long, value_name = "FILE")]
    lora: Option<PathBuf>,
    /// How strongly the base's opinion is taken away (α of CoPe), 0 or more [default: the adapter's]
    #[arg(long, value_name = "X")]
    contrast: Option<f32>,
    /// How probable a token must be relative to the likeliest (τ of CoPe), 0 to 1 [default: the adapter's]
    #[arg(long, value_name = "X")]
    plausibility: Option<f32>,
}

/// An adapter's place.
pub enum Voice {
    /// None: the base alone.
    Base,
    /// A user's.
    User(UserFolder),
    /// A file's.
    File(PathBuf),
}

impl Voice {
    pub fn of_user(home: &Home, name: &str) -> Result<Self> {
        Ok(Self::User(home.user(UserName::new(name)?)?))
    }

    pub fn user(&self) -> Option<&UserFolder> {
        match self {
            Self::User(user) => Some(user),
            _ => None,
        }
    }
}

impl VoiceArgs {
    pub fn voice(&self, home: &Home) -> Result<Voice> {
        match (&self.user, &self.lora) {
            (Some(name), _) => Voice::of_user(home, name),
            (None, Some(path)) => Ok(Voice::File(path.clone())),
            (None, None) => Ok(Voice::Base),
        }
    }

    /// The options over the settings that the adapter carries over the defaults.
    pub fn contrast(&self, contrast: Option<f32>, plausibility: Option<f32>) -> Result<Contrast> {
        let default = Contrast::default();
        Ok(Contrast::new(
            self.contrast.or(contrast).unwrap_or(default.contrast()),
            self.plausibility
                .or(plausibility)
                .unwrap_or(default.plausibility()),
        )?)
    }
}

/// The arms of a comparison, by name.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ArmName {
    /// The base model alone
    Base,
    /// The user's model alone
    User,
    /// The user's model contrasted with the base
    Cope,
}

impl ArmName {
    pub const ALL: [Self; 3] = [Self::Base, Self::User, Self::Cope];

    pub fn arm(self, contrast: Contrast) -> Arm {
        match self {
            Self::Base => Arm::Base,
            Self::User => Arm::User,
            Self::Cope => Arm::Cope(contrast),
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::User => "user model",
            Self::Cope => "CoPe",
        }
    }
}

/// How tokens are chosen.
#[derive(Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// The most tokens of an answer; -1 for no limit
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value_t = 512,
        allow_negative_numbers = true
    )]
    predict: i64,
    /// 0 takes the best token; above it, draws are flatter the higher it is
    #[arg(long, value_name = "X", default_value_t = Sampling::default().temperature)]
    pub temp: f32,
    /// Draw among the N best; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = Sampling::default().top_k)]
    top_k: u32,
    /// Draw among the best whose probabilities sum to X; 1 for no limit
    #[arg(long, value_name = "X", default_value_t = Sampling::default().top_p)]
    top_p: f32,
    /// Draw among those at least X as probable as the best; 0 for no limit
    #[arg(long, value_name = "X", default_value_t = Sampling::default().min_p)]
    min_p: f32,
    /// Makes the last tokens less likely again; 1 for none
    #[arg(long, value_name = "X", default_value_t = Sampling::default().repeat_penalty)]
    repeat_penalty: f32,
    /// Seed of the draws: the same seed gives the same text
    #[arg(short, long, value_name = "N", default_value_t = Sampling::default().seed)]
    pub seed: u32,
}

impl SamplingArgs {
    pub fn options(&self) -> DecodeOptions {
        DecodeOptions {
            sampling: Sampling {
                temperature: self.temp,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                repeat_penalty: self.repeat_penalty,
                seed: self.seed,
                ..Sampling::default()
            },
            n_predict: usize::try_from(self.predict).ok(),
            ..DecodeOptions::default()
        }
    }
}
