//! The shapes of published models: their settings, and the sizes of their tensors.

use cope_convert::gguf::{Array, Value};

/// The form of a tensor's values.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A matrix that is quantised.
    Matrix,
    /// A matrix that mixed types keep at more bits in some blocks.
    Sensitive,
    /// The token embedding, which is the head too.
    Embedding,
    /// Values of type F32 around a number.
    Around(f32),
    /// Divisors of type F32, by which a quarter of the pairs of a head is rotated.
    Divisors,
}

/// A tensor: name, ggml shape and form.
pub struct ShapeTensor {
    pub name: String,
    pub shape: Vec<u64>,
    pub kind: Kind,
}

/// A model without its values.
pub struct Shape {
    pub name: &'static str,
    pub architecture: &'static str,
    pub n_embd: usize,
    pub n_layer: usize,
    pub n_vocab: usize,
    /// Blocks with a gated delta net.
    pub n_delta: usize,
    /// Keys without the prefix of the architecture, and their values.
    pub settings: Vec<(&'static str, Value)>,
    pub tensors: Vec<ShapeTensor>,
}

/// All shapes. `is_small` leaves a few blocks and tokens, to try the bench itself.
pub fn all(is_small: bool) -> Vec<Shape> {
    vec![qwen35(is_small), gemma4(is_small), smollm3(is_small)]
}

/// A count of a model, or a smaller one.
fn sized(is_small: bool, count: usize, small: usize) -> usize {
    if is_small { small } else { count }
}

fn count(n: usize) -> Value {
    Value::U32(u32::try_from(n).expect("counts of models are small"))
}

impl Shape {
    fn new(
        name: &'static str,
        architecture: &'static str,
        n_embd: usize,
        n_layer: usize,
        n_vocab: usize,
    ) -> Self {
        let mut shape = Self {
            name,
            architecture,
            n_embd,
            n_layer,
            n_vocab,
            n_delta: 0,
            settings: vec![
                ("context_length", count(32_768)),
                ("embedding_length", count(n_embd)),
                ("block_count", count(n_layer)),
                ("attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
            ],
            tensors: Vec::new(),
        };
        shape.add("token_embd.weight", &[n_embd, n_vocab], Kind::Embedding);
        shape.add("output_norm.weight", &[n_embd], Kind::Around(1.0));
        shape
    }

    fn add(&mut self, name: impl Into<String>, shape: &[usize], kind: Kind) {
        self.tensors.push(ShapeTensor {
            name: name.into(),
            shape: shape.iter().map(|&n| n as u64).collect(),
            kind,
        });
    }

    /// Adds tensors of a block.
    fn add_block(&mut self, layer: usize, tensors: &[(&str, &[usize], Kind)]) {
        for (name, shape, kind) in tensors {
            self.add(format!("blk.{layer}.{name}"), shape, *kind);
        }
    }

    /// Adds the feed-forward layers of a block.
    fn add_feed_forward(&mut self, layer: usize, n_ff: usize) {
        let n = self.n_embd;
        self.add_block(
            layer,
            &[
                ("ffn_gate.weight", &[n, n_ff], Kind::Matrix),
                ("ffn_up.weight", &[n, n_ff], Kind::Matrix),
                ("ffn_down.weight", &[n_ff, n], Kind::Sensitive),
            ],
        );
    }
}

/// Qwen3.5-0.8B.
fn qwen35(is_small: bool) -> Shape {
    const N_EMBD: usize = 1024;
    const N_FF: usize = 3584;
    const HEADS: [usize; 3] = [8, 2, 256];
    /// Heads of keys and of values of the delta net, and their width.
    const N_DELTA_HEADS: usize = 16;
    const DIM: usize = 128;
    const TAPS: usize = 4;
    /// Every fourth block has attention.
    const INTERVAL: usize = 4;

    let n_layer = sized(is_small, 24, 4);
    let n_vocab = sized(is_small, 248_320, 2048);
    let mut shape = Shape::new("Qwen3.5-0.8B", "qwen35", N_EMBD, n_layer, n_vocab);
    let [n_head, n_head_kv, dim] = HEADS;
    shape.settings.extend([
        ("feed_forward_length", count(N_FF)),
        ("attention.head_count", count(n_head)),
        ("attention.head_count_kv", count(n_head_kv)),
        ("attention.key_length", count(dim)),
        ("attention.value_length", count(dim)),
        ("rope.dimension_count", count(dim / 4)),
        (
            "rope.dimension_sections",
            Value::Array(Array::I32(vec![11, 11, 10, 0])),
        ),
        ("rope.freq_base", Value::F32(1e7)),
        ("full_attention_interval", count(INTERVAL)),
        ("ssm.conv_kernel", count(TAPS)),
        ("ssm.group_count", count(N_DELTA_HEADS)),
        ("ssm.time_step_rank", count(N_DELTA_HEADS)),
        ("ssm.state_size", count(DIM)),
        ("ssm.inner_size", count(N_DELTA_HEADS * DIM)),
    ]);
    let inner = N_DELTA_HEADS * DIM;
    for layer in 0..n_layer {
        let mixer: &[(&str, &[usize], Kind)] = if (layer + 1) % INTERVAL == 0 {
            &[
                ("attn_q.weight", &[N_EMBD, 2 * n_head * dim], Kind::Matrix),
                ("attn_k.weight", &[N_EMBD, n_head_kv * dim], Kind::Matrix),
                ("attn_v.weight", &[N_EMBD, n_head_kv * dim], Kind::Sensitive),
                ("attn_output.weight", &[n_head * dim, N_EMBD], Kind::Matrix),
                ("attn_q_norm.weight", &[dim], Kind::Around(1.0)),
                ("attn_k_norm.weight", &[dim], Kind::Around(1.0)),
            ]
        } else {
            shape.n_delta += 1;
            &[
                ("attn_qkv.weight", &[N_EMBD, 3 * inner], Kind::Matrix),
                ("attn_gate.weight", &[N_EMBD, inner], Kind::Matrix),
                ("ssm_alpha.weight", &[N_EMBD, N_DELTA_HEADS], Kind::Matrix),
                ("ssm_beta.weight", &[N_EMBD, N_DELTA_HEADS], Kind::Matrix),
                ("ssm_out.weight", &[inner, N_EMBD], Kind::Matrix),
                ("ssm_conv1d.weight", &[TAPS, 3 * inner], Kind::Around(0.0)),
                ("ssm_norm.weight", &[DIM], Kind::Around(1.0)),
                ("ssm_a", &[N_DELTA_HEADS], Kind::Around(-1.0)),
                ("ssm_dt.bias", &[N_DELTA_HEADS], Kind::Around(0.0)),
            ]
        };
        shape.add_block(layer, mixer);
        for norm in ["attn_norm.weight", "post_attention_norm.weight"] {
            shape.add_block(layer, &[(norm, &[N_EMBD], Kind::Around(1.0))]);
        }
        shape.add_feed_forward(layer, N_FF);
    }
    shape
}

/// Gemma 4 E2B.
fn gemma4(is_small: bool) -> Shape {
    const N_EMBD: usize = 1536;
    /// Width of the feed-forward layers; blocks that share keys have twice that.
    const N_FF: usize = 6144;
    const N_HEAD: usize = 8;
    /// Features of a head of blocks with sliding and with full attention.
    const DIMS: [usize; 2] = [256, 512];
    /// Features of a block's own input.
    const N_INPUT: usize = 256;
    /// Every fifth block has full attention.
    const INTERVAL: usize = 5;

    let n_layer = sized(is_small, 35, 10);
    let n_shared = sized(is_small, 20, 5);
    let n_vocab = sized(is_small, 262_144, 2048);
    let mut shape = Shape::new("Gemma-4-E2B", "gemma4", N_EMBD, n_layer, n_vocab);
    let slides = |layer: usize| !(layer + 1).is_multiple_of(INTERVAL);
    let shares = |layer: usize| layer >= n_layer - n_shared;
    let n_ff = |layer: usize| if shares(layer) { 2 * N_FF } else { N_FF };
    let widths = (0..n_layer).map(|layer| n_ff(layer) as i32).collect();
    shape.settings.extend([
        ("feed_forward_length", Value::Array(Array::I32(widths))),
        ("attention.head_count", count(N_HEAD)),
        ("attention.head_count_kv", count(1)),
        ("attention.key_length_swa", count(DIMS[0])),
        ("attention.value_length_swa", count(DIMS[0])),
        ("attention.key_length", count(DIMS[1])),
        ("attention.value_length", count(DIMS[1])),
        ("attention.shared_kv_layers", count(n_shared)),
        ("attention.sliding_window", count(512)),
        (
            "attention.sliding_window_pattern",
            Value::Array(Array::Bool((0..n_layer).map(slides).collect())),
        ),
        ("rope.dimension_count", count(DIMS[1])),
        ("rope.dimension_count_swa", count(DIMS[0])),
        ("rope.freq_base", Value::F32(1e6)),
        ("rope.freq_base_swa", Value::F32(1e4)),
        ("final_logit_softcapping", Value::F32(30.0)),
        ("embedding_length_per_layer_input", count(N_INPUT)),
    ]);
    let inputs = n_layer * N_INPUT;
    shape.add(
        "per_layer_token_embd.weight",
        &[inputs, n_vocab],
        Kind::Matrix,
    );
    shape.add(
        "per_layer_model_proj.weight",
        &[N_EMBD, inputs],
        Kind::Matrix,
    );
    shape.add("per_layer_proj_norm.weight", &[N_INPUT], Kind::Around(1.0));
    shape.add("rope_freqs.weight", &[DIMS[1] / 2], Kind::Divisors);
    for layer in 0..n_layer {
        let dim = DIMS[usize::from(!slides(layer))];
        let attention: &[(&str, &[usize], Kind)] = &[
            ("attn_q.weight", &[N_EMBD, N_HEAD * dim], Kind::Matrix),
            ("attn_output.weight", &[N_HEAD * dim, N_EMBD], Kind::Matrix),
            // The scores have no divisor, so their size is that of these norms.
            ("attn_q_norm.weight", &[dim], Kind::Around(0.3)),
            ("attn_k.weight", &[N_EMBD, dim], Kind::Matrix),
            ("attn_v.weight", &[N_EMBD, dim], Kind::Sensitive),
            ("attn_k_norm.weight", &[dim], Kind::Around(0.3)),
        ];
        shape.add_block(layer, &attention[..if shares(layer) { 3 } else { 6 }]);
        for norm in [
            "attn_norm",
            "post_attention_norm",
            "ffn_norm",
            "post_ffw_norm",
            "post_norm",
        ] {
            let name = format!("{norm}.weight");
            shape.add_block(layer, &[(&name, &[N_EMBD], Kind::Around(1.0))]);
        }
        shape.add_block(
            layer,
            &[
                ("inp_gate.weight", &[N_EMBD, N_INPUT], Kind::Matrix),
                ("proj.weight", &[N_INPUT, N_EMBD], Kind::Matrix),
                ("layer_output_scale.weight", &[1], Kind::Around(0.7)),
            ],
        );
        shape.add_feed_forward(layer, n_ff(layer));
    }
    shape
}

/// SmolLM3-3B.
fn smollm3(is_small: bool) -> Shape {
    const N_EMBD: usize = 2048;
    const N_FF: usize = 11_008;
    const HEADS: [usize; 3] = [16, 4, 128];

    let n_layer = sized(is_small, 36, 4);
    let n_vocab = sized(is_small, 128_256, 2048);
    let mut shape = Shape::new("SmolLM3-3B", "smollm3", N_EMBD, n_layer, n_vocab);
    let [n_head, n_head_kv, dim] = HEADS;
    shape.settings.extend([
        ("feed_forward_length", count(N_FF)),
        ("attention.head_count", count(n_head)),
        ("attention.head_count_kv", count(n_head_kv)),
        ("rope.dimension_count", count(dim)),
        ("rope.freq_base", Value::F32(5e6)),
    ]);
    for layer in 0..n_layer {
        shape.add_block(
            layer,
            &[
                ("attn_norm.weight", &[N_EMBD], Kind::Around(1.0)),
                ("attn_q.weight", &[N_EMBD, n_head * dim], Kind::Matrix),
                ("attn_k.weight", &[N_EMBD, n_head_kv * dim], Kind::Matrix),
                ("attn_v.weight", &[N_EMBD, n_head_kv * dim], Kind::Sensitive),
                ("attn_output.weight", &[n_head * dim, N_EMBD], Kind::Matrix),
                ("ffn_norm.weight", &[N_EMBD], Kind::Around(1.0)),
            ],
        );
        shape.add_feed_forward(layer, N_FF);
    }
    shape
}
