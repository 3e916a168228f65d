//! Bundles: a user's model as a folder for another machine or another program, with the base, the adapter, a model card
//! and instructions for running it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use cope_convert::gguf::{Array, Gguf, Value};
use cope_convert::{Adapter, sha256};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, context};
use tempfile::TempDir;

use crate::bases;
use crate::error::Missing;
use crate::home::{Calibration, Home, Manifest, StageRecord, UserFolder, write_atomic};
use crate::voice::{AdapterSource, Voice};
use crate::{Error, Result};

const BASE: &str = "base.gguf";
const ADAPTER: &str = "adapter.gguf";
const MODELFILE: &str = "Modelfile";
const CARD: &str = "README.md";
const CHECKSUMS: &str = "SHA256SUMS";

/// The template of the Modelfile for Ollama.
const MODELFILE_TEMPLATE: &str = include_str!("bundle/Modelfile.jinja");
/// The template of the model card.
const CARD_TEMPLATE: &str = include_str!("bundle/README.md.jinja");

/// How the base's file gets into the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasePlace {
    /// The file is hard-linked where the file system allows it, and copied elsewhere.
    Link,
    /// The file is copied.
    Copy,
}

/// Creates `folder` with the user's base and adapter, a Modelfile for Ollama, a model card and checksums. An adapter that
/// was trained on top of a task adapter is stacked with it. The folder holds none of the user's texts, but the adapter
/// may reproduce them. Once `stop` is true, the base is not copied any further.
///
/// # Errors
///
/// The user is not trained; base or adapter have changed since the training; `folder` exists and is not empty, or cannot
/// be written; [`Error::Interrupted`] if `stop` was set. Nothing is left behind then.
pub fn bundle(
    home: &Home,
    user: &UserFolder,
    folder: &Path,
    place: BasePlace,
    stop: &AtomicBool,
) -> Result<()> {
    let adapter = whole_adapter(user)?;
    let manifest = user.manifest()?.ok_or_else(|| {
        let user = user.name().to_string();
        Missing::Manifest { user }
    })?;
    let base = home.base(&manifest.base.file);
    let base_ref = home.base_ref(&base)?;
    let gguf = Gguf::open(&base)?;
    adapter.check_fits(&gguf, &base_ref.sha256)?;
    if gguf.parts.len() > 1 {
        return Err(Error::input(format_args!(
            "{} is a model in {} parts, and a bundle has its base in one file; join the parts (llama-gguf-split --merge) and train {} on the whole",
            base.display(),
            gguf.parts.len(),
            user.name()
        )));
    }
    refuse_nonempty(folder)?;

    let building = temporary_folder(folder)?;
    let path = |name: &str| building.path().join(name);
    let linked = place == BasePlace::Link && fs::hard_link(&base, path(BASE)).is_ok();
    if !linked {
        copy(&base, &path(BASE), stop)?;
    }
    adapter.write_gguf(&path(ADAPTER))?;
    for (name, text) in texts(user, &manifest, &gguf, &adapter)? {
        write_atomic(&path(name), |file| file.write_all(text.as_bytes()))?;
    }
    let mut checksums = vec![(base_ref.sha256, BASE)];
    for name in [ADAPTER, MODELFILE, CARD] {
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
    Ok(())
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

/// The names and contents of the Modelfile and the model card.
fn texts(
    user: &UserFolder,
    manifest: &Manifest,
    base: &Gguf,
    adapter: &Adapter,
) -> Result<[(&'static str, String); 2]> {
    let stages = manifest.stages.iter().map(|(stage, record)| {
        let StageRecord {
            seconds, figures, ..
        } = record;
        context! { name => stage.name(), seconds, figures }
    });
    let adapter_record = manifest.adapter.as_ref();
    let calibration = adapter_record.and_then(|record| record.calibration.as_ref());
    let n_held_out = calibration.map_or(0, Calibration::n_texts);
    let n_history = user.profile()?.history.len();
    let values = context! {
        user => user.name().as_str(),
        n_trained => n_history.saturating_sub(n_held_out),
        base_file => manifest.base.file.as_str(),
        architecture => manifest.base.architecture.as_str(),
        on_task => manifest.base.task_sha256.is_some(),
        from_another => adapter_record.is_some_and(|record| record.start.is_some()),
        licence => licence(manifest, base),
        rank => adapter.rank(),
        lora_alpha => adapter.lora_alpha.to_string(),
        n_tensors => adapter.tensors.len(),
        targets => target_counts(adapter),
        contrast => adapter.contrast.map(|contrast| contrast.to_string()),
        plausibility => adapter.plausibility.map(|plausibility| plausibility.to_string()),
        stages => stages.collect::<Vec<_>>(),
        // Ollama recognises the chat templates of common models in their GGUF files.
        own_template => base.str("tokenizer.chat_template").is_ok(),
        eos => end_of_sequence(base),
    };
    Ok([
        (MODELFILE, render(MODELFILE_TEMPLATE, &values)?),
        (CARD, render(CARD_TEMPLATE, &values)?),
    ])
}

fn render(template: &str, values: &minijinja::Value) -> Result<String> {
    let mut syntax = SyntaxConfig::builder();
    syntax
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true);
    let rendered = syntax.build().and_then(|syntax| {
        let mut environment = Environment::new();
        environment.set_syntax(syntax);
        environment.render_str(template, values)
    });
    rendered.map_err(|error| Error::Template(error.to_string()))
}

/// The base's licence, from the list of bases or else from the base's metadata.
fn licence(manifest: &Manifest, base: &Gguf) -> Option<String> {
    let listed = bases::all()
        .into_iter()
        .find(|listed| listed.sha256 == manifest.base.sha256);
    match listed {
        Some(listed) => Some(listed.licence),
        None => base.str("general.license").ok().map(str::to_owned),
    }
}

/// The number of adapted tensors of each kind, such as `attn_q`.
fn target_counts(adapter: &Adapter) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for pair in &adapter.tensors {
        let kind = pair.name.trim_end_matches(".weight").rsplit('.').next();
        *counts.entry(kind.unwrap_or_default()).or_default() += 1;
    }
    counts
}

/// The text of the token that ends a sequence.
fn end_of_sequence(base: &Gguf) -> Option<&str> {
    let id = base.u32("tokenizer.ggml.eos_token_id").ok()?;
    match base.get("tokenizer.ggml.tokens")? {
        Value::Array(Array::String(tokens)) => tokens.get(id as usize).map(String::as_str),
        _ => None,
    }
}
