//! The start of a training: a copy of another user's adapter in place of a random one, which helps where a history has few
//! texts.

use std::path::Path;

use cope_convert::Adapter;
use cope_convert::gguf::Gguf;

use super::config::TrainConfig;
use super::family::Family;
use super::lora::Lora;
use super::shape::Shape;
use crate::error::Missing;
use crate::home::{AdapterFolder, BaseRef, StartAdapter};
use crate::{Error, Result};

impl TrainConfig {
    /// Makes the SFT of `user` start from a copy of the adapter that `source` has after SFT, with its rank, α and target
    /// modules. What `source` learnt by DPO, and the scale that calibration chose for it, are not copied.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when `source` is `user`, or its adapter is on top of another task adapter than `base`;
    /// [`Missing::Adapter`] when `source` is not trained; [`Error::Convert`] when its adapter cannot be read or belongs to
    /// another base.
    pub fn start_from(
        &mut self,
        source: &AdapterFolder,
        user: &AdapterFolder,
        base_path: &Path,
        base: &BaseRef,
    ) -> Result<()> {
        if source.path() == user.path() {
            return Err(Error::input(
                "a training starts from the adapter of another user, and not from the user's own",
            ));
        }
        let (path, source) = (source.sft(), source.name().to_string());
        if !path.is_file() {
            return Err(Missing::Adapter { user: source }.into());
        }
        let gguf = Gguf::open(base_path)?;
        let adapter = read_adapter(&path, &gguf, base)?;
        let shape = Shape::read(&gguf, Family::of(&gguf)?)?;
        self.lora = Lora::from_adapter(&adapter, &shape)?.config();
        self.start = Some(StartAdapter {
            user: source,
            sha256: cope_convert::sha256(&path)?,
        });
        Ok(())
    }
}

/// Reads an adapter that was trained on `base`, with the same task adapter or without one.
///
/// # Errors
/// The adapter cannot be read, or belongs to another base or task adapter.
pub(super) fn read_adapter(path: &Path, gguf: &Gguf, base: &BaseRef) -> Result<Adapter> {
    let adapter = Adapter::read_gguf(path)?;
    adapter.check_fits(gguf, &base.sha256)?;
    if adapter.task_sha256 != base.task_sha256 {
        return Err(Error::input(format_args!(
            "{} was trained {}, and this training is {}; both need the same task adapter, or none",
            path.display(),
            on_task(adapter.task_sha256.as_deref()),
            on_task(base.task_sha256.as_deref()),
        )));
    }
    Ok(adapter)
}

/// Says on top of which task adapter an adapter is.
fn on_task(sha256: Option<&str>) -> String {
    sha256.map_or_else(
        || "without a task adapter".to_owned(),
        |sha256| format!("on top of the task adapter with SHA-256 {sha256:.12}…"),
    )
}
