//! The ways in which a file can lie, a variant each, and the one error that carries them with the file's path.
//!
//! Every message is one line: what comes from a file is quoted with its control characters escaped.

use std::io;
use std::path::PathBuf;

use crate::gguf::GgmlType;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A file that cannot be read, written or used, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on a file.
    #[error("cannot {operation} {}: {reason}", path.display())]
    Io {
        /// A verb: `read` or `write`.
        operation: &'static str,
        /// The file concerned.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },
    /// There is no such file.
    #[error("{} does not exist; check the path", path.display())]
    Missing {
        /// The file that was asked for.
        path: PathBuf,
    },
    /// A folder, a device, an empty file, or a file of another format.
    #[error("{} is not a {format} file (it {found}); give a file in {format} format", path.display())]
    Format {
        /// The file concerned.
        path: PathBuf,
        /// What it should be: `GGUF` or `safetensors`.
        format: &'static str,
        /// A verb phrase: what is there instead.
        found: String,
    },
    /// A GGUF file whose header is malformed, or which lacks what was asked of it.
    #[error("{}: {flaw}", path.display())]
    Gguf {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong with it.
        flaw: GgufFlaw,
    },
    /// A safetensors file whose header is malformed.
    #[error("{}: {flaw}", path.display())]
    Safetensors {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong with it.
        flaw: SafetensorsFlaw,
    },
    /// A well-formed GGUF file that is no usable LoRA adapter.
    #[error("{} is not a usable LoRA adapter: {flaw}", path.display())]
    Adapter {
        /// The adapter's file.
        path: PathBuf,
        /// What is wrong with it.
        flaw: AdapterFlaw,
    },
    /// A folder of PEFT's that is no adapter that can be converted, or an adapter for which PEFT has no form.
    #[error("{}: {flaw}", path.display())]
    Peft {
        /// The file or folder concerned.
        path: PathBuf,
        /// What is wrong with it.
        flaw: PeftFlaw,
    },
    /// A base of a family whose names are not known.
    #[error("{} is of the family {architecture:?}, and adapters are converted for {known}", base.display())]
    Family {
        /// The base's file.
        base: PathBuf,
        /// Its `general.architecture`.
        architecture: String,
        /// Those that are known.
        known: String,
    },
    /// A weight of a base that cannot be written anew.
    #[error("{tensor:?} cannot be changed: {flaw}")]
    Merge {
        /// The base tensor.
        tensor: String,
        /// What stands in the way.
        flaw: MergeFlaw,
    },
    /// The work was asked to stop.
    #[error("stopped, and nothing is written")]
    Interrupted,
    /// A model without layers, as a vocabulary is.
    #[error("{} has no matrices of layers", .0.display())]
    NoMatrices(PathBuf),
    /// Adapters that have no sum.
    #[error("the adapters cannot be stacked: {0}")]
    Stack(String),
    /// A sound adapter and a sound base that do not belong together.
    #[error("the adapter does not fit {}: {misfit}", base.display())]
    Misfit {
        /// The base's file.
        base: PathBuf,
        /// Where they differ.
        misfit: Misfit,
    },
}

/// What is wrong with a GGUF file.
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
        /// What was being read.
        field: String,
        /// The file's length in bytes.
        length: u64,
    },
    /// A count beyond any honest file.
    #[error(
        "{field} announces {got} {what}, and at most {limit} are accepted; the file is damaged"
    )]
    TooMany {
        /// Where the count stands.
        field: String,
        /// What is counted.
        what: &'static str,
        /// The count.
        got: u64,
        /// The cap.
        limit: u64,
    },
    /// Text that is not UTF-8.
    #[error("{field} is not valid UTF-8; the file is damaged")]
    NotUtf8 {
        /// What was being read.
        field: String,
    },
    /// A key or tensor name that is empty, too long or holds a NUL.
    #[error(
        "a key or tensor has the name {name:?}, which is empty, longer than {limit} bytes or holds a NUL"
    )]
    Name {
        /// The name as it stands, cut to what fits a line.
        name: String,
        /// The longest name accepted, in bytes.
        limit: u64,
    },
    /// Two metadata entries of one key.
    #[error("the metadata key {0:?} occurs twice; the file is damaged")]
    DuplicateKey(String),
    /// Two tensors of one name.
    #[error("the tensor {0:?} occurs twice; the file is damaged")]
    DuplicateTensor(String),
    /// A metadata type outside the format, or an array of arrays.
    #[error("{field} has the unsupported value type {id}")]
    ValueType {
        /// Which entry.
        field: String,
        /// The type's number in the file; 9 is an array within an array.
        id: u32,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("{field} is a boolean of value {got}; the file is damaged")]
    Bool {
        /// Which entry.
        field: String,
        /// The byte.
        got: u8,
    },
    /// `general.alignment` cannot be used.
    #[error("general.alignment must be a u32 and a power of two up to {limit}, and is {got}")]
    Alignment {
        /// The value, and its type if that is what is wrong.
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
    /// A tensor type that this version of ggml does not have.
    #[error("the tensor {tensor:?} has the unknown ggml type {id}")]
    TensorType {
        /// The tensor.
        tensor: String,
        /// The type's number in the file.
        id: u32,
    },
    /// A shape that no tensor of this type can have.
    #[error("the tensor {tensor:?} of type {ggml_type} has the impossible shape {shape:?}")]
    Shape {
        /// The tensor.
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
        /// The tensor.
        tensor: String,
        /// Where the tensor before it ends, padded to the alignment.
        expected: u64,
        /// Where the file says that it lies.
        got: u64,
    },
    /// Data to be written that does not fill its tensor.
    #[error("the tensor {tensor:?} takes {expected} bytes and was given {got}")]
    DataLength {
        /// The tensor.
        tensor: String,
        /// What shape and type ask for, in bytes.
        expected: u64,
        /// What was given, in bytes.
        got: u64,
    },
}

/// What is wrong with a safetensors file.
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
        /// What the file announces.
        got: u64,
        /// The cap.
        limit: u64,
    },
    /// A header that is not the JSON of the format, or holds a type that is none of F32, F16 and BF16.
    #[error("the header cannot be read: {0}")]
    Json(String),
    /// A shape without dimensions, with a dimension of nought, or beyond any file.
    #[error("the tensor {tensor:?} has the impossible shape {shape:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its dimensions, slowest first.
        shape: Vec<u64>,
    },
    /// A tensor whose bytes are not as many as its shape asks for, or do not begin where those before it end.
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

/// What is wrong with a LoRA adapter.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterFlaw {
    /// A model, most likely, given where an adapter belongs.
    #[error("its general.type is {}, not \"adapter\"; give an adapter's file, not a model's", quoted(general_type.as_deref()))]
    NotAnAdapter {
        /// `general.type`, if the file has one.
        general_type: Option<String>,
    },
    /// An adapter that is not a plain LoRA.
    #[error("its adapter.type is {}, and only \"lora\" is supported", quoted(adapter_type.as_deref()))]
    Type {
        /// `adapter.type`, or `alora` for one that waits for invocation tokens.
        adapter_type: Option<String>,
    },
    /// No LoRA tensor at all.
    #[error("it has no tensors")]
    Empty,
    /// A tensor that is neither half of a LoRA pair.
    #[error("the tensor {0:?} ends neither in .lora_a nor in .lora_b")]
    Suffix(String),
    /// A LoRA of the token embedding, whose halves llama.cpp takes in another orientation.
    #[error("it adapts {0:?}, and adapters of the token embedding are not supported")]
    TokenEmbedding(String),
    /// Half of a pair.
    #[error("the tensor {tensor:?} has no {missing}")]
    Half {
        /// The base tensor.
        tensor: String,
        /// The suffix that is missing.
        missing: &'static str,
    },
    /// A type that no adapter has.
    #[error(
        "the tensor {tensor:?} has the type {ggml_type}; F32, F16, BF16 and the types of 32 weights a block, such as Q8_0, are supported"
    )]
    TensorType {
        /// The adapter's tensor.
        tensor: String,
        /// Its type.
        ggml_type: GgmlType,
    },
    /// A half that is no matrix.
    #[error("the tensor {tensor:?} has the shape {shape:?}, which is not that of a matrix")]
    NotMatrix {
        /// The adapter's tensor.
        tensor: String,
        /// Its dimensions, fastest first.
        shape: Vec<u64>,
    },
    /// A matrix whose data does not have `rows × cols` values.
    #[error("the matrix {tensor:?} has {got} values for {rows} rows of {cols}")]
    DataLength {
        /// The adapter's tensor.
        tensor: String,
        /// Its rows.
        rows: usize,
        /// Its columns.
        cols: usize,
        /// The number of values given.
        got: usize,
    },
    /// The halves of a pair that cannot be multiplied.
    #[error("the halves of {tensor:?} disagree: lora_a has rank {a} and lora_b has rank {b}")]
    Pair {
        /// The base tensor.
        tensor: String,
        /// Rows of `lora_a`.
        a: usize,
        /// Columns of `lora_b`.
        b: usize,
    },
    /// A rank of nought, or one beyond any low-rank adapter.
    #[error("{tensor:?} has rank {got}; ranks from 1 to {limit} are supported")]
    Rank {
        /// The base tensor.
        tensor: String,
        /// Its rank.
        got: usize,
        /// The largest rank accepted.
        limit: usize,
    },
    /// A weight or a setting that is NaN or infinite.
    #[error("{0:?} holds a value that is not finite")]
    NotFinite(String),
    /// A weight that the type asked for cannot hold.
    #[error("the tensor {tensor:?} holds a value beyond what {ggml_type} can; choose f32 or bf16")]
    TooLarge {
        /// The adapter's tensor.
        tensor: String,
        /// The type asked for.
        ggml_type: GgmlType,
    },
    /// `cope.task_sha256` is no SHA-256.
    #[error("its cope.task_sha256 is not 64 lower-case hexadecimal digits")]
    TaskHash,
    /// A recorded base hash that is none.
    #[error("its cope.base_sha256 is not 64 lower-case hexadecimal digits")]
    BaseHash,
}

/// What is wrong with an adapter of PEFT's, or keeps one from becoming it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PeftFlaw {
    /// A configuration longer than any honest one.
    #[error(
        "the file has {got} bytes, and at most {limit} are accepted; is it an adapter's configuration?"
    )]
    ConfigLength {
        /// Its length.
        got: u64,
        /// The cap.
        limit: u64,
    },
    /// A configuration that is not the JSON of one.
    #[error("the configuration cannot be read: {0}")]
    Config(String),
    /// A setting that a GGUF adapter cannot express.
    #[error(
        "{setting} is {value}, which a GGUF adapter cannot express; train without it, or merge the adapter instead"
    )]
    Setting {
        /// The setting's name.
        setting: String,
        /// Its value.
        value: String,
    },
    /// A tensor that is neither half of a LoRA pair: a magnitude of `DoRA`, a bias, an embedding, a whole weight.
    #[error(
        "the tensor {0:?} is no plain LoRA's, which are named base_model.model.MODULE.lora_A.weight and lora_B.weight"
    )]
    Tensor(String),
    /// A module that GGUF adapters of the family cannot adapt.
    #[error(
        "the module {module:?} cannot be adapted in a GGUF file of the family {architecture:?}"
    )]
    Module {
        /// The module.
        module: String,
        /// The base's `general.architecture`.
        architecture: String,
    },
    /// Two tensors for one half of a pair.
    #[error("the tensor {0:?} has the place of another; the file is damaged")]
    Twice(String),
    /// Half of a pair.
    #[error("{0:?} is adapted by half of a pair only; the file is damaged")]
    Half(String),
    /// A tensor that is no matrix, or whose rows do not divide into the base's heads.
    #[error("the tensor {tensor:?} has the shape {shape:?}, which does not fit the base")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its dimensions, slowest first.
        shape: Vec<u64>,
    },
    /// A number in the metadata that is none.
    #[error("the metadata of the weights has no number for {0:?}")]
    Metadata(String),
    /// A flaw that an adapter of any format may have.
    #[error(transparent)]
    Adapter(#[from] AdapterFlaw),
    /// A tensor for which transformers has no module.
    #[error("it adapts {0:?}, for which PEFT has no module")]
    NoModule(String),
    /// No alpha, which PEFT cannot express for pairs of several ranks.
    #[error("it has no alpha and pairs of several ranks, which PEFT cannot express")]
    NoAlpha,
}

/// What keeps a weight from being written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeFlaw {
    /// A type for which there is no code here.
    #[error("its type {0} takes llama.cpp to read; start from the model in another type")]
    Type(GgmlType),
    /// A weight of the base, or a sum, that is NaN or infinite.
    #[error("a weight is not finite")]
    NotFinite,
    /// A weight, or a sum, that the type cannot hold.
    #[error("a weight is beyond what {0} can hold; choose --dtype f32 or bf16")]
    TooLarge(GgmlType),
}

/// Where an adapter and a base differ.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// Another model architecture.
    #[error(
        "it was trained on the architecture {expected:?} and the base is {got:?}; give the base that it was trained on"
    )]
    Architecture {
        /// The adapter's architecture.
        expected: String,
        /// The base's architecture.
        got: String,
    },
    /// Another base of the same architecture.
    #[error(
        "it was trained on the base with SHA-256 {}… and this one has {}…; give that base, or train again on this one",
        short_hash(expected),
        short_hash(got)
    )]
    Base {
        /// The SHA-256 that the adapter records.
        expected: String,
        /// The SHA-256 of the base given.
        got: String,
    },
    /// A tensor that the base lacks.
    #[error(
        "it adapts {0:?}, and the base has no such tensor; give the base that it was trained on"
    )]
    MissingTensor(String),
    /// A tensor of other dimensions.
    #[error(
        "{tensor:?} is adapted as [in, out] = {expected:?} and has {got:?} in the base; give the base that it was trained on"
    )]
    Shape {
        /// The base tensor.
        tensor: String,
        /// `[in, out]` that the adapter was trained for.
        expected: [u64; 2],
        /// The base tensor's dimensions, fastest first.
        got: Vec<u64>,
    },
}

impl Error {
    /// An [`Error::Io`] maker for `map_err`.
    pub(crate) fn io(
        operation: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(io::Error) -> Self {
        move |reason| Self::Io {
            operation,
            path: path.to_owned(),
            reason,
        }
    }
}

/// As much of a text from a file as fits into a message.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A quoted text, or the word for its absence.
fn quoted(text: Option<&str>) -> String {
    text.map_or_else(|| "missing".to_owned(), |text| format!("{text:?}"))
}

/// The first 12 digits of a hash, enough to tell two files apart.
fn short_hash(hash: &str) -> String {
    hash.chars().take(12).collect()
}
