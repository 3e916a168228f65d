//! A GGUF file with random weights in a published shape, of the types of a published file.

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use cope_convert::gguf::{self, Array, GgmlType, Sink, TensorData, Value};
use cope_convert::quant;
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::published::{Kind, Shape, ShapeTensor};

/// The types of a file's tensors.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileType {
    #[value(name = "Q4_K_M")]
    Q4KM,
    #[value(name = "Q8_0")]
    Q80,
}

/// Standard deviation of the logits of a random model. A few tokens are plausible then, as with a trained model, and not
/// thousands.
const LOGIT_STD: f64 = 8.0;

/// Blocks of a tensor that are made at a time.
const N_BLOCKS: usize = 4096;

const TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>\
    {% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

/// Writes the model of a shape to `path`.
pub fn write(shape: &Shape, file_type: FileType, path: &Path) -> Result<()> {
    let key = |key: &str| format!("{}.{key}", shape.architecture);
    let text = |key: &str, text: &str| (key.to_owned(), Value::String(text.into()));
    let mut metadata = vec![
        text("general.architecture", shape.architecture),
        text("general.name", shape.name),
    ];
    let settings = shape.settings.iter();
    metadata.extend(settings.map(|(name, value)| (key(name), value.clone())));
    metadata.extend(vocabulary(shape.n_vocab));
    let tensors: Vec<_> = (shape.tensors.iter().enumerate())
        .map(|(seed, tensor)| {
            let ggml_type = file_type.of(tensor, shape.n_layer);
            let std = match tensor.kind {
                Kind::Embedding => LOGIT_STD / (shape.n_embd as f64).sqrt(),
                _ => 1.0 / (tensor.shape[0] as f64).sqrt(),
            };
            TensorData::streamed(&tensor.name, &tensor.shape, ggml_type, move |out| {
                let random = ChaCha8Rng::seed_from_u64(seed as u64);
                write_values(tensor, ggml_type, std, random, out)
            })
        })
        .collect();
    gguf::write(path, &metadata, &tensors)?;
    Ok(())
}

impl FileType {
    /// The name that published files have.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q4KM => "Q4_K_M",
            Self::Q80 => "Q8_0",
        }
    }

    /// The type of a tensor, as llama.cpp's own tool chooses it.
    fn of(self, tensor: &ShapeTensor, n_layer: usize) -> GgmlType {
        match (self, tensor.kind) {
            (_, Kind::Around(_) | Kind::Divisors) => GgmlType::F32,
            (Self::Q80, _) => GgmlType::Q8_0,
            (Self::Q4KM, Kind::Embedding) => GgmlType::Q6_K,
            (Self::Q4KM, Kind::Sensitive) if has_more_bits(tensor, n_layer) => GgmlType::Q6_K,
            (Self::Q4KM, _) => GgmlType::Q4_K,
        }
    }
}

/// Whether a sensitive tensor lies in a block that gets more bits: the first and the last eighth, and every third between.
fn has_more_bits(tensor: &ShapeTensor, n_layer: usize) -> bool {
    let layer = tensor.name.split('.').nth(1).map(str::parse::<usize>);
    let Some(Ok(layer)) = layer else { return false };
    layer < n_layer / 8 || layer >= 7 * n_layer / 8 || (layer - n_layer / 8) % 3 == 2
}

/// Writes random values of about this standard deviation.
fn write_values(
    tensor: &ShapeTensor,
    ggml_type: GgmlType,
    std: f64,
    mut random: ChaCha8Rng,
    out: &mut Sink<'_>,
) -> cope_convert::Result<()> {
    let n: u64 = tensor.shape.iter().product();
    let vector: Option<Vec<f32>> = match tensor.kind {
        Kind::Around(mean) => {
            let values = (0..n).map(|_| random.random_range(mean - 0.2..mean + 0.2));
            Some(values.collect())
        }
        Kind::Divisors => Some(
            (0..n)
                .map(|it| if it < n / 4 { 1.0 } else { 1e30 })
                .collect(),
        ),
        _ => None,
    };
    if let Some(values) = vector {
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        return out.write(&bytes);
    }
    let mut left = (n / ggml_type.block_size()) as usize;
    let mut blocks = Vec::new();
    while left > 0 {
        let n_blocks = left.min(N_BLOCKS);
        blocks.resize(n_blocks * ggml_type.type_size() as usize, 0);
        random.fill_bytes(&mut blocks);
        for block in blocks.chunks_exact_mut(ggml_type.type_size() as usize) {
            set_scales(ggml_type, std, block);
        }
        out.write(&blocks)?;
        left -= n_blocks;
    }
    Ok(())
}

/// Puts the scales into a block of random bytes, so that its values have a mean of 0 and about this standard deviation.
fn set_scales(ggml_type: GgmlType, std: f64, block: &mut [u8]) {
    let mut half = |at: usize, value: f64| {
        let bytes = quant::quantize(GgmlType::F16, &[value as f32]).expect("F16 is known");
        block[at..at + 2].copy_from_slice(&bytes);
    };
    match ggml_type {
        // 32 integers between -128 and 127, after their scale.
        GgmlType::Q8_0 => half(0, std / 74.0),
        // d · s · q - e · m, with 4 bits of q and 6 of s and of m.
        GgmlType::Q4_K => {
            let d = std / 219.0;
            half(0, d);
            half(2, 7.5 * d);
        }
        // d · s · q, with 8 bits of s and 6 of q, and d at the end.
        GgmlType::Q6_K => half(208, std / 1366.0),
        other => unreachable!("no file here has {other}"),
    }
}

/// A SentencePiece vocabulary of bytes, letters and special tokens, filled up with tokens that no text has.
fn vocabulary(n_vocab: usize) -> Vec<(String, Value)> {
    const NORMAL: i32 = 1;
    const UNKNOWN: i32 = 2;
    const CONTROL: i32 = 3;
    const BYTE: i32 = 6;
    let special = [
        "<s>",
        "</s>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|end|>",
    ];
    let letters = std::iter::once('▁').chain('!'..='~');
    let mut tokens = vec![("<unk>".to_owned(), UNKNOWN)];
    tokens.extend(special.map(|name| (name.to_owned(), CONTROL)));
    tokens.extend((0..=u8::MAX).map(|byte| (format!("<0x{byte:02X}>"), BYTE)));
    tokens.extend(letters.map(|letter| (letter.to_string(), NORMAL)));
    let n_filled = n_vocab - tokens.len();
    tokens.extend((0..n_filled).map(|n| (format!("filler-{n}"), NORMAL)));
    let (texts, types): (Vec<_>, Vec<_>) = tokens.into_iter().unzip();
    let key = |key: &str| format!("tokenizer.ggml.{key}");
    vec![
        (key("model"), Value::String("llama".into())),
        (key("tokens"), Value::Array(Array::String(texts))),
        (
            key("scores"),
            Value::Array(Array::F32(vec![-1000.0; n_vocab])),
        ),
        (key("token_type"), Value::Array(Array::I32(types))),
        (key("unknown_token_id"), Value::U32(0)),
        (key("bos_token_id"), Value::U32(1)),
        (key("eos_token_id"), Value::U32(2)),
        (key("eot_token_id"), Value::U32(6)),
        (key("add_space_prefix"), Value::Bool(false)),
        (
            "tokenizer.chat_template".to_owned(),
            Value::String(TEMPLATE.into()),
        ),
    ]
}
