//! The bounded reader. It allocates memory for a claim of the header only once the file has proved large enough for it.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, GgufFlaw, Result};
use crate::file::describe;

use super::tensor::{MAX_DIMS, MAX_KEY_BYTES, MAX_NAME_BYTES, alignment, check_name, tensor_bytes};
use super::tensor_source::Source;
use super::{FORMAT, GgmlType, Gguf, TensorInfo, Value};

/// The first four bytes of a GGUF file.
pub(super) const MAGIC: [u8; 4] = *b"GGUF";

/// The number of bytes at the start of a file by which another format is recognised.
const DESCRIBED_BYTES: u64 = 16;

/// The versions that are read; both lay out the file in the same way.
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=3;

/// The most metadata entries accepted; real files have fewer than 100.
pub(super) const MAX_ENTRIES: u64 = 1 << 14;

/// The most tensors accepted; the largest public models have a few thousand.
pub(super) const MAX_TENSORS: u64 = 1 << 16;

/// Reads and checks the header of the file at `path`, which may be a part of a model.
pub(super) fn open_file(path: &Path) -> Result<Gguf> {
    let mut source = Source::open(path)?;
    let version = read_version(&mut source, path)?;
    let n_tensors = read_count(&mut source, "tensors", MAX_TENSORS)?;
    let n_entries = read_count(&mut source, "metadata entries", MAX_ENTRIES)?;
    let metadata = read_metadata(&mut source, n_entries)?;
    let alignment = alignment(&metadata).map_err(|flaw| source.refuse(|_| flaw))?;
    let mut tensors = read_tensors(&mut source, n_tensors)?;
    place_tensors(&mut source, &mut tensors, alignment)?;
    Ok(Gguf {
        path: path.to_owned(),
        parts: vec![path.to_owned()],
        version,
        metadata,
        alignment,
        index: index(&tensors),
        tensors,
    })
}

/// The index of each tensor by its name.
pub(super) fn index(tensors: &[TensorInfo]) -> HashMap<String, usize> {
    let tensors = tensors.iter().enumerate();
    tensors
        .map(|(i, tensor)| (tensor.name.clone(), i))
        .collect()
}

/// Reads the magic and the version.
fn read_version(source: &mut Source<'_>, path: &Path) -> Result<u32> {
    let mut magic = [0; MAGIC.len()];
    let start = &mut magic[..source.length().min(MAGIC.len() as u64) as usize];
    source.fill(start)?;
    if *start != MAGIC {
        let mut more = start.to_vec();
        more.resize(source.length().min(DESCRIBED_BYTES) as usize, 0);
        source.fill(&mut more[start.len()..])?;
        let found = if start.is_empty() {
            "is empty".to_owned()
        } else if let Some(format) = describe(&more) {
            format.to_owned()
        } else {
            format!("starts with \"{}\"", start.escape_ascii())
        };
        return Err(Error::Format {
            path: path.to_owned(),
            format: FORMAT,
            found,
        });
    }
    let version = source.u32()?;
    if VERSIONS.contains(&version) {
        Ok(version)
    } else if VERSIONS.contains(&version.swap_bytes()) {
        Err(source.refuse(|_| GgufFlaw::BigEndian))
    } else {
        Err(source.refuse(|_| GgufFlaw::Version(version)))
    }
}

/// Reads a count of at most `limit`.
fn read_count(source: &mut Source<'_>, what: &'static str, limit: u64) -> Result<u64> {
    let got = source.u64()?;
    if got > limit {
        return Err(source.refuse(|field| GgufFlaw::TooMany {
            field,
            what,
            got,
            limit,
        }));
    }
    Ok(got)
}

fn read_metadata(source: &mut Source<'_>, n_entries: u64) -> Result<Vec<(String, Value)>> {
    let mut metadata = Vec::new();
    let mut seen = HashSet::new();
    for i in 0..n_entries {
        let key = read_name(source, format!("metadata entry {i}"), MAX_KEY_BYTES)?;
        if !seen.insert(key.clone()) {
            return Err(source.refuse(|_| GgufFlaw::DuplicateKey(key)));
        }
        source.enter(format!("the metadata key {key:?}"));
        metadata.push((key, Value::read(source)?));
    }
    Ok(metadata)
}

/// Reads the tensors' entries. Their `offset` still counts from the start of the data, until [`place_tensors`] changes
/// that.
fn read_tensors(source: &mut Source<'_>, n_tensors: u64) -> Result<Vec<TensorInfo>> {
    let mut tensors = Vec::new();
    let mut seen = HashSet::new();
    let path: Arc<Path> = source.path().into();
    for i in 0..n_tensors {
        let name = read_name(source, format!("tensor entry {i}"), MAX_NAME_BYTES)?;
        if !seen.insert(name.clone()) {
            return Err(source.refuse(|_| GgufFlaw::DuplicateTensor(name)));
        }
        source.enter(format!("the entry of the tensor {name:?}"));
        let n_dims = source.u32()?;
        if n_dims > MAX_DIMS {
            return Err(source.refuse(|field| GgufFlaw::TooMany {
                field,
                what: "dimensions",
                got: n_dims.into(),
                limit: MAX_DIMS.into(),
            }));
        }
        let shape = (0..n_dims)
            .map(|_| source.u64())
            .collect::<Result<Vec<_>>>()?;
        let id = source.u32()?;
        let ggml_type = GgmlType::from_id(id).ok_or_else(|| {
            source.refuse(|_| GgufFlaw::TensorType {
                tensor: name.clone(),
                id,
            })
        })?;
        let n_bytes =
            tensor_bytes(&name, &shape, ggml_type).map_err(|flaw| source.refuse(|_| flaw))?;
        let offset = source.u64()?;
        tensors.push(TensorInfo {
            name,
            shape,
            ggml_type,
            path: Arc::clone(&path),
            offset,
            n_bytes,
        });
    }
    Ok(tensors)
}

/// Reads the key or tensor name with which an entry begins.
fn read_name(source: &mut Source<'_>, field: String, limit: u64) -> Result<String> {
    source.enter(field);
    let name = source.string()?;
    check_name(&name, limit).map_err(|flaw| source.refuse(|_| flaw))?;
    Ok(name)
}

/// Checks that each tensor begins where the one before it ends, and that it lies inside the file with its padding,
/// which ggml wants after the last tensor too. Then makes its offset count from the start of the file.
fn place_tensors(
    source: &mut Source<'_>,
    tensors: &mut [TensorInfo],
    alignment: u64,
) -> Result<()> {
    // The header's length is capped, so this cannot overflow.
    let start = source.position().next_multiple_of(alignment);
    let mut end = start;
    for tensor in tensors {
        source.enter(format!("the data of the tensor {:?}", tensor.name));
        if tensor.offset != end - start {
            return Err(source.refuse(|_| GgufFlaw::Place {
                tensor: tensor.name.clone(),
                expected: end - start,
                got: tensor.offset,
            }));
        }
        tensor.offset = end;
        end = tensor
            .n_bytes
            .checked_next_multiple_of(alignment)
            .and_then(|padded| end.checked_add(padded))
            .filter(|&end| end <= source.length())
            .ok_or_else(|| source.truncated())?;
    }
    Ok(())
}
