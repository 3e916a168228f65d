//! Voices: resolves where an adapter comes from to the files that llama.cpp loads and the settings of the contrast. The
//! command line, the server and evaluations all choose adapters here.
//!
//! ```text
//! AdapterSource ─→ Voice ─→ base_adapter(), user_adapter(), whole_adapter(); contrast()
//! ```
//!
//! An adapter that was trained on top of a task adapter belongs to the base *with* the task adapter. llama.cpp then loads
//! two adapters: the task adapter for the base, and both stacked into one file for the user model.

use std::path::{Path, PathBuf};

use cope_convert::Adapter;
use tempfile::TempPath;

use crate::decode::Contrast;
use crate::home::UserFolder;
use crate::{Error, Result};

/// Where the adapter of a voice comes from.
#[derive(Clone, Debug)]
pub enum AdapterSource {
    /// There is no adapter: the base answers alone.
    Base,
    /// The adapter in this user's folder.
    User(UserFolder),
    /// The adapter in this GGUF file.
    File(PathBuf),
}

impl AdapterSource {
    /// The user, if the adapter is a user's.
    #[must_use]
    pub fn user(&self) -> Option<&UserFolder> {
        match self {
            Self::User(user) => Some(user),
            Self::Base | Self::File(_) => None,
        }
    }
}

/// The adapter of a user model as llama.cpp loads it.
#[derive(Debug)]
pub struct ScaledAdapter {
    path: PathBuf,
    /// The scale at which a context has to apply the file.
    pub scale: f32,
    /// Removes a file that was made for this scale.
    _temporary: Option<TempPath>,
}

impl ScaledAdapter {
    /// The file, which may be gone once `self` is dropped.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A voice with an adapter, as the metadata of the adapter's file describes it.
#[derive(Clone, Debug)]
pub struct Voice {
    source: AdapterSource,
    /// The adapter's file as training wrote it.
    path: PathBuf,
    task_sha256: Option<String>,
    contrast: Option<f32>,
    plausibility: Option<f32>,
}

impl Voice {
    /// The voice of the adapter at `source`; `None` for the base alone.
    ///
    /// # Errors
    ///
    /// [`Missing::Adapter`](crate::error::Missing::Adapter) when the user is not trained; [`Error::Convert`] when the file
    /// cannot be read; [`Error::Input`] when a file outside a user's folder was trained on top of a task adapter.
    pub fn open(source: &AdapterSource) -> Result<Option<Self>> {
        let path = match source {
            AdapterSource::Base => return Ok(None),
            AdapterSource::User(user) => user.trained_adapter()?,
            AdapterSource::File(path) => path.clone(),
        };
        let stored = Adapter::read_gguf(&path)?;
        if stored.task_sha256.is_some() && source.user().is_none() {
            return Err(Error::input(format!(
                "{} was trained on top of a task adapter and cannot be used alone; name its user",
                path.display()
            )));
        }
        Ok(Some(Self {
            source: source.clone(),
            path,
            task_sha256: stored.task_sha256,
            contrast: stored.contrast,
            plausibility: stored.plausibility,
        }))
    }

    /// The adapter's file as training wrote it, without the task adapter.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The SHA-256 of the task adapter on top of which the adapter was trained, if any.
    #[must_use]
    pub fn task_sha256(&self) -> Option<&str> {
        self.task_sha256.as_deref()
    }

    /// The task adapter that llama.cpp loads for the base, if there is one.
    ///
    /// # Errors
    ///
    /// [`Missing::TaskAdapter`](crate::error::Missing::TaskAdapter) when the file is missing or has another SHA-256.
    pub fn base_adapter(&self) -> Result<Option<PathBuf>> {
        match (&self.source, &self.task_sha256) {
            (AdapterSource::User(user), Some(task)) => user.known_task(task).map(Some),
            _ => Ok(None),
        }
    }

    /// The adapter that llama.cpp loads for the user model: the file itself, or, on top of a task adapter, both stacked
    /// into a file beside it, which is written anew.
    ///
    /// # Errors
    ///
    /// The errors of [`Voice::base_adapter`]; the stacked adapter cannot be written.
    pub fn user_adapter(&self) -> Result<PathBuf> {
        match (&self.source, self.base_adapter()?) {
            (AdapterSource::User(user), Some(task)) => {
                let path = user.stacked();
                stack(&task, &self.path)?.write_gguf(&path)?;
                Ok(path)
            }
            _ => Ok(self.path.clone()),
        }
    }

    /// The adapter of the user model with the user's part at `scale`, where 1 applies it as it was trained. A task adapter
    /// below it keeps its own scale, which is 1.
    ///
    /// # Errors
    ///
    /// The errors of [`Voice::user_adapter`].
    pub fn scaled_adapter(&self, scale: f32) -> Result<ScaledAdapter> {
        let is_scaled = (scale - 1.0).abs() > 0.0;
        match (&self.source, self.base_adapter()?) {
            (AdapterSource::User(user), Some(task)) if is_scaled => {
                // Another process may need the stacked file of scale 1 at the same time, so this one has its own name.
                let file = tempfile::Builder::new()
                    .prefix("stacked-")
                    .suffix(".gguf")
                    .tempfile_in(user.path())
                    .map_err(Error::io("write", user.path()))?
                    .into_temp_path();
                stack_scaled(&task, &self.path, scale)?.write_gguf(&file)?;
                Ok(ScaledAdapter {
                    path: file.to_path_buf(),
                    scale: 1.0,
                    _temporary: Some(file),
                })
            }
            (_, task) => Ok(ScaledAdapter {
                path: self.user_adapter()?,
                scale: if task.is_some() { 1.0 } else { scale },
                _temporary: None,
            }),
        }
    }

    /// The whole adapter of the user model in memory: on top of a task adapter, both stacked.
    ///
    /// # Errors
    ///
    /// The errors of [`Voice::base_adapter`]; an adapter cannot be read.
    pub fn whole_adapter(&self) -> Result<Adapter> {
        match self.base_adapter()? {
            Some(task) => stack(&task, &self.path),
            None => Ok(Adapter::read_gguf(&self.path)?),
        }
    }
}

/// The settings of the contrast, α and τ: those given here, else those in the metadata of the voice's adapter, else the
/// defaults.
///
/// # Errors
///
/// [`Error::Contrast`] when one is out of its range.
pub fn contrast(
    voice: Option<&Voice>,
    contrast: Option<f32>,
    plausibility: Option<f32>,
) -> Result<Contrast> {
    let default = Contrast::default();
    let contrast = contrast.or_else(|| voice?.contrast);
    let plausibility = plausibility.or_else(|| voice?.plausibility);
    Ok(Contrast::new(
        contrast.unwrap_or(default.contrast()),
        plausibility.unwrap_or(default.plausibility()),
    )?)
}

/// Stacks a task adapter and a user's adapter into one, which does what both do together.
///
/// # Errors
///
/// One of them cannot be read, or they belong to different bases.
pub fn stack(task: &Path, user: &Path) -> Result<Adapter> {
    stack_scaled(task, user, 1.0)
}

/// Stacks a task adapter and a user's adapter, the latter at `scale`.
fn stack_scaled(task: &Path, user: &Path, scale: f32) -> Result<Adapter> {
    let (task, user) = (Adapter::read_gguf(task)?, Adapter::read_gguf(user)?);
    Ok(Adapter::stack(&[(&task, 1.0), (&user, scale)])?.load()?)
}
