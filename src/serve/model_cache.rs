//! The models of the base and of users' adapters. They are loaded on demand and evicted least-recently-used, once together
//! they would take more memory than they may.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cope_convert::gguf::Gguf;

use super::settings::EngineSettings;
use super::voice_request::VoiceRequest;
use crate::decode::{ArmKind, Batch, ModelId, Policy};
use crate::home::{FileStamp, Home, UserFolder, UserName};
use crate::llama::{LoraAdapter, Model, Sequences};
use crate::voice::{self, AdapterSource, Voice};
use crate::{Error, Result};

/// The identity of a model in the batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ModelKey {
    /// The base, with the task adapter of this SHA-256 or without.
    Base(Option<String>),
    /// A user's model, with the SHA-256 of the adapter and the bits of its scale.
    User(UserName, String, u32),
}

/// A model in memory.
struct Loaded {
    id: ModelId,
    bytes: u64,
    /// The time at which a text last asked for it, in requests.
    used: u64,
}

/// A user's adapter as its file describes it, valid while the file does not change.
#[derive(Clone)]
struct Known {
    stamp: FileStamp,
    sha256: String,
    voice: Voice,
}

/// The texts of all users, decoded together.
pub(super) type ServerBatch = Batch<Sequences, Arc<Model>>;

/// The loaded models of one base, which live in a batch.
pub(super) struct ModelCache {
    home: Home,
    model: Arc<Model>,
    gguf: Gguf,
    sha256: String,
    settings: EngineSettings,
    loaded: HashMap<ModelKey, Loaded>,
    known: HashMap<UserName, Known>,
    /// The number of requests for a model so far.
    time: u64,
}

impl ModelCache {
    /// An empty cache of models on the base `model`.
    ///
    /// # Errors
    ///
    /// The base's file cannot be read; [`Error::Memory`] when not even the base's context fits into the memory that contexts may
    /// take, [`Error::NoRoom`] when it does not fit into the free memory.
    pub fn new(home: &Home, model: &Arc<Model>, settings: &EngineSettings) -> Result<Self> {
        let path = model.path();
        let needed = settings.context.kv_bytes(model) * settings.parallel as u64;
        if needed > settings.memory {
            let limit = settings.memory;
            return Err(Error::Memory { needed, limit });
        }
        Sequences::check_memory(model, &settings.context, settings.parallel)?;
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

    /// The models of a voice, which are loaded if they are not yet; `None` while there is no room for them beside those
    /// that are in use.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when the user does not exist or is not trained; [`Error::Memory`] when the models would not fit
    /// even alone; [`Error::NoRoom`] when they need more memory than is free; [`Error::Contrast`] when α or τ is out of its
    /// range; the adapter's file is damaged, or was trained on another base.
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
        let contrast = voice::contrast(Some(&known.voice), voice.contrast, voice.plausibility)?;
        let task = known.voice.task_sha256().map(str::to_owned);
        let base_key = ModelKey::Base(task.clone());
        let user_key = ModelKey::User(user.clone(), known.sha256.clone(), voice.scale.to_bits());
        if task.is_some() && (voice.scale - 1.0).abs() > f32::EPSILON {
            return Err(Error::input(format!(
                "{user}'s adapter was trained on top of a task adapter, and both are applied as one: its scale can only be 0 or 1"
            )));
        }
        let load_task = || known.voice.base_adapter();
        let load_user = || known.voice.user_adapter().map(Some);
        let policy = match voice.arm {
            ArmKind::Base => self
                .model(&base_key, None, batch, load_task)?
                .map(Policy::Plain),
            ArmKind::User => self
                .model(&user_key, None, batch, load_user)?
                .map(Policy::Plain),
            ArmKind::Cope => {
                let base = self.model(&base_key, Some(&user_key), batch, load_task)?;
                let user = self.model(&user_key, Some(&base_key), batch, load_user)?;
                base.zip(user).map(|(base, user)| Policy::Cope {
                    base,
                    user,
                    contrast,
                })
            }
        };
        Ok(policy)
    }

    /// Unloads the models that no request can reach any more and that no text is using: those of adapters that were
    /// trained anew, and of users who were deleted.
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

    /// The number of models that are loaded, and the bytes that their contexts and adapters take.
    pub fn count(&self) -> (usize, u64) {
        (self.loaded.len(), self.bytes())
    }

    /// The model of `key`, which is loaded with the adapter at the path that `adapter` gives if it is not yet; `None` while
    /// there is no room. The model `beside`, which the same text needs, is not evicted for it.
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
        let sequences = loop {
            let context = &self.settings.context;
            match Sequences::new(&self.model, adapter.clone(), context, n_sequences) {
                Err(Error::NoRoom { .. }) if self.unload_oldest(beside, batch) => {}
                made => break made.map_err(out_of_memory)?,
            }
        };
        let loaded = Loaded {
            id: batch.add(sequences),
            bytes,
            used: self.time,
        };
        let id = loaded.id;
        self.loaded.insert(key.clone(), loaded);
        Ok(Some(id))
    }

    /// Bytes that the loaded models take.
    fn bytes(&self) -> u64 {
        self.loaded.values().map(|loaded| loaded.bytes).sum()
    }

    /// Unloads the least recently used model that no text is using, other than `kept`. Returns whether there was one.
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

    /// Unloads a model, unless a text is using it. Returns whether it was unloaded.
    fn unload(&mut self, key: &ModelKey, batch: &mut ServerBatch) -> bool {
        let id = self.loaded.get(key).map(|loaded| loaded.id);
        let is_gone = id.is_some_and(|id| batch.remove(id).is_some());
        if is_gone {
            self.loaded.remove(key);
        }
        is_gone
    }

    /// A user's adapter as its file describes it; the file is read again when it has changed.
    fn known(&mut self, folder: &UserFolder) -> Result<Known> {
        let path = folder.trained_adapter()?;
        let stamp = FileStamp::of(&path)?;
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

/// The length of a file in bytes; 0 without one.
fn size(path: Option<&Path>) -> u64 {
    path.and_then(|path| std::fs::metadata(path).ok())
        .map_or(0, |it| it.len())
}

/// The error of a context that llama.cpp did not make: memory is the only thing that it can lack, since the settings and
/// the adapter were checked before.
fn out_of_memory(error: Error) -> Error {
    match error {
        Error::Llama { .. } => Error::lack(format!("there is no memory for a context: {error}")),
        error => error,
    }
}
