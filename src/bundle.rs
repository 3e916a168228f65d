//! A user's model as a folder for another machine or another program: base, adapter, what to know of them, and how to
//! run them.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cope_convert::gguf::{Array, Gguf, Value};
use cope_convert::{Adapter, sha256};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, context};

use crate::bases;
use crate::error::Missing;
use crate::home::{Home, Manifest, StageRecord, UserFolder, write_atomic};
use crate::{Error, Result};

const BASE: &str = "base.gguf";
const ADAPTER: &str = "adapter.gguf";
const MODELFILE: &str = "Modelfile";
const CARD: &str = "README.md";
const CHECKSUMS: &str = "SHA256SUMS";

/// The templates of the texts.
const MODELFILE_TEMPLATE: &str = include_str!("bundle/Modelfile.jinja");
const CARD_TEMPLATE: &str = include_str!("bundle/README.md.jinja");

/// How the base comes into the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasePlace {
    /// As another name of the same file, where the file system can do that, else as a copy.
    Link,
    /// As a copy.
    Copy,
}

/// Makes `folder` with the user's base and adapter, a Modelfile for Ollama, a model card and checksums. An adapter on top
/// of a task's is written as one with it. Of the user's texts there is nothing in it, but what the adapter has learned.
///
/// # Errors
///
/// The user is not trained; base or adapter have changed since; `folder` is there already and not empty, or cannot be
/// written. Nothing is left behind then.
pub fn bundle(home: &Home, user: &UserFolder, folder: &Path, place: BasePlace) -> Result<()> {
    let mut adapter = Adapter::read_gguf(&user.trained_adapter()?)?;
    let manifest = user.manifest()?.ok_or_else(|| {
        let user = user.name().to_string();
        Missing::Manifest { user }
    })?;
    let base = home.base(&manifest.base.file);
    let base_ref = home.base_ref(&base)?;
    let gguf = Gguf::open(&base)?;
    if let Some(task) = &adapter.task_sha256 {
        let task = Adapter::read_gguf(&user.known_task(task)?)?;
        adapter = Adapter::stack(&[(&task, 1.0), (&adapter, 1.0)])?.load()?;
    }
    adapter.check_fits(&gguf, &base_ref.sha256)?;
    refuse_full(folder)?;

    let parent = folder.parent().filter(|it| !it.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let building = tempfile::Builder::new()
        .prefix(".cope-bundle-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent);
    let building = building.map_err(Error::io("write", folder))?;
    let path = |name: &str| building.path().join(name);
    let linked = place == BasePlace::Link && fs::hard_link(&base, path(BASE)).is_ok();
    if !linked {
        fs::copy(&base, path(BASE)).map_err(Error::io("copy", &base))?;
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
    // An empty folder gives way.
    fs::rename(building.path(), folder).map_err(Error::io("write", folder))?;
    // What is to be removed has another name now.
    let _ = building.keep();
    Ok(())
}

fn refuse_full(folder: &Path) -> Result<()> {
    let is_empty = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut it| it.next().is_none());
    if folder.exists() && !is_empty(folder) {
        return Err(Error::input(format!(
            "{} is there already: name a folder that is not",
            folder.display()
        )));
    }
    Ok(())
}

/// The Modelfile and the card.
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
    let stages: Vec<_> = stages.collect();
    let text = |key: &str| base.str(key).ok();
    let known = bases::all()
        .into_iter()
        .find(|it| it.sha256 == manifest.base.sha256);
    let licence = known.as_ref().map(|it| it.licence.as_str());
    let targets: BTreeMap<_, usize> =
        adapter
            .tensors
            .iter()
            .fold(BTreeMap::new(), |mut all, pair| {
                let name = pair.name.trim_end_matches(".weight").rsplit('.').next();
                *all.entry(name.unwrap_or_default()).or_default() += 1;
                all
            });
    let values = context! {
        user => user.name().as_str(),
        n_history => user.profile()?.history.len(),
        base_file => manifest.base.file.as_str(),
        architecture => manifest.base.architecture.as_str(),
        on_task => manifest.base.task_sha256.is_some(),
        licence => licence.or(text("general.license")),
        rank => adapter.rank(),
        lora_alpha => adapter.lora_alpha.to_string(),
        n_tensors => adapter.tensors.len(),
        targets,
        contrast => adapter.contrast.map(|it| it.to_string()),
        plausibility => adapter.plausibility.map(|it| it.to_string()),
        stages,
        // Ollama knows the templates of the usual models by what their files hold.
        own_template => text("tokenizer.chat_template").is_some(),
        eos => eos(base),
    };
    let render = |name, template: &str| {
        let mut syntax = SyntaxConfig::builder();
        syntax
            .trim_blocks(true)
            .lstrip_blocks(true)
            .keep_trailing_newline(true);
        let rendered = syntax.build().and_then(|syntax| {
            let mut environment = Environment::new();
            environment.set_syntax(syntax);
            environment.render_str(template, &values)
        });
        rendered
            .map(|text| (name, text))
            .map_err(|error| Error::Template(error.to_string()))
    };
    Ok([
        render(MODELFILE, MODELFILE_TEMPLATE)?,
        render(CARD, CARD_TEMPLATE)?,
    ])
}

/// The text of the token that ends a sequence.
fn eos(base: &Gguf) -> Option<&str> {
    let id = base.u32("tokenizer.ggml.eos_token_id").ok()?;
    match base.get("tokenizer.ggml.tokens")? {
        Value::Array(Array::String(tokens)) => tokens.get(id as usize).map(String::as_str),
        _ => None,
    }
}
