//! What a GGUF file says of a tensor, and the checks that its reader and its writer share.

use std::borrow::Cow;
use std::rc::Rc;

use crate::error::{GgufFlaw, Result, excerpt};

use super::{GgmlType, Value};

/// The most dimensions a tensor has: ggml's own limit.
pub(super) const MAX_DIMS: u32 = 4;

/// The longest tensor name in bytes: ggml keeps 64 with the closing NUL, and refuses longer ones.
pub(super) const MAX_NAME_BYTES: u64 = 63;

/// The longest metadata key in bytes. The format allows 65,535; real keys have less than 64, and messages quote them.
pub(super) const MAX_KEY_BYTES: u64 = 256;

/// What data is aligned to when the file does not say, in bytes.
const DEFAULT_ALIGNMENT: u32 = 32;

/// The largest alignment accepted in bytes: the largest page size in use.
const MAX_ALIGNMENT: u32 = 64 << 10;

/// A tensor of a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name, unique in its file, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// ggml's `ne`: 1 to 4 dimensions, the fastest first. A matrix `(rows, cols)` in row-major order is `[cols, rows]`.
    pub shape: Vec<u64>,
    /// The element type.
    pub ggml_type: GgmlType,
    /// Where the data starts, in bytes from the start of the file.
    pub offset: u64,
    /// The data's length in bytes.
    pub n_bytes: u64,
}

/// A tensor to be written.
#[derive(Clone)]
pub struct TensorData<'a> {
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
    pub(super) ggml_type: GgmlType,
    pub(super) data: Data<'a>,
}

/// The values of a tensor to be written.
#[derive(Clone)]
pub(super) enum Data<'a> {
    Bytes(&'a [u8]),
    F32(&'a [f32]),
    Later(Rc<dyn Fn() -> Result<Vec<u8>> + 'a>),
}

impl<'a> TensorData<'a> {
    /// A tensor of type F32: `shape` as in [`TensorInfo::shape`], and its values, the fastest dimension first.
    #[must_use]
    pub fn f32(name: impl Into<String>, shape: &[u64], values: &'a [f32]) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            ggml_type: GgmlType::F32,
            data: Data::F32(values),
        }
    }

    /// A tensor of any type, its data as it is to stand in the file.
    #[must_use]
    pub fn bytes(
        name: impl Into<String>,
        shape: &[u64],
        ggml_type: GgmlType,
        bytes: &'a [u8],
    ) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            ggml_type,
            data: Data::Bytes(bytes),
        }
    }

    /// A tensor of any type whose data is asked for when it is its turn, so that not all tensors are in memory at once.
    #[must_use]
    pub fn later(
        name: impl Into<String>,
        shape: &[u64],
        ggml_type: GgmlType,
        bytes: impl Fn() -> Result<Vec<u8>> + 'a,
    ) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            ggml_type,
            data: Data::Later(Rc::new(bytes)),
        }
    }

    /// The data as it is to stand in the file.
    pub(super) fn encode(&self) -> Result<Cow<'a, [u8]>> {
        Ok(match &self.data {
            Data::Bytes(bytes) => Cow::Borrowed(bytes),
            Data::F32(values) => values.iter().flat_map(|it| it.to_le_bytes()).collect(),
            Data::Later(bytes) => bytes()?.into(),
        })
    }
}

/// The bytes that a tensor takes. Every dimension is at least 1, rows are whole blocks, and the number of elements fits
/// ggml's signed 64 bits.
pub(super) fn tensor_bytes(
    name: &str,
    shape: &[u64],
    ggml_type: GgmlType,
) -> Result<u64, GgufFlaw> {
    let n_bytes = || {
        let row = *shape.first()?;
        let whole = shape.len() <= MAX_DIMS as usize && row.is_multiple_of(ggml_type.block_size());
        let n_elements = shape.iter().try_fold(1_u64, |n, &dim| n.checked_mul(dim))?;
        let representable = n_elements > 0 && i64::try_from(n_elements).is_ok();
        (whole && representable).then_some(())?;
        (n_elements / ggml_type.block_size()).checked_mul(ggml_type.type_size())
    };
    n_bytes().ok_or_else(|| GgufFlaw::Shape {
        tensor: name.to_owned(),
        ggml_type,
        shape: shape.to_vec(),
    })
}

/// Refuses a key or tensor name that is empty, too long, or holds a NUL, at which ggml's C strings would end.
pub(super) fn check_name(name: &str, limit: u64) -> Result<(), GgufFlaw> {
    if name.is_empty() || name.len() as u64 > limit || name.contains('\0') {
        return Err(GgufFlaw::Name {
            name: excerpt(name),
            limit,
        });
    }
    Ok(())
}

/// What the tensors' data is aligned to, in bytes: `general.alignment`, or the default.
pub(super) fn alignment(metadata: &[(String, Value)]) -> Result<u64, GgufFlaw> {
    let refuse = |got| GgufFlaw::Alignment {
        got,
        limit: MAX_ALIGNMENT,
    };
    match metadata.iter().find(|(key, _)| key == "general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT.into()),
        Some((_, Value::U32(bytes))) if bytes.is_power_of_two() && *bytes <= MAX_ALIGNMENT => {
            Ok((*bytes).into())
        }
        Some((_, Value::U32(bytes))) => Err(refuse(bytes.to_string())),
        Some((_, value)) => Err(refuse(format!("of type {}", value.type_name()))),
    }
}
