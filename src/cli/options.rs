//! Options that several commands share. Names are llama.cpp's where it has one.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use cope_llama::bases;
use cope_llama::decode::Contrast;
use cope_llama::home::{Home, UserFolder, UserName};
use cope_llama::llama::{ContextOptions, FlashAttention, KvType, devices};
use cope_llama::voice::{AdapterSource, Voice};

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
    /// The most tokens of a prompt that are read in one pass
    #[arg(short, long, value_name = "N", default_value_t = ContextOptions::default().n_batch)]
    batch_size: u32,
    /// Whether attention runs as one fused kernel [default: on a GPU, and where the cache needs it]
    #[arg(long, value_name = "WHEN")]
    flash_attn: Option<OnOff>,
    /// The type of the KV caches; that of 8 bits takes half the memory of f16
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    cache_type: CacheType,
}

#[derive(Clone, Copy, ValueEnum)]
enum OnOff {
    On,
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
enum CacheType {
    F32,
    F16,
    #[value(name = "q8_0")]
    Q8_0,
}

impl BaseArg {
    /// The file of the base for `user`.
    pub fn path(&self, home: &Home, user: Option<&UserFolder>) -> Result<PathBuf> {
        if let Some(model) = &self.model {
            return Ok(named_base(home, model));
        }
        if let Some(manifest) = user.map(|user| user.manifest()).transpose()?.flatten() {
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
            n_batch: self.batch_size,
            n_threads: self.threads.unwrap_or(default.n_threads).max(1),
            kv_type: match self.cache_type {
                CacheType::F32 => KvType::F32,
                CacheType::F16 => KvType::F16,
                CacheType::Q8_0 => KvType::Q8_0,
            },
            flash_attention: match self.flash_attn {
                None => FlashAttention::Auto,
                Some(OnOff::On) => FlashAttention::On,
                Some(OnOff::Off) => FlashAttention::Off,
            },
            ..default
        }
    }

    /// Whether layers of the model are on a GPU.
    pub fn on_gpu(&self) -> bool {
        self.gpu_layers != Some(0) && devices().iter().any(|device| device.is_gpu)
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
    /// Keep what the models have read in the user's folder, so that the next command need not read it again
    #[arg(long, requires = "user")]
    pub prompt_cache: bool,
}

impl VoiceArgs {
    pub fn source(&self, home: &Home) -> Result<AdapterSource> {
        match (&self.user, &self.lora) {
            (Some(name), _) => of_user(home, name),
            (None, Some(path)) => Ok(AdapterSource::File(path.clone())),
            (None, None) => Ok(AdapterSource::Base),
        }
    }

    /// The contrast of a voice, or the one that is asked for where there is none.
    pub fn contrast(&self, voice: Option<&Voice>) -> Result<Contrast> {
        if let Some(voice) = voice {
            return Ok(voice.contrast(self.contrast, self.plausibility)?);
        }
        let default = Contrast::default();
        Ok(Contrast::new(
            self.contrast.unwrap_or(default.contrast()),
            self.plausibility.unwrap_or(default.plausibility()),
        )?)
    }
}

/// The adapter of the user of this name.
pub fn of_user(home: &Home, name: &str) -> Result<AdapterSource> {
    Ok(AdapterSource::User(home.user(UserName::new(name)?)?))
}

/// A number of things, at least one.
#[cfg(any(feature = "serve", feature = "train"))]
pub fn count(number: &str) -> Result<usize, String> {
    match number.parse() {
        Ok(0) | Err(_) => Err("it must be a whole number above 0".into()),
        Ok(number) => Ok(number),
    }
}
