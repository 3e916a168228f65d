//! From an adapter to a folder of PEFT's.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::path::Path;

use serde_json::json;

use crate::adapter::check::{check, check_values, encode};
use crate::adapter::{
    Adapter, BASE_SHA256, CONTRAST, GENERAL_NAME, LORA_ALPHA, LoraPair, PLAUSIBILITY, TASK_SHA256,
};
use crate::error::{Error, PeftFlaw, Result};
use crate::family::{Family, separate};
use crate::file::replace_file;
use crate::gguf::Gguf;
use crate::safetensors::{self, Dtype, TensorSpec};

use super::{CONFIG, GGUF_PREFIX, PREFIX, TYPE, WEIGHTS};

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
    let family = Family::of(base)?;
    check(adapter).map_err(|flaw| refuse(flaw.into()))?;
    let recorded = adapter.base_sha256.clone().unwrap_or_default();
    adapter.check_fits(base, &recorded)?;
    let mut metadata = metadata(adapter);
    let mut halves = Vec::new();
    let mut modules = BTreeMap::new();
    for pair in &adapter.tensors {
        let module = family.module(pair.name());
        let module = module.ok_or_else(|| refuse(PeftFlaw::NoModule(pair.name().to_owned())))?;
        let [of_a, of_b] = pair.types();
        for (half, own, shape) in [
            ("lora_A", of_a, [pair.rank(), pair.n_in()]),
            ("lora_B", of_b, [pair.n_out(), pair.rank()]),
        ] {
            let name = format!("{PREFIX}{module}.{half}.weight");
            let dtype = dtype.or_else(|| own.try_into().ok()).unwrap_or_else(|| {
                let key = format!("{GGUF_PREFIX}{TYPE}.{name}");
                metadata.insert(key, own.to_string());
                Dtype::F32
            });
            let shape = shape.map(|dim| dim as u64).to_vec();
            let spec = TensorSpec { name, dtype, shape };
            halves.push((spec, pair, half == "lora_B"));
        }
        modules.insert(module, pair.rank());
    }
    halves.sort_by(|x, y| x.0.name.cmp(&y.0.name));
    let config = config(adapter, &modules, base_name).map_err(refuse)?;

    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let made = builder.recursive(true).create(folder);
    made.map_err(Error::io("write", folder))?;
    let specs: Vec<_> = halves.iter().map(|(spec, ..)| spec.clone()).collect();
    let path = folder.join(WEIGHTS);
    safetensors::write(&path, &metadata, &specs, |number| {
        let (spec, pair, is_b) = &halves[number];
        let values = if *is_b { pair.b()? } else { pair.a()? };
        let shape = [spec.shape[0] as usize, spec.shape[1] as usize];
        let heads = family.moved_heads(pair.name()).filter(|_| *is_b);
        let values = match heads {
            Some(heads) => {
                check_values(&spec.name, &values, shape).map_err(|flaw| refuse(flaw.into()))?;
                Cow::Owned(separate(&values, shape[1], heads))
            }
            None => values,
        };
        encode(&spec.name, &values, shape, spec.dtype.into()).map_err(|flaw| refuse(flaw.into()))
    })?;
    // Last, so that a folder with it is whole.
    let path = folder.join(CONFIG);
    replace_file(&path, |out| {
        serde_json::to_writer_pretty(&mut *out, &config)
            .map_err(std::io::Error::from)
            .and_then(|()| out.write_all(b"\n"))
            .map_err(Error::io("write", &path))
    })
}

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
        // PEFT's is a whole number, as long as it can be.
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

/// What PEFT has no place for.
fn metadata<P>(adapter: &Adapter<P>) -> BTreeMap<String, String> {
    let no_alpha = (adapter.lora_alpha == 0.0).then(|| "0".to_owned());
    let number = |number: Option<f32>| number.map(|number| number.to_string());
    let of_gguf = [
        (BASE_SHA256, adapter.base_sha256.clone()),
        (TASK_SHA256, adapter.task_sha256.clone()),
        (CONTRAST, number(adapter.contrast)),
        (PLAUSIBILITY, number(adapter.plausibility)),
        (GENERAL_NAME, adapter.name.clone()),
        (LORA_ALPHA, no_alpha),
    ];
    let of_gguf = of_gguf
        .into_iter()
        .filter_map(|(key, text)| Some((format!("{GGUF_PREFIX}{key}"), text?)));
    of_gguf
        .chain([("format".to_owned(), "pt".to_owned())])
        .collect()
}
