//! Mutated tables of tensors: whatever llama.cpp is asked to load runs, with the logits of training where training accepts
//! the file too. Everything else is refused before anything is trained, in one line that names a tensor.

use std::path::Path;

use cope_convert::gguf::{self, Array, GgmlType, Gguf, TensorData, Value};
use cope_convert::{quant, sha256};
use cope_llama::llama::{Boundary, Context, ContextOptions, LoraAdapter, Model, Special, Token};
use cope_llama::train::WeightType;
use cope_llama::train::model::TrainModel;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{assert_no_faults, largest_difference, n_mutations, train_logits};
use crate::fixture::{exact, folder_in_memory};
use crate::tiny::{FAMILIES, Size, TinyModel};

/// How many times wider than the tiny model the wide one is, whose rows are whole blocks of every type.
const WIDE: u64 = 4;

/// All types that a file can name.
const TYPES: std::ops::Range<u32> = 0..43;

/// Tensors that some families have, some only in some models, with their shapes in a tiny model; 0 is the vocabulary.
const OPTIONAL: [(&str, &[u64]); 30] = [
    ("output.weight", &[64, 0]),
    ("output.bias", &[0]),
    ("output.scale", &[1]),
    ("rope_freqs.weight", &[8]),
    ("rope_factors_long.weight", &[8]),
    ("cls.output.weight", &[64, 1]),
    ("dense_2.weight", &[64, 64]),
    ("blk.0.attn_q.bias", &[64]),
    ("blk.1.attn_k.bias", &[32]),
    ("blk.0.attn_v.bias", &[32]),
    ("blk.0.attn_output.bias", &[64]),
    ("blk.1.ffn_gate.bias", &[128]),
    ("blk.1.ffn_up.bias", &[128]),
    ("blk.0.ffn_down.bias", &[64]),
    ("blk.0.attn_q_norm.weight", &[16]),
    ("blk.1.attn_k_norm.weight", &[16]),
    ("blk.0.post_attention_norm.weight", &[64]),
    ("blk.0.post_ffw_norm.weight", &[64]),
    ("blk.0.attn_qkv.weight", &[64, 128]),
    ("blk.0.attn_qkv.bias", &[128]),
    ("blk.0.attn_q.scale", &[1]),
    ("blk.1.ffn_up.scale", &[1]),
    ("blk.0.ffn_down.input_scale", &[1]),
    ("blk.0.inp_gate.weight", &[64, 16]),
    ("blk.1.layer_output_scale.weight", &[1]),
    ("per_layer_proj_norm.weight", &[16]),
    ("blk.1.ssm_norm.weight", &[16]),
    ("blk.1.shortconv.conv.weight", &[3, 64]),
    ("blk.2.attn_norm.weight", &[64]),
    ("blk.0.mystery.weight", &[64, 64]),
];

/// A tensor of a table. Its values are f32 until the file is written.
#[derive(Clone)]
struct Entry {
    name: String,
    shape: Vec<u64>,
    ggml_type: GgmlType,
    values: Vec<f32>,
}

impl Entry {
    /// A tensor of type F32 with random values: those of most vectors lie around 1.
    fn new(name: &str, shape: &[u64], random: &mut StdRng) -> Self {
        let range = match shape.len() {
            // The decay of a delta net.
            1 if name.ends_with("ssm_a") => -1.5..-0.05,
            // The scores of Gemma 4's attention have no divisor.
            1 if name.contains("attn_q_norm") => 0.2..0.6,
            1 => 0.5..1.5,
            _ => -0.4..0.4,
        };
        let n: u64 = shape.iter().product();
        let width = if shape.len() == 1 { 1 } else { shape[0] };
        let scale = (64.0 / width.max(64) as f32).sqrt();
        let mut value = |_| scale * random.random_range(range.clone());
        Self {
            name: name.to_owned(),
            shape: shape.to_vec(),
            ggml_type: GgmlType::F32,
            values: (0..n).map(&mut value).collect(),
        }
    }

    /// Gives the tensor another shape, and cuts or repeats its values.
    fn reshape(&mut self, shape: Vec<u64>) {
        let n: u64 = shape.iter().product();
        let values = self.values.iter().copied().cycle();
        self.values = values.take(n as usize).collect();
        self.shape = shape;
    }

    /// The bytes of the file. Types that are not written here have zeros.
    fn bytes(&self) -> Vec<u8> {
        quant::quantize(self.ggml_type, &self.values).unwrap_or_else(|| {
            let n_blocks = self.values.len() as u64 / self.ggml_type.block_size();
            vec![0; (n_blocks * self.ggml_type.type_size()) as usize]
        })
    }

    fn describe(&self) -> String {
        format!("{} {:?} {}", self.name, self.shape, self.ggml_type)
    }
}

/// The settings that are widths.
const WIDTHS: [&str; 11] = [
    "embedding_length",
    "embedding_length_per_layer_input",
    "feed_forward_length",
    "attention.key_length",
    "attention.key_length_swa",
    "attention.value_length",
    "attention.value_length_swa",
    "rope.dimension_count",
    "rope.dimension_count_swa",
    "ssm.state_size",
    "ssm.inner_size",
];

/// Whether a dimension of a tensor is a number of taps or of value heads, or 1, and no width.
fn is_count(name: &str, dimension: usize) -> bool {
    let ends_with = |endings: &[&str]| endings.iter().any(|it| name.ends_with(it));
    match dimension {
        0 => ends_with(&[
            "shortconv.conv.weight",
            "ssm_conv1d.weight",
            "ssm_a",
            "ssm_dt.bias",
            "layer_output_scale.weight",
        ]),
        _ => ends_with(&["ssm_alpha.weight", "ssm_beta.weight"]),
    }
}

/// A model's file before it is mutated.
struct Original {
    metadata: Vec<(String, Value)>,
    table: Vec<Entry>,
    /// The factor of all widths.
    width: u64,
    n_vocab: u64,
}

impl Original {
    fn new(tiny: TinyModel, width: u64, path: &Path, random: &mut StdRng) -> Self {
        let architecture = tiny.architecture;
        tiny.write_edited(path, |metadata| {
            for key in WIDTHS.map(|key| format!("{architecture}.{key}")) {
                let entry = metadata.iter_mut().find(|entry| entry.0 == key);
                match entry.map(|it| &mut it.1) {
                    Some(Value::U32(n)) => *n *= width as u32,
                    Some(Value::Array(Array::I32(counts))) => {
                        counts.iter_mut().for_each(|n| *n *= width as i32);
                    }
                    _ => {}
                }
            }
        });
        let file = Gguf::open(path).unwrap();
        let n_vocab = file.tensor("token_embd.weight").unwrap().shape[1];
        let entry = |tensor: &gguf::TensorInfo| {
            let wide = |(dimension, &n): (usize, &u64)| {
                if n == n_vocab || is_count(&tensor.name, dimension) {
                    n
                } else {
                    width * n
                }
            };
            let shape: Vec<_> = tensor.shape.iter().enumerate().map(wide).collect();
            Entry::new(&tensor.name, &shape, random)
        };
        Self {
            table: file.tensors.iter().map(entry).collect(),
            metadata: file.metadata,
            width,
            n_vocab,
        }
    }
}

/// A mutated table.
struct Mutated {
    table: Vec<Entry>,
    /// The names that the mutations have touched.
    names: Vec<String>,
    /// Whether a name occurs twice in the table.
    has_duplicate: bool,
}

impl Mutated {
    /// Changes a table once or twice.
    fn new(original: &Original, random: &mut StdRng) -> Self {
        let mut mutated = Self {
            table: original.table.clone(),
            names: Vec::new(),
            has_duplicate: false,
        };
        for _ in 0..random.random_range(1..3) {
            mutated.change(original, random);
        }
        mutated
    }

    fn change(&mut self, original: &Original, random: &mut StdRng) {
        let index = random.random_range(0..self.table.len());
        let name = self.table[index].name.clone();
        if let Some(block) = name.strip_suffix("attn_qkv.weight") {
            // Without the whole, llama.cpp asks for its parts.
            self.names.push(format!("{block}attn_q.weight"));
        }
        self.names.push(name);
        match random.random_range(0..12) {
            0..4 => self.retype(index, random),
            4..7 => self.reshape(index, random),
            7 => drop(self.table.remove(index)),
            8 => self.rename(index, random),
            _ => self.add(original, random),
        }
    }

    /// Gives a tensor a type whose blocks fit into its rows.
    fn retype(&mut self, index: usize, random: &mut StdRng) {
        let entry = &mut self.table[index];
        let fits = |it: &GgmlType| entry.shape[0].is_multiple_of(it.block_size());
        let types: Vec<_> = TYPES.filter_map(GgmlType::from_id).filter(fits).collect();
        entry.ggml_type = types[random.random_range(0..types.len())];
    }

    fn reshape(&mut self, index: usize, random: &mut StdRng) {
        let entry = &mut self.table[index];
        let block = entry.ggml_type.block_size();
        let mut shape = entry.shape.clone();
        let last = shape.len() - 1;
        match random.random_range(0..8) {
            0 => shape.reverse(),
            1 => shape = vec![shape.iter().product()],
            2 => shape.push(1),
            3 => shape.extend([1, 1]),
            4 => shape.push(2),
            5 => shape.insert(0, block),
            6 => shape[last] += if last == 0 { block } else { 1 },
            _ => {
                let half = shape[last] / 2 + 1;
                shape[last] = half.next_multiple_of(if last == 0 { block } else { 1 });
            }
        }
        if shape[0].is_multiple_of(block) && shape.len() <= 4 {
            entry.reshape(shape);
        }
    }

    fn rename(&mut self, index: usize, random: &mut StdRng) {
        let other = random.random_range(0..self.table.len());
        let name = self.table[index].name.clone();
        let (optional, _) = OPTIONAL[random.random_range(0..OPTIONAL.len())];
        let renamed = match random.random_range(0..7) {
            0 => name.replace("blk.0.", "blk.1."),
            1 => name.replace("blk.1.", "blk.2."),
            2 => name.replace(".weight", ".bias"),
            3 => format!("{name}.weight"),
            4 => name.to_uppercase(),
            5 => optional.to_owned(),
            _ => std::mem::replace(&mut self.table[other].name, name),
        };
        self.has_duplicate |=
            self.table.iter().any(|it| it.name == renamed) && self.table[index].name != renamed;
        self.names.push(renamed.clone());
        self.table[index].name = renamed;
    }

    /// Adds an optional tensor, mostly of the right shape.
    fn add(&mut self, original: &Original, random: &mut StdRng) {
        let (name, shape) = OPTIONAL[random.random_range(0..OPTIONAL.len())];
        let wide = |&n: &u64| match n {
            0 => original.n_vocab,
            1 => 1,
            n => original.width * n,
        };
        let shape: Vec<_> = shape.iter().map(wide).collect();
        self.has_duplicate |= self.table.iter().any(|it| it.name == name);
        self.names.push(name.to_owned());
        self.table.push(Entry::new(name, &shape, random));
        let index = self.table.len() - 1;
        match random.random_range(0..8) {
            0 => self.retype(index, random),
            1 => self.reshape(index, random),
            _ => {}
        }
    }

    /// Writes the file. A name that occurs twice gets its last letter changed, and the file is then changed back, since
    /// the writer refuses it.
    fn write(&self, path: &Path, metadata: &[(String, Value)]) {
        let mut seen = Vec::new();
        let mut disguised = Vec::new();
        let mut bytes = Vec::new();
        for entry in &self.table {
            let mut name = entry.name.clone();
            while seen.contains(&name) {
                let disguise = format!("{}{}", &name[..name.len() - 1], disguised.len());
                disguised.push((disguise.clone(), name));
                name = disguise;
            }
            seen.push(name);
            bytes.push(entry.bytes());
        }
        let entries = self.table.iter().zip(&seen).zip(&bytes);
        let tensors: Vec<_> = entries
            .map(|((entry, name), bytes)| {
                TensorData::bytes(name, &entry.shape, entry.ggml_type, bytes)
            })
            .collect();
        gguf::write(path, metadata, &tensors).unwrap();
        for (disguise, name) in disguised {
            let mut file = std::fs::read(path).unwrap();
            let found = file
                .windows(name.len())
                .position(|it| it == disguise.as_bytes());
            let found = found.expect("the disguised name");
            file[found..found + name.len()].copy_from_slice(name.as_bytes());
            std::fs::write(path, file).unwrap();
        }
    }

    /// The tensors that are not as in the original.
    fn describe(&self, original: &Original) -> String {
        let before: Vec<_> = original.table.iter().map(Entry::describe).collect();
        let after: Vec<_> = self.table.iter().map(Entry::describe).collect();
        let only = |these: &[String], others: &[String]| {
            let only = these.iter().filter(|it| !others.contains(it));
            only.cloned().collect::<Vec<_>>().join(", ")
        };
        format!(
            "{} instead of {}",
            only(&after, &before),
            only(&before, &after)
        )
    }
}

/// The logits that training computes with the file, or why it refuses it.
fn trained(path: &Path, tokens: &[Token]) -> cope_llama::Result<Vec<f32>> {
    let model = TrainModel::load(&Gguf::open(path)?, WeightType::F32)?;
    Ok(train_logits(&model, tokens, None))
}

/// The logits that llama.cpp computes, with an adapter if there is one.
fn run(path: &Path, tokens: &[Token], adapter: Option<&Path>) -> cope_llama::Result<Vec<f32>> {
    let options = ContextOptions {
        n_ctx: 64,
        ..exact()
    };
    let model = Model::load(path, None)?;
    let adapter = match adapter {
        Some(adapter) => {
            let base = Gguf::open(path)?;
            let adapter = LoraAdapter::load(&model, adapter, &base, &sha256(path)?)?;
            Some((adapter, 1.0))
        }
        None => None,
    };
    Context::new(&model, adapter, &options)?.extend_all(tokens)
}

/// The fate of a file.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Training and llama.cpp compute the same.
    Alike,
    /// llama.cpp runs it, and training refuses it.
    OnlyRuns,
    /// Both refuse it.
    Refused,
}

/// The fate of the file at `path`; the error says what is wrong with that. Where an adapter is given, more is tried: what
/// is refused is run, and what is accepted is run with the adapter too.
fn outcome(
    path: &Path,
    tokens: &[Token],
    mutated: &Mutated,
    adapter: Option<&Path>,
) -> Result<Outcome, String> {
    let is_clear = |message: &str| {
        let names_tensor = mutated
            .names
            .iter()
            .any(|name| message.contains(name.as_str()));
        message.contains("mutated.gguf") && !message.contains('\n') && names_tensor
    };
    let refused = |error: cope_llama::Error| {
        let message = error.to_string();
        if is_clear(&message) {
            Ok(())
        } else {
            Err(format!("is refused by {message:?}"))
        }
    };
    // Training asks llama.cpp first, which then refuses the file as it does when the file is to run.
    if let Err(error) = Model::load_without_weights(path) {
        refused(error)?;
        return match adapter.map(|_| run(path, tokens, None)) {
            Some(Ok(_)) => Err("is refused before training, and runs".to_owned()),
            Some(Err(error)) => refused(error).map(|()| Outcome::Refused),
            None => Ok(Outcome::Refused),
        };
    }
    let theirs = run(path, tokens, None).map_err(|error| format!("does not run: {error}"))?;
    let ours = match trained(path, tokens) {
        Ok(ours) => ours,
        Err(error) => return refused(error).map(|()| Outcome::OnlyRuns),
    };
    if let Some(adapter) = adapter {
        run(path, tokens, Some(adapter))
            .map_err(|error| format!("does not run with an adapter: {error}"))?;
    }
    // llama.cpp rounds what it multiplies by weights of other types than F32.
    let is_exact = mutated.table.iter().all(|it| it.ggml_type == GgmlType::F32);
    let largest = ours.iter().fold(1.0_f32, |most, it| most.max(it.abs()));
    let tolerance = if is_exact { 2e-3 } else { 0.1 } * largest;
    let difference = largest_difference(&ours, &theirs);
    if difference < tolerance {
        Ok(Outcome::Alike)
    } else {
        Err(format!("the logits differ by {difference} of {largest}"))
    }
}

#[test]
fn training_and_llama_cpp_take_the_same_tensors_or_refuse_the_file() {
    assert_no_faults(&FAMILIES, faults);
}

/// The faults of a family's mutated files.
fn faults(architecture: &'static str) -> Vec<String> {
    let folder = folder_in_memory();
    let path = folder.path().join("mutated.gguf");
    let adapter_paths = ["adapter.gguf", "fused.gguf"].map(|name| folder.path().join(name));
    let mut random = StdRng::seed_from_u64(architecture.bytes().map(u64::from).sum());
    // Those with a head of their own have queries, keys and values in one matrix, in families in which all blocks have the
    // same layers.
    let is_uniform = !["gemma4", "lfm2", "qwen35"].contains(&architecture);
    // A block whose values have no tensor makes them of its keys.
    let is_varied = architecture == "gemma4";
    let kinds = [true, false].map(|tied| TinyModel {
        tied,
        fused: !tied && is_uniform,
        size: if tied { Size::Small } else { Size::Large },
        architecture,
        ..TinyModel::default()
    });
    let originals = [(0, 1), (1, 1), (0, WIDE), (1, WIDE)]
        .map(|(kind, width)| Original::new(kinds[kind], width, &path, &mut random));
    let model = Model::load_vocabulary(&path).unwrap();
    let tokens = model
        .tokenize("hello alice, the wine", Boundary::Add, Special::ByName)
        .unwrap();
    let adapters = kinds.map(|kind| kind.adapter(5, 2, kind.linears()));
    for (adapter, path) in adapters.iter().zip(&adapter_paths) {
        adapter.write_gguf(path).unwrap();
    }
    let (mut counts, mut faults) = ([0; 3], Vec::new());
    for mutation in 0..n_mutations() {
        let is_wide = mutation % 16 == 0;
        let kind: usize = random.random_range(0..2);
        let original = &originals[kind + 2 * usize::from(is_wide)];
        let mutated = Mutated::new(original, &mut random);
        mutated.write(&path, &original.metadata);
        // The adapter fits the narrow models that have its tensors.
        let has = |name: &str| mutated.table.iter().any(|it| it.name == name);
        let fits = (adapters[kind].tensors.iter()).all(|pair| has(&pair.name));
        let adapter =
            (mutation % 4 == 1 && (fits || !is_varied)).then_some(adapter_paths[kind].as_path());
        match outcome(&path, &tokens, &mutated, adapter) {
            Ok(outcome) => counts[outcome as usize] += 1,
            Err(fault) => {
                let changes = mutated.describe(original);
                faults.push(format!("{architecture} {changes}: {fault}"));
            }
        }
    }
    let [n_alike, n_only_run, n_refused] = counts;
    println!("{architecture}: {n_alike} alike, {n_only_run} only run, {n_refused} refused");
    let least = n_mutations() / 20;
    assert!(n_alike > least && n_refused > least);
    faults
}
