//! From an adapter to a GGUF file.

use std::borrow::Cow;
use std::path::Path;

use crate::error::{Error, Result};
use crate::gguf::{self, GgmlType, Sink, TensorData, Value};

use super::check::{check, encode};
use super::{
    ADAPTER_TYPE, Adapter, BASE_SHA256, CONTRAST, GENERAL_ARCHITECTURE, GENERAL_NAME, GENERAL_TYPE,
    LORA_A, LORA_ALPHA, LORA_B, LoraPair, PLAUSIBILITY, TASK_SHA256,
};

/// Checks the adapter and writes it to `path`.
pub(super) fn write<P: LoraPair>(
    adapter: &Adapter<P>,
    path: &Path,
    ggml_type: Option<GgmlType>,
) -> Result<()> {
    let refuse = |flaw| Error::Adapter {
        path: path.to_owned(),
        flaw,
    };
    check(adapter).map_err(refuse)?;
    let mut pairs = adapter.tensors.iter().collect::<Vec<_>>();
    pairs.sort_by_key(|pair| pair.name());
    let tensors = pairs
        .into_iter()
        .flat_map(|pair| halves(pair, ggml_type, path));
    let tensors = tensors.collect::<Vec<_>>();
    gguf::write(path, &metadata(adapter), &tensors)
}

fn metadata<P>(adapter: &Adapter<P>) -> Vec<(String, Value)> {
    let text = |text: &Option<String>| text.clone().map(Value::from);
    [
        (GENERAL_TYPE, Some(Value::from("adapter"))),
        (
            GENERAL_ARCHITECTURE,
            Some(Value::from(adapter.architecture.as_str())),
        ),
        (GENERAL_NAME, text(&adapter.name)),
        (ADAPTER_TYPE, Some(Value::from("lora"))),
        (LORA_ALPHA, Some(Value::from(adapter.lora_alpha))),
        (BASE_SHA256, text(&adapter.base_sha256)),
        (TASK_SHA256, text(&adapter.task_sha256)),
        (CONTRAST, adapter.contrast.map(Value::from)),
        (PLAUSIBILITY, adapter.plausibility.map(Value::from)),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    .collect()
}

/// The two tensors of a pair, of `ggml_type` or the types that they have. Where rows are no whole blocks of it, as those
/// of `B` seldom are, they are F16, as llama.cpp's own converter has them.
fn halves<'a, P: LoraPair>(
    pair: &'a P,
    ggml_type: Option<GgmlType>,
    path: &'a Path,
) -> [TensorData<'a>; 2] {
    let [of_a, of_b] = pair.types().map(|own| ggml_type.unwrap_or(own));
    let (rank, n_in, n_out) = (pair.rank(), pair.n_in(), pair.n_out());
    let half = |suffix, shape: [usize; 2], ggml_type: GgmlType, load: Load<'a, P>| {
        let whole = (shape[1] as u64).is_multiple_of(ggml_type.block_size());
        let ggml_type = if whole { ggml_type } else { GgmlType::F16 };
        let name = format!("{}{suffix}", pair.name());
        let data = {
            let name = name.clone();
            move |out: &mut Sink<'_>| {
                let encoded = encode(&name, &load(pair)?, shape, ggml_type);
                let encoded = encoded.map_err(|flaw| Error::Adapter {
                    path: path.to_owned(),
                    flaw,
                });
                out.write(&encoded?)
            }
        };
        let [rows, cols] = shape.map(|dim| dim as u64);
        TensorData::streamed(name, &[cols, rows], ggml_type, data)
    };
    [
        half(LORA_A, [rank, n_in], of_a, P::a),
        half(LORA_B, [n_out, rank], of_b, P::b),
    ]
}

/// Gives a half's values.
type Load<'a, P> = fn(&'a P) -> Result<Cow<'a, [f32]>>;
