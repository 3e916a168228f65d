//! The ways in which a GGUF or a safetensors file can be malformed.

use std::path::PathBuf;

use crate::ggml_type::GgmlType;

/// A fault of a GGUF file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufFlaw {
    /// Every number of the file has its bytes the other way round.
    #[error("the file is big-endian; convert the model to a little-endian GGUF")]
    BigEndian,
    /// A version of the format that this reader does not know.
    #[error(
        "GGUF version {0} is not supported, versions 2 and 3 are; convert the model again with a current tool"
    )]
    Version(u32),
    /// The file ends before what it announces.
    #[error("the file is cut short: it ends at byte {length}, inside {field}; get it again")]
    Truncated {
        /// The part of the file that was being read.
        field: String,
        /// The file's length in bytes.
        length: u64,
    },
    /// A count beyond any honest file.
    #[error(
        "{field} announces {got} {what}, and at most {limit} are accepted; the file is damaged"
    )]
    TooMany {
        /// The part of the file that holds the count.
        field: String,
        /// The things counted, such as `tensors`.
        what: &'static str,
        /// The count.
        got: u64,
        /// The cap.
        limit: u64,
    },
    /// Text that is not UTF-8.
    #[error("{field} is not valid UTF-8; the file is damaged")]
    NotUtf8 {
        /// The part of the file that was being read.
        field: String,
    },
    /// A key or tensor name that is empty, too long or holds a NUL.
    #[error(
        "a key or tensor has the name {name:?}, which is empty, longer than {limit} bytes or holds a NUL"
    )]
    Name {
        /// The name, cut to its first 64 characters.
        name: String,
        /// The longest name accepted, in bytes.
        limit: u64,
    },
    /// Two metadata entries with one key.
    #[error("the metadata key {0:?} occurs twice; the file is damaged")]
    DuplicateKey(String),
    /// Two tensors with one name.
    #[error("the tensor {0:?} occurs twice; the file is damaged")]
    DuplicateTensor(String),
    /// A metadata type outside the format, or an array of arrays.
    #[error("{field} has the unsupported value type {id}")]
    ValueType {
        /// The metadata entry.
        field: String,
        /// The type's number in the file; 9 is an array within an array.
        id: u32,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("{field} is a boolean of value {got}; the file is damaged")]
    Bool {
        /// The metadata entry.
        field: String,
        /// The byte.
        got: u8,
    },
    /// `general.alignment` cannot be used.
    #[error("general.alignment must be a u32 and a power of two up to {limit}, and is {got}")]
    Alignment {
        /// The value, or its type where the type is wrong.
        got: String,
        /// The largest alignment accepted, in bytes.
        limit: u32,
    },
    /// A metadata entry that is needed is not there.
    #[error("the metadata key {0:?} is missing")]
    MissingKey(String),
    /// A metadata entry has another type than the one that is needed.
    #[error("the metadata key {key:?} is of type {got}, not {expected}")]
    KeyType {
        /// The key.
        key: String,
        /// The type that is needed.
        expected: &'static str,
        /// The type that the file has.
        got: &'static str,
    },
    /// A part of a model other than the first, by which the others are found.
    #[error("the file is one of the {count} parts of a model; give the first, {}", first.display())]
    NotFirstPart {
        /// The number of parts.
        count: u16,
        /// The first part.
        first: PathBuf,
    },
    /// A part of a model whose name does not say so, so that the others cannot be found.
    #[error(
        "the file is part {} of the {count} parts of a model, and its name does not end in -{:05}-of-{count:05}.gguf, as their names must", u32::from(*no) + 1, u32::from(*no) + 1
    )]
    PartName {
        /// The number of the part, from 0 on.
        no: u16,
        /// The number of parts.
        count: u16,
    },
    /// A part of a model that is not beside the first.
    #[error("the model is in {count} parts, and {} is missing; get all of them", missing.display())]
    MissingPart {
        /// The number of parts.
        count: u16,
        /// The part that is missing.
        missing: PathBuf,
    },
    /// A part of a model with the number of another.
    #[error("the file is part {got} of a model, counted from 0, and its name says {expected}")]
    PartNumber {
        /// The number in the file.
        got: u16,
        /// The number by its name.
        expected: u16,
    },
    /// Parts that together have fewer or more tensors than they should.
    #[error("the model has {claimed} tensors by its first part, and {got} in all its parts")]
    PartTensors {
        /// The number in the first part.
        claimed: i32,
        /// The number of tensors found.
        got: usize,
    },
    /// A tensor type that this version of ggml does not have.
    #[error("the tensor {tensor:?} has the unknown ggml type {id}")]
    TensorType {
        /// The tensor's name.
        tensor: String,
        /// The type's number in the file.
        id: u32,
    },
    /// A shape that no tensor of this type can have.
    #[error("the tensor {tensor:?} of type {ggml_type} has the impossible shape {shape:?}")]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// Its type, whose block must divide the first dimension.
        ggml_type: GgmlType,
        /// Its dimensions, fastest first.
        shape: Vec<u64>,
    },
    /// A tensor that overlaps another, leaves a gap or is not aligned.
    #[error(
        "the tensor {tensor:?} lies at byte {got} of the data, and the one before it ends at {expected}"
    )]
    Place {
        /// The tensor's name.
        tensor: String,
        /// The end of the tensor before it, padded to the alignment.
        expected: u64,
        /// The offset that the file gives.
        got: u64,
    },
    /// Data to be written that does not fill its tensor.
    #[error("the tensor {tensor:?} takes {expected} bytes and was given {got}")]
    DataLength {
        /// The tensor's name.
        tensor: String,
        /// Bytes that shape and type ask for.
        expected: u64,
        /// Bytes that were given.
        got: u64,
    },
}

/// A fault of a safetensors file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsFlaw {
    /// The file ends within its header.
    #[error("the file is cut short: it ends at byte {length}, inside the header; get it again")]
    Truncated {
        /// The file's length in bytes.
        length: u64,
    },
    /// A header longer than any honest file's.
    #[error(
        "the header announces {got} bytes, and at most {limit} are accepted; is it a safetensors file?"
    )]
    HeaderLength {
        /// The length that the file announces, in bytes.
        got: u64,
        /// The cap.
        limit: u64,
    },
    /// A header that is not the JSON of the format.
    #[error("the header cannot be read: {0}")]
    Json(String),
    /// A tensor of another type than those of adapters.
    #[error(
        "the tensor {tensor:?} has the type {dtype}, and only F32, F16 and BF16 are read; save it again in one of these"
    )]
    Type {
        /// The tensor's name.
        tensor: String,
        /// Its type, as the file names it.
        dtype: String,
    },
    /// A shape without dimensions, with a dimension of 0, or larger than any file.
    #[error("the tensor {tensor:?} has the impossible shape {shape:?}")]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// Its dimensions, slowest first.
        shape: Vec<u64>,
    },
    /// A tensor whose bytes are more or fewer than its shape asks for, or do not begin where the tensor before it ends.
    #[error("the tensor {0:?} overlaps another, leaves a gap or has a wrong number of bytes")]
    Extent(String),
    /// A file that is longer or shorter than its tensors.
    #[error("the file holds {got} bytes of data for {expected} bytes of tensors; get it again")]
    DataLength {
        /// Bytes of the tensors.
        expected: u64,
        /// Bytes after the header.
        got: u64,
    },
}
