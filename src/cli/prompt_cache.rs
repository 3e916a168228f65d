//! The files of `--prompt-cache`: the KV caches of a user's chat, saved for the next command.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use cope_llama::home::{UserFolder, write_atomic};
use cope_llama::llama::{Twin, free_memory};
use cope_llama::voice::Voice;

/// Where the KV caches of base and user context are saved.
pub struct PromptCache {
    base: CacheFile,
    user: CacheFile,
    /// The key of the user's cache without the adapter's scale.
    unscaled: String,
}

struct CacheFile {
    path: PathBuf,
    /// Names the models that filled the cache. A cache with another key is ignored.
    key: String,
}

impl PromptCache {
    /// The cache files in the folder of `user`, for the base with this SHA-256 and for `voice` with its adapter at `scale`.
    pub fn new(user: &UserFolder, voice: &Voice, base_sha256: &str, scale: f32) -> Result<Self> {
        let task = voice.task_sha256().unwrap_or("none");
        let base_key = format!("base {base_sha256}, task {task}");
        let adapter = cope_convert::sha256(voice.path())?;
        let unscaled = format!("{base_key}, adapter {adapter}");
        Ok(Self {
            user: CacheFile {
                path: user.prompt_cache("user"),
                key: scaled_key(&unscaled, scale),
            },
            base: CacheFile {
                path: user.prompt_cache("base"),
                key: base_key,
            },
            unscaled,
        })
    }

    /// Says that the adapter is applied at `scale` from now on.
    pub fn set_scale(&mut self, scale: f32) {
        self.user.key = scaled_key(&self.unscaled, scale);
    }

    /// Restores what an earlier command of the same models has saved. A damaged cache is ignored, and so is one that is
    /// larger than the free memory: the prompt is then read again.
    pub fn restore(&self, twin: &mut Twin) -> Result<()> {
        for (file, context) in [(&self.base, &mut twin.base), (&self.user, &mut twin.user)] {
            if let Some(bytes) = file.read()? {
                context.restore(&file.key, &bytes);
            }
        }
        Ok(())
    }

    /// Saves both KV caches.
    pub fn save(&self, twin: &mut Twin) -> Result<()> {
        for (file, context) in [(&self.base, &mut twin.base), (&self.user, &mut twin.user)] {
            let bytes = context.save(&file.key)?;
            write_atomic(&file.path, |writer| writer.write_all(&bytes))?;
        }
        Ok(())
    }
}

impl CacheFile {
    /// The bytes of the file; `None` where there is no file, or no memory for it.
    fn read(&self) -> Result<Option<Vec<u8>>> {
        let path = &self.path;
        let read = || {
            if !path.exists() {
                return Ok(None);
            }
            let n_bytes = path.metadata()?.len();
            let is_too_large = free_memory().is_some_and(|free| n_bytes > free);
            (!is_too_large).then(|| std::fs::read(path)).transpose()
        };
        read().with_context(|| format!("cannot read {}", path.display()))
    }
}

fn scaled_key(unscaled: &str, scale: f32) -> String {
    format!("{unscaled}, scale {scale}")
}
