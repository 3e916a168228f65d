//! Writes an adapter to a GGUF file.

use std::path::Path;

use crate::error::{Error, Result};
use crate::gguf::{self, GgmlType, Sink, TensorData, Value};

use super::check::check;
use super::values::encode;
use super::{
    ADAPTER_TYPE, Adapter, BASE_SHA256, CONTRAST, GENERAL_ARCHITECTURE, GENERAL_NAME, GENERAL_TYPE,
    Half, LORA_A, LORA_ALPHA, LORA_B, LoraPair, PLAUSIBILITY, ROPE_FACTORS, TASK_SHA256,
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
        (
            ROPE_FACTORS,
            adapter.rope_factors.map(|it| Value::from(it.name())),
        ),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    .collect()
}

/// The two tensors of a pair, in `ggml_type` or in their own types. Like llama.cpp's own converter, it uses F16 for a
/// matrix whose rows are not whole blocks of that type; the rows of `B` seldom are.
fn halves<'a, P: LoraPair>(
    pair: &'a P,
    ggml_type: Option<GgmlType>,
    path: &'a Path,
) -> [TensorData<'a>; 2] {
    let [type_a, type_b] = pair.types().map(|own| ggml_type.unwrap_or(own));
    let (rank, n_in, n_out) = (pair.rank(), pair.n_in(), pair.n_out());
    let half = |half, suffix, shape: [usize; 2], ggml_type: GgmlType| {
        let [rows, cols] = shape;
        let whole = (cols as u64).is_multiple_of(ggml_type.block_size());
        let ggml_type = if whole { ggml_type } else { GgmlType::F16 };
        let name = format!("{}{suffix}", pair.name());
        let data = {
            let name = name.clone();
            move |out: &mut Sink<'_>| {
                pair.pieces(half, &mut |piece| {
                    // A matrix in memory may have too few or too many values; `encode` then refuses it.
                    let rows = if piece.len() % cols == 0 {
                        piece.len() / cols
                    } else {
                        rows
                    };
                    let encoded = encode(&name, piece, [rows, cols], ggml_type);
                    let encoded = encoded.map_err(|flaw| Error::Adapter {
                        path: path.to_owned(),
                        flaw,
                    });
                    out.write(&encoded?)
                })
            }
        };
        TensorData::streamed(name, &[cols as u64, rows as u64], ggml_type, data)
    };
    [
        half(Half::A, LORA_A, [rank, n_in], type_a),
        half(Half::B, LORA_B, [n_out, rank], type_b),
    ]
}
