//! From an adapter to a GGUF file.

use std::path::Path;

use crate::error::{Error, Result};
use crate::gguf::{self, TensorData, Value};

use super::check::check;
use super::{
    ADAPTER_TYPE, Adapter, BASE_SHA256, CONTRAST, GENERAL_ARCHITECTURE, GENERAL_NAME, GENERAL_TYPE,
    LORA_A, LORA_ALPHA, LORA_B, LoraTensor, Matrix, PLAUSIBILITY, TASK_SHA256,
};

/// Checks the adapter and writes it to `path`.
pub(super) fn write(adapter: &Adapter, path: &Path) -> Result<()> {
    check(adapter).map_err(|flaw| Error::Adapter {
        path: path.to_owned(),
        flaw,
    })?;
    let mut pairs = adapter.tensors.iter().collect::<Vec<_>>();
    pairs.sort_by_key(|pair| &pair.name);
    let tensors = pairs.into_iter().flat_map(halves).collect::<Vec<_>>();
    gguf::write(path, &metadata(adapter), &tensors)
}

fn metadata(adapter: &Adapter) -> Vec<(String, Value)> {
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

/// The two tensors of a pair.
fn halves(pair: &LoraTensor) -> [TensorData<'_>; 2] {
    [(LORA_A, &pair.a), (LORA_B, &pair.b)].map(|(suffix, Matrix { rows, cols, data })| {
        TensorData::f32(
            format!("{}{suffix}", pair.name),
            &[*cols as u64, *rows as u64],
            data,
        )
    })
}
