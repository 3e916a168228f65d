//! Random adapters of PEFT and MLX, with what they compute by the definitions of their own formats.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};

pub const N_LAYER: usize = 2;
pub const N_EMBD: usize = 8;
pub const N_VOCAB: usize = 6;

/// A module, its tensor, and its rows and columns.
pub type Module = (&'static str, &'static str, usize, usize);

const LAYER: [Module; 7] = [
    ("self_attn.q_proj", "attn_q", 8, N_EMBD),
    ("self_attn.k_proj", "attn_k", 4, N_EMBD),
    ("self_attn.v_proj", "attn_v", 4, N_EMBD),
    ("self_attn.o_proj", "attn_output", N_EMBD, 8),
    ("mlp.gate_proj", "ffn_gate", 12, N_EMBD),
    ("mlp.up_proj", "ffn_up", 12, N_EMBD),
    ("mlp.down_proj", "ffn_down", N_EMBD, 12),
];

pub const FUSED_LAYER: [Module; 4] = [
    ("self_attn.qkv_proj", "attn_qkv", 16, N_EMBD),
    ("self_attn.o_proj", "attn_output", N_EMBD, 8),
    ("mlp.gate_up_proj", "ffn_up", 24, N_EMBD),
    ("mlp.down_proj", "ffn_down", N_EMBD, 12),
];

const LFM2_LAYER: [Module; 9] = [
    ("self_attn.q_proj", "attn_q", 8, N_EMBD),
    ("self_attn.k_proj", "attn_k", 4, N_EMBD),
    ("self_attn.v_proj", "attn_v", 4, N_EMBD),
    ("self_attn.out_proj", "attn_output", N_EMBD, 8),
    ("conv.in_proj", "shortconv.in_proj", 24, N_EMBD),
    ("conv.out_proj", "shortconv.out_proj", N_EMBD, 8),
    ("feed_forward.w1", "ffn_gate", 12, N_EMBD),
    ("feed_forward.w3", "ffn_up", 12, N_EMBD),
    ("feed_forward.w2", "ffn_down", N_EMBD, 12),
];

/// The modules that a layer has beside those of [`LAYER`], where it has a gated delta net: of two key heads and four value
/// heads, with two features each.
const DELTA_NET: [Module; 5] = [
    ("linear_attn.in_proj_qkv", "attn_qkv", 16, N_EMBD),
    ("linear_attn.in_proj_z", "attn_gate", 8, N_EMBD),
    ("linear_attn.in_proj_a", "ssm_alpha", 4, N_EMBD),
    ("linear_attn.in_proj_b", "ssm_beta", 4, N_EMBD),
    ("linear_attn.out_proj", "ssm_out", N_EMBD, 8),
];

/// The same where it has an input of its own.
const LAYER_INPUT: [Module; 2] = [
    ("per_layer_input_gate", "inp_gate", 4, N_EMBD),
    ("per_layer_projection", "proj", N_EMBD, 4),
];

const WRAPPERS: [&str; 6] = [
    "model.",
    "language_model.model.",
    "model.language_model.",
    "language_model.",
    "model.text_model.",
    "",
];

/// Settings that change nothing, with values.
const HARMLESS: [(&str, &str); 12] = [
    ("lora_dropout", "0.1"),
    ("peft_version", "\"0.99\""),
    ("target_modules", "[\"q_proj\"]"),
    ("task_type", "\"CAUSAL_LM\""),
    ("qalora_group_size", "16"),
    ("loftq_config", "{}"),
    ("use_dora", "false"),
    ("bias", "\"none\""),
    ("init_lora_weights", "\"gaussian\""),
    ("a_setting_of_tomorrow", "null"),
    ("another_of_tomorrow", "false"),
    ("megatron_core", "\"megatron.core\""),
];

/// A small generator of random numbers (xorshift*), so that a case is known by its seed.
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A matrix in the file, and its values as numbers that every type holds exactly.
#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// The modules for which a setting has a value of its own.
#[derive(Clone, Copy)]
enum Key {
    All,
    Named(&'static str),
    InLayer(usize, &'static str),
}

impl Key {
    /// The key as PEFT has it: a regular expression for the end of a module's name.
    fn text(self) -> String {
        match self {
            Self::All => ".*".to_owned(),
            Self::Named(module) => module.rsplit('.').next().unwrap().to_owned(),
            Self::InLayer(layer, module) => format!("layers.{layer}.{module}"),
        }
    }

    fn is_of(self, layer: Option<usize>, module: &str) -> bool {
        match self {
            Self::All => true,
            // Modules of one name in other places have the value too.
            Self::Named(named) => named.rsplit('.').next() == module.rsplit('.').next(),
            Self::InLayer(in_layer, named) => layer == Some(in_layer) && named == module,
        }
    }
}

/// An adapter as the files hold it, and what it computes.
pub struct Case {
    pub settings: Vec<(String, String)>,
    pub tensors: Vec<Tensor>,
    /// The change of each base tensor, `(out, in)`, in llama.cpp's order of rows.
    pub deltas: BTreeMap<String, Vec<f64>>,
    pub is_mlx: bool,
    /// The modules that are adapted, with their layers.
    pub modules: Vec<(Option<usize>, Module)>,
}

/// The value of a pattern for a module: that of the first key that names it.
fn value<T: Copy>(pattern: &[(Key, T)], usual: T, layer: Option<usize>, module: &str) -> T {
    let found = pattern.iter().find(|(key, _)| key.is_of(layer, module));
    found.map_or(usual, |(_, value)| *value)
}

/// Random values of a pattern.
fn pattern<T>(
    rng: &mut Rng,
    modules: &[Module],
    mut draw: impl FnMut(&mut Rng) -> T,
) -> Vec<(Key, T)> {
    let n = rng.below(3);
    let mut pattern = Vec::new();
    for _ in 0..n {
        let module = rng.pick(modules).0;
        let key = match rng.below(8) {
            0 => Key::All,
            1..4 => Key::InLayer(rng.below(N_LAYER), module),
            _ => Key::Named(module),
        };
        pattern.push((key, draw(rng)));
    }
    // A key that occurs again would change the value of the first.
    let mut seen = Vec::new();
    pattern.retain(|(key, _)| {
        let text = key.text();
        let is_new = !seen.contains(&text);
        seen.push(text);
        is_new
    });
    pattern
}

fn json<T: std::fmt::Display>(pattern: &[(Key, T)]) -> String {
    let entries = pattern
        .iter()
        .map(|(key, value)| format!("\"{}\": {value}", key.text()));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
}

/// The settings that decide the factors.
struct Factors {
    is_mlx: bool,
    rank: usize,
    alpha: f64,
    is_rooted: bool,
    ranks: Vec<(Key, usize)>,
    alphas: Vec<(Key, f64)>,
}

impl Factors {
    fn draw(rng: &mut Rng, layer: &[Module]) -> Self {
        let is_mlx = rng.one_in(4);
        let rank = 1 + rng.below(4);
        let alpha = rng.pick(&[1.0, 8.0, 0.5, 20.0, -3.0]);
        let (mut ranks, mut alphas) = (Vec::new(), Vec::new());
        if !is_mlx {
            ranks = pattern(rng, layer, |rng| 1 + rng.below(5));
            alphas = pattern(rng, layer, |rng| rng.pick(&[0.0, 2.0, 7.5, 16.0]));
        }
        Self {
            is_mlx,
            rank,
            alpha,
            is_rooted: !is_mlx && rng.one_in(2),
            ranks,
            alphas,
        }
    }

    /// The settings as the file has them.
    pub fn settings(&self) -> Vec<(String, String)> {
        let (rank, alpha) = (self.rank, self.alpha);
        let settings = if self.is_mlx {
            let parameters = format!(r#"{{"rank": {rank}, "scale": {alpha:?}, "dropout": 0.1}}"#);
            vec![
                ("fine_tune_type", "\"lora\"".to_owned()),
                ("lora_parameters", parameters),
            ]
        } else {
            vec![
                ("peft_type", "\"LORA\"".to_owned()),
                ("r", rank.to_string()),
                ("lora_alpha", format!("{alpha:?}")),
                ("use_rslora", self.is_rooted.to_string()),
                ("rank_pattern", json(&self.ranks)),
                ("alpha_pattern", json(&self.alphas)),
            ]
        };
        let own = settings.into_iter();
        own.map(|(name, text)| (name.to_owned(), text)).collect()
    }

    /// The rank of a module, and the factor of its `B A`.
    fn of(&self, layer: Option<usize>, module: &str) -> (usize, f64) {
        let rank = value(&self.ranks, self.rank, layer, module);
        let alpha = value(&self.alphas, self.alpha, layer, module);
        let divisor = match (self.is_mlx, self.is_rooted) {
            (true, _) => 1.0,
            (false, true) => (rank as f64).sqrt(),
            (false, false) => rank as f64,
        };
        (rank, alpha / divisor)
    }
}

/// A sound adapter.
pub fn sound(rng: &mut Rng, architecture: &str) -> Case {
    let layer = layer(architecture);
    let factors = Factors::draw(rng, &layer);
    let is_mlx = factors.is_mlx;
    let mut case = Case {
        settings: factors.settings(),
        tensors: Vec::new(),
        deltas: BTreeMap::new(),
        is_mlx,
        modules: Vec::new(),
    };
    for (name, value) in HARMLESS {
        if !is_mlx && rng.one_in(3) {
            case.set(name, value);
        }
    }
    let wrapper = rng.pick(&WRAPPERS);
    // PEFT's patterns would have to name the inner layer.
    let has_inner = factors.ranks.is_empty() && factors.alphas.is_empty() && rng.one_in(3);
    let inner = if has_inner { ".linear" } else { "" };
    let suffix = rng.pick(&[".weight", ".weight", ".default.weight", ".ann.weight"]);
    let head = ("lm_head", "output", N_VOCAB, N_EMBD);
    let places = (0..N_LAYER).flat_map(|number| layer.iter().map(move |it| (Some(number), *it)));
    let places: Vec<_> = places.chain([(None, head)]).collect();
    let forced = rng.below(places.len() - 1);
    for (number, (layer, module)) in places.into_iter().enumerate() {
        if number != forced && !rng.one_in(3) {
            continue;
        }
        let name = match layer {
            Some(layer) => format!("{wrapper}layers.{layer}.{}{inner}", module.0),
            None => "lm_head".to_owned(),
        };
        let (rank, factor) = factors.of(layer, module.0);
        let [a, b] = matrices(rng, module, rank);
        case.store(&name, suffix, [&a, &b], module, rank);
        let tensor = match layer {
            Some(layer) => format!("blk.{layer}.{}.weight", module.1),
            None => "output.weight".to_owned(),
        };
        let delta = delta(architecture, module, factor, &a, &b);
        case.deltas.insert(tensor, delta);
        case.modules.push((layer, module));
    }
    if !is_mlx && case.deltas.contains_key("output.weight") && rng.one_in(2) {
        let name = "base_model.model.lm_head.base_layer.weight".to_owned();
        let (shape, values) = (vec![N_VOCAB, N_EMBD], vec![0.25; N_VOCAB * N_EMBD]);
        case.tensors.push(Tensor {
            name,
            shape,
            values,
        });
    }
    case
}

/// Random `A` and `B` of a module.
fn matrices(rng: &mut Rng, (_, _, rows, cols): Module, rank: usize) -> [Vec<f32>; 2] {
    [rank * cols, rows * rank].map(|n| (0..n).map(|_| rng.below(33) as f32 / 16.0 - 1.0).collect())
}

/// The families with another order of rows in llama.cpp.
const MOVED_ROWS: [&str; 4] = ["llama", "mistral3", "granite", "smollm3"];

/// `factor · B A` in llama.cpp's order of rows: it puts the two rows of a rotated pair side by side in q and k of
/// some families.
fn delta(architecture: &str, module: Module, factor: f64, a: &[f32], b: &[f32]) -> Vec<f64> {
    let (_, tensor, rows, cols) = module;
    let rank = b.len() / rows;
    let moves = match tensor {
        "attn_q" | "attn_k" => MOVED_ROWS.contains(&architecture),
        _ => architecture == "qwen35",
    };
    let row = |row| if moves { moved_row(tensor, row) } else { row };
    let col = |col| if moves { moved_col(tensor, col) } else { col };
    let places = (0..rows).flat_map(|at| (0..cols).map(move |to| (row(at), col(to))));
    let sum = |(row, col): (usize, usize)| {
        let terms = (0..rank).map(|r| f64::from(b[row * rank + r]) * f64::from(a[r * cols + col]));
        factor * terms.sum::<f64>()
    };
    places.map(sum).collect()
}

/// The row in transformers of a row of a tensor whose rows llama.cpp moves: in heads of four rows of a rotated tensor, or
/// among the value heads.
fn moved_row(tensor: &str, row: usize) -> usize {
    match tensor {
        "attn_q" | "attn_k" => row / 4 * 4 + row % 2 * 2 + row % 4 / 2,
        "attn_qkv" if row >= 8 => 8 + moved_value(row - 8, 2),
        "attn_gate" => moved_value(row, 2),
        "ssm_alpha" | "ssm_beta" => moved_value(row, 1),
        _ => row,
    }
}

fn moved_col(tensor: &str, col: usize) -> usize {
    match tensor {
        "ssm_out" => moved_value(col, 2),
        _ => col,
    }
}

/// The place in transformers of a place among value heads of `dim` features: the second head of GGUF files is the first of
/// the second key head.
fn moved_value(place: usize, dim: usize) -> usize {
    [0, 2, 1, 3][place / dim] * dim + place % dim
}

impl Case {
    /// Stores the matrices of a module as PEFT or MLX does.
    fn store(
        &mut self,
        name: &str,
        suffix: &str,
        [a, b]: [&[f32]; 2],
        (_, _, rows, cols): Module,
        rank: usize,
    ) {
        for (half, [n_rows, n_cols], values) in [("A", [rank, cols], a), ("B", [rows, rank], b)] {
            self.tensors.push(if self.is_mlx {
                let columns = (0..n_cols).flat_map(|col| (0..n_rows).map(move |row| (row, col)));
                Tensor {
                    name: format!("{name}.lora_{}", half.to_lowercase()),
                    shape: vec![n_cols, n_rows],
                    values: columns
                        .map(|(row, col)| values[row * n_cols + col])
                        .collect(),
                }
            } else {
                Tensor {
                    name: format!("base_model.model.{name}.lora_{half}{suffix}"),
                    shape: vec![n_rows, n_cols],
                    values: values.to_vec(),
                }
            });
        }
    }

    /// Sets a setting, in the place of one of the same name.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    pub fn write(&self, rng: &mut Rng, folder: &Path) -> String {
        let entries = self
            .settings
            .iter()
            .map(|(name, value)| format!("\"{name}\": {value}"));
        let config = format!("{{{}}}", entries.collect::<Vec<_>>().join(",\n "));
        fs::write(folder.join("adapter_config.json"), &config).unwrap();
        let dtype = rng.pick(&[Dtype::F32, Dtype::F16, Dtype::BF16]);
        let data: Vec<_> = self
            .tensors
            .iter()
            .map(|it| encode(&it.values, dtype))
            .collect();
        let views = self.tensors.iter().zip(&data).map(|(tensor, data)| {
            let view = TensorView::new(dtype, tensor.shape.clone(), data).unwrap();
            (tensor.name.clone(), view)
        });
        let bytes = serialize(views.collect::<BTreeMap<_, _>>(), None).unwrap();
        let [peft, mlx] =
            ["adapter_model.safetensors", "adapters.safetensors"].map(|it| folder.join(it));
        let (this, other) = if self.is_mlx {
            (mlx, peft)
        } else {
            (peft, mlx)
        };
        let _ = fs::remove_file(other);
        fs::write(this, bytes).unwrap();
        config
    }
}

fn encode(values: &[f32], dtype: Dtype) -> Vec<u8> {
    let bytes = |value: &f32| match dtype {
        Dtype::F32 => value.to_le_bytes().to_vec(),
        Dtype::F16 => half::f16::from_f32(*value).to_le_bytes().to_vec(),
        _ => half::bf16::from_f32(*value).to_le_bytes().to_vec(),
    };
    values.iter().flat_map(bytes).collect()
}

pub fn layer(architecture: &str) -> Vec<Module> {
    match architecture {
        "phi3" => FUSED_LAYER.to_vec(),
        "lfm2" => LFM2_LAYER.to_vec(),
        "qwen35" => [&LAYER[..], &DELTA_NET].concat(),
        "gemma4" => [&LAYER[..], &LAYER_INPUT].concat(),
        _ => LAYER.to_vec(),
    }
}
