//! The speed of the operations of a training step, forward and backward, at the sizes of SmolLM2-135M, and of the delta rule
//! at those of Qwen3.5-0.8B.
//!
//! ```text
//! cargo bench --bench ops
//! ```
//!
//! Throughput is in multiply-adds a second for products, and in values a second for the other operations.

use std::hint::black_box;
use std::sync::Arc;

use candle_core::{Device, Var};
use cope_llama::train::head::{Head, HeadOp, Predictions};
use cope_llama::train::ops::attention::{Heads, Mask, Segment, attend, attend_backward};
use cope_llama::train::ops::delta_rule::{DeltaHeads, DeltaInputs};
use cope_llama::train::ops::dropout::Dropout;
use cope_llama::train::ops::gate::{Activation, gated, gated_backward};
use cope_llama::train::ops::lineage::Lineage;
use cope_llama::train::ops::linear::{FrozenWeight, LowRank, WeightType};
use cope_llama::train::ops::matrix::Into;
use cope_llama::train::ops::norm::RmsNorm;
use cope_llama::train::ops::rope::{Pairs, Rope};
use cope_llama::train::ops::stored::Stored;
use cope_llama::train::ops::vector::softmax;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rows of a batch, such as four short texts with their prompts.
const T: usize = 320;
const N_EMBD: usize = 576;
const N_FF: usize = 1536;
const N_VOCAB: usize = 49_152;
const RANK: usize = 8;
const HEADS: Heads = Heads {
    n_head: 9,
    n_head_kv: 3,
    head_dim: 64,
    scale: 0.125,
    soft_cap: None,
};

fn values(n: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(n as u64);
    (0..n).map(|_| random.random_range(-0.5..0.5)).collect()
}

fn linear(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear");
    group.throughput(Throughput::Elements((T * N_EMBD * N_FF) as u64));
    let (x, dy) = (values(T * N_EMBD), values(T * N_FF));
    let (a, b) = (values(RANK * N_EMBD), values(RANK * N_FF));
    let lora = LowRank {
        a: &a,
        b: &b,
        lora_scale: 2.0,
        dropout: None,
    };
    for weight_type in [WeightType::F32, WeightType::Bf16, WeightType::Quantized] {
        let stored = Stored::from_values(&values(N_FF * N_EMBD), N_FF, N_EMBD);
        let weight = FrozenWeight::new(stored, weight_type);
        for (name, lora) in [("", None), ("+lora", Some(&lora))] {
            let mut y = vec![0.0; T * N_FF];
            group.bench_function(format!("{weight_type:?}{name}/forward"), |bencher| {
                bencher.iter(|| black_box(weight.forward(&x, lora, Into::Set, &mut y)));
            });
            let low = weight.forward(&x, lora, Into::Set, &mut y);
            let mut dx = vec![0.0; T * N_EMBD];
            group.bench_function(format!("{weight_type:?}{name}/backward"), |bencher| {
                bencher.iter(|| {
                    let d_low = weight.backward(&dy, lora, Into::Set, &mut dx);
                    lora.map(|lora| {
                        black_box(weight.lora_gradients(lora, (&x, &low), (&dy, &d_low)))
                    })
                });
            });
        }
    }
}

fn attention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention");
    let (q, kv) = (values(T * N_EMBD), values(T * 192));
    let own: Vec<_> = (0..4).map(|i| i * T / 4..(i + 1) * T / 4).collect();
    let segments: Vec<_> = own
        .into_iter()
        .map(|rows| Segment {
            queries: rows.clone(),
            keys: vec![rows],
        })
        .collect();
    let mask = Mask {
        segments: &segments,
        window: None,
    };
    group.throughput(Throughput::Elements((T * T / 4 * N_EMBD) as u64));
    group.bench_function("forward", |bencher| {
        bencher.iter(|| black_box(attend(&q, &kv, &kv, HEADS, mask)));
    });
    group.bench_function("backward", |bencher| {
        bencher.iter(|| black_box(attend_backward(&q, &kv, &kv, HEADS, mask, &q)));
    });
}

/// The delta rule at the sizes of a block of Qwen3.5-0.8B, over one text of each length.
fn delta_rule(criterion: &mut Criterion) {
    const HEADS: DeltaHeads = DeltaHeads {
        n_k: 16,
        n_v: 16,
        dim_k: 128,
        dim_v: 128,
    };
    let mut group = criterion.benchmark_group("delta_rule");
    group.sample_size(10);
    for t in [512, 2048, 8192] {
        let width = HEADS.n_v * HEADS.dim_v;
        let rows: Vec<f32> = values(t * width).iter().map(|x| 0.3 * x).collect();
        let decays: Vec<f32> = values(t * HEADS.n_v).iter().map(|x| x - 0.5).collect();
        let strengths: Vec<f32> = values(t * HEADS.n_v).iter().map(|x| x + 0.5).collect();
        let inputs = DeltaInputs {
            q: &rows,
            k: &rows,
            v: &rows,
            log_decay: &decays,
            beta: &strengths,
        };
        let text = Segment {
            queries: 0..t,
            keys: vec![0..0, 0..t],
        };
        let lineage = Lineage::new(&[text]);
        group.throughput(Throughput::Elements((t * width) as u64));
        group.bench_function(format!("{t}/forward"), |bencher| {
            bencher.iter(|| black_box(HEADS.forward(inputs, &lineage, |_| None)));
        });
        group.bench_function(format!("{t}/backward"), |bencher| {
            bencher.iter(|| black_box(HEADS.backward(inputs, &lineage, &rows)));
        });
    }
}

fn rows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rows");
    let (x, dy) = (values(T * N_EMBD), values(T * N_EMBD));
    group.throughput(Throughput::Elements((T * N_EMBD) as u64));
    let norm = RmsNorm::new(values(N_EMBD), 1e-5);
    group.bench_function("norm/forward", |bencher| {
        bencher.iter(|| black_box(norm.forward(&x)));
    });
    let mut dx = dy.clone();
    group.bench_function("norm/backward", |bencher| {
        bencher.iter(|| norm.backward(&x, &dy, Into::Set, &mut dx));
    });
    let positions: Vec<usize> = (0..T).collect();
    let rope = Rope::new(
        &positions,
        (&values(32), 1.0),
        Pairs::Adjacent,
        HEADS.head_dim,
    );
    group.bench_function("rope/forward", |bencher| {
        bencher.iter(|| rope.forward(&mut dx));
    });
    let (gate, up, dy) = (values(T * N_FF), values(T * N_FF), values(T * N_FF));
    let dropout = Dropout {
        rate: 0.05,
        seed: 0,
        stream: 0,
    };
    group.bench_function("dropout", |bencher| {
        bencher.iter(|| black_box(dropout.dropped(&x, N_EMBD)));
    });
    group.throughput(Throughput::Elements((T * N_FF) as u64));
    for activation in [Activation::Silu, Activation::Gelu] {
        group.bench_function(format!("{activation:?}/forward"), |bencher| {
            bencher.iter(|| black_box(gated(&gate, &up, activation)));
        });
        group.bench_function(format!("{activation:?}/backward"), |bencher| {
            bencher.iter_batched_ref(
                || (gate.clone(), up.clone()),
                |(gate, up)| gated_backward(gate, up, &dy, activation),
                BatchSize::LargeInput,
            );
        });
    }
    let mut logits = values(N_VOCAB);
    group.throughput(Throughput::Elements(N_VOCAB as u64));
    group.bench_function("softmax", |bencher| {
        bencher.iter(|| black_box(softmax(&mut logits)));
    });
}

fn head(criterion: &mut Criterion) {
    /// Number of response tokens.
    const R: usize = 128;
    let mut group = criterion.benchmark_group("head");
    group.throughput(Throughput::Elements((R * N_EMBD * N_VOCAB) as u64));
    let predictions = Predictions {
        predictors: (0..R as u32).collect(),
        targets: (0..R as u32).collect(),
    };
    let x = values(T * N_EMBD);
    for weight_type in [WeightType::F32, WeightType::Bf16, WeightType::Quantized] {
        let stored = Stored::from_values(&values(N_VOCAB * N_EMBD), N_VOCAB, N_EMBD);
        let head = Arc::new(Head {
            norm: RmsNorm::new(values(N_EMBD), 1e-5),
            weight: FrozenWeight::new(stored, weight_type),
            scaling: None,
        });
        group.bench_function(format!("{weight_type:?}/forward"), |bencher| {
            bencher.iter(|| black_box(head.logprobs(&x, &predictions).unwrap()));
        });
        let variable = Var::from_slice(&x, (T, N_EMBD), &Device::Cpu).unwrap();
        group.bench_function(format!("{weight_type:?}/forward and backward"), |bencher| {
            bencher.iter(|| {
                let logprobs = HeadOp::apply(&head, &variable, predictions.clone()).unwrap();
                black_box(logprobs.backward().unwrap())
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = linear, attention, delta_rule, rows, head
}
criterion_main!(benches);
