//! The reasons why an adapter cannot be used, converted, merged, or combined with a base.

use crate::ggml_type::GgmlType;

/// A fault of a LoRA adapter.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterFlaw {
    /// A file that is not an adapter; most likely a model.
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
    /// Factors of the rotary frequencies by a name that is not known.
    #[error("its cope.rope_factors is {0:?}, and only \"short\" and \"long\" are known")]
    RopeFactors(String),
    /// No LoRA tensor at all.
    #[error("it has no tensors")]
    Empty,
    /// A tensor that is neither half of a LoRA pair.
    #[error("the tensor {0:?} ends neither in .lora_a nor in .lora_b")]
    Suffix(String),
    /// A LoRA of the token embedding, whose matrices llama.cpp expects in another orientation.
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
    /// A half that is not a matrix.
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
    /// A half that does not fit the part of the base's matrix that it adapts.
    #[error(
        "the tensor {tensor:?} has the shape {shape:?}, which does not fit the base's {whole:?}, of which it adapts a part"
    )]
    Part {
        /// The adapter's tensor.
        tensor: String,
        /// Its rows and columns.
        shape: [usize; 2],
        /// The base's tensor.
        whole: String,
    },
    /// A rank of 0, or a rank too large for a low-rank adapter.
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
    /// A weight that the requested type cannot hold.
    #[error(
        "the tensor {tensor:?} holds a value too large for {ggml_type}; F32 and BF16 can hold it"
    )]
    TooLarge {
        /// The adapter's tensor.
        tensor: String,
        /// The requested type.
        ggml_type: GgmlType,
    },
    /// A recorded `cope.task_sha256` that is not a SHA-256.
    #[error("its cope.task_sha256 is not 64 lower-case hexadecimal digits")]
    TaskHash,
    /// A recorded `cope.base_sha256` that is not a SHA-256.
    #[error("its cope.base_sha256 is not 64 lower-case hexadecimal digits")]
    BaseHash,
}

/// A fault of a PEFT adapter, or a reason why an adapter cannot be written for PEFT.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PeftFlaw {
    /// A configuration longer than any honest one.
    #[error(
        "the file has {got} bytes, and at most {limit} are accepted; is it an adapter's configuration?"
    )]
    ConfigLength {
        /// Its length in bytes.
        got: u64,
        /// The cap.
        limit: u64,
    },
    /// A configuration that is not the JSON of one.
    #[error("the configuration cannot be read: {0}")]
    Config(String),
    /// A configuration of neither kind.
    #[error(
        "the configuration has neither PEFT's peft_type nor MLX's fine_tune_type; give an adapter of PEFT or MLX"
    )]
    Kind,
    /// A setting that a GGUF adapter cannot express, or that may have an effect and is not known.
    #[error(
        "{setting} is {value}, which a GGUF adapter cannot express or this program does not know; train without it, or merge the adapter instead"
    )]
    Setting {
        /// The setting's name.
        setting: String,
        /// Its value.
        value: String,
    },
    /// A tensor outside a LoRA pair: a magnitude of `DoRA`, a bias, an embedding, a whole weight.
    #[error(
        "the tensor {0:?} does not belong to a plain LoRA, whose tensors are named base_model.model.MODULE.lora_A.weight and lora_B.weight"
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
    /// A module that is a part of a larger one in this family.
    #[error(
        "the module {module:?} is a part of one fused matrix in the family {architecture:?}; adapt qkv_proj or gate_up_proj as a whole"
    )]
    Part {
        /// The module.
        module: String,
        /// The base's `general.architecture`.
        architecture: String,
    },
    /// Weights of several adapters in one file.
    #[error(
        "the file holds the weights of several adapters, {0:?} and {1:?}; save each in a file of its own"
    )]
    Names(String, String),
    /// A pair of another rank than the settings say, so that its factor cannot be known.
    #[error(
        "the module {module:?} has rank {got} in the weights and {expected} in the settings; get both files of one adapter"
    )]
    Rank {
        /// The module.
        module: String,
        /// The rank of its matrices.
        got: usize,
        /// The rank that the settings give.
        expected: u32,
    },
    /// Two tensors for one half of a pair.
    #[error("the tensor {0:?} is the same half of a pair as another tensor; the file is damaged")]
    Twice(String),
    /// Half of a pair.
    #[error("{0:?} is adapted by one half of a pair without the other; the file is damaged")]
    Half(String),
    /// A tensor that is not a matrix, or whose rows cannot be divided among the base's heads.
    #[error("the tensor {tensor:?} has the shape {shape:?}, which does not fit the base")]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// Its dimensions, slowest first.
        shape: Vec<u64>,
    },
    /// A metadata entry whose text is not a number, or not the name of a type.
    #[error("the metadata entry {0:?} of the weights has no valid value")]
    Metadata(String),
    /// A flaw that an adapter of any format may have.
    #[error(transparent)]
    Adapter(#[from] AdapterFlaw),
    /// A tensor for which transformers has no module.
    #[error("it adapts {0:?}, for which PEFT has no module")]
    NoModule(String),
    /// No alpha and pairs of different ranks, which PEFT cannot express together.
    #[error("it has no alpha and pairs of several ranks, which PEFT cannot express")]
    NoAlpha,
}

/// A reason why a weight of a base cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeFlaw {
    /// A type that this crate cannot widen.
    #[error("only llama.cpp can read its type {0}; start from the model in another type")]
    Type(GgmlType),
    /// A weight of the base, or a sum, that is NaN or infinite.
    #[error("a weight is not finite")]
    NotFinite,
    /// A weight, or a sum, that the type cannot hold.
    #[error("a weight is too large for {0}; F32 and BF16 can hold it")]
    TooLarge(GgmlType),
}

/// A difference between an adapter and a base because of which they do not belong together.
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
    /// The head of a base that has none of its own.
    #[error(
        "it adapts the head (lm_head), and the base ties its head: the token embedding is the head too, and llama.cpp adapts no embedding; train without lm_head"
    )]
    TiedHead,
    /// A part of a matrix that the base holds as one.
    #[error(
        "it adapts {tensor:?}, and this base is fused: it holds that matrix as a part of {fused:?}; convert the adapter for it (`convert adapter ADAPTER NEW.gguf --base BASE`), or give a file of the model in which they are separate"
    )]
    Fused {
        /// The tensor that is adapted.
        tensor: String,
        /// The base's tensor of which it is a part.
        fused: String,
    },
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

/// The text in quotes, or the word `missing`.
fn quoted(text: Option<&str>) -> String {
    text.map_or_else(|| "missing".to_owned(), |text| format!("{text:?}"))
}

/// The first 12 digits of a hash, enough to tell two files apart.
fn short_hash(hash: &str) -> String {
    hash.chars().take(12).collect()
}
