//! Runs an adapter that was trained here in transformers + peft, and one that PEFT has trained in programs with
//! llama.cpp. Both are trained on alice's texts.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use cope_convert::Adapter;
use cope_convert::gguf::{self, GgmlType, Gguf, Sink, TensorData, Value};
use cope_convert::quant::{dequantize, quantize};
use cope_llama::bases;
use cope_llama::home::{Home, UserName};
use cope_llama::llama::{Context, ContextOptions, LoraAdapter, Model, Rows, Token};
use cope_llama::profile::{Example, Profile, json};
use cope_llama::prompt::{ChatTemplate, response_tokens};
use cope_llama::train::WeightType;
use cope_llama::train::lora::Lora;
use cope_llama::train::model::TrainModel;
use cope_llama::train::packing::PackedBatch;
use serde::Deserialize;
use serde_json::json;

use crate::Options;

/// The number of alice's items that adapters are trained on.
const N_ITEMS: usize = 12;
const N_PROMPTS: usize = 4;
const N_PREDICT: usize = 32;

/// The largest accepted difference of a log-probability between our f32 and theirs, in nats.
const TOLERANCE: f64 = 1e-2;

/// The margin over the runner-up, in nats, below which two builds of llama.cpp may choose different tokens, even with a
/// base in f32: sums differ in their last bits with the instructions of the build, and so do the caches, which are f16.
const NEAR: f32 = 0.01;

/// An answer by greedy decoding, of any program.
#[derive(Deserialize)]
struct Answer {
    tokens: Vec<Token>,
    #[serde(default)]
    logprobs: Vec<f64>,
}

/// An answer of our own llama.cpp context.
#[derive(Default)]
struct Own {
    tokens: Vec<Token>,
    /// For each token, its margin over the runner-up, in nats.
    margins: Vec<f32>,
}

/// The answers of `tests/golden/consumer.py`.
#[derive(Deserialize)]
struct Answers {
    answers: Vec<Answer>,
}

pub fn table(options: &Options) -> Result<()> {
    println!(
        "| model | trained by | run by | beside | greedy tokens alike | largest difference of a log-probability |"
    );
    println!("|---|---|---|---|---|---|");
    let home = Home::open()?;
    let small = || {
        bases::all()
            .into_iter()
            .filter(|base| !base.file.contains("1.5B"))
    };
    let models = if options.model.is_empty() {
        small().map(|base| home.base(&base.file)).collect()
    } else {
        options.model.clone()
    };
    for path in models {
        Subject::open(options, &path)?.rows(options)?;
    }
    Ok(())
}

/// A base, the folder of its adapters and answers, and the texts and prompts in tokens.
struct Subject {
    path: PathBuf,
    name: String,
    base: Gguf,
    model: std::sync::Arc<Model>,
    folder: PathBuf,
    history: Vec<Example>,
    texts: Vec<Vec<Token>>,
    prompts: Vec<Vec<Token>>,
}

impl Subject {
    fn open(options: &Options, path: &Path) -> Result<Self> {
        let name = path
            .file_stem()
            .context("a model has a name")?
            .to_string_lossy();
        let model = Model::load(path, Some(0))?;
        let template = ChatTemplate::of_model(&model)?;
        let parse = |text: &str| json::parse(Path::new("alice"), text.as_bytes());
        let mut history = parse(include_str!("../../models/alice/history.jsonl"))?.examples;
        history.truncate(N_ITEMS);
        let held_out = parse(include_str!("../../models/alice/held_out.jsonl"))?.examples;
        let prompt = |example: &Example| template.prompt_tokens(&model, &example.prompt);
        let texts = history.iter().map(|example| {
            let mut text = prompt(example)?;
            text.extend(response_tokens(&model, &example.response)?);
            Ok(text)
        });
        let prompts = held_out.iter().take(N_PROMPTS).map(prompt);
        let folder = options.others.join(&*name);
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            path: path.to_owned(),
            base: Gguf::open(path)?,
            texts: texts.collect::<cope_llama::Result<_>>()?,
            prompts: prompts.collect::<cope_llama::Result<_>>()?,
            name: name.into_owned(),
            model,
            folder,
            history,
        })
    }

    fn rows(&self, options: &Options) -> Result<()> {
        let adapter = Adapter::open_gguf(&self.train()?)?;
        let [ours, theirs] = ["ours", "theirs"].map(|name| self.folder.join(name));
        adapter.write_peft(&ours, &self.base, "the base", None)?;
        let answers = self.with_peft(options, &ours, &theirs)?;
        ensure!(
            answers.len() == 2 * self.prompts.len(),
            "two answers a prompt"
        );
        let (of_ours, of_theirs) = answers.split_at(self.prompts.len());
        self.compare_in_f32("us", &adapter.load()?, of_ours)?;
        let path = self.folder.join("theirs.gguf");
        Adapter::open_peft(&theirs, &self.base)?.write_gguf(&path)?;
        self.compare_in_f32("PEFT", &Adapter::read_gguf(&path)?, of_theirs)?;
        self.theirs_in_llama(options, &path)
    }

    /// Runs the adapter at `path`, which PEFT has trained, in programs with llama.cpp.
    fn theirs_in_llama(&self, options: &Options, path: &Path) -> Result<()> {
        let base = self.in_f32("f32.gguf", &self.base.metadata)?;
        let ours = self.with_context(&base, path)?;
        let theirs = [
            ("xllamacpp", self.with_xllamacpp(options, &base, path)?),
            ("node-llama-cpp", self.with_node(options, &base, path)?),
        ];
        for (program, theirs) in theirs {
            let (mut n_alike, mut n_all) = (0, 0);
            for (own, other) in ours.iter().zip(&theirs) {
                let pairs = own.tokens.iter().zip(&other.tokens);
                let alike = pairs.take_while(|(x, y)| x == y).count();
                (n_alike, n_all) = (n_alike + alike, n_all + own.tokens.len());
                let margin = own.margins.get(alike);
                ensure!(
                    margin.is_none_or(|&margin| margin < NEAR),
                    "{program} parts where the runner-up is {margin:?} nats away"
                );
            }
            println!(
                "| {} | PEFT | {program} | our context | {n_alike} of {n_all} | |",
                self.name
            );
        }
        Ok(())
    }

    /// The file of our own adapter, which is trained if it is missing.
    fn train(&self) -> Result<PathBuf> {
        let home = Home::at(self.folder.join("home"));
        let user = home.create_user(UserName::new("alice")?)?;
        if !user.sft().exists() {
            user.save_profile(&Profile {
                history: self.history.clone(),
                held_out: Vec::new(),
            })?;
            let status = Command::new(env!("CARGO_BIN_EXE_cope-llama"))
                .args(["train", "alice", "--stage", "sft", "--replay", "0", "-m"])
                .arg(std::path::absolute(&self.path)?)
                .env("COPE_HOME", home.root())
                .status()?;
            ensure!(status.success(), "training failed");
        }
        Ok(user.sft())
    }

    /// Compares the log-probabilities of transformers' answers with those that our training computes for the same
    /// tokens, both in f32.
    fn compare_in_f32(&self, trained_by: &str, adapter: &Adapter, theirs: &[Answer]) -> Result<()> {
        let model = TrainModel::load(&self.base, WeightType::F32)?;
        let lora = Lora::from_adapter(adapter, model.shape())?;
        let (mut n_alike, mut n_all, mut furthest) = (0, 0, 0.0_f64);
        for (prompt, answer) in self.prompts.iter().zip(theirs) {
            let text: Vec<_> = prompt.iter().chain(&answer.tokens).copied().collect();
            let mut batch = PackedBatch::default();
            batch.push(&text, []);
            let logits = model.logits(&batch.rows, Some(&lora))?;
            let rows = logits
                .chunks_exact(model.shape().n_vocab)
                .skip(prompt.len() - 1);
            let mut alike = true;
            for ((row, &token), theirs) in rows.zip(&answer.tokens).zip(&answer.logprobs) {
                let logprob = f64::from(row[token as usize]) - log_sum(row);
                furthest = furthest.max((logprob - theirs).abs());
                alike &= best_two(row)[0].0 == token;
                n_alike += usize::from(alike);
                n_all += 1;
            }
        }
        println!(
            "| {} | {trained_by} | transformers + peft | our training, in f32 | {n_alike} of {n_all} | {furthest:.1e} |",
            self.name
        );
        ensure!(
            furthest < TOLERANCE && n_alike == n_all,
            "transformers differ"
        );
        Ok(())
    }

    /// Writes the base with its weights widened to f32, for transformers, without the tokenizer: transformers reads the
    /// list of tokens twice, which takes ten seconds and more, and the prompts are tokens already.
    fn for_transformers(&self) -> Result<PathBuf> {
        let metadata = self.base.metadata.iter();
        let of_model = metadata.filter(|(key, _)| !key.starts_with("tokenizer."));
        self.in_f32("weights.gguf", &of_model.cloned().collect::<Vec<_>>())
    }

    /// Writes the base with its weights widened to f32. Products with quantised weights round activations, which would
    /// hide other differences.
    fn in_f32(&self, name: &str, metadata: &[(String, Value)]) -> Result<PathBuf> {
        let path = self.folder.join(name);
        let tensors = self.base.tensors.iter().map(|tensor| {
            let widen = |out: &mut Sink<'_>| {
                let bytes = self.base.read(tensor)?;
                let values = dequantize(tensor.ggml_type, &bytes).expect("a type of ours");
                out.write(&quantize(GgmlType::F32, &values).expect("any value"))
            };
            TensorData::streamed(&tensor.name, &tensor.shape, GgmlType::F32, widen)
        });
        gguf::write(&path, metadata, &tensors.collect::<Vec<_>>())?;
        Ok(path)
    }

    /// The greedy answers of our own llama.cpp context.
    fn with_context(&self, base: &Path, adapter: &Path) -> Result<Vec<Own>> {
        let model = Model::load(base, Some(0))?;
        let adapter = LoraAdapter::load(&model, adapter, &self.base, "")?;
        let options = ContextOptions::default();
        let mut context = Context::new(&model, Some((adapter, 1.0)), &options)?;
        let mut answers = Vec::new();
        for prompt in &self.prompts {
            context.truncate(0);
            context.extend(prompt, 1, Rows::Full)?;
            let mut own = Own::default();
            while own.tokens.len() < N_PREDICT {
                let [(token, best), (_, next)] = best_two(context.logits());
                own.tokens.push(token);
                own.margins.push(best - next);
                if self.model.is_eog(token) {
                    break;
                }
                context.extend(&[token], 1, Rows::Full)?;
            }
            answers.push(own);
        }
        Ok(answers)
    }

    /// The answers by the adapter in the folder `given`, then those by the adapter that PEFT trains into `trained`.
    fn with_peft(&self, options: &Options, given: &Path, trained: &Path) -> Result<Vec<Answer>> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/exchange/with_peft.py");
        let mut command = Command::new(&options.python);
        command
            .arg(script)
            .arg(self.for_transformers()?)
            .args([given, trained])
            .arg(self.inputs()?);
        lines(&mut command)
    }

    fn with_node(&self, options: &Options, base: &Path, adapter: &Path) -> Result<Vec<Answer>> {
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/benches/exchange/with_node.mjs"
        );
        let mut command = Command::new("node");
        command.arg(script).arg(options.others.join("node"));
        lines(command.arg(base).arg(adapter).arg(self.inputs()?))
    }

    fn with_xllamacpp(
        &self,
        options: &Options,
        base: &Path,
        adapter: &Path,
    ) -> Result<Vec<Answer>> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/consumer.py");
        let prompts = self.folder.join("prompts.json");
        std::fs::write(&prompts, json!(self.prompts).to_string())?;
        let mut command = Command::new(&options.oracle);
        command.arg(script).arg(base).arg(adapter).arg(prompts);
        let text = output(command.args(["--predict", &N_PREDICT.to_string()]))?;
        Ok(serde_json::from_str::<Answers>(&text)?.answers)
    }

    /// Writes the inputs of the scripts, and returns their path.
    fn inputs(&self) -> Result<PathBuf> {
        let inputs = json!({"texts": self.texts, "prompts": self.prompts, "n_predict": N_PREDICT});
        let path = self.folder.join("inputs.json");
        std::fs::write(&path, inputs.to_string())?;
        Ok(path)
    }
}

/// Runs a script that prints an answer per line.
fn lines(command: &mut Command) -> Result<Vec<Answer>> {
    let text = output(command)?;
    let answers = text.lines().map(serde_json::from_str);
    Ok(answers.collect::<Result<_, _>>()?)
}

/// Runs a command and returns its output.
fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(
        output.status.success(),
        "{} failed",
        command.get_program().display()
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// The tokens with the highest and the second highest logit, each with its logit.
fn best_two(logits: &[f32]) -> [(Token, f32); 2] {
    let mut best = [(0, f32::NEG_INFINITY); 2];
    for (token, &logit) in (0..).zip(logits) {
        if logit > best[0].1 {
            best = [(token, logit), best[0]];
        } else if logit > best[1].1 {
            best[1] = (token, logit);
        }
    }
    best
}

/// The logarithm of the sum of the logits' exponentials.
fn log_sum(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|it| f64::from(it - max).exp()).sum();
    f64::from(max) + sum.ln()
}
