//! Finds the files of an adapter of PEFT or MLX, or says what a path leads to instead.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, LocationFlaw, Result};
use crate::file::open_regular;

use super::{CONFIG, MLX_WEIGHTS, WEIGHTS};

/// How deep an adapter is looked for below a folder that is none. Hugging Face's cache has its files two levels down.
const MAX_DEPTH: usize = 3;

/// The most entries of a folder that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// Endings of files that hold weights as a pickle or a zip archive.
const PICKLES: [&str; 5] = ["bin", "pt", "pth", "ckpt", "npz"];

/// The files of an adapter.
pub(crate) struct Location {
    pub config: PathBuf,
    pub weights: PathBuf,
}

/// Whether a path looks like that of an adapter of PEFT or MLX, rather than of a GGUF file.
pub(crate) fn is_peft(path: &Path) -> bool {
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    path.is_dir() || ["safetensors", "json"].contains(&ending) || PICKLES.contains(&ending)
}

/// Finds the adapter at `path`: its folder, its file of weights or its file of settings.
pub(crate) fn locate(path: &Path) -> Result<Location> {
    let refuse = |flaw| Error::Location {
        path: path.to_owned(),
        flaw,
    };
    if path.is_dir() {
        return in_folder(path)?.map_err(refuse);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    if path.file_name() == Some(OsStr::new(CONFIG)) {
        open_regular(path, "JSON")?;
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        return in_folder(folder)?.map_err(refuse);
    }
    open_regular(path, "safetensors")?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if is_pickle(&name) {
        return Err(refuse(LocationFlaw::Pickle(name.into())));
    }
    if is_part(&name) {
        return Err(refuse(LocationFlaw::Parts(name.into())));
    }
    let config = folder.join(CONFIG);
    if !config.exists() {
        return Err(refuse(LocationFlaw::NoConfig(name.into())));
    }
    Ok(Location {
        config,
        weights: path.to_owned(),
    })
}

/// Finds the adapter in `folder`.
fn in_folder(folder: &Path) -> Result<Result<Location, LocationFlaw>> {
    let names = Names::read(folder)?;
    let weights = match names.weights() {
        Ok(weights) => weights,
        Err(flaw) => return Ok(Err(flaw)),
    };
    if !names.has(CONFIG) {
        let below = adapters_below(folder, MAX_DEPTH);
        return Ok(Err(if !below.is_empty() {
            LocationFlaw::Below(below)
        } else if names.has("config.json") && weights.is_some() {
            LocationFlaw::WholeModel
        } else if let Some(weights) = weights {
            LocationFlaw::NoConfig(weights)
        } else {
            match names.ending_in("gguf") {
                files if files.is_empty() => LocationFlaw::Nothing,
                files => LocationFlaw::Gguf(files),
            }
        }));
    }
    Ok(weights.map_or(Err(LocationFlaw::NoWeights), |weights| {
        Ok(Location {
            config: folder.join(CONFIG),
            weights: folder.join(weights),
        })
    }))
}

/// The names of the files in a folder, sorted.
struct Names(Vec<String>);

impl Names {
    fn read(folder: &Path) -> Result<Self> {
        let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
        let mut names = Vec::new();
        for entry in entries.take(MAX_ENTRIES) {
            let entry = entry.map_err(Error::io("read", folder))?;
            // A link to a file counts too, as in Hugging Face's cache.
            if !entry.path().is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(Self(names))
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|it| it == name)
    }

    fn ending_in(&self, ending: &str) -> Vec<String> {
        let ends = |name: &&String| Path::new(name).extension() == Some(OsStr::new(ending));
        self.0.iter().filter(ends).cloned().collect()
    }

    /// The file that holds the weights: the one that PEFT or MLX writes, or else the only safetensors file. `None` if
    /// there is none.
    fn weights(&self) -> Result<Option<String>, LocationFlaw> {
        let usual = [WEIGHTS, MLX_WEIGHTS].into_iter().filter(|it| self.has(it));
        let mut usual: Vec<_> = usual.map(str::to_owned).collect();
        if usual.len() > 1 {
            return Err(LocationFlaw::Several(usual));
        }
        if let Some(usual) = usual.pop() {
            return Ok(Some(usual));
        }
        if self.has("config.json") && !self.has(CONFIG) {
            // The parts of a whole model need no word of their own.
            return Ok(self.ending_in("safetensors").pop());
        }
        let files = self.ending_in("safetensors");
        if let Some(part) = files.iter().find(|name| is_part(name)) {
            return Err(LocationFlaw::Parts(part.clone()));
        }
        if files.len() > 1 {
            return Err(LocationFlaw::Several(files));
        }
        let pickled = |name: &&String| name.starts_with("adapter") && is_pickle(name);
        match (files.into_iter().next(), self.0.iter().find(pickled)) {
            (None, Some(pickle)) => Err(LocationFlaw::Pickle(pickle.clone())),
            (weights, _) => Ok(weights),
        }
    }
}

/// Whether a name ends as those of [`PICKLES`].
fn is_pickle(name: &str) -> bool {
    let ending = Path::new(name).extension().and_then(OsStr::to_str);
    ending.is_some_and(|ending| PICKLES.contains(&ending))
}

/// Whether a name is that of one of several parts, such as `adapter_model-00001-of-00002.safetensors`.
fn is_part(name: &str) -> bool {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|c| c.is_ascii_digit());
    let stem = name.split('.').next().unwrap_or_default();
    match stem.rsplit('-').collect::<Vec<_>>()[..] {
        [n_parts, "of", part, _, ..] => number(n_parts) && number(part) && n_parts != "00001",
        _ => false,
    }
}

/// The folders of adapters below `folder`, relative to it; `checkpoint-20` before `checkpoint-100`.
fn adapters_below(folder: &Path, depth: usize) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().take(MAX_ENTRIES) {
        let Ok(entry) = entry else { continue };
        let (path, name) = (entry.path(), entry.file_name());
        if !path.is_dir() {
            continue;
        }
        let name = name.to_string_lossy();
        if path.join(CONFIG).exists() {
            found.push(name.into_owned());
        } else if depth > 1 {
            let below = adapters_below(&path, depth - 1);
            found.extend(below.into_iter().map(|it| format!("{name}/{it}")));
        }
    }
    found.sort_by_key(|name| (name.len(), name.clone()));
    found
}
