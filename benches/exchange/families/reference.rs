//! The models of `families.py`, and what it expects of them.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use cope_llama::llama::Token;
use serde::Deserialize;

use crate::Options;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/exchange/families.py");

/// Logits after each token of each text.
pub type Logits = Vec<Vec<Vec<f64>>>;

/// The batches of a stage, and the loss of each step, which take them in turn.
#[derive(Deserialize)]
pub struct Steps<Item> {
    pub batches: Vec<Vec<Item>>,
    pub losses: Vec<f64>,
}

/// `expected.json`.
#[derive(Deserialize)]
pub struct Expected {
    pub texts: Vec<Vec<Token>>,
    pub base: Logits,
    pub user: Logits,
    /// Whether llama.cpp's converter knows the adapter's family.
    pub is_converted: bool,
    /// Items of prompt and response.
    pub sft: Steps<(Vec<Token>, Vec<Token>)>,
    /// Items of prompt, chosen and rejected response.
    pub dpo: Steps<(Vec<Token>, Vec<Token>, Vec<Token>)>,
    pub learning_rate: f32,
    pub weight_decay: f32,
    pub max_grad_norm: f32,
    pub beta: f32,
}

impl Expected {
    pub fn read(folder: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(folder.join("expected.json"))?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// `families.py` while it makes the models one after the other.
pub struct Reference {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Reference {
    pub fn start(options: &Options, folder: &Path) -> Result<Self> {
        let mut child = Command::new(&options.python)
            .arg(SCRIPT)
            .args([&options.others.join("llama.cpp"), folder])
            .args(&options.family)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", options.python.display()))?;
        Ok(Self {
            input: child.stdin.take().context("a pipe")?,
            output: BufReader::new(child.stdout.take().context("a pipe")?).lines(),
            child,
        })
    }

    /// The name of the next model that is made; `None` after the last.
    pub fn next_model(&mut self) -> Result<Option<String>> {
        if let Some(name) = self.output.next() {
            return Ok(Some(name?));
        }
        ensure!(self.child.wait()?.success(), "families.py failed");
        Ok(None)
    }

    /// The logits of transformers for the texts of this model, with the PEFT adapter in `folder`.
    pub fn logits(&mut self, folder: &Path) -> Result<Vec<Vec<f32>>> {
        writeln!(self.input, "{}", folder.display())?;
        let line = self.output.next().context("families.py has ended")??;
        let texts: Vec<Vec<Vec<f32>>> = serde_json::from_str(&line)?;
        Ok(texts.into_iter().map(|rows| rows.concat()).collect())
    }
}
