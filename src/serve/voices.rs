//! Whose contexts are loaded: they come when they are wanted and go by least use.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cope_convert::Adapter;
use cope_convert::gguf::Gguf;

use super::engine::Settings;
use crate::decode::{Batch, Contrast, ModelId, Policy};
use crate::home::{Home, UserFolder, UserName};
use crate::llama::{LoraAdapter, Model, Sequences};
use crate::{Error, Result};

/// Whose voice a text is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// The base's.
    Base,
    /// The user model's.
    User,
    /// The user model's, contrasted with the base's.
    Cope,
}

/// What a text wants of the models.
#[derive(Clone, Debug, PartialEq)]
pub struct Voice {
    /// Whose adapter; without one it is the base that speaks.
    pub user: Option<UserName>,
    /// By how much its effect is multiplied.
    pub scale: f32,
    /// Which of the models.
    pub arm: Arm,
    /// α, if not the adapter's.
    pub contrast: Option<f32>,
    /// τ, if not the adapter's.
    pub plausibility: Option<f32>,
}

/// A model of the batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
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
    task_sha256: Option<String>,
    contrast: Option<f32>,
    plausibility: Option<f32>,
}

/// A file's length and time of change.
type Stamp = (u64, Option<std::time::SystemTime>);

pub(super) type ServerBatch = Batch<Sequences, Arc<Model>>;

/// The models of one base in a batch.
pub(super) struct Voices {
    home: Home,
    model: Arc<Model>,
    gguf: Gguf,
    sha256: String,
    settings: Settings,
    loaded: HashMap<Key, Loaded>,
    known: HashMap<UserName, Known>,
    time: u64,
}

impl Voices {
    pub fn new(home: &Home, model: &Arc<Model>, settings: &Settings) -> Result<Self> {
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
        voice: &Voice,
        batch: &mut ServerBatch,
    ) -> Result<Option<Policy<ModelId>>> {
        let Some(user) = &voice.user else {
            let base = self.model(&Key::Base(None), None, batch, || Ok(None))?;
            return Ok(base.map(Policy::Plain));
        };
        let folder = self.home.user(user.clone())?;
        let known = self.known(&folder)?;
        let contrast = Contrast::default();
        let contrast = Contrast::new(
            voice
                .contrast
                .or(known.contrast)
                .unwrap_or(contrast.contrast()),
            voice
                .plausibility
                .or(known.plausibility)
                .unwrap_or(contrast.plausibility()),
        )?;
        let task = known.task_sha256.clone();
        let of_base = Key::Base(task.clone());
        let of_user = Key::User(user.clone(), known.sha256.clone(), voice.scale.to_bits());
        if task.is_some() && (voice.scale - 1.0).abs() > f32::EPSILON {
            return Err(Error::input(format!(
                "{user}'s adapter lies on a task's, of which llama.cpp is given the sum: its scale is 0 or 1"
            )));
        }
        let load_task = || {
            task.as_deref()
                .map(|sha256| folder.known_task(sha256))
                .transpose()
        };
        let load_user = || user_adapter(&folder, task.as_deref()).map(Some);
        let policy = match voice.arm {
            Arm::Base => self
                .model(&of_base, None, batch, load_task)?
                .map(Policy::Plain),
            Arm::User => self
                .model(&of_user, None, batch, load_user)?
                .map(Policy::Plain),
            Arm::Cope => {
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
        let keys: Vec<Key> = self.loaded.keys().cloned().collect();
        for key in keys {
            let Key::User(name, sha256, _) = &key else {
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
        key: &Key,
        beside: Option<&Key>,
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
            Key::Base(_) => self.settings.parallel,
            Key::User(..) => self.settings.parallel_user,
        };
        let bytes = self.settings.context.kv_bytes(&self.model) * n_sequences as u64
            + size(path.as_deref());
        let other = beside.and_then(|key| self.loaded.get(key));
        let together = bytes + other.map_or(0, |other| other.bytes);
        if together > self.settings.memory {
            return Err(Error::input(format!(
                "the contexts of a text take {} MiB and all may take {}: give more --memory, or a smaller --ctx-size or --parallel",
                together >> 20,
                self.settings.memory >> 20
            )));
        }
        while self.bytes() + bytes > self.settings.memory {
            if !self.unload_oldest(beside, batch) {
                return Ok(None);
            }
        }
        let load = |path: &Path| LoraAdapter::load(&self.model, path, &self.gguf, &self.sha256);
        let adapter = path.as_deref().map(load).transpose()?;
        let scale = match key {
            Key::Base(_) => 1.0,
            Key::User(_, _, scale) => f32::from_bits(*scale),
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
    fn unload_oldest(&mut self, kept: Option<&Key>, batch: &mut ServerBatch) -> bool {
        let mut keys: Vec<_> = self
            .loaded
            .iter()
            .map(|(key, it)| (it.used, key.clone()))
            .collect();
        keys.sort_by_key(|(used, _)| *used);
        keys.into_iter()
            .any(|(_, key)| Some(&key) != kept && self.unload(&key, batch))
    }

    fn unload(&mut self, key: &Key, batch: &mut ServerBatch) -> bool {
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
        let adapter = Adapter::read_gguf(&path)?;
        let known = Known {
            stamp,
            sha256: cope_convert::sha256(&path)?,
            task_sha256: adapter.task_sha256,
            contrast: adapter.contrast,
            plausibility: adapter.plausibility,
        };
        self.known.insert(folder.name().clone(), known.clone());
        Ok(known)
    }
}

/// The adapter that llama.cpp is to load for a user.
fn user_adapter(folder: &UserFolder, task_sha256: Option<&str>) -> Result<PathBuf> {
    match task_sha256 {
        None => folder.trained_adapter(),
        Some(sha256) => folder.stack(sha256),
    }
}

fn size(path: Option<&Path>) -> u64 {
    path.and_then(|path| std::fs::metadata(path).ok())
        .map_or(0, |it| it.len())
}
