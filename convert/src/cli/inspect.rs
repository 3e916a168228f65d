//! `inspect`: shows an adapter's settings, sizes and norms.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::adapter::{Adapter, LoraPair, StoredPair, inner_product};
use crate::error::Result;
use crate::rope_factors::RopeFactors;

use super::{BaseArgs, Outcome, open};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cope-convert inspect alice.gguf
  cope-convert inspect peft-folder --base model.gguf --json")]
pub struct Args {
    /// The adapter: a GGUF file, or PEFT's or MLX's folder
    adapter: PathBuf,
    #[command(flatten)]
    base: BaseArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The facts about an adapter that are printed.
#[derive(Serialize)]
struct Report<'a> {
    architecture: &'a str,
    name: Option<&'a str>,
    /// The highest rank of its pairs.
    rank: usize,
    alpha: f32,
    base_sha256: Option<&'a str>,
    task_sha256: Option<&'a str>,
    contrast: Option<f32>,
    plausibility: Option<f32>,
    rope_factors: Option<&'a str>,
    n_parameters: usize,
    n_bytes: u64,
    /// The number of tensors of each kind.
    targets: BTreeMap<&'a str, usize>,
    tensors: Vec<Tensor<'a>>,
    /// For each layer, the root of the sum of the squared norms of its tensors.
    norm_by_layer: BTreeMap<usize, f64>,
}

/// A pair of matrices.
#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    rank: usize,
    n_in: usize,
    n_out: usize,
    dtype: String,
    /// The Frobenius norm of the change to the weight.
    norm: f64,
}

pub fn run(args: &Args, out: &mut impl Write) -> Outcome {
    let adapter = open(&args.adapter, args.base.base.as_deref())?;
    let report = report(&adapter)?;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&report, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn report(adapter: &Adapter<StoredPair>) -> Result<Report<'_>> {
    let mut targets = BTreeMap::new();
    let mut squares = BTreeMap::<usize, f64>::new();
    let (mut n_parameters, mut n_bytes) = (0, 0);
    let mut tensors = Vec::new();
    for pair in &adapter.tensors {
        let (layer, target) = parts(pair.name());
        *targets.entry(target).or_default() += 1;
        let sizes = [pair.rank() * pair.n_in(), pair.n_out() * pair.rank()];
        let types = pair.types();
        for (size, ggml_type) in sizes.into_iter().zip(types) {
            n_parameters += size;
            n_bytes += size as u64 / ggml_type.block_size() * ggml_type.type_size();
        }
        let scale = f64::from(adapter.lora_scale(pair.rank()));
        let square = scale * scale * inner_product(pair, pair)?;
        if let Some(layer) = layer {
            *squares.entry(layer).or_default() += square;
        }
        let [type_a, type_b] = types.map(|ggml_type| ggml_type.to_string());
        tensors.push(Tensor {
            name: pair.name(),
            rank: pair.rank(),
            n_in: pair.n_in(),
            n_out: pair.n_out(),
            dtype: if type_a == type_b {
                type_a
            } else {
                format!("{type_a}, {type_b}")
            },
            norm: square.max(0.0).sqrt(),
        });
    }
    let roots = squares
        .into_iter()
        .map(|(layer, square)| (layer, square.max(0.0).sqrt()));
    Ok(Report {
        architecture: &adapter.architecture,
        name: adapter.name.as_deref(),
        rank: adapter.rank(),
        alpha: adapter.lora_alpha,
        base_sha256: adapter.base_sha256.as_deref(),
        task_sha256: adapter.task_sha256.as_deref(),
        contrast: adapter.contrast,
        plausibility: adapter.plausibility,
        rope_factors: adapter.rope_factors.map(RopeFactors::name),
        n_parameters,
        n_bytes,
        targets,
        tensors,
        norm_by_layer: roots.collect(),
    })
}

/// The layer and the kind of a tensor such as `blk.0.attn_q.weight`.
fn parts(tensor: &str) -> (Option<usize>, &str) {
    let name = tensor.strip_suffix(".weight").unwrap_or(tensor);
    let in_layer = name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split_once('.'));
    match in_layer {
        Some((layer, kind)) => (layer.parse().ok(), kind),
        None => (None, name),
    }
}

fn print(report: &Report<'_>, out: &mut impl Write) -> std::io::Result<()> {
    let mut row = |name: &str, text: String| writeln!(out, "{name:<14}{}", text.escape_debug());
    row("architecture", report.architecture.to_owned())?;
    for (name, text) in [
        ("name", report.name),
        ("base", report.base_sha256),
        ("task", report.task_sha256),
        ("RoPE factors", report.rope_factors),
    ] {
        if let Some(text) = text {
            row(name, text.to_owned())?;
        }
    }
    row("rank", report.rank.to_string())?;
    row("alpha", report.alpha.to_string())?;
    for (name, number) in [
        ("contrast", report.contrast),
        ("plausibility", report.plausibility),
    ] {
        if let Some(number) = number {
            row(name, number.to_string())?;
        }
    }
    let kb = report.n_bytes.div_ceil(1000);
    row("parameters", format!("{} in {kb} kB", report.n_parameters))?;
    let targets = report
        .targets
        .iter()
        .map(|(name, n)| format!("{name} ×{n}"));
    row("targets", targets.collect::<Vec<_>>().join(", "))?;
    row("norm by layer", String::new())?;
    for (layer, norm) in &report.norm_by_layer {
        row(&format!("  {layer}"), format!("{norm:.4}"))?;
    }
    Ok(())
}
