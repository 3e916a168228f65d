//! `diff`: shows the differences between two adapters.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::adapter::{Adapter, LoraPair, StoredPair, inner_product};

use super::{BaseArgs, Outcome, open};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cope-convert diff alice.gguf alice-before.gguf

The exit code is 0 if both change a base in the same way, and 1 if not.")]
pub struct Args {
    /// An adapter: a GGUF file, or PEFT's or MLX's folder
    one: PathBuf,
    /// The adapter to compare it with
    other: PathBuf,
    #[command(flatten)]
    base: BaseArgs,
}

pub fn run(args: &Args, out: &mut impl Write) -> Outcome {
    let base = args.base.base.as_deref();
    let (one, other) = (open(&args.one, base)?, open(&args.other, base)?);
    let mut same = settings(&one, &other, out)?;
    let by_name = |adapter: &Adapter<StoredPair>| -> BTreeMap<String, StoredPair> {
        let pairs = adapter.tensors.iter();
        pairs
            .map(|pair| (pair.name().to_owned(), pair.clone()))
            .collect()
    };
    let (pairs, mut others) = (by_name(&one), by_name(&other));
    for (name, pair) in &pairs {
        match others.remove(name) {
            None => {
                same = false;
                writeln!(out, "{name}: only in the first")?;
            }
            Some(other_pair) => {
                let scales = [
                    one.lora_scale(pair.rank()),
                    other.lora_scale(other_pair.rank()),
                ];
                same &= weights(pair, &other_pair, scales, out)?;
            }
        }
    }
    for name in others.keys() {
        same = false;
        writeln!(out, "{name}: only in the second")?;
    }
    if same {
        writeln!(out, "they do the same")?;
    }
    Ok(if same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints the settings that differ. Returns whether the adapters are for the same architecture, the only setting here
/// that changes what an adapter does.
fn settings(
    one: &Adapter<StoredPair>,
    other: &Adapter<StoredPair>,
    out: &mut impl Write,
) -> std::io::Result<bool> {
    let number = |number: Option<f32>| number.map(|number| number.to_string());
    let settings = |adapter: &Adapter<StoredPair>| {
        [
            ("architecture", Some(adapter.architecture.clone())),
            ("base", adapter.base_sha256.clone()),
            ("task", adapter.task_sha256.clone()),
            ("name", adapter.name.clone()),
            ("contrast", number(adapter.contrast)),
            ("plausibility", number(adapter.plausibility)),
            (
                "rope_factors",
                adapter.rope_factors.map(|it| it.name().to_owned()),
            ),
        ]
    };
    for ((name, x), (_, y)) in settings(one).into_iter().zip(settings(other)) {
        if x != y {
            writeln!(out, "{name}: {x:?} and {y:?}")?;
        }
    }
    Ok(one.architecture == other.architecture)
}

/// Prints how far apart the changes are that two pairs make to a weight. Returns whether they are the same.
fn weights(
    one: &StoredPair,
    other: &StoredPair,
    scales: [f32; 2],
    out: &mut impl Write,
) -> Outcome<bool> {
    let name = one.name();
    if (one.n_in(), one.n_out()) != (other.n_in(), other.n_out()) {
        writeln!(out, "{name}: the shapes differ")?;
        return Ok(false);
    }
    let [x, y] = scales.map(f64::from);
    let is_same_scale = scales[0].to_bits() == scales[1].to_bits();
    if is_same_scale && one.a()? == other.a()? && one.b()? == other.b()? {
        return Ok(true);
    }
    let square_one = x * x * inner_product(one, one)?;
    let square_other = y * y * inner_product(other, other)?;
    let product = x * y * inner_product(one, other)?;
    let distance = (square_one - 2.0 * product + square_other).max(0.0).sqrt();
    let cosine = product / (square_one * square_other).sqrt();
    writeln!(
        out,
        "{name}: norms {:.4} and {:.4}, distance {distance:.4}, cosine {cosine:.4}",
        square_one.max(0.0).sqrt(),
        square_other.max(0.0).sqrt(),
    )?;
    Ok(false)
}
