//! Time and memory of our training against a peer, transformers + peft (`peer.py`), on the same tokens in the same
//! order, from the same initial adapter, with the same settings. The peer is timed while it mines pairs of its own, and
//! runs DPO on ours.
//!
//! ```text
//! make bench-training            # makes the peer's Python environment, then runs this
//! ```
//!
//! Both run as separate processes, one after the other, on the CPU or on the GPU that the build is for (`--device`).
//! Peak memory is the kernel's figure for the whole process, without a GPU's own memory.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use common::{Run, train};
use cope_convert::gguf::Gguf;
use cope_llama::home::Home;
use cope_llama::llama;
use cope_llama::profile::{Example, Pair, lamp};
use cope_llama::train::fit::FitConfig;
use cope_llama::train::lora::TargetModule;
use cope_llama::train::model::TrainModel;
use cope_llama::train::ops::linear::FrozenWeight;
use cope_llama::train::ops::matrix::Into;
use cope_llama::train::ops::stored::Stored;
use cope_llama::train::{Encoded, EncodedPair, Encoder, TrainConfig, TrainDevice, WeightType};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Tasks, each with one of its users.
const TASKS: [(&str, &str); 2] = [
    ("news_headline_huffpost", "Ed Mazza"),
    ("product_review_wine", "Kerin O’Keefe"),
];

#[derive(Parser)]
struct Options {
    /// Models [default: the bases that are pulled]
    #[arg(short, long)]
    model: Vec<PathBuf>,
    /// The folder of the LaMP files
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/lamp"))]
    data: PathBuf,
    /// The Python that has the peer's packages
    #[arg(long)]
    python: PathBuf,
    /// Newest items of each history
    #[arg(long, default_value_t = 40)]
    items: usize,
    /// The device that both train on
    #[arg(long, default_value_t = TrainDevice::Cpu)]
    device: TrainDevice,
    /// Only tasks whose name holds this
    #[arg(long, default_value = "")]
    task: String,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let models = match options.model.as_slice() {
        [] => Home::open()?.bases()?,
        given => given.to_vec(),
    };
    println!("| model | task | | SFT, s | mining, s | DPO, s | whole, s | peak, MB |");
    println!("|---|---|---|---|---|---|---|---|");
    for model in &models {
        for task in TASKS.iter().filter(|task| task.0.contains(&options.task)) {
            Bench::new(&options, model, *task)?.rows()?;
        }
    }
    Ok(())
}

/// The bench of one model on one task.
struct Bench<'a> {
    options: &'a Options,
    model: &'a Path,
    task: &'static str,
    history: Vec<Example>,
    scratch: TempDir,
}

impl<'a> Bench<'a> {
    fn new(
        options: &'a Options,
        model: &'a Path,
        (task, user): (&'static str, &str),
    ) -> Result<Self> {
        let lamp = lamp::read(&options.data.join(format!("{task}.json")))?;
        let user = lamp.users.iter().find(|x| x.id == user);
        let mut history = user.context("no such user")?.history.clone();
        history.drain(..history.len().saturating_sub(options.items));
        Ok(Self {
            options,
            model,
            task,
            history,
            scratch: tempfile::tempdir()?,
        })
    }

    /// Runs the peer and our program, and prints a row for each run, then how far the losses are apart.
    fn rows(&self) -> Result<()> {
        let (exact, pairs) = self.ours(&["--weights", "f32"])?;
        self.write_inputs(&pairs)?;
        let (f32, _) = self.peer("f32")?;
        self.row("peer, f32", &f32, None);
        let (bf16, peak) = self.peer("bf16")?;
        self.row("peer, bf16", &bf16, None);
        let best = Run {
            seconds: std::array::from_fn(|stage| f32.seconds[stage].min(bf16.seconds[stage])),
            peak_mb: f32.peak_mb.min(bf16.peak_mb),
            estimated_mb: 0.0,
            losses: Default::default(),
            n_tokens: 0.0,
        };
        let whole = |run: &Run| run.seconds.iter().sum::<f64>();
        let best = (&best, whole(&f32).min(whole(&bf16)));
        self.row("ours, f32", &exact, Some(best));
        let (fastest, _) = self.ours(&[])?;
        self.row("ours", &fastest, Some(best));
        let is_on_cpu = self.options.device == TrainDevice::Cpu;
        if is_on_cpu {
            let (smallest, _) = self.ours(&["--weights", "quantized", "--recompute"])?;
            self.row("ours, smallest", &smallest, Some(best));
        }
        let apart = |stage: usize| {
            let (ours, theirs) = (&exact.losses[stage], &f32.losses[stage]);
            ensure!(
                ours.len() == theirs.len(),
                "{} steps of ours and {} of the peer's",
                ours.len(),
                theirs.len()
            );
            let apart = ours
                .iter()
                .zip(theirs)
                .map(|(x, y)| 100.0 * (x / y - 1.0).abs());
            let most = apart.fold(
                0.0,
                |most: f64, x| if x > most || x.is_nan() { x } else { most },
            );
            Ok(format!("{most:.3} % apart in {} steps", ours.len()))
        };
        println!(
            "\nLosses in f32, ours and the peer's, at most: SFT {}, DPO {}.",
            apart(0)?,
            apart(1)?
        );
        if !is_on_cpu {
            return Ok(());
        }
        let (ours, speed) = (matmul_peak(), self.sft_flop(&fastest)? / fastest.seconds[0]);
        println!(
            "A bf16 matmul runs at {:.0} GFLOP/s, PyTorch's at {:.0}; the products of SFT at {:.0}: {:.0} % of the \
             greater.\n",
            ours / 1e9,
            peak / 1e9,
            speed / 1e9,
            100.0 * speed / ours.max(peak)
        );
        Ok(())
    }

    /// The floating-point operations with frozen weights that SFT's steps need at least: forward and backward through
    /// the blocks for every row, and through the head for every response token.
    fn sft_flop(&self, run: &Run) -> Result<f64> {
        let (model, examples, _) = self.encoded(&[])?;
        let shape = model.shape();
        let n_responses: usize = examples.iter().map(|x| x.response.len()).sum();
        let linears = shape.linears(&TargetModule::ALL);
        let blocks: usize = linears.map(|(n_out, n_in)| n_out * n_in).sum();
        let head = Self::config().sft.epochs * n_responses * shape.n_vocab * shape.n_embd;
        Ok(4.0 * (run.n_tokens * blocks as f64 + head as f64))
    }

    /// Prints a row. With `peer`, the best of the peer's runs in each stage and as a whole, each figure has its ratio
    /// to it.
    fn row(&self, name: &str, run: &Run, peer: Option<(&Run, f64)>) {
        let cell = |ours: f64, peer: Option<f64>| match peer {
            Some(peer) => format!("{ours:.1} ({:.1}×)", peer / ours),
            None => format!("{ours:.1}"),
        };
        let mut cells: Vec<String> = (0..3)
            .map(|stage| {
                cell(
                    run.seconds[stage],
                    peer.map(|(peer, _)| peer.seconds[stage]),
                )
            })
            .collect();
        cells.push(cell(run.seconds.iter().sum(), peer.map(|(_, whole)| whole)));
        cells.push(match peer {
            Some((peer, _)) => format!(
                "{:.0} (1/{:.1}; estimated {:.0})",
                run.peak_mb,
                peer.peak_mb / run.peak_mb,
                run.estimated_mb
            ),
            None => format!("{:.0}", run.peak_mb),
        });
        let model = self.model.file_stem().unwrap_or_default().display();
        println!(
            "| {model} | {} | {name} | {} |",
            self.task,
            cells.join(" | ")
        );
    }

    /// The settings of both programs: the paper's, with an adapter of Q and V.
    fn config() -> TrainConfig {
        let mut config = TrainConfig::paper();
        config.lora.target_modules = vec![TargetModule::Q, TargetModule::V];
        config
    }

    /// The options that give our program [`Self::config`], where it is not the default.
    fn config_options() -> Vec<String> {
        let TrainConfig {
            lora, mine, dpo, ..
        } = Self::config();
        let text = |value: Value| match value {
            Value::String(text) => text,
            number_or_bool => number_or_bool.to_string(),
        };
        let targets = lora.target_modules.iter().map(|target| text(json!(target)));
        let targets = targets.collect::<Vec<_>>().join(",");
        let options = [
            ("--target-modules", json!(targets)),
            ("--sampler", json!(mine.sampler)),
            ("--preference", json!(mine.preference)),
            ("--n-samples", json!(mine.n_samples)),
            ("--sample-length", json!(mine.length_ratio)),
            ("--dpo-learning-rate", json!(dpo.fit.learning_rate)),
            ("--dpo-epochs", json!(dpo.fit.epochs)),
            ("--beta", json!(dpo.beta)),
            ("--length-normalized", json!(dpo.length_normalized)),
            ("--rpo-alpha", json!(dpo.rpo_alpha)),
        ];
        let option = |(name, value): (&str, Value)| [name.to_owned(), text(value)];
        options.into_iter().flat_map(option).collect()
    }

    /// The file that [`Self::write_inputs`] writes.
    fn inputs(&self) -> PathBuf {
        self.scratch.path().join("inputs.json")
    }

    /// The model, the encoded history, and the encoded pairs.
    fn encoded(&self, pairs: &[Pair]) -> Result<(TrainModel, Vec<Encoded>, Vec<EncodedPair>)> {
        let model = TrainModel::load(&Gguf::open(self.model)?, WeightType::Quantized)?;
        let vocabulary = llama::Model::load_vocabulary(self.model)?;
        let encoder = Encoder::new(&vocabulary, model.shape().n_ctx)?;
        let examples = encoder.examples(&self.history, Path::new("history"))?;
        let pairs = encoder.pairs(pairs, Path::new("pairs"))?;
        Ok((model, examples, pairs))
    }

    /// Writes the peer's inputs: the same examples, pairs, steps, learning rates and initial adapter as ours.
    fn write_inputs(&self, pairs: &[Pair]) -> Result<()> {
        let config = Self::config();
        let (model, examples, pairs) = self.encoded(pairs)?;
        let mut lora_a = Map::new();
        for tensor in model.lora(&config.lora, config.seed)?.to_tensors()? {
            let name = tensor.name.replace("blk.", "").replace("attn_", "");
            let rows: Vec<&[f32]> = tensor.a.data.chunks(tensor.a.cols).collect();
            lora_a.insert(name.replace(".weight", ""), json!(rows));
        }
        let steps = |fit: &FitConfig, n_items: usize| -> Vec<Value> {
            let n_steps = fit.n_steps(n_items);
            let batches = fit.batches(n_items, config.seed).into_iter();
            let rate = |step| fit.learning_rate_at(step, n_steps);
            batches
                .enumerate()
                .map(|(step, items)| json!({"items": items, "learning_rate": rate(step)}))
                .collect()
        };
        let last = |example: &Encoded| example.response.last().copied();
        let inputs = json!({
            "examples": examples.iter().map(|x| (&x.prompt, &x.response)).collect::<Vec<_>>(),
            "eos": examples.first().and_then(last),
            "pairs": pairs.iter().map(|x| (&x.prompt, &x.chosen, &x.rejected)).collect::<Vec<_>>(),
            "sft": steps(&config.sft, examples.len()),
            "dpo": steps(&config.dpo.fit, pairs.len()),
            "lora_a": lora_a,
            "lora_alpha": config.lora.lora_alpha,
            "n_samples": config.mine.n_samples,
            "top_p": config.mine.top_p,
            "max_new_tokens": config.mine.max_new_tokens,
            "beta": config.dpo.beta,
        });
        Ok(std::fs::write(self.inputs(), inputs.to_string())?)
    }

    /// Runs the peer. Returns what it took, and the speed of its bf16 matrix product in FLOP/s.
    fn peer(&self, dtype: &str) -> Result<(Run, f64)> {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peer.py");
        // PyTorch's names of the devices.
        let device = match self.options.device {
            TrainDevice::Cpu => "cpu",
            TrainDevice::Cuda => "cuda",
            TrainDevice::Metal => "mps",
        };
        let output = Command::new(&self.options.python)
            .arg(program)
            .args([self.model, &self.inputs()])
            .args(["--dtype", dtype, "--device", device])
            .output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the peer failed: {errors}");
        let lines: Vec<Value> = String::from_utf8(output.stdout)?
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let figure = |stage: &str, name: &str| {
            let line = lines.iter().find(|line| line["stage"] == stage);
            let figure = line.and_then(|line| line[name].as_f64());
            figure.with_context(|| format!("the peer gave no {name} of {stage}"))
        };
        let peak = figure("matmul", "flop_s")?;
        let losses = |stage: &str| {
            let line = lines.iter().find(|line| line["stage"] == stage);
            let losses = line.map_or(Value::Null, |line| line["losses"].clone());
            serde_json::from_value(losses)
        };
        let run = Run {
            seconds: [
                figure("sft", "seconds")?,
                figure("mine", "seconds")?,
                figure("dpo", "seconds")?,
            ],
            peak_mb: figure("dpo", "peak_mb")?,
            estimated_mb: 0.0,
            losses: [losses("sft")?, losses("dpo")?],
            n_tokens: 0.0,
        };
        Ok((run, peak))
    }

    /// Runs our program with the settings of the peer, and further options.
    fn ours(&self, options: &[&str]) -> Result<(Run, Vec<Pair>)> {
        let device = self.options.device.to_string();
        let config_options = Self::config_options();
        let mut all: Vec<&str> = config_options.iter().map(String::as_str).collect();
        all.extend(["--device", &device]);
        all.extend(options);
        train(&self.options.python, self.model, &self.history, &all)
    }
}

/// The speed of our bf16 product of square matrices in FLOP/s: the fastest of five.
fn matmul_peak() -> f64 {
    const N: usize = 2048;
    let values: Vec<f32> = (0..N * N).map(|i| (i % 7) as f32).collect();
    let weight = FrozenWeight::new(Stored::from_values(&values, N, N), WeightType::Bf16);
    let mut y = vec![0.0; N * N];
    let seconds = (0..5).map(|_| {
        let start = Instant::now();
        weight.forward(&values, None, Into::Set, &mut y);
        start.elapsed().as_secs_f64()
    });
    2.0 * (N as f64).powi(3) / seconds.fold(f64::INFINITY, f64::min)
}
