//! Training beside what one would run instead: transformers + peft, on the same items with the same settings.
//!
//! ```text
//! make bench-training            # makes the peer's Python environment, then runs this
//! ```
//!
//! Both run as programs of their own, one after the other. Peak memory is the kernel's figure for the whole process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use cope_llama::home::{Home, UserName};
use cope_llama::profile::{Profile, lamp};
use serde_json::Value;

/// Task, user, and the most tokens of a sample.
const TASKS: [(&str, &str, usize); 2] = [
    ("news_headline_huffpost", "Ed Mazza", 40),
    ("product_review_wine", "Kerin O’Keefe", 64),
];
const STAGES: [&str; 3] = ["sft", "mine", "dpo"];

#[derive(Parser)]
struct Options {
    /// Models [default: the bases that are pulled]
    #[arg(short, long)]
    model: Vec<PathBuf>,
    /// The folder of the peer; the data lie beside it
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/peers"))]
    peer: PathBuf,
    /// Its Python
    #[arg(long)]
    python: PathBuf,
    /// Newest items of each history
    #[arg(long, default_value_t = 40)]
    items: usize,
    /// Only tasks whose name holds this
    #[arg(long, default_value = "")]
    task: String,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one training took.
struct Run {
    /// By stage.
    seconds: [f64; 3],
    peak_mb: f64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let models = match options.model.as_slice() {
        [] => pulled()?,
        given => given.to_vec(),
    };
    println!("| model | task | | SFT, s | mining, s | DPO, s | whole, s | peak, MB |");
    println!("|---|---|---|---|---|---|---|---|");
    for model in &models {
        for task in TASKS.iter().filter(|task| task.0.contains(&options.task)) {
            let bench = Bench {
                options: &options,
                model,
                task: *task,
            };
            bench.rows()?;
        }
    }
    Ok(())
}

fn pulled() -> Result<Vec<PathBuf>> {
    let folder = Home::open()?.base("");
    let mut models: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    models.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "gguf")
    });
    models.sort();
    Ok(models)
}

struct Bench<'a> {
    options: &'a Options,
    model: &'a Path,
    task: (&'static str, &'static str, usize),
}

impl Bench<'_> {
    fn rows(&self) -> Result<()> {
        let f32 = self.peer("f32")?;
        self.row("peer, f32", &f32, None);
        let bf16 = self.peer("bf16")?;
        self.row("peer, bf16", &bf16, None);
        let best = Run {
            seconds: std::array::from_fn(|stage| f32.seconds[stage].min(bf16.seconds[stage])),
            peak_mb: f32.peak_mb.min(bf16.peak_mb),
        };
        let whole = |run: &Run| run.seconds.iter().sum::<f64>();
        let best_whole = whole(&f32).min(whole(&bf16));
        let ours = self.ours(&[])?;
        self.row("ours", &ours, Some((&best, best_whole)));
        let smallest = self.ours(&["--weights", "quantized", "--recompute"])?;
        self.row("ours, smallest", &smallest, Some((&best, best_whole)));
        Ok(())
    }

    /// A row; with the better of the peer's runs, by stage and as a whole, their ratio too.
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
            Some((peer, _)) => format!("{:.0} (1/{:.1})", run.peak_mb, peer.peak_mb / run.peak_mb),
            None => format!("{:.0}", run.peak_mb),
        });
        let model = self.model.file_stem().unwrap_or_default().display();
        println!(
            "| {model} | {} | {name} | {} |",
            self.task.0,
            cells.join(" | ")
        );
    }

    fn peer(&self, dtype: &str) -> Result<Run> {
        let (task, user, max_new) = self.task;
        let mut command = Command::new(&self.options.python);
        command.arg(self.options.peer.join("hf_cope.py"));
        command.arg("--model").arg(self.model);
        command.args([
            "--task",
            task,
            "--user",
            user,
            "--dtype",
            dtype,
            "--queries",
            "0",
        ]);
        command.args(["--items", &self.options.items.to_string()]);
        command.args(["--max-new", &max_new.to_string(), "--dpo-lr", "1e-4"]);
        let output = command.stderr(Stdio::null()).output()?;
        let lines: Vec<Value> = String::from_utf8(output.stdout)?
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let stage = |name: &str| {
            let line = lines.iter().find(|line| line["stage"] == name);
            line.with_context(|| format!("the peer did not come to {name}"))
        };
        let seconds =
            |name: &str| -> Result<f64> { stage(name)?["seconds"].as_f64().context("no seconds") };
        Ok(Run {
            seconds: [seconds("sft")?, seconds("mine")?, seconds("dpo")?],
            peak_mb: stage("dpo")?["peak_rss_mb"].as_f64().context("no memory")?,
        })
    }

    /// Our program, told to train what the peer does: rank 8 on Q and V.
    fn ours(&self, options: &[&str]) -> Result<Run> {
        /// Runs the rest of its arguments, and prints the peak of their memory in MB.
        const MEASURE: &str = "import resource, subprocess, sys\n\
            subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n\
            print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)";
        let (task, user, max_new) = self.task;
        let file = self.options.peer.join(format!("../data/lamp/{task}.json"));
        let lamp = lamp::read(&file)?;
        let user = lamp
            .users
            .iter()
            .find(|x| x.id == user)
            .context("no such user")?;
        let mut history = user.history.clone();
        history.drain(..history.len().saturating_sub(self.options.items));
        let folder = tempfile::tempdir()?;
        let home = Home::at(folder.path());
        let bench = home.create_user(UserName::new("bench")?)?;
        bench.save_profile(&Profile {
            history,
            kept_apart: Vec::new(),
        })?;
        let output = Command::new(&self.options.python)
            .args([
                "-c",
                MEASURE,
                env!("CARGO_BIN_EXE_cope-llama"),
                "train",
                "bench",
                "-m",
            ])
            .arg(self.model)
            .args([
                "--target-modules",
                "q,v",
                "--sample-tokens",
                &max_new.to_string(),
            ])
            .args(options)
            .env("COPE_HOME", folder.path())
            .output()?;
        ensure!(output.status.success(), "our training failed");
        let manifest = std::fs::read_to_string(folder.path().join("users/bench/manifest.json"))?;
        let manifest: Value = serde_json::from_str(&manifest)?;
        let seconds = |stage: &str| manifest["stages"][stage]["seconds"].as_f64();
        let mut run = Run {
            seconds: [0.0; 3],
            peak_mb: String::from_utf8(output.stdout)?.trim().parse()?,
        };
        for (total, stage) in run.seconds.iter_mut().zip(STAGES) {
            *total = seconds(stage).with_context(|| format!("no seconds of {stage}"))?;
        }
        Ok(run)
    }
}
