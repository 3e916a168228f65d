//! Ollama's store: a manifest for each name, whose layers are files under their SHA-256.
//!
//! ```text
//! manifests-v2/HOST/NAMESPACE/NAME/TAG   links to manifests among the blobs
//! manifests/HOST/NAMESPACE/NAME/TAG      manifests of earlier versions
//! blobs/sha256-HEX
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{ModelStore, StoredModels};
use crate::Result;
use crate::home::entries;

/// The folders of manifests; a name in the first hides the same name in the second.
const MANIFESTS: [&str; 2] = ["manifests-v2", "manifests"];
/// A manifest's place in such a folder: host, namespace, name and tag.
const LEVELS: usize = 4;
const HOST: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";
/// The most bytes of a manifest; real ones have a few thousand.
const MAX_BYTES: u64 = 1 << 20;

const LIST: &str = "application/vnd.ollama.manifest.list.v2+json";
const MODEL: &str = "application/vnd.ollama.image.model";
const ADAPTER: &str = "application/vnd.ollama.image.adapter";
const TENSOR: &str = "application/vnd.ollama.image.tensor";

/// The programs inside Ollama that run GGUF files, in its order of preference.
const RUNNERS: [&str; 2] = ["ollama", "llamacpp"];

/// A manifest, or a list of manifests of which each is for another runner.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OllamaManifest {
    media_type: String,
    layers: Vec<OllamaLayer>,
    manifests: Vec<OllamaManifest>,
    runner: String,
    /// In a list, the blob that is the manifest.
    digest: String,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OllamaLayer {
    media_type: String,
    digest: String,
    size: u64,
}

/// Adds the models of the store in `folder`.
pub(super) fn look(folder: &Path, found: &mut StoredModels) -> Result<()> {
    let store = ModelStore::Ollama;
    let mut seen = Vec::new();
    for manifests in MANIFESTS {
        let mut tags = Vec::new();
        collect(&folder.join(manifests), LEVELS, &mut Vec::new(), &mut tags)?;
        for (parts, path) in tags {
            let name = name_of(&parts);
            if seen.contains(&name) {
                continue;
            }
            match model_file(folder, &path) {
                Ok(file) => found.add(store, &name, file),
                Err(reason) => found.note(store, &name, reason),
            }
            seen.push(name);
        }
    }
    Ok(())
}

/// Collects the files that lie `levels` deep in `folder`, with the names that lead to them.
fn collect(
    folder: &Path,
    levels: usize,
    parts: &mut Vec<String>,
    tags: &mut Vec<(Vec<String>, PathBuf)>,
) -> Result<()> {
    for path in entries(folder)? {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| !name.starts_with('.')) else {
            continue;
        };
        parts.push(name.to_owned());
        if levels > 1 {
            if path.is_dir() {
                collect(&path, levels - 1, parts, tags)?;
            }
        } else if !path.is_dir() {
            tags.push((parts.clone(), path));
        }
        parts.pop();
    }
    Ok(())
}

/// A model's name as Ollama shows it, without the host and the namespace that go without saying.
fn name_of(parts: &[String]) -> String {
    let (tag, path) = parts.split_last().expect("a tag has a name");
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let path = match *path {
        [HOST, NAMESPACE, name] => name.to_owned(),
        [HOST, namespace, name] => format!("{namespace}/{name}"),
        _ => path.join("/"),
    };
    format!("{path}:{tag}")
}

/// The GGUF file of the model with this manifest, or the reason why it cannot be used.
fn model_file(store: &Path, manifest: &Path) -> Result<PathBuf, String> {
    let manifest = for_llama_cpp(store, read(manifest)?)?;
    let layers_of = |kind: &str| -> Vec<&OllamaLayer> {
        let layers = manifest.layers.iter();
        layers.filter(|layer| layer.media_type == kind).collect()
    };
    if !layers_of(TENSOR).is_empty() {
        return Err("it is stored as tensors, and not as a GGUF file".into());
    }
    if !layers_of(ADAPTER).is_empty() {
        return Err("it has an adapter of its own, which cannot be used here; use its base".into());
    }
    match *layers_of(MODEL) {
        [] => Err("it has no model file on this machine".into()),
        [layer] => whole_blob(store, layer),
        _ => Err("it consists of several model files, which only Ollama joins".into()),
    }
}

/// The manifest itself, or the one of a list that is for llama.cpp.
fn for_llama_cpp(store: &Path, manifest: OllamaManifest) -> Result<OllamaManifest, String> {
    if manifest.media_type != LIST {
        return Ok(manifest);
    }
    let of_runner = |runner: &&str| {
        let mut listed = manifest.manifests.iter();
        listed.find(|it| it.runner.eq_ignore_ascii_case(runner))
    };
    let chosen = RUNNERS.iter().find_map(of_runner);
    let chosen = chosen.ok_or("none of its forms is a GGUF file")?;
    if chosen.digest.is_empty() {
        return Ok(chosen.clone());
    }
    read(&blob(store, &chosen.digest)?)
}

fn read(path: &Path) -> Result<OllamaManifest, String> {
    let flaw = |reason: &dyn std::fmt::Display| format!("its manifest cannot be read ({reason})");
    let size = fs::metadata(path).map_err(|error| flaw(&error))?.len();
    if size > MAX_BYTES {
        return Err(flaw(&format!("it has {size} bytes")));
    }
    let text = fs::read(path).map_err(|error| flaw(&error))?;
    serde_json::from_slice(&text).map_err(|error| flaw(&error))
}

/// The file of a layer, if it has its whole length.
fn whole_blob(store: &Path, layer: &OllamaLayer) -> Result<PathBuf, String> {
    let path = blob(store, &layer.digest)?;
    let Ok(metadata) = fs::metadata(&path) else {
        return Err("its model file is missing".into());
    };
    if metadata.len() != layer.size {
        let (got, size) = (metadata.len(), layer.size);
        return Err(format!("its model file has {got} of {size} bytes"));
    }
    Ok(path)
}

/// The path of the blob with this digest, `sha256:HEX`; stores of old versions have the colon in the file's name too.
fn blob(store: &Path, digest: &str) -> Result<PathBuf, String> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("its manifest names a file that is no SHA-256".into());
    }
    let blobs = store.join("blobs");
    let older = blobs.join(digest);
    if older.exists() {
        return Ok(older);
    }
    Ok(blobs.join(format!("sha256-{hex}")))
}
