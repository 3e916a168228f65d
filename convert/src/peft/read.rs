//! Reads an adapter of PEFT or MLX.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::adapter::check::{check, check_ranks};
use crate::adapter::fuse::fuse;
use crate::adapter::{
    Adapter, BASE_SHA256, CONTRAST, GENERAL_NAME, Half, LORA_ALPHA, LoraPair, PLAUSIBILITY,
    ROPE_FACTORS, StoredMatrix, StoredPair, TASK_SHA256,
};
use crate::error::{Error, PeftFlaw, Result, excerpt};
use crate::family::Family;
use crate::gguf::{GgmlType, Gguf};
use crate::quant::WRITTEN;
use crate::rope_factors::RopeFactors;
use crate::safetensors::{SafeTensors, TensorEntry};
use crate::value_heads::ValueHeads;

use super::adapter_config::{Config, Origin};
use super::location::locate;
use super::{GGUF_PREFIX, PREFIX, TYPE, along};

/// Reads and checks the adapter at `path`; its weights stay on disk.
pub(super) fn open(path: &Path, base: &Gguf) -> Result<Adapter<StoredPair>> {
    let location = locate(path)?;
    let family = Family::read(base)?;
    let config = Config::read(&location.config)?;
    let weights = SafeTensors::open(&location.weights)?;
    let refuse = |flaw| Error::Peft {
        path: weights.path.clone(),
        flaw,
    };
    let halves = halves(&weights, &family, config.origin, base).map_err(refuse)?;
    let pairs = halves.into_iter().map(|(name, halves)| {
        let module = halves.module;
        let (Some(a), Some(b)) = (halves.a, halves.b) else {
            return Err(PeftFlaw::Half(name));
        };
        pair(&config, name, module, a, b)
    });
    let pairs = pairs.collect::<Result<Vec<_>, _>>().map_err(refuse)?;
    let tensors = fuse(pairs, config.gguf_alpha(), &family, base);
    let tensors = tensors.map_err(|flaw| refuse(flaw.into()))?;
    let text = |key: &str| weights.metadata.get(&format!("{GGUF_PREFIX}{key}"));
    let number = |key: &str| {
        let number = text(key).map(|text| f32::from_str(text));
        number
            .transpose()
            .map_err(|_| refuse(PeftFlaw::Metadata(key.to_owned())))
    };
    let mut adapter = Adapter {
        architecture: family.architecture,
        lora_alpha: config.gguf_alpha(),
        base_sha256: text(BASE_SHA256).cloned(),
        task_sha256: text(TASK_SHA256).cloned(),
        contrast: number(CONTRAST)?,
        plausibility: number(PLAUSIBILITY)?,
        rope_factors: match text(ROPE_FACTORS) {
            Some(name) => Some(
                RopeFactors::from_name(name)
                    .ok_or_else(|| refuse(PeftFlaw::Metadata(ROPE_FACTORS.to_owned())))?,
            ),
            None => None,
        },
        name: text(GENERAL_NAME).cloned(),
        tensors,
    };
    // PEFT cannot say "no alpha": the writer put the rank in its place, and noted alpha's value of 0 in the metadata.
    let scales = adapter
        .tensors
        .iter()
        .map(|it| adapter.lora_scale(it.rank()));
    let is_unscaled = scales.into_iter().all(|scale| scale - 1.0 == 0.0);
    if number(LORA_ALPHA)? == Some(0.0) && is_unscaled {
        adapter.lora_alpha = 0.0;
    }
    check(&adapter).map_err(|flaw| refuse(flaw.into()))?;
    let recorded = adapter.base_sha256.clone().unwrap_or_default();
    adapter.check_fits(base, &recorded)?;
    Ok(adapter)
}

/// The module of an adapter that is left out of it, see [`super::left_out`].
pub(super) fn left_out(path: &Path, base: &Gguf) -> Result<Option<String>> {
    let location = locate(path)?;
    let family = Family::read(base)?;
    let origin = Config::read(&location.config)?.origin;
    let weights = SafeTensors::open(&location.weights)?;
    let modules = (weights.tensors.iter()).filter_map(|tensor| module(&tensor.name, origin));
    let mut unapplied = modules.filter(|module| family.is_unapplied(module));
    Ok(unapplied.next().map(excerpt))
}

/// The matrices of one module, as far as they have been found.
#[derive(Default)]
struct Halves<'w> {
    module: &'w str,
    a: Option<StoredMatrix>,
    b: Option<StoredMatrix>,
}

/// The matrices in the file, by the base tensors that they adapt.
fn halves<'w>(
    weights: &'w SafeTensors,
    family: &Family,
    origin: Origin,
    base: &Gguf,
) -> Result<BTreeMap<String, Halves<'w>>, PeftFlaw> {
    let path: Arc<Path> = weights.path.as_path().into();
    let mut halves = BTreeMap::<String, Halves<'_>>::new();
    let mut adapters = BTreeSet::new();
    for tensor in &weights.tensors {
        if origin == Origin::Peft && is_copy(tensor, family, base)? {
            continue;
        }
        if module(&tensor.name, origin).is_some_and(|it| family.is_unapplied(it)) {
            continue;
        }
        let place = place(family, &tensor.name, origin)?;
        adapters.insert(place.adapter);
        if let [Some(one), Some(other)] = [adapters.first(), adapters.last()]
            && one != other
        {
            return Err(PeftFlaw::Names(excerpt(one), excerpt(other)));
        }
        let heads = (place.half == Half::B).then(|| family.moved_heads(&place.name));
        let mut matrix = matrix(&path, tensor, origin, heads.flatten())?;
        matrix.value_heads =
            (family.value_heads(&place.name)).filter(|heads| heads.along == along(place.half));
        let n_places = match place.half {
            Half::A => matrix.cols,
            Half::B => matrix.rows,
        };
        let is_sound = |heads: ValueHeads| heads.n_places() == n_places;
        if !matrix.value_heads.is_none_or(is_sound) {
            return Err(PeftFlaw::Shape {
                tensor: excerpt(&tensor.name),
                shape: tensor.shape.clone(),
            });
        }
        let key = format!("{GGUF_PREFIX}{TYPE}.{}", tensor.name);
        if let Some(text) = weights.metadata.get(&key) {
            let found = WRITTEN.into_iter().find(|it| it.name() == text);
            matrix.written_as = found.ok_or_else(|| PeftFlaw::Metadata(excerpt(&key)))?;
        }
        let known = halves.entry(place.name).or_default();
        known.module = place.module;
        let half = match place.half {
            Half::A => &mut known.a,
            Half::B => &mut known.b,
        };
        if half.replace(matrix).is_some() {
            return Err(PeftFlaw::Twice(excerpt(&tensor.name)));
        }
    }
    Ok(halves)
}

/// The pair of a module. `B` carries what one `alpha` for all modules does not express of the module's factor.
fn pair(
    config: &Config,
    name: String,
    module: &str,
    a: StoredMatrix,
    mut b: StoredMatrix,
) -> Result<StoredPair, PeftFlaw> {
    check_ranks(&name, a.rows, b.cols)?;
    let (got, expected) = (a.rows, config.rank(module));
    if got != expected as usize {
        return Err(PeftFlaw::Rank {
            module: excerpt(module),
            got,
            expected,
        });
    }
    let (alpha, common) = (config.alpha(module), config.gguf_alpha());
    if alpha.total_cmp(&common).is_ne() {
        b.factor = (f64::from(alpha) / f64::from(common)) as f32;
        b.written_as = GgmlType::F32;
    }
    Ok(StoredPair::new(name, a, b))
}

/// The meaning of a tensor's name.
struct Place<'w> {
    /// The base tensor that is adapted.
    name: String,
    /// The module that is adapted.
    module: &'w str,
    /// The name that the adapter had in PEFT; empty if the file does not say.
    adapter: &'w str,
    half: Half,
}

/// Reads the name of a tensor.
fn place<'w>(family: &Family, tensor: &'w str, origin: Origin) -> Result<Place<'w>, PeftFlaw> {
    let unknown = || PeftFlaw::Tensor(excerpt(tensor));
    let (module, half, adapter) = parts(tensor, origin).ok_or_else(unknown)?;
    let Some(name) = family.tensor(module) else {
        let (module, architecture) = (excerpt(module), family.architecture.clone());
        return Err(if family.is_part(&module) {
            PeftFlaw::Part {
                module,
                architecture,
            }
        } else {
            PeftFlaw::Module {
                module,
                architecture,
            }
        });
    };
    Ok(Place {
        name,
        module,
        adapter,
        half,
    })
}

/// The module of a tensor of a pair.
fn module(tensor: &str, origin: Origin) -> Option<&str> {
    parts(tensor, origin).map(|(module, ..)| module)
}

/// The module, the half and the adapter's name in the name of a tensor.
fn parts(tensor: &str, origin: Origin) -> Option<(&str, Half, &str)> {
    match origin {
        Origin::Peft => peft_name(tensor),
        Origin::Mlx => mlx_name(tensor),
    }
}

/// The module, the half and the adapter's name in a name such as `base_model.model.MODULE.lora_A.default.weight`. PEFT
/// leaves out the adapter's name when it saves an adapter.
fn peft_name(tensor: &str) -> Option<(&str, Half, &str)> {
    let rest = tensor.strip_prefix(PREFIX)?.strip_suffix(".weight")?;
    let (module, last) = rest.rsplit_once('.')?;
    if let Some(half) = peft_half(last) {
        return Some((module, half, ""));
    }
    let (module, half) = module.rsplit_once('.')?;
    Some((module, peft_half(half)?, last))
}

fn peft_half(text: &str) -> Option<Half> {
    match text {
        "lora_A" => Some(Half::A),
        "lora_B" => Some(Half::B),
        _ => None,
    }
}

/// The module and the half in a name such as `MODULE.lora_a`.
fn mlx_name(tensor: &str) -> Option<(&str, Half, &str)> {
    match tensor.rsplit_once('.')? {
        (module, "lora_a") => Some((module, Half::A, "")),
        (module, "lora_b") => Some((module, Half::B, "")),
        _ => None,
    }
}

/// Whether a tensor is a copy of a weight of the base, as PEFT saves one of the head when that is adapted. An adapter
/// changes no weight of its base, so the copy says nothing; one of another shape belongs to another base.
fn is_copy(tensor: &TensorEntry, family: &Family, base: &Gguf) -> Result<bool, PeftFlaw> {
    let name = tensor.name.strip_prefix(PREFIX);
    let Some(module) = name.and_then(|it| it.strip_suffix(".base_layer.weight")) else {
        return Ok(false);
    };
    let Some(weight) = family.tensor(module) else {
        return Ok(false);
    };
    let shape = base.tensor(&weight).map(|weight| &weight.shape);
    if shape.is_some_and(|shape| !shape.iter().rev().eq(&tensor.shape)) {
        return Err(PeftFlaw::Shape {
            tensor: excerpt(&tensor.name),
            shape: tensor.shape.clone(),
        });
    }
    Ok(true)
}

/// The place of a matrix in the file. `heads` is given if its rows have to be reordered within so many heads.
fn matrix(
    path: &Arc<Path>,
    tensor: &TensorEntry,
    origin: Origin,
    heads: Option<usize>,
) -> Result<StoredMatrix, PeftFlaw> {
    let shape = || PeftFlaw::Shape {
        tensor: excerpt(&tensor.name),
        shape: tensor.shape.clone(),
    };
    let [first, last] = *tensor.shape else {
        return Err(shape());
    };
    let (rows, cols) = match origin {
        Origin::Peft => (first, last),
        Origin::Mlx => (last, first),
    };
    if heads.is_some_and(|heads| heads == 0 || !(rows as usize).is_multiple_of(2 * heads)) {
        return Err(shape());
    }
    Ok(StoredMatrix {
        path: Arc::clone(path),
        tensor: tensor.name.clone(),
        rows: rows as usize,
        cols: cols as usize,
        ggml_type: tensor.dtype.into(),
        written_as: tensor.dtype.into(),
        offset: tensor.offset,
        heads,
        value_heads: None,
        is_transposed: origin == Origin::Mlx,
        factor: 1.0,
    })
}
