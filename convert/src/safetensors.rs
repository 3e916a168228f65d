//! The safetensors format: a bounded reader and a deterministic writer.
//!
//! ```text
//! n u64 | n bytes of JSON: { "__metadata__": {"key": "text"}, "name": {"dtype", "shape", "data_offsets"} … } | data
//! ```
//!
//! The tensors lie one after another without gaps, and the last ends where the file does. As for GGUF files, this one
//! check makes sure that they do not overlap and lie inside the file. Shapes have the slowest dimension first.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result, SafetensorsFlaw, excerpt};
use crate::file::{describe, open_regular, read_at, replace_file};
use crate::gguf::GgmlType;

/// The longest header accepted, in bytes. A header of 65,536 tensors has about 10 MB.
const MAX_HEADER_BYTES: u64 = 32 << 20;

/// The most tensors accepted, as in GGUF files.
const MAX_TENSORS: usize = 1 << 16;

/// The most dimensions of a tensor.
const MAX_DIMS: usize = 8;

/// The key of the header's entry that is not a tensor.
const METADATA: &str = "__metadata__";

/// The header of a safetensors file, checked; the tensors' data stays on disk.
#[derive(Debug, Clone)]
pub struct SafeTensors {
    /// The file, for reading tensors and for messages.
    pub path: PathBuf,
    /// The texts beside the tensors, by key.
    pub metadata: BTreeMap<String, String>,
    /// The tensors, in the order of their data; no name occurs twice.
    pub tensors: Vec<TensorEntry>,
}

/// A tensor of a safetensors file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// The name, unique in its file.
    pub name: String,
    /// The element type.
    pub dtype: Dtype,
    /// The dimensions, the slowest first: a matrix `(rows, cols)` in row-major order is `[rows, cols]`.
    pub shape: Vec<u64>,
    /// The start of the data, in bytes from the start of the file.
    pub offset: u64,
    /// The data's length in bytes.
    pub n_bytes: u64,
}

/// The element types that are supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// Four bytes, IEEE 754's single precision.
    F32,
    /// Two bytes, IEEE 754's half precision.
    F16,
    /// Two bytes, the upper half of an `F32`.
    BF16,
}

impl From<Dtype> for GgmlType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::BF16,
        }
    }
}

impl TryFrom<GgmlType> for Dtype {
    type Error = ();

    /// The element type for a ggml type; an error if there is none.
    fn try_from(ggml_type: GgmlType) -> Result<Self, ()> {
        let all = [Self::F32, Self::F16, Self::BF16];
        let found = all.into_iter().find(|&it| GgmlType::from(it) == ggml_type);
        found.ok_or(())
    }
}

impl Dtype {
    /// The name of the type in a header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        let all = [Self::F32, Self::F16, Self::BF16];
        all.into_iter().find(|it| it.name() == name)
    }

    /// Bytes per element.
    #[must_use]
    pub fn n_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name.
    pub name: String,
    /// The element type.
    pub dtype: Dtype,
    /// The dimensions, the slowest first.
    pub shape: Vec<u64>,
}

impl SafeTensors {
    /// Reads and checks the header of the file at `path`. Memory is bounded by a few times the size of the header,
    /// whatever the file claims. All tensors lie inside the file.
    ///
    /// # Errors
    ///
    /// The file is missing, is not a safetensors file, or has one of the faults of [`SafetensorsFlaw`].
    pub fn open(path: &Path) -> Result<Self> {
        let refuse = |flaw| Error::Safetensors {
            path: path.to_owned(),
            flaw,
        };
        let (mut file, length) = open_regular(path, FORMAT)?;
        let mut n_header = [0; 8];
        if length < 8 {
            return Err(refuse(SafetensorsFlaw::Truncated { length }));
        }
        file.read_exact(&mut n_header)
            .map_err(Error::io("read", path))?;
        let start = n_header;
        let n_header = u64::from_le_bytes(start);
        if n_header > MAX_HEADER_BYTES {
            if let Some(found) = describe(&start) {
                return Err(Error::Format {
                    path: path.to_owned(),
                    format: FORMAT,
                    found: found.to_owned(),
                });
            }
            return Err(refuse(SafetensorsFlaw::HeaderLength {
                got: n_header,
                limit: MAX_HEADER_BYTES,
            }));
        }
        let start = 8 + n_header;
        if start > length {
            return Err(refuse(SafetensorsFlaw::Truncated { length }));
        }
        let mut header = vec![0; n_header as usize];
        file.read_exact(&mut header)
            .map_err(Error::io("read", path))?;
        let header = parse_header(&header).map_err(refuse)?;
        let tensors = place(header.tensors, start, length).map_err(refuse)?;
        Ok(Self {
            path: path.to_owned(),
            metadata: header.metadata,
            tensors,
        })
    }

    /// The bytes of a tensor of this file, as they are stored, `[n_bytes]`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has shrunk since it was opened.
    pub fn read(&self, tensor: &TensorEntry) -> Result<Vec<u8>> {
        read_at(&self.path, tensor.offset, tensor.n_bytes)
    }
}

/// Writes a safetensors file with the tensors in the order given. `data` is called once for each tensor, with its
/// index, when the file reaches it, and returns the tensor's bytes. The same input gives the same bytes. The file
/// appears at once or not at all, and on Unix only its owner may read it.
///
/// # Errors
///
/// The errors of `data`; the input would give a file that [`SafeTensors::open`] refuses; or the file cannot be written.
pub fn write(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    tensors: &[TensorSpec],
    mut data: impl FnMut(usize) -> Result<Vec<u8>>,
) -> Result<()> {
    let refuse = |flaw| Error::Safetensors {
        path: path.to_owned(),
        flaw,
    };
    let header = encode_header(metadata, tensors).map_err(refuse)?;
    parse_header(&header).map_err(refuse)?;
    replace_file(path, |out| {
        let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(Error::io("write", path));
        put(&(header.len() as u64).to_le_bytes())?;
        put(&header)?;
        for (number, tensor) in tensors.iter().enumerate() {
            let bytes = data(number)?;
            let expected = n_bytes(tensor.dtype, &tensor.shape);
            if expected != Some(bytes.len() as u64) {
                return Err(refuse(SafetensorsFlaw::Extent(tensor.name.clone())));
            }
            put(&bytes)?;
        }
        Ok(())
    })
}

/// The name of this format, for messages.
const FORMAT: &str = "safetensors";

/// The header as it is in the file.
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, JsonEntry)>,
}

/// A tensor as the header describes it; offsets count from the end of the header.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    /// Collects the entries one by one, since a map would not show that a name occurs twice.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut metadata = None;
        let mut tensors = Vec::new();
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                let name = excerpt(&name);
                return Err(A::Error::custom(format_args!("{name:?} occurs twice")));
            }
            if name == METADATA {
                metadata = Some(map.next_value()?);
            } else if tensors.len() == MAX_TENSORS {
                let too_many = format_args!("more than {MAX_TENSORS} tensors");
                return Err(A::Error::custom(too_many));
            } else {
                tensors.push((name, map.next_value()?));
            }
        }
        Ok(Header {
            metadata: metadata.unwrap_or_default(),
            tensors,
        })
    }
}

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Item<'a> {
            Metadata(&'a BTreeMap<String, String>),
            Tensor(&'a JsonEntry),
        }
        let metadata =
            (!self.metadata.is_empty()).then_some((METADATA, Item::Metadata(&self.metadata)));
        let tensors = self
            .tensors
            .iter()
            .map(|(name, entry)| (name.as_str(), Item::Tensor(entry)));
        serializer.collect_map(metadata.into_iter().chain(tensors))
    }
}

fn parse_header(bytes: &[u8]) -> Result<Header, SafetensorsFlaw> {
    serde_json::from_slice(bytes)
        .map_err(|reason| SafetensorsFlaw::Json(excerpt(&reason.to_string())))
}

/// Sorts the tensors by their place in the file, and checks that each begins where the one before it ends, and that the
/// last ends where the file does.
fn place(
    entries: Vec<(String, JsonEntry)>,
    start: u64,
    length: u64,
) -> Result<Vec<TensorEntry>, SafetensorsFlaw> {
    let mut entries = entries;
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut end = 0;
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let [first, last] = entry.data_offsets;
        let Some(dtype) = Dtype::of_name(&entry.dtype) else {
            return Err(SafetensorsFlaw::Type {
                tensor: excerpt(&name),
                dtype: excerpt(&entry.dtype),
            });
        };
        let Some(n_bytes) = n_bytes(dtype, &entry.shape) else {
            return Err(SafetensorsFlaw::Shape {
                tensor: excerpt(&name),
                shape: entry.shape,
            });
        };
        if first != end || last.checked_sub(first) != Some(n_bytes) {
            return Err(SafetensorsFlaw::Extent(excerpt(&name)));
        }
        end = last;
        tensors.push(TensorEntry {
            name,
            dtype,
            shape: entry.shape,
            offset: start.saturating_add(first),
            n_bytes,
        });
    }
    if start.checked_add(end) == Some(length) {
        Ok(tensors)
    } else {
        Err(SafetensorsFlaw::DataLength {
            expected: end,
            got: length - start,
        })
    }
}

/// The number of bytes that a tensor takes; `None` if it has no dimensions, too many, or one of 0, or if the number is
/// too large.
fn n_bytes(dtype: Dtype, shape: &[u64]) -> Option<u64> {
    let is_matrix_like = (1..=MAX_DIMS).contains(&shape.len());
    let elements = shape.iter().try_fold(1_u64, |n, &dim| n.checked_mul(dim))?;
    let bytes = elements.checked_mul(dtype.n_bytes())?;
    (is_matrix_like && bytes > 0).then_some(bytes)
}

fn encode_header(
    metadata: &BTreeMap<String, String>,
    specs: &[TensorSpec],
) -> Result<Vec<u8>, SafetensorsFlaw> {
    let mut end = 0_u64;
    let mut tensors = Vec::with_capacity(specs.len());
    for TensorSpec { name, dtype, shape } in specs {
        let last = n_bytes(*dtype, shape).and_then(|n_bytes| end.checked_add(n_bytes));
        let Some(last) = last else {
            return Err(SafetensorsFlaw::Shape {
                tensor: excerpt(name),
                shape: shape.clone(),
            });
        };
        let entry = JsonEntry {
            dtype: dtype.name().to_owned(),
            shape: shape.clone(),
            data_offsets: [end, last],
        };
        tensors.push((name.clone(), entry));
        end = last;
    }
    let header = Header {
        metadata: metadata.clone(),
        tensors,
    };
    let mut bytes = serde_json::to_vec(&header)
        .map_err(|reason| SafetensorsFlaw::Json(excerpt(&reason.to_string())))?;
    // Spaces at the end align the data to 8 bytes, as the format asks.
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Ok(bytes)
}
