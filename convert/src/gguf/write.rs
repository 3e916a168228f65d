//! The writer. The same input gives the same bytes, and a failed write leaves no file behind.

use std::collections::HashSet;
use std::path::Path;

use crate::error::{Error, GgufFlaw, Result};
use crate::file::replace_file;

use super::read::{MAGIC, MAX_ENTRIES, MAX_TENSORS};
use super::tensor::{MAX_KEY_BYTES, MAX_NAME_BYTES, alignment, check_name, tensor_bytes};
use super::tensor_source::MAX_HEADER_BYTES;
use super::value::write_string;
use super::{Sink, TensorData, Value};

/// The version written.
const VERSION: u32 = 3;

/// Writes a GGUF file of version 3, with metadata and tensors in the order given. The data is streamed. The entry
/// `general.alignment` of the metadata, if there is one, sets the alignment.
///
/// The file is written under a temporary name and then renamed to `path`, replacing a file that was there. On Unix only
/// its owner may read it (mode 0600), since an adapter reveals how its user writes.
///
/// # Errors
///
/// The input would give a file that [`Gguf::open`](super::Gguf::open) refuses, or the file cannot be written.
pub fn write(path: &Path, metadata: &[(String, Value)], tensors: &[TensorData<'_>]) -> Result<()> {
    let refuse = |flaw| Error::Gguf {
        path: path.to_owned(),
        flaw,
    };
    let alignment = alignment(metadata).map_err(refuse)?;
    let header = encode_header(metadata, tensors, alignment).map_err(refuse)?;
    replace_file(path, |out| {
        out.write_all(&header).map_err(Error::io("write", path))?;
        for tensor in tensors {
            let mut sink = Sink::new(out, path);
            tensor.write(&mut sink)?;
            let n_bytes = sink.n_bytes();
            check_length(tensor, n_bytes).map_err(refuse)?;
            // ggml wants padding after the last tensor too.
            let padding = n_bytes.next_multiple_of(alignment) - n_bytes;
            sink.write(&vec![0; padding as usize])?;
        }
        Ok(())
    })
}

/// Everything before the tensors' data.
fn encode_header(
    metadata: &[(String, Value)],
    tensors: &[TensorData<'_>],
    alignment: u64,
) -> Result<Vec<u8>, GgufFlaw> {
    check_count("metadata entries", metadata.len() as u64, MAX_ENTRIES)?;
    check_count("tensors", tensors.len() as u64, MAX_TENSORS)?;
    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    let mut seen = HashSet::new();
    for (key, value) in metadata {
        check_name(key, MAX_KEY_BYTES)?;
        if !seen.insert(key) {
            return Err(GgufFlaw::DuplicateKey(key.clone()));
        }
        write_string(key, &mut out);
        value.write(&mut out);
    }
    encode_tensors(tensors, alignment, &mut out)?;
    check_count("bytes of header", out.len() as u64, MAX_HEADER_BYTES)?;
    if !tensors.is_empty() {
        out.resize(out.len().next_multiple_of(alignment as usize), 0);
    }
    Ok(out)
}

/// Appends the tensors' entries to `out`; their data will lie one after another.
fn encode_tensors(
    tensors: &[TensorData<'_>],
    alignment: u64,
    out: &mut Vec<u8>,
) -> Result<(), GgufFlaw> {
    let mut seen = HashSet::new();
    let mut offset = 0_u64;
    for tensor in tensors {
        let TensorData {
            name,
            shape,
            ggml_type,
            ..
        } = tensor;
        check_name(name, MAX_NAME_BYTES)?;
        if !seen.insert(name) {
            return Err(GgufFlaw::DuplicateTensor(name.clone()));
        }
        let n_bytes = tensor_bytes(name, shape, *ggml_type)?;
        write_string(name, out);
        out.extend((shape.len() as u32).to_le_bytes());
        out.extend(shape.iter().flat_map(|dim| dim.to_le_bytes()));
        out.extend(ggml_type.id().to_le_bytes());
        out.extend(offset.to_le_bytes());
        let padded = n_bytes.checked_next_multiple_of(alignment);
        let end = padded.and_then(|n_bytes| offset.checked_add(n_bytes));
        offset = end.ok_or_else(|| GgufFlaw::Shape {
            tensor: name.clone(),
            ggml_type: *ggml_type,
            shape: shape.clone(),
        })?;
    }
    Ok(())
}

/// Makes sure that there is as much data as shape and type ask for.
fn check_length(tensor: &TensorData<'_>, got: u64) -> Result<(), GgufFlaw> {
    let expected = tensor_bytes(&tensor.name, &tensor.shape, tensor.ggml_type)?;
    if got == expected {
        Ok(())
    } else {
        Err(GgufFlaw::DataLength {
            tensor: tensor.name.clone(),
            expected,
            got,
        })
    }
}

fn check_count(what: &'static str, got: u64, limit: u64) -> Result<(), GgufFlaw> {
    if got > limit {
        return Err(GgufFlaw::TooMany {
            field: "the header".to_owned(),
            what,
            got,
            limit,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use super::*;

    /// Linux's `/dev/full` refuses every write as a full disk does.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let mut full = fs::File::create("/dev/full").unwrap();
        let failed = Sink::new(&mut full, Path::new("model.gguf")).write(&[5; 40]);
        let Err(Error::Io { reason, .. }) = failed else {
            panic!("{failed:?}");
        };
        assert_eq!(reason.kind(), io::ErrorKind::StorageFull);
    }
}
