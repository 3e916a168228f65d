//! Writes an adapter to a PEFT folder.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::ops::Range;
use std::path::Path;

use serde_json::json;

use crate::adapter::check::check;
use crate::adapter::values::{check_values, encode};
use crate::adapter::{
    Adapter, BASE_SHA256, CONTRAST, GENERAL_NAME, Half, LORA_ALPHA, LoraPair, PLAUSIBILITY,
    ROPE_FACTORS, TASK_SHA256,
};
use crate::error::{AdapterFlaw, Error, PeftFlaw, Result};
use crate::family::{Family, separate};
use crate::file::replace_file;
use crate::gguf::Gguf;
use crate::safetensors::{self, Dtype, TensorSpec};
use crate::value_heads::ValueHeads;

use super::{CONFIG, GGUF_PREFIX, PREFIX, TYPE, WEIGHTS, along};

/// Checks the adapter and writes it into `folder`.
pub(super) fn write<P: LoraPair>(
    adapter: &Adapter<P>,
    folder: &Path,
    base: &Gguf,
    base_name: &str,
    dtype: Option<Dtype>,
) -> Result<()> {
    let refuse = |flaw| Error::Peft {
        path: folder.to_owned(),
        flaw,
    };
    let family = Family::read(base)?;
    check(adapter).map_err(|flaw| refuse(flaw.into()))?;
    let recorded = adapter.base_sha256.clone().unwrap_or_default();
    adapter.check_fits(base, &recorded)?;
    let weights = Weights::plan(adapter, &family, dtype).map_err(refuse)?;
    let config = config(adapter, &weights.modules, base_name).map_err(refuse)?;

    create_folder(folder)?;
    weights.write(&folder.join(WEIGHTS), refuse)?;
    // The configuration comes last, so that a folder that has one is complete.
    let path = folder.join(CONFIG);
    replace_file(&path, |out| {
        serde_json::to_writer_pretty(&mut *out, &config)
            .map_err(std::io::Error::from)
            .and_then(|()| out.write_all(b"\n"))
            .map_err(Error::io("write", &path))
    })
}

/// Creates `folder` and the folders above it where they are missing. On Unix only the owner may enter them.
fn create_folder(folder: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let created = builder.recursive(true).create(folder);
    created.map_err(Error::io("write", folder))
}

/// The contents of the file of weights.
struct Weights<'a, P> {
    metadata: BTreeMap<String, String>,
    /// The matrices, sorted by the names of their tensors.
    matrices: Vec<PlannedMatrix<'a, P>>,
    /// The rank of each adapted module.
    modules: BTreeMap<String, usize>,
}

/// A matrix of a pair, and its tensor in the file.
struct PlannedMatrix<'a, P> {
    spec: TensorSpec,
    pair: &'a P,
    half: Half,
    /// The rows of `B` that belong to the module.
    rows: Range<usize>,
    /// The number of heads within which the rows of `B` are in another order than in transformers, if they are.
    heads: Option<usize>,
    /// The value heads, if this half has them and they are in another order than in transformers.
    value_heads: Option<ValueHeads>,
}

impl<'a, P: LoraPair> Weights<'a, P> {
    /// Plans the tensors of `adapter`: their names, types and order.
    fn plan(
        adapter: &'a Adapter<P>,
        family: &Family,
        dtype: Option<Dtype>,
    ) -> Result<Self, PeftFlaw> {
        let mut metadata = metadata(adapter);
        let mut matrices = Vec::new();
        let mut modules = BTreeMap::new();
        for pair in &adapter.tensors {
            let [type_a, type_b] = pair.types();
            for (tensor, rows) in layers(pair, family) {
                let module = family.module(&tensor);
                let module = module.ok_or_else(|| PeftFlaw::NoModule(pair.name().to_owned()))?;
                for (half, suffix, own, shape) in [
                    (Half::A, "lora_A", type_a, [pair.rank(), pair.n_in()]),
                    (Half::B, "lora_B", type_b, [rows.len(), pair.rank()]),
                ] {
                    let name = format!("{PREFIX}{module}.{suffix}.weight");
                    let dtype = dtype.or_else(|| own.try_into().ok()).unwrap_or_else(|| {
                        let key = format!("{GGUF_PREFIX}{TYPE}.{name}");
                        metadata.insert(key, own.to_string());
                        Dtype::F32
                    });
                    let shape = shape.map(|dim| dim as u64).to_vec();
                    matrices.push(PlannedMatrix {
                        spec: TensorSpec { name, dtype, shape },
                        pair,
                        half,
                        rows: rows.clone(),
                        heads: family.moved_heads(&tensor),
                        value_heads: (family.value_heads(&tensor))
                            .filter(|heads| heads.along == along(half)),
                    });
                }
                modules.insert(module, pair.rank());
            }
        }
        matrices.sort_by(|x, y| x.spec.name.cmp(&y.spec.name));
        Ok(Self {
            metadata,
            matrices,
            modules,
        })
    }

    /// Writes the file of weights.
    fn write(&self, path: &Path, refuse: impl Fn(PeftFlaw) -> Error) -> Result<()> {
        let specs = self.matrices.iter().map(|matrix| matrix.spec.clone());
        let specs: Vec<_> = specs.collect();
        safetensors::write(path, &self.metadata, &specs, |index| {
            self.matrices[index].encode(&refuse)
        })
    }
}

/// The layers that a pair changes: the tensor that each has where it has its own, and its rows among those of `B`.
fn layers(pair: &impl LoraPair, family: &Family) -> Vec<(String, Range<usize>)> {
    match family.parts(pair.name(), pair.n_out()) {
        Some(parts) => parts.into(),
        None => vec![(pair.name().to_owned(), 0..pair.n_out())],
    }
}

impl<P: LoraPair> PlannedMatrix<'_, P> {
    /// The bytes of the matrix, its rows in transformers' order.
    fn encode(&self, refuse: &impl Fn(PeftFlaw) -> Error) -> Result<Vec<u8>> {
        let Self { spec, pair, .. } = self;
        let shape = [spec.shape[0] as usize, spec.shape[1] as usize];
        let refuse = |flaw: AdapterFlaw| refuse(flaw.into());
        let values = match self.half {
            Half::A => pair.a()?,
            Half::B => {
                let whole = pair.b()?;
                check_values(&spec.name, &whole, [pair.n_out(), pair.rank()]).map_err(refuse)?;
                let rows = &whole[self.rows.start * shape[1]..self.rows.end * shape[1]];
                match self.heads {
                    Some(heads) => Cow::Owned(separate(rows, shape[1], heads)),
                    None => Cow::Owned(rows.to_vec()),
                }
            }
        };
        let values = match self.value_heads {
            Some(heads) => {
                check_values(&spec.name, &values, shape).map_err(refuse)?;
                Cow::Owned(heads.group(&values, shape[1]))
            }
            None => values,
        };
        encode(&spec.name, &values, shape, spec.dtype.into()).map_err(refuse)
    }
}

/// The content of `adapter_config.json`. `modules` are the adapted modules with their ranks.
fn config<P: LoraPair>(
    adapter: &Adapter<P>,
    modules: &BTreeMap<String, usize>,
    base_name: &str,
) -> Result<serde_json::Value, PeftFlaw> {
    let rank = adapter.rank();
    let others = modules.iter().filter(|(_, other)| **other != rank);
    let rank_pattern: BTreeMap<_, _> = others.collect();
    let lora_alpha = match adapter.lora_alpha {
        0.0 if !rank_pattern.is_empty() => return Err(PeftFlaw::NoAlpha),
        0.0 => json!(rank),
        // PEFT writes alpha as an integer where it can.
        alpha if alpha.fract() == 0.0 => json!(alpha as i64),
        alpha => json!(alpha),
    };
    let names = modules
        .keys()
        .filter_map(|module| module.rsplit('.').next());
    let target_modules: BTreeSet<_> = names.collect();
    Ok(json!({
        "alpha_pattern": {},
        "base_model_name_or_path": base_name,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": lora_alpha,
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": rank_pattern,
        "target_modules": target_modules,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": false,
    }))
}

/// The metadata of the weights: the format's own entry, and the adapter's settings for which PEFT has no place.
fn metadata<P>(adapter: &Adapter<P>) -> BTreeMap<String, String> {
    let no_alpha = (adapter.lora_alpha == 0.0).then(|| "0".to_owned());
    let number = |number: Option<f32>| number.map(|number| number.to_string());
    let entries = [
        (BASE_SHA256, adapter.base_sha256.clone()),
        (TASK_SHA256, adapter.task_sha256.clone()),
        (CONTRAST, number(adapter.contrast)),
        (PLAUSIBILITY, number(adapter.plausibility)),
        (
            ROPE_FACTORS,
            adapter.rope_factors.map(|it| it.name().to_owned()),
        ),
        (GENERAL_NAME, adapter.name.clone()),
        (LORA_ALPHA, no_alpha),
    ];
    let entries = entries
        .into_iter()
        .filter_map(|(key, text)| Some((format!("{GGUF_PREFIX}{key}"), text?)));
    entries
        .chain([("format".to_owned(), "pt".to_owned())])
        .collect()
}
