//! Tiny models with random weights, one of each family that can be trained, and random adapters for them. They have two
//! blocks (`smollm3` and `gemma4` have four) and a vocabulary of some hundred tokens: small enough for exact comparisons, and complete
//! enough (grouped queries, SentencePiece vocabulary, chat template) for llama.cpp.

mod gemma4;
mod mixers;
mod words;

use std::path::Path;

use cope_convert::gguf::{self, Array, Gguf, TensorData, TensorInfo, Value};
use cope_convert::{Adapter, LoraTensor, Matrix};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use gemma4::Size;
pub use mixers::ALL_LINEARS;
use words::Vocabulary;

/// Width of the residual stream.
pub const N_EMBD: usize = 64;
/// Query heads, each of `N_EMBD / N_HEAD` = 16 dimensions.
pub const N_HEAD: usize = 4;
/// Key and value heads: two query heads share one.
pub const N_HEAD_KV: usize = 2;
/// Width of the feed-forward layers.
pub const N_FF: usize = 128;
/// Transformer blocks of most families.
const N_LAYER: usize = 2;
/// Context that the model claims to be trained on.
pub const N_CTX_TRAIN: u32 = 512;

/// Standard deviation of every matrix entry: large enough that attention and the feed-forward layers have a say in the
/// next token beside the embedding.
const WEIGHT_STD: f32 = 0.25;

const CHAT_TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>\
    {{ message.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

/// Puts another chat template into a model's metadata.
pub fn set_template(metadata: &mut [(String, Value)], template: &str) {
    let (_, value) = (metadata.iter_mut())
        .find(|(key, _)| key == "tokenizer.chat_template")
        .expect("tiny models have a template");
    *value = Value::String(template.into());
}

/// The description of a tiny model; [`write`](Self::write) makes its file.
#[derive(Clone, Copy)]
pub struct TinyModel {
    /// Seed of all weights.
    pub seed: u64,
    /// Whether the output head is the token embedding, as in SmolLM2, or a matrix of its own. `olmo2` has always its own,
    /// and `gemma2` never.
    pub tied: bool,
    /// `general.architecture`, one of [`FAMILIES`].
    pub architecture: &'static str,
    /// Whether the file has Llama 3's divisors of the rotary frequencies.
    pub rope_factors: bool,
    /// Whether queries, keys and values are one matrix, as converters can write them.
    pub fused: bool,
    /// Value heads of `qwen35`'s delta net, which has two key heads.
    pub n_value_heads: usize,
    /// Blocks of `qwen35` that predict further tokens.
    pub n_further: usize,
    /// Which models `gemma4` is like, see [`gemma4`].
    pub size: Size,
    /// Number of blocks, if not the few that show the family's structure.
    pub n_layer: Option<usize>,
}

/// The families. `qwen2` has biases of Q, K and V; `qwen3` has norms of queries and keys; `gemma3` has these norms,
/// post-norms, and sliding attention over [`WINDOW`] tokens in the first block, as `gemma2` with soft caps and `olmo2`
/// without other norms have. The last of `smollm3`'s four blocks has no rotary embedding, `granite` has factors, and
/// `mistral3` has wider heads (as `gemma2`), `YaRN` and a temperature. `phi3` has fused layers, rotates a part of each head,
/// and has factors for contexts up to [`N_CTX_TRAIN`] and for longer ones. The first block of `lfm2` has a short convolution,
/// and that of `qwen35` a gated delta net. `gemma4` is in [`gemma4`].
pub const FAMILIES: [&str; 13] = [
    "llama", "qwen2", "qwen3", "gemma3", "smollm3", "granite", "mistral3", "olmo2", "gemma2",
    "gemma4", "phi3", "lfm2", "qwen35",
];

/// Window of sliding attention, in tokens.
const WINDOW: u32 = 5;

/// The number of blocks in a family's tiny model.
fn n_layer(architecture: &str) -> usize {
    match architecture {
        "smollm3" | "gemma4" => 4,
        _ => N_LAYER,
    }
}

/// Features of a head of `phi3` that are rotated.
const N_ROT_PHI: usize = 12;

/// Features of a head in a family's tiny model.
fn head_dim(architecture: &str) -> usize {
    match architecture {
        "mistral3" | "gemma2" => 24,
        "gemma4" => gemma4::FULL_DIM,
        _ => N_EMBD / N_HEAD,
    }
}

impl Default for TinyModel {
    fn default() -> Self {
        Self {
            seed: 1,
            tied: true,
            architecture: "llama",
            rope_factors: false,
            fused: false,
            n_value_heads: mixers::N_V,
            n_further: 0,
            size: Size::Small,
            n_layer: None,
        }
    }
}

impl TinyModel {
    /// Writes the model to `path`, as a GGUF file with f32 weights.
    pub fn write(self, path: &Path) {
        self.write_edited(path, |_| ());
    }

    /// Writes the model after `edit` has changed its metadata.
    pub fn write_edited(self, path: &Path, edit: impl FnOnce(&mut Vec<(String, Value)>)) {
        let vocabulary = Vocabulary::new();
        let mut metadata = metadata(self, &vocabulary);
        edit(&mut metadata);
        let tensors = self.tensors(vocabulary.tokens.len());
        let data: Vec<_> = tensors
            .iter()
            .map(|(name, shape, values)| TensorData::f32(name, shape, values))
            .collect();
        gguf::write(path, &metadata, &data).expect("write the tiny model");
    }

    fn n_layer(self) -> usize {
        self.n_layer.unwrap_or(n_layer(self.architecture))
    }

    /// The name, the ggml shape (fastest-varying dimension first) and the values of every tensor, in file order.
    fn tensors(self, n_vocab: usize) -> Vec<Tensor> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut matrix = |name: String, n_in: usize, n_out: usize| {
            let values = gaussian(&mut rng, n_in * n_out, WEIGHT_STD);
            (name, vec![n_in as u64, n_out as u64], values)
        };
        let norm = |name: String| (name, vec![N_EMBD as u64], vec![1.0; N_EMBD]);
        let has_head = match self.architecture {
            "olmo2" => true,
            "gemma2" => false,
            _ => !self.tied,
        };
        let norms: &[&str] = match self.architecture {
            "olmo2" => &[],
            other => mixers::norms(other).unwrap_or(&["attn_norm", "ffn_norm"]),
        };

        let mut tensors = vec![
            matrix("token_embd.weight".into(), N_EMBD, n_vocab),
            norm(match self.architecture {
                "lfm2" => "token_embd_norm.weight".into(),
                _ => "output_norm.weight".into(),
            }),
        ];
        if has_head {
            tensors.push(matrix("output.weight".into(), N_EMBD, n_vocab));
        }
        for layer in 0..self.n_layer() {
            for name in norms {
                tensors.push(norm(tensor_name(layer, name)));
            }
            for name in block_linears(self.architecture, layer, self.size.is_large()) {
                let (n_in, n_out) = self.dimensions(layer, name);
                tensors.push(matrix(tensor_name(layer, name), n_in, n_out));
            }
        }
        if self.architecture == "gemma4" {
            for (name, n_in, n_out) in gemma4::tables(self.size.is_large(), n_vocab) {
                tensors.push(matrix(name.into(), n_in, n_out));
            }
        }
        // Phi-3's factors come first, as converters write them: ggml reads beyond them.
        let place = match self.architecture {
            "phi3" => 0,
            _ => tensors.len(),
        };
        tensors.splice(place..place, self.vectors());
        if self.fused {
            fuse(&mut tensors);
        }
        tensors
    }

    /// A random adapter of the given rank on `targets`, see [`tiny_adapter`].
    pub fn adapter(self, seed: u64, rank: usize, targets: &[&str]) -> Adapter {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut tensors = Vec::new();
        for layer in 0..self.n_layer() {
            let has = |target: &&&str| {
                mixers::has(self.architecture, layer, target, self.size.is_large())
            };
            for target in targets.iter().filter(has) {
                let (n_in, n_out) = self.dimensions(layer, target);
                tensors.push(LoraTensor {
                    name: tensor_name(layer, target),
                    a: random_matrix(&mut rng, rank, n_in),
                    b: random_matrix(&mut rng, n_out, rank),
                });
            }
        }
        tensors.sort_by(|x, y| x.name.cmp(&y.name));
        Adapter::new(self.architecture, 2.0 * rank as f32, tensors)
    }

    /// Input and output width of a linear layer of a block.
    fn dimensions(self, layer: usize, linear: &str) -> (usize, usize) {
        if self.architecture == "gemma4" {
            return gemma4::dimensions(self.size.is_large(), layer, linear);
        }
        let of_mixer = mixers::dimensions(self.architecture, linear, self.n_value_heads);
        of_mixer.unwrap_or_else(|| dimensions(self.architecture, linear))
    }

    /// The linear layers of a block, by their GGUF names.
    pub fn linears(self) -> &'static [&'static str] {
        match self.architecture {
            "phi3" | "lfm2" | "qwen35" | "gemma4" => linears(self.architecture),
            _ if self.fused => &FUSED_LINEARS,
            _ => &LINEARS,
        }
    }

    /// The biases and norms that only some families have, and Llama 3's rotary factors.
    fn vectors(self) -> Vec<Tensor> {
        let names = block_vectors(self.architecture);
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed + 1);
        let mut rng_of_further = ChaCha8Rng::seed_from_u64(self.seed + 9);
        let mut vector = |name: String, len: usize| {
            let values = (0..len).map(|_| rng.random_range(0.5..1.5)).collect();
            (name, vec![len as u64], values)
        };
        let mut vectors = Vec::new();
        for layer in 0..self.n_layer() {
            for (name, len) in names {
                vectors.push(vector(format!("blk.{layer}.{name}"), *len));
            }
        }
        if self.architecture == "phi3" {
            for name in ["long", "short"] {
                vectors.push(vector(format!("rope_factors_{name}.weight"), N_ROT_PHI / 2));
            }
        }
        for layer in 0..self.n_layer() {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed + 2 + layer as u64);
            let architecture = self.architecture;
            let tensors = mixers::mixer_tensors(architecture, layer, self.n_value_heads, &mut rng);
            vectors.extend(tensors);
        }
        if self.architecture == "gemma4" {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed + 2);
            vectors.extend(gemma4::vectors(
                self.size.is_large(),
                self.n_layer(),
                &mut rng,
            ));
        }
        for layer in self.n_layer()..self.n_layer() + self.n_further {
            vectors.extend(mixers::further_tensors(layer, &mut rng_of_further));
        }
        if self.rope_factors {
            vectors.push(vector("rope_freqs.weight".into(), N_EMBD / N_HEAD / 2));
        }
        vectors
    }
}

/// The biases and norms of a block that only some families have, with their lengths.
fn block_vectors(architecture: &str) -> &'static [(&'static str, usize)] {
    const HEAD_DIM: usize = N_EMBD / N_HEAD;
    match architecture {
        "qwen2" => &[
            ("attn_q.bias", N_EMBD),
            ("attn_k.bias", HEAD_DIM * N_HEAD_KV),
            ("attn_v.bias", HEAD_DIM * N_HEAD_KV),
        ],
        "qwen3" => &[
            ("attn_q_norm.weight", HEAD_DIM),
            ("attn_k_norm.weight", HEAD_DIM),
        ],
        "gemma2" => &[
            ("post_attention_norm.weight", N_EMBD),
            ("post_ffw_norm.weight", N_EMBD),
        ],
        "olmo2" => &[
            ("attn_q_norm.weight", N_EMBD),
            ("attn_k_norm.weight", HEAD_DIM * N_HEAD_KV),
            ("post_attention_norm.weight", N_EMBD),
            ("post_ffw_norm.weight", N_EMBD),
        ],
        "gemma3" => &[
            ("attn_q_norm.weight", HEAD_DIM),
            ("attn_k_norm.weight", HEAD_DIM),
            ("post_attention_norm.weight", N_EMBD),
            ("post_ffw_norm.weight", N_EMBD),
        ],
        _ => &[],
    }
}

/// The name, the ggml shape and the values of a tensor.
type Tensor = (String, Vec<u64>, Vec<f32>);

/// Puts queries, keys and values of each block that has all of them into one matrix, and their biases into one vector.
fn fuse(tensors: &mut Vec<Tensor>) {
    let names = tensors.iter().map(|it| it.0.clone()).collect::<Vec<_>>();
    let has = |name: &String| names.contains(name);
    let is_part = |layer: &str, name: &str| {
        let parts = ["attn_q", "attn_k", "attn_v"];
        let all = parts.map(|part| format!("blk.{layer}.{part}.weight"));
        parts.contains(&name) && all.iter().all(has)
    };
    let mut fused = Vec::<Tensor>::new();
    for (name, mut shape, values) in tensors.drain(..) {
        let name = match name.split('.').collect::<Vec<_>>()[..] {
            ["blk", layer, part, ending] if is_part(layer, part) => {
                format!("blk.{layer}.attn_qkv.{ending}")
            }
            _ => name,
        };
        match fused.iter_mut().find(|it| it.0 == name) {
            Some((_, before, whole)) => {
                let rows = shape.pop().unwrap();
                *before.last_mut().unwrap() += rows;
                whole.extend(values);
            }
            None => fused.push((name, shape, values)),
        }
    }
    *tensors = fused;
}

/// The values of a tensor of type F32.
pub fn values_of(file: &Gguf, tensor: &TensorInfo) -> Vec<f32> {
    let bytes = file.read(tensor).unwrap();
    let value = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    bytes.chunks_exact(4).map(value).collect()
}

/// A random adapter of the given rank on `targets` (`attn_q`, `ffn_down`, …) of every block of the default tiny model,
/// strong enough to change the model's choices. It names no base; tests of that check set `base_sha256`.
pub fn tiny_adapter(seed: u64, rank: usize, targets: &[&str]) -> Adapter {
    family_adapter("llama", seed, rank, targets)
}

/// The same for the tiny model of a family.
pub fn family_adapter(
    architecture: &'static str,
    seed: u64,
    rank: usize,
    targets: &[&str],
) -> Adapter {
    let model = TinyModel {
        architecture,
        ..TinyModel::default()
    };
    model.adapter(seed, rank, targets)
}

/// The linear layers of a block, by their GGUF names.
pub const LINEARS: [&str; 7] = [
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
];

/// The same where queries, keys and values are one matrix.
const FUSED_LINEARS: [&str; 5] = ["attn_qkv", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

/// The same of `phi3`, where the gate and the upward projection are one matrix too.
const PHI_LINEARS: [&str; 4] = ["attn_qkv", "attn_output", "ffn_up", "ffn_down"];

/// The linear layers of a block in a family's tiny model, by their GGUF names.
pub fn linears(architecture: &str) -> &'static [&'static str] {
    match architecture {
        "phi3" => &PHI_LINEARS,
        "lfm2" | "qwen35" | "gemma4" => &mixers::ALL_LINEARS,
        _ => &LINEARS,
    }
}

/// Those of them that a block has.
fn block_linears(architecture: &str, layer: usize, large: bool) -> Vec<&'static str> {
    let has = |name: &&&str| mixers::has(architecture, layer, name, large);
    linears(architecture).iter().filter(has).copied().collect()
}

/// The tensors of `linears` that hold queries and values.
pub fn queries_and_values(architecture: &str) -> &'static [&'static str] {
    match architecture {
        "phi3" => &["attn_qkv"],
        _ => &["attn_q", "attn_v"],
    }
}

fn tensor_name(layer: usize, linear: &str) -> String {
    format!("blk.{layer}.{linear}.weight")
}

/// Input and output width of a linear layer of attention or of the feed-forward layers, in most families.
fn dimensions(architecture: &str, linear: &str) -> (usize, usize) {
    let head_dim = head_dim(architecture);
    match linear {
        "attn_q" => (N_EMBD, N_HEAD * head_dim),
        "attn_output" => (N_HEAD * head_dim, N_EMBD),
        "attn_k" | "attn_v" => (N_EMBD, N_HEAD_KV * head_dim),
        "attn_qkv" => (N_EMBD, (N_HEAD + 2 * N_HEAD_KV) * head_dim),
        "ffn_up" if architecture == "phi3" => (N_EMBD, 2 * N_FF),
        "ffn_gate" | "ffn_up" => (N_EMBD, N_FF),
        "ffn_down" => (N_FF, N_EMBD),
        other => panic!("the tiny model has no linear layer {other}"),
    }
}

fn random_matrix(rng: &mut ChaCha8Rng, rows: usize, cols: usize) -> Matrix {
    Matrix {
        rows,
        cols,
        data: gaussian(rng, rows * cols, WEIGHT_STD),
    }
}

/// `n` normal random numbers, by the Box–Muller transform.
fn gaussian(rng: &mut ChaCha8Rng, n: usize, std: f32) -> Vec<f32> {
    let mut draw = || {
        let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
        let angle = std::f32::consts::TAU * rng.random::<f32>();
        std * radius * angle.cos()
    };
    (0..n).map(|_| draw()).collect()
}

/// The settings that only some families have.
fn family_settings(architecture: &str) -> Vec<(&'static str, Value)> {
    let window = ("attention.sliding_window", Value::U32(WINDOW));
    match architecture {
        "gemma3" => vec![
            window,
            ("attention.sliding_window_pattern", Value::U32(2)),
            ("rope.freq_base_swa", Value::F32(1_000.0)),
        ],
        "granite" => vec![
            ("embedding_scale", Value::F32(2.0)),
            ("residual_scale", Value::F32(0.7)),
            ("attention.scale", Value::F32(0.3)),
            ("logit_scale", Value::F32(1.5)),
        ],
        "mistral3" => vec![
            ("attention.key_length", Value::U32(24)),
            ("attention.value_length", Value::U32(24)),
            ("attention.temperature_scale", Value::F32(0.2)),
            ("rope.scaling.type", Value::from("yarn")),
            ("rope.scaling.factor", Value::F32(4.0)),
            ("rope.scaling.original_context_length", Value::U32(8)),
            ("rope.scaling.yarn_beta_fast", Value::F32(4.0)),
            ("rope.scaling.yarn_beta_slow", Value::F32(0.2)),
            ("rope.scaling.yarn_log_multiplier", Value::F32(0.5)),
        ],
        "olmo2" => {
            let layers = Array::Bool(vec![true, false]);
            vec![
                window,
                ("attention.sliding_window_pattern", Value::Array(layers)),
                ("rope.scaling.type", Value::from("yarn")),
                ("rope.scaling.factor", Value::F32(4.0)),
                ("rope.scaling.original_context_length", Value::U32(64)),
            ]
        }
        "phi3" => vec![
            window,
            ("rope.scaling.attn_factor", Value::F32(1.2)),
            (
                "rope.scaling.original_context_length",
                Value::U32(N_CTX_TRAIN),
            ),
        ],
        "gemma2" => vec![
            window,
            ("attention.key_length", Value::U32(24)),
            ("attention.value_length", Value::U32(24)),
            ("attn_logit_softcapping", Value::F32(4.0)),
            ("final_logit_softcapping", Value::F32(10.0)),
        ],
        _ => Vec::new(),
    }
}

/// The settings of a model, without the prefix of their keys.
fn settings(tiny: TinyModel, vocabulary: &Vocabulary) -> Vec<(&'static str, Value)> {
    let architecture = tiny.architecture;
    let count = |n: usize| Value::U32(n as u32);
    let n_rot = match architecture {
        "phi3" => N_ROT_PHI,
        _ => head_dim(architecture),
    };
    let mut settings = vec![
        ("context_length", Value::U32(N_CTX_TRAIN)),
        ("embedding_length", count(N_EMBD)),
        ("block_count", count(tiny.n_layer() + tiny.n_further)),
        ("feed_forward_length", count(N_FF)),
        ("attention.head_count", count(N_HEAD)),
        ("attention.head_count_kv", count(N_HEAD_KV)),
        ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("rope.dimension_count", count(n_rot)),
        ("rope.freq_base", Value::F32(10_000.0)),
        ("vocab_size", count(vocabulary.tokens.len())),
    ];
    settings.extend(family_settings(architecture));
    let of_mixers = match architecture {
        "gemma4" => gemma4::settings(tiny.size.is_large()),
        _ => mixers::settings(architecture, tiny.n_layer(), tiny.n_value_heads),
    };
    settings.retain(|it| of_mixers.iter().all(|other| other.0 != it.0));
    settings.extend(of_mixers);
    if tiny.n_further > 0 {
        settings.push(("nextn_predict_layers", count(tiny.n_further)));
    }
    settings
}

fn metadata(tiny: TinyModel, vocabulary: &Vocabulary) -> Vec<(String, Value)> {
    let architecture = tiny.architecture;
    let text = |text: &str| Value::String(text.into());
    let settings = settings(tiny, vocabulary)
        .into_iter()
        .map(|(key, value)| (format!("{architecture}.{key}"), value));
    let general = [
        ("general.architecture", text(architecture)),
        ("general.name", text("tiny")),
    ];
    let tokenizer = [
        ("tokenizer.ggml.model", text("llama")),
        (
            "tokenizer.ggml.tokens",
            Value::Array(Array::String(vocabulary.tokens.clone())),
        ),
        (
            "tokenizer.ggml.scores",
            Value::Array(Array::F32(vocabulary.scores.clone())),
        ),
        (
            "tokenizer.ggml.token_type",
            Value::Array(Array::I32(vocabulary.types.clone())),
        ),
        ("tokenizer.ggml.bos_token_id", vocabulary.id("<s>")),
        ("tokenizer.ggml.eos_token_id", vocabulary.id("</s>")),
        ("tokenizer.ggml.eot_token_id", vocabulary.id("<|end|>")),
        ("tokenizer.ggml.unknown_token_id", vocabulary.id("<unk>")),
        ("tokenizer.ggml.add_space_prefix", Value::Bool(false)),
        ("tokenizer.chat_template", text(CHAT_TEMPLATE)),
    ];
    let owned = |(key, value): (&str, Value)| (key.to_owned(), value);
    let general = general.into_iter().map(owned);
    general
        .chain(settings)
        .chain(tokenizer.into_iter().map(owned))
        .collect()
}
