//! The reasons why a path does not lead to an adapter of PEFT or MLX.

use super::excerpt;

/// The most folders that a message names.
const MAX_NAMED: usize = 4;

/// The thing that was found where the folder of an adapter was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationFlaw {
    /// Weights in a format that can run code when it is read.
    #[error(
        "the weights in {0:?} are pickled or zipped, and only safetensors files are read, since others can run code; load the adapter with PEFT and save it again with save_pretrained, which writes safetensors"
    )]
    Pickle(String),
    /// Weights that are spread over several files.
    #[error(
        "the weights are in several parts, such as {0:?}, and an adapter is read from one file; load it and save it again as one file, with a larger max_shard_size"
    )]
    Parts(String),
    /// Several files that could each be the weights.
    #[error("it holds several files of weights, {}; give one of these files", listed(.0))]
    Several(Vec<String>),
    /// Weights without the settings that say by which factor they are applied.
    #[error(
        "there is no adapter_config.json beside the weights {0:?}, and it says by which factor they are applied; get that file too"
    )]
    NoConfig(String),
    /// Settings without weights.
    #[error(
        "it holds adapter_config.json and no adapter_model.safetensors; get that file too, or save the adapter again"
    )]
    NoWeights,
    /// A folder whose subfolders hold adapters, such as a run of training with its checkpoints.
    #[error("it holds no adapter itself, but its subfolders do, {}; give one of these folders", listed(.0))]
    Below(Vec<String>),
    /// A folder with an adapter in GGUF format.
    #[error("it is a folder that holds {}; give a GGUF file itself", listed(.0))]
    Gguf(Vec<String>),
    /// A folder with a whole model of transformers.
    #[error(
        "it holds a whole model and no adapter; convert the model to GGUF, and give it as a base"
    )]
    WholeModel,
    /// A folder without anything that looks like an adapter.
    #[error(
        "it is a folder without an adapter; give one that holds adapter_config.json and adapter_model.safetensors"
    )]
    Nothing,
}

/// The first few names, quoted.
fn listed(names: &[String]) -> String {
    let quoted = names.iter().take(MAX_NAMED);
    let quoted: Vec<_> = quoted.map(|name| format!("{:?}", excerpt(name))).collect();
    let more = match names.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    quoted.join(", ") + &more
}
