//! Bundles: a user's model as a folder for another machine or another program, with a model card and instructions for
//! running it.

mod card;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use cope_convert::gguf::{GgmlType, Gguf};
use cope_convert::safetensors::Dtype;
use cope_convert::{Adapter, Merged, merge, sha256};
use tempfile::TempDir;

use crate::bases;
use crate::error::{Missing, Unspecified};
use crate::home::{Home, Manifest, UserFolder, write_atomic};
use crate::voice::{AdapterSource, Voice};
use crate::{Error, Result};

const BASE: &str = "base.gguf";
const ADAPTER: &str = "adapter.gguf";
const MERGED: &str = "model.gguf";
const MODELFILE: &str = "Modelfile";
const CARD: &str = "README.md";
const CHECKSUMS: &str = "SHA256SUMS";

/// The program that a bundle is for, which decides what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BundleTarget {
    /// Base and adapter: this program, with the contrast, and llama.cpp
    #[default]
    LlamaCpp,
    /// The adapter merged into its base, as `Q8_0`, and a Modelfile: Ollama
    Ollama,
    /// Base, adapter, and a Modelfile that names both: Ollama before 0.34.1
    OllamaAdapter,
    /// The adapter merged into its base, as `Q8_0`: a folder of LM Studio's models
    LmStudio,
    /// The adapter in bf16 as a PEFT folder: vLLM, SGLang and Ray Serve
    Peft,
}

/// The form of the model in a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BundleForm {
    /// Base and adapter.
    Pair,
    /// One file, the adapter merged into the base.
    Merged,
    /// The adapter alone, as a PEFT folder.
    Peft,
}

impl BundleTarget {
    fn form(self) -> BundleForm {
        match self {
            Self::LlamaCpp | Self::OllamaAdapter => BundleForm::Pair,
            Self::Ollama | Self::LmStudio => BundleForm::Merged,
            Self::Peft => BundleForm::Peft,
        }
    }

    /// Whether a bundle for the program holds the base's own file.
    #[must_use]
    pub fn has_base(self) -> bool {
        self.form() == BundleForm::Pair
    }

    fn has_modelfile(self) -> bool {
        matches!(self, Self::Ollama | Self::OllamaAdapter)
    }
}

/// How the base's file gets into the folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BasePlace {
    /// The file is hard-linked where the file system allows it, and copied elsewhere.
    #[default]
    Link,
    /// The file is copied.
    Copy,
}

/// The choices about a bundle.
#[derive(Clone, Debug, Default)]
pub struct BundleOptions {
    /// The program that the bundle is for.
    pub target: BundleTarget,
    /// How the base gets into a bundle that holds it.
    pub place: BasePlace,
    /// The name under which transformers finds the base; by default the one that the list of bases or the base's file says.
    /// Only [`BundleTarget::Peft`] needs it.
    pub base_name: Option<String>,
}

/// A user's model, ready to be written.
struct UserModel<'a> {
    user: &'a UserFolder,
    manifest: Manifest,
    base: PathBuf,
    base_sha256: String,
    gguf: Gguf,
    adapter: Adapter,
}

/// Creates `folder` with the user's model in the form that `options.target` takes, a model card and checksums. An adapter
/// that was trained on top of a task adapter is stacked with it. The folder holds none of the user's texts, but the adapter
/// may reproduce them. Once `stop` is true, the base is not copied or merged any further. Returns what a merge kept.
///
/// # Errors
///
/// The user is not trained; base or adapter have changed since the training; `folder` exists and is not empty, or cannot
/// be written; the base is in several parts, and the bundle holds it; a name of the base is needed and not known;
/// [`Error::Interrupted`] if `stop` was set. Nothing is left behind then.
pub fn bundle(
    home: &Home,
    user: &UserFolder,
    folder: &Path,
    options: &BundleOptions,
    stop: &AtomicBool,
) -> Result<Option<Merged>> {
    let model = UserModel::open(home, user)?;
    refuse_nonempty(folder)?;
    let building = temporary_folder(folder)?;
    let path = |name: &str| building.path().join(name);
    let mut merged = None;
    let mut base_name = None;
    let mut checksums = Vec::new();
    let mut names = match options.target.form() {
        BundleForm::Pair => {
            model.copy_base(&path(BASE), options.place, stop)?;
            model.adapter.write_gguf(&path(ADAPTER))?;
            checksums.push((model.base_sha256.clone(), BASE));
            vec![ADAPTER]
        }
        BundleForm::Merged => {
            merged = Some(model.merge(&path(MERGED), stop)?);
            vec![MERGED]
        }
        BundleForm::Peft => {
            let name = model.base_name(options.base_name.as_deref())?;
            model.write_peft(building.path(), &name)?;
            base_name = Some(name);
            vec!["adapter_config.json", "adapter_model.safetensors"]
        }
    };
    for (name, text) in card::texts(&model, options.target, base_name)? {
        write_atomic(&path(name), |file| file.write_all(text.as_bytes()))?;
        names.push(name);
    }
    for name in names {
        checksums.push((sha256(&path(name))?, name));
    }
    write_atomic(&path(CHECKSUMS), |file| {
        let mut lines = checksums.iter();
        lines.try_for_each(|(sha256, name)| writeln!(file, "{sha256}  {name}"))
    })?;
    // The rename replaces an empty folder.
    fs::rename(building.path(), folder).map_err(Error::io("write", folder))?;
    // The temporary folder has been renamed, so that there is nothing to remove.
    let _ = building.keep();
    Ok(merged)
}

impl<'a> UserModel<'a> {
    fn open(home: &Home, user: &'a UserFolder) -> Result<Self> {
        let adapter = whole_adapter(user)?;
        let manifest = user.manifest()?.ok_or_else(|| {
            let user = user.name().to_string();
            Missing::Manifest { user }
        })?;
        let base = home.base(&manifest.base.file);
        let base_sha256 = home.base_ref(&base)?.sha256;
        let gguf = Gguf::open(&base)?;
        adapter.check_fits(&gguf, &base_sha256)?;
        Ok(Self {
            user,
            manifest,
            base,
            base_sha256,
            gguf,
            adapter,
        })
    }

    /// Puts the base's file at `path`.
    fn copy_base(&self, path: &Path, place: BasePlace, stop: &AtomicBool) -> Result<()> {
        let n_parts = self.gguf.parts.len();
        if n_parts > 1 {
            return Err(Error::input(format_args!(
                "{} is a model in {n_parts} parts, and a bundle has its base in one file; join the parts (llama-gguf-split --merge) and train {} on the whole",
                self.base.display(),
                self.user.name()
            )));
        }
        if place == BasePlace::Link && fs::hard_link(&self.base, path).is_ok() {
            return Ok(());
        }
        copy(&self.base, path, stop)
    }

    /// Writes the base with the adapter merged into it. The matrices that change become `Q8_0`, which keeps the change where
    /// coarser types round it away.
    fn merge(&self, path: &Path, stop: &AtomicBool) -> Result<Merged> {
        let go_on = |_| {
            if stop.load(Ordering::Relaxed) {
                return Err(cope_convert::Error::Interrupted);
            }
            Ok(())
        };
        let adapters = [(self.adapter.clone(), 1.0)];
        let q8_0 = Some(GgmlType::Q8_0);
        let merged = merge(&self.gguf, &self.base_sha256, &adapters, q8_0, path, &go_on);
        merged.map_err(|error| match error {
            cope_convert::Error::Interrupted => Error::Interrupted,
            error => error.into(),
        })
    }

    /// Writes the adapter as a PEFT folder. vLLM computes a module's scale from the adapter's `r`, so that all modules get
    /// the same rank.
    fn write_peft(&self, folder: &Path, base_name: &str) -> Result<()> {
        let even = Adapter::stack(&[(&self.adapter, 1.0)])?;
        Ok(even.write_peft(folder, &self.gguf, base_name, Some(Dtype::BF16))?)
    }

    /// The name under which transformers finds the base.
    fn base_name(&self, given: Option<&str>) -> Result<String> {
        let listed = bases::all()
            .into_iter()
            .find(|listed| listed.sha256 == self.base_sha256);
        let recorded = self.gguf.str("general.source.huggingface.repository").ok();
        let name = given
            .map(str::to_owned)
            .or_else(|| listed.map(|listed| listed.repository))
            .or_else(|| recorded.map(str::to_owned));
        name.ok_or_else(|| {
            let path = self.base.clone();
            Unspecified::BaseName { path }.into()
        })
    }
}

/// Copies a file in parts, before each of which it looks at `stop`.
fn copy(from: &Path, to: &Path, stop: &AtomicBool) -> Result<()> {
    const PART: u64 = 64 << 20;
    let mut source = File::open(from).map_err(Error::io("read", from))?;
    let mut options = OpenOptions::new();
    let target = options.write(true).create_new(true).mode(0o600).open(to);
    let mut target = target.map_err(Error::io("write", to))?;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let copied = io::copy(&mut source.by_ref().take(PART), &mut target);
        if copied.map_err(Error::io("copy", from))? == 0 {
            return Ok(());
        }
    }
}

/// The user's adapter, stacked with its task adapter if it has one.
fn whole_adapter(user: &UserFolder) -> Result<Adapter> {
    let voice = Voice::open(&AdapterSource::User(user.clone()))?.ok_or_else(|| {
        let user = user.name().to_string();
        Missing::Adapter { user }
    })?;
    voice.whole_adapter()
}

fn refuse_nonempty(folder: &Path) -> Result<()> {
    let is_empty =
        |folder: &Path| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if folder.exists() && !is_empty(folder) {
        return Err(Error::input(format_args!(
            "{} exists already and is not empty; name a new folder",
            folder.display()
        )));
    }
    Ok(())
}

/// A new folder beside `folder`, on the same file system, that only its owner can access.
fn temporary_folder(folder: &Path) -> Result<TempDir> {
    let parent = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    tempfile::Builder::new()
        .prefix(".cope-bundle-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent.unwrap_or(Path::new(".")))
        .map_err(Error::io("write", folder))
}
