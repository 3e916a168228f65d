//! The description of a tensor in a GGUF file, and the checks that reader and writer share.

use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::error::{Error, GgufFlaw, Result, excerpt};
use crate::file::read_at;

use super::{GgmlType, Value};

/// The most dimensions of a tensor: ggml's own limit.
pub(super) const MAX_DIMS: u32 = 4;

/// The longest tensor name in bytes. ggml's limit is 64 with the closing NUL.
pub(super) const MAX_NAME_BYTES: u64 = 63;

/// The longest metadata key in bytes. The format allows 65,535, but real keys have fewer than 64, and messages quote
/// them.
pub(super) const MAX_KEY_BYTES: u64 = 256;

/// The alignment of data in bytes, when the file does not give one.
const DEFAULT_ALIGNMENT: u32 = 32;

/// The largest alignment accepted, in bytes: the largest page size in use.
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
    /// The file that holds the data: the model's own, or one of its parts.
    pub path: Arc<Path>,
    /// The start of the data, in bytes from the start of the file.
    pub offset: u64,
    /// The data's length in bytes.
    pub n_bytes: u64,
}

impl TensorInfo {
    /// Reads `n_bytes` bytes of the data, from its byte `start` on.
    pub(crate) fn read_part(&self, start: u64, n_bytes: u64) -> Result<Vec<u8>> {
        read_at(&self.path, self.offset + start, n_bytes)
    }
}

/// A tensor to be written.
#[derive(Clone)]
pub struct TensorData<'a> {
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
    pub(super) ggml_type: GgmlType,
    pub(super) data: Data<'a>,
}

/// A function that writes a tensor's data.
type Stream<'a> = dyn Fn(&mut Sink<'_>) -> Result<()> + 'a;

/// The values of a tensor to be written.
#[derive(Clone)]
pub(super) enum Data<'a> {
    Bytes(&'a [u8]),
    F32(&'a [f32]),
    Streamed(Rc<Stream<'a>>),
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

    /// A tensor of any type, its data already encoded as the file is to hold it.
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

    /// A tensor of any type whose data `write` writes piece by piece when the file reaches it, so that no tensor need
    /// be in memory as a whole.
    #[must_use]
    pub fn streamed(
        name: impl Into<String>,
        shape: &[u64],
        ggml_type: GgmlType,
        write: impl Fn(&mut Sink<'_>) -> Result<()> + 'a,
    ) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            ggml_type,
            data: Data::Streamed(Rc::new(write)),
        }
    }

    /// The dimensions, as in [`TensorInfo::shape`].
    pub(crate) fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The element type.
    pub(crate) fn ggml_type(&self) -> GgmlType {
        self.ggml_type
    }

    /// Writes the data as the file is to hold it.
    pub(super) fn write(&self, out: &mut Sink<'_>) -> Result<()> {
        match &self.data {
            Data::Bytes(bytes) => out.write(bytes),
            Data::F32(values) => {
                let bytes: Vec<_> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
                out.write(&bytes)
            }
            Data::Streamed(write) => write(out),
        }
    }
}

/// The place in a file that a tensor's data is written to.
pub struct Sink<'o> {
    out: &'o mut dyn Write,
    path: &'o Path,
    n_bytes: u64,
}

impl<'o> Sink<'o> {
    /// Makes a sink over `out`; `path` is the file's final path, for messages.
    pub(super) fn new(out: &'o mut dyn Write, path: &'o Path) -> Self {
        Self {
            out,
            path,
            n_bytes: 0,
        }
    }

    /// Appends `bytes` to the tensor's data.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) when the file cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.n_bytes += bytes.len() as u64;
        let written = self.out.write_all(bytes);
        written.map_err(Error::io("write", self.path))
    }

    /// Bytes written so far.
    pub(super) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }
}

/// The number of bytes that a tensor takes. Refused are a dimension of 0, rows that are not whole blocks, and more
/// elements than ggml's signed 64 bits can count.
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

/// Refuses a key or tensor name that is empty, is too long, or holds a NUL, at which ggml's C strings would end.
pub(super) fn check_name(name: &str, limit: u64) -> Result<(), GgufFlaw> {
    if name.is_empty() || name.len() as u64 > limit || name.contains('\0') {
        return Err(GgufFlaw::Name {
            name: excerpt(name),
            limit,
        });
    }
    Ok(())
}

/// The alignment of the tensors' data in bytes: `general.alignment`, or the default.
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
