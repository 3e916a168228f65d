//! Training by our program in a separate process, measured from outside.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cope_llama::home::{Home, UserName};
use cope_llama::profile::{Example, Pair, Profile};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The time, memory and losses of one training.
pub struct Run {
    /// Seconds of SFT, mining and DPO; 0 for a stage that did not run.
    pub seconds: [f64; 3],
    /// Peak memory of the whole process, from the kernel.
    pub peak_mb: f64,
    /// The estimate of the peak that our program prints before training on the CPU; 0 for other runs.
    pub estimated_mb: f64,
    /// The loss of each step of SFT and of DPO.
    pub losses: [Vec<f64>; 2],
    /// Tokens of all steps of SFT.
    pub n_tokens: f64,
}

/// Trains an adapter on `history`. `python` may be any Python; it asks the kernel for the memory of its child. Returns
/// what the training took, and the pairs that mining found.
pub fn train(
    python: &Path,
    model: &Path,
    history: &[Example],
    options: &[&str],
) -> Result<(Run, Vec<Pair>)> {
    /// Runs its arguments as a program, and prints the program's peak memory and its own estimate of that, both in MiB.
    const MEASURE: &str = "import re, resource, subprocess, sys\n\
        run = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)\n\
        if run.returncode: sys.exit(run.stderr.decode())\n\
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)\n\
        for told in re.findall(rb'about ([0-9.]+) GB', run.stderr): print(float(told) * 1e9 / 2**20)";
    let folder = tempfile::tempdir()?;
    let user = Home::at(folder.path()).create_user(UserName::new("bench")?)?;
    user.save_profile(&Profile {
        history: history.to_vec(),
        held_out: Vec::new(),
    })?;
    let output = Command::new(python)
        .args([
            "-c",
            MEASURE,
            env!("CARGO_BIN_EXE_cope-llama"),
            "train",
            "bench",
            "-m",
        ])
        .arg(model)
        .args(["--hold-out", "0", "--replay", "0"])
        .args(options)
        .env("COPE_HOME", folder.path())
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "our training failed: {errors}");
    let printed = String::from_utf8(output.stdout)?;
    let mut printed = printed.lines().map(str::parse);
    let manifest = std::fs::read_to_string(user.path().join("manifest.json"))?;
    let manifest: Value = serde_json::from_str(&manifest)?;
    let seconds = |stage: &str| manifest["stages"][stage]["seconds"].as_f64();
    let mut run = Run {
        seconds: ["sft", "mine", "dpo"].map(|stage| seconds(stage).unwrap_or_default()),
        peak_mb: printed.next().context("no memory")??,
        estimated_mb: printed.next().transpose()?.unwrap_or_default(),
        losses: Default::default(),
        n_tokens: 0.0,
    };
    for line in lines::<Value>(&user.train_log())? {
        let figure = |name: &str| line[name].as_f64();
        if line["stage"] == "sft" {
            run.losses[0].extend(figure("loss"));
            run.n_tokens += figure("num_tokens").unwrap_or_default();
        } else {
            run.losses[1].extend(figure("loss"));
        }
    }
    Ok((run, lines(&user.pairs())?))
}

/// The lines of a JSONL file; none if the file does not exist, because its stage did not run.
fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path)?;
    let lines = text.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}
