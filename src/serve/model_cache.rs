//! Whose contexts are loaded: they come when they are wanted and go by least use.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cope_convert::gguf::Gguf;

use super::settings::EngineSettings;
use crate::decode::{ArmKind, Batch, ModelId, Policy};
use crate::home::{Home, UserFolder, UserName};
use crate::llama::{LoraAdapter, Model, Sequences};
use crate::voice::{AdapterSource, Voice};
use crate::{Error, Result};

/// What a text wants of the models.
#[derive(Clone, Debug, PartialEq)]
pub struct VoiceRequest {
    /// Whose adapter; without one it is the base that speaks.
    pub user: Option<UserName>,
    /// By how much its effect is multiplied.
    pub scale: f32,
    /// Which of the models.
    pub arm: ArmKind,
    /// α, if not the adapter's.
    pub contrast: Option<f32>,
    /// τ, if not the adapter's.
    pub plausibility: Option<f32>,
}

/// A model of the batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ModelKey {
    /// The base, with the task adapter of this SHA-256 or without.
    Base(Option<String>),
    /// A user's, by the adapter's SHA-256 and the bits of its scale.
    User(UserName, String, u32),
}

struct Loaded {
    id: ModelId,
    bytes: u64,
    /// When it was last asked for.
    used: u64,
}

/// What is known of a user's adapter while its file does not change.
#[derive(Clone)]
struct Known {
    stamp: Stamp,
    sha256: String,
    voice: Voice,
}

/// A file's length and time of change.
type Stamp = (u64, Option<std::time::SystemTime>);

pub(super) type ServerBatch = Batch<Sequences, Arc<Model>>;

/// The models of one base in a batch.
pub(super) struct ModelCache {
    home: Home,
    model: Arc<Model>,
    gguf: Gguf,
    sha256: String,
    settings: EngineSettings,
    loaded: HashMap<ModelKey, Loaded>,
    known: HashMap<UserName, Known>,
    time: u64,
}

impl ModelCache {
    pub fn new(home: &Home, model: &Arc<Model>, settings: &EngineSettings) -> Result<Self> {
        let path = model.path();
        Ok(Self {
            home: home.clone(),
            model: Arc::clone(model),
            gguf: Gguf::open(path)?,
            sha256: home.base_ref(path)?.sha256,
            settings: settings.clone(),
            loaded: HashMap::new(),
            known: HashMap::new(),
            time: 0,
        })
    }

    /// The models of a voice, loaded unless they are; `None` while there is no room for them beside those at work.
    ///
    /// # Errors
    ///
    /// The user is not there or not trained on this base, a setting is out of its range, or there is never room.
    pub fn open(
        &mut self,
        voice: &VoiceRequest,
        batch: &mut ServerBatch,
    ) -> Result<Option<Policy<ModelId>>> {
        let Some(user) = &voice.user else {
            let base = self.model(&ModelKey::Base(None), None, batch, || Ok(None))?;
            return Ok(base.map(Policy::Plain));
        };
        let folder = self.home.user(user.clone())?;
        let known = self.known(&folder)?;
        let contrast = known.voice.contrast(voice.contrast, voice.plausibility)?;
        let task = known.voice.task_sha256().map(str::to_owned);
        let of_base = ModelKey::Base(task.clone());
        let of_user = ModelKey::User(user.clone(), known.sha256.clone(), voice.scale.to_bits());
        if task.is_some() && (voice.scale - 1.0).abs() > f32::EPSILON {
            return Err(Error::input(format!(
                "{user}'s adapter lies on a task's, of which llama.cpp is given the sum: its scale is 0 or 1"
            )));
        }
        let load_task = || known.voice.base_adapter();
        let load_user = || known.voice.user_adapter().map(Some);
        let policy = match voice.arm {
            ArmKind::Base => self
                .model(&of_base, None, batch, load_task)?
                .map(Policy::Plain),
            ArmKind::User => self
                .model(&of_user, None, batch, load_user)?
                .map(Policy::Plain),
            ArmKind::Cope => {
                let base = self.model(&of_base, Some(&of_user), batch, load_task)?;
                let user = self.model(&of_user, Some(&of_base), batch, load_user)?;
                base.zip(user).map(|(base, user)| Policy::Cope {
                    base,
                    user,
                    contrast,
                })
            }
        };
        Ok(policy)
    }

    /// Lets go of what is of no use any more, where no text is in it: adapters that were trained anew, and those of users
    /// who were deleted.
    pub fn sweep(&mut self, batch: &mut ServerBatch) {
        let keys: Vec<ModelKey> = self.loaded.keys().cloned().collect();
        for key in keys {
            let ModelKey::User(name, sha256, _) = &key else {
                continue;
            };
            let folder = self.home.user(name.clone());
            let known = folder.and_then(|folder| self.known(&folder));
            if known.map_or(true, |known| known.sha256 != *sha256) {
                self.known.remove(name);
                self.unload(&key, batch);
            }
        }
    }

    /// Models that are loaded, and the memory of their contexts.
    pub fn count(&self) -> (usize, u64) {
        (self.loaded.len(), self.bytes())
    }

    /// A model, loaded with the adapter at the path that `adapter` gives, unless it is; `None` while there is no room. The
    /// one `beside` it, which the same text wants, makes no room for it.
    fn model(
        &mut self,
        key: &ModelKey,
        beside: Option<&ModelKey>,
        batch: &mut ServerBatch,
        adapter: impl FnOnce() -> Result<Option<PathBuf>>,
    ) -> Result<Option<ModelId>> {
        self.time += 1;
        if let Some(loaded) = self.loaded.get_mut(key) {
            loaded.used = self.time;
            return Ok(Some(loaded.id));
        }
        let path = adapter()?;
        let n_sequences = match key {
            ModelKey::Base(_) => self.settings.parallel,
            ModelKey::User(..) => self.settings.parallel_user,
        };
        let bytes = self.settings.context.kv_bytes(&self.model) * n_sequences as u64
            + size(path.as_deref());
        let other = beside.and_then(|key| self.loaded.get(key));
        let together = bytes + other.map_or(0, |other| other.bytes);
        if together > self.settings.memory {
            return Err(Error::Memory {
                needed: together,
                limit: self.settings.memory,
            });
        }
        while self.bytes() + bytes > self.settings.memory {
            if !self.unload_oldest(beside, batch) {
                return Ok(None);
            }
        }
        let load = |path: &Path| LoraAdapter::load(&self.model, path, &self.gguf, &self.sha256);
        let adapter = path.as_deref().map(load).transpose()?;
        let scale = match key {
            ModelKey::Base(_) => 1.0,
            ModelKey::User(_, _, scale) => f32::from_bits(*scale),
        };
        let adapter = adapter.map(|adapter| (adapter, scale));
        let sequences = Sequences::new(&self.model, adapter, &self.settings.context, n_sequences)?;
        let loaded = Loaded {
            id: batch.add(sequences),
            bytes,
            used: self.time,
        };
        let id = loaded.id;
        self.loaded.insert(key.clone(), loaded);
        Ok(Some(id))
    }

    fn bytes(&self) -> u64 {
        self.loaded.values().map(|loaded| loaded.bytes).sum()
    }

    /// Unloads the model that nobody has asked for for the longest time, of those in which no text is;
    /// not `kept`.
    fn unload_oldest(&mut self, kept: Option<&ModelKey>, batch: &mut ServerBatch) -> bool {
        let mut keys: Vec<_> = self
            .loaded
            .iter()
            .map(|(key, it)| (it.used, key.clone()))
            .collect();
        keys.sort_by_key(|(used, _)| *used);
        keys.into_iter()
            .any(|(_, key)| Some(&key) != kept && self.unload(&key, batch))
    }

    fn unload(&mut self, key: &ModelKey, batch: &mut ServerBatch) -> bool {
        let id = self.loaded.get(key).map(|loaded| loaded.id);
        let is_gone = id.is_some_and(|id| batch.remove(id).is_some());
        if is_gone {
            self.loaded.remove(key);
        }
        is_gone
    }

    /// What a user's adapter says of itself, read anew when its file has changed.
    fn known(&mut self, folder: &UserFolder) -> Result<Known> {
        let path = folder.trained_adapter()?;
        let metadata = std::fs::metadata(&path).map_err(Error::io("read", &path))?;
        let stamp = (metadata.len(), metadata.modified().ok());
        if let Some(known) = self
            .known
            .get(folder.name())
            .filter(|known| known.stamp == stamp)
        {
            return Ok(known.clone());
        }
        let source = AdapterSource::User(folder.clone());
        let voice = Voice::open(&source)?.ok_or_else(|| Error::bug("a user without a voice"))?;
        let known = Known {
            stamp,
            sha256: cope_convert::sha256(&path)?,
            voice,
        };
        self.known.insert(folder.name().clone(), known.clone());
        Ok(known)
    }
}

fn size(path: Option<&Path>) -> u64 {
    path.and_then(|path| std::fs::metadata(path).ok())
        .map_or(0, |it| it.len())
}
