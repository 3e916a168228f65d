//! Options that several commands share. They have llama.cpp's names where llama.cpp has such an option.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{ArgAction, Args, value_parser};
use cope_llama::bases::{self, Places};
use cope_llama::decode::Contrast;
use cope_llama::home::{Home, UserFolder, UserName};
use cope_llama::llama::{ContextOptions, FlashAttention, KvType, devices};
use cope_llama::prompt::Thinking;
use cope_llama::retrieval::Retriever;
use cope_llama::voice::{self, AdapterSource, Voice};

use super::hub_options::HubArgs;

/// The choice of the base model.
#[derive(Args)]
#[command(next_help_heading = "Model")]
pub struct BaseArg {
    /// Base model: a GGUF file, or a name from `model list` [default: the user's base, else that of `model pull`]
    #[arg(short, long, value_name = "FILE|NAME", conflicts_with = "hf_repo")]
    model: Option<PathBuf>,
    #[command(flatten)]
    hub: HubArgs,
}

/// The choice of the base model, and how it is loaded and run.
#[derive(Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    #[command(flatten)]
    pub base: BaseArg,
    /// Context size in tokens, rounded up to a multiple of 256, at most the one that the model was trained with
    #[arg(short, long, value_name = "N", default_value_t = ContextOptions::default().n_ctx, value_parser = value_parser!(u32).range(1..))]
    ctx_size: u32,
    /// Number of threads to compute with [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = count)]
    threads: Option<usize>,
    /// Number of layers to keep on a GPU, also spelled -ngl [default: all]
    #[arg(long, alias = "n-gpu-layers", value_name = "N")]
    pub gpu_layers: Option<u32>,
    /// Maximum number of prompt tokens per pass
    #[arg(short, long, value_name = "N", default_value_t = ContextOptions::default().n_batch, value_parser = value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Flash attention, which computes attention in one fused kernel; auto turns it on for GPUs and for `q8_0` caches
    #[arg(
        long,
        value_enum,
        value_name = "auto|on|off",
        hide_possible_values = true,
        default_value_t = FlashAttention::Auto
    )]
    flash_attn: FlashAttention,
    /// Type of the numbers in the KV caches; `q8_0` takes half the memory of f16
    #[arg(
        long,
        value_enum,
        value_name = "f32|f16|q8_0",
        hide_possible_values = true,
        default_value_t = KvType::F16
    )]
    cache_type: KvType,
}

impl BaseArg {
    /// Path of the base: the one that was asked for, else the one of `user`'s manifest, else the default base.
    pub fn path(&self, home: &Home, user: Option<&UserFolder>) -> Result<PathBuf> {
        if let Some(path) = self.asked(home)? {
            return Ok(path);
        }
        if let Some(manifest) = user.map(|user| user.manifest()).transpose()?.flatten() {
            return Ok(home.base(&manifest.base.file));
        }
        default_base(home)
    }

    /// Path of the base that was asked for, else of the default base if it is there.
    #[cfg(feature = "serve")]
    pub fn path_if_there(&self, home: &Home) -> Result<Option<PathBuf>> {
        let default = || home.base(&bases::default_base().file);
        let asked = self.asked(home)?;
        Ok(asked.or_else(|| Some(default()).filter(|path| path.exists())))
    }

    /// Path of the base that was asked for, if one was.
    fn asked(&self, home: &Home) -> Result<Option<PathBuf>> {
        match &self.model {
            Some(model) => named_base(home, model).map(Some),
            None => self.hub.path(),
        }
    }
}

impl ModelArgs {
    pub fn context(&self) -> ContextOptions {
        let default = ContextOptions::default();
        ContextOptions {
            n_ctx: self.ctx_size,
            n_batch: self.batch_size,
            n_threads: self.threads.unwrap_or(default.n_threads),
            kv_type: self.cache_type,
            flash_attention: self.flash_attn,
            ..default
        }
    }

    /// Whether layers of the model are on a GPU.
    pub fn on_gpu(&self) -> bool {
        self.gpu_layers != Some(0) && devices().iter().any(|device| device.is_gpu)
    }
}

/// The path that `--model` stands for: an existing file first, else the file of a base of that name, of a model of
/// another program, or in the models folder.
fn named_base(home: &Home, model: &Path) -> Result<PathBuf> {
    if model.exists() {
        return Ok(model.to_owned());
    }
    if let Some(name) = model.to_str() {
        if let Ok(base) = bases::find(name) {
            return Ok(home.base(&base.file));
        }
        if let Some(path) = bases::find_stored(&Places::of_this_user(), name)? {
            return Ok(path);
        }
    }
    let installed = home.base(&model.to_string_lossy());
    Ok(if installed.is_file() {
        installed
    } else {
        model.to_owned()
    })
}

fn default_base(home: &Home) -> Result<PathBuf> {
    let path = home.base(&bases::default_base().file);
    if !path.exists() {
        anyhow::bail!(
            "no base model is installed: run `cope-llama model pull`, or name a GGUF file with -m"
        );
    }
    Ok(path)
}

/// The voice to answer in, and the strength of the contrast.
#[derive(Args)]
#[command(next_help_heading = "Voice")]
pub struct VoiceArgs {
    /// User to write like
    #[arg(long, value_name = "NAME", conflicts_with = "lora")]
    user: Option<String>,
    /// Adapter file to use instead of a user's
    #[arg(long, value_name = "FILE")]
    lora: Option<PathBuf>,
    /// Adapter file to use instead of a user's, and the scale to apply it at: 1 as it was trained, 0 not at all
    #[arg(
        long,
        num_args = 2,
        value_names = ["FILE", "SCALE"],
        action = ArgAction::Set,
        conflicts_with_all = ["user", "lora"]
    )]
    lora_scaled: Option<Vec<OsString>>,
    /// Weight with which the base's logits are subtracted from the user model's (α of CoPe), 0 or more [default: the
    /// adapter's]
    #[arg(long, value_name = "X")]
    contrast: Option<f32>,
    /// Plausibility threshold (τ of CoPe), 0 to 1: tokens that the user model finds less than X times as probable as its
    /// first choice are excluded [default: the adapter's]
    #[arg(long, value_name = "X")]
    plausibility: Option<f32>,
    /// Put up to N items of the user's history that are most like the prompt before it, as turns of the chat [default: none]
    #[arg(
        long,
        value_name = "N",
        requires = "user",
        default_value_t = 0,
        hide_default_value = true
    )]
    retrieve: usize,
    /// Let the model think before it answers, if its chat template can ask for that; the thought is printed on stderr
    #[arg(long)]
    think: bool,
    /// Save the KV caches in the user's folder, so that the next command does not recompute the prompt's common prefix
    #[arg(long, requires = "user")]
    pub prompt_cache: bool,
}

impl VoiceArgs {
    pub fn source(&self, home: &Home) -> Result<AdapterSource> {
        let scaled = self.lora_scaled.as_deref().and_then(<[_]>::first);
        let file = self.lora.clone().or_else(|| scaled.map(PathBuf::from));
        match (&self.user, file) {
            (Some(name), _) => user_source(home, name),
            (None, Some(path)) => Ok(AdapterSource::File(path)),
            (None, None) => Ok(AdapterSource::Base),
        }
    }

    /// An index over the user's history, and the number of items to find for a prompt; `None` without `--retrieve`.
    pub fn retriever(&self, source: &AdapterSource) -> Result<Option<(Retriever<'static>, usize)>> {
        let user = source.user().filter(|_| self.retrieve > 0);
        let index = |user: &UserFolder| -> Result<_> {
            Ok((Retriever::new(user.profile()?.history), self.retrieve))
        };
        user.map(index).transpose()
    }

    /// Whether the model thinks before it answers.
    pub fn thinking(&self) -> Thinking {
        if self.think {
            Thinking::On
        } else {
            Thinking::Off
        }
    }

    /// The scale at which the adapter of `source` is applied: that of `--lora-scaled` for its file, else 1.
    pub fn scale(&self, source: &AdapterSource) -> Result<f32> {
        match (source, self.lora_scaled.as_deref()) {
            (AdapterSource::File(_), Some([_, scale])) => {
                let number = scale.to_str().and_then(|scale| scale.parse().ok());
                checked_scale(number.context(
                    "--lora-scaled needs a file and a number, for example --lora-scaled adapter.gguf 0.5",
                )?)
            }
            _ => Ok(1.0),
        }
    }

    /// The contrast of a voice, with the options of the command line over the adapter's own settings.
    ///
    /// # Errors
    ///
    /// An option of the contrast is given where there is no voice to contrast with the base, or is out of range.
    pub fn contrast(&self, voice: Option<&Voice>) -> Result<Contrast> {
        ensure!(
            voice.is_some() || self.contrast.is_none() && self.plausibility.is_none(),
            "--contrast and --plausibility compare a user's model with the base; add --user NAME, or --lora FILE"
        );
        Ok(voice::contrast(voice, self.contrast, self.plausibility)?)
    }
}

/// The adapter source of the user with this name.
pub fn user_source(home: &Home, name: &str) -> Result<AdapterSource> {
    Ok(AdapterSource::User(home.user(UserName::new(name)?)?))
}

/// The scale of an adapter, if it can be one.
pub fn checked_scale(scale: f32) -> Result<f32> {
    ensure!(
        scale.is_finite() && scale >= 0.0,
        "the scale of an adapter must be 0 or more, not {scale}"
    );
    Ok(scale)
}

/// Parses a whole number above 0.
pub fn count(number: &str) -> Result<usize, String> {
    match number.parse() {
        Ok(0) | Err(_) => Err("it must be a whole number above 0".into()),
        Ok(number) => Ok(number),
    }
}
