//! Does an edit that a user makes to some answers change other answers too? Alice is trained as by `make chat`, 20
//! answers in her voice are all edited in the same way (a greeting at the beginning), and she is trained again.
//! Measured are the reward margin of answers with the greeting over the same answers without it, and how many new
//! answers begin with it, on prompts that neither training nor the edits have seen. The control is the margin of
//! another greeting, which no edit contained.
//!
//! ```text
//! cargo bench --bench feedback
//! ```

mod alice;

use std::path::{Path, PathBuf};

use alice::Alice;
use anyhow::{Context, Result};
use clap::Parser;
use cope_convert::Adapter;
use cope_convert::gguf::Gguf;
use cope_llama::llama;
use cope_llama::profile::feedback::Feedback;
use cope_llama::profile::{Example, Pair, Profile};
use cope_llama::train::dpo::pair_logps;
use cope_llama::train::lora::Lora;
use cope_llama::train::model::TrainModel;
use cope_llama::train::{EncodedPair, Encoder, TrainConfig};

/// The beginning of each edited answer. Alice's own texts never begin like this.
const HABIT: &str = "Hello, old friend. ";
/// The beginning of the control.
const OTHER_HABIT: &str = "Good day to you, sir. ";

/// Number of answers that are edited.
const N_EDITS: usize = 20;
/// Number of the history's newest items that are held out too.
const N_HELD_OUT: usize = 20;

#[derive(Parser)]
struct Options {
    /// The base [default: that of `model pull`]
    #[arg(short, long)]
    model: Option<PathBuf>,
    /// DPO's learning rate in the second training
    #[arg(long, value_name = "X")]
    dpo_learning_rate: Option<f32>,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let alice = Alice::import(options.model.as_ref())?;
    let held_out = hold_out(&alice)?;
    let before = alice.train(None)?;
    for example in alice.folder.profile()?.history.iter().take(N_EDITS) {
        let answer = alice.answer(example)?;
        let edited = format!("{HABIT}{answer}");
        alice
            .folder
            .add_feedback(&Feedback::edit(&example.prompt, &answer, &edited))?;
    }
    let answers = alice.answers(&held_out)?;
    let after = alice.train(options.dpo_learning_rate)?;
    let answers_after = alice.answers(&held_out)?;

    println!(
        "{} answers to held-out prompts; rewards are β (log π_user − log π_base), intervals 1.96 standard errors",
        held_out.len()
    );
    println!("| edit | margin before | after | difference |\n|---|---|---|---|");
    let judge = Judge::new(&alice)?;
    for (name, habit) in [
        ("the greeting of the edits", HABIT),
        ("another greeting", OTHER_HABIT),
    ] {
        let pairs = judge.pairs(&held_out, &answers, habit)?;
        let [before, after] = [&before, &after].map(|adapter| judge.margins(adapter, &pairs));
        let (before, after) = (before?, after?);
        let differences: Vec<f64> = before.iter().zip(&after).map(|(x, y)| y - x).collect();
        let [before, after, differences] = [before, after, differences].map(|it| mean(&it));
        println!(
            "| {name} | {:.2} ± {:.2} | {:.2} ± {:.2} | {:+.2} ± {:.2} |",
            before.0, before.1, after.0, after.1, differences.0, differences.1
        );
    }
    let n_with = |answers: &[String]| {
        let with = |answer: &&String| answer.starts_with(HABIT.trim_end());
        answers.iter().filter(with).count()
    };
    println!(
        "\nanswers that begin with the greeting of the edits: {} before, {} after",
        n_with(&answers),
        n_with(&answers_after)
    );
    Ok(())
}

/// Takes the newest items out of Alice's history. Returns them together with the texts that were held out already.
fn hold_out(alice: &Alice) -> Result<Vec<Example>> {
    let Profile {
        mut history,
        mut held_out,
    } = alice.folder.profile()?;
    held_out.extend(history.split_off(history.len() - N_HELD_OUT));
    alice.folder.save_profile(&Profile {
        history,
        held_out: Vec::new(),
    })?;
    Ok(held_out)
}

impl Alice {
    fn train(&self, dpo_learning_rate: Option<f32>) -> Result<Adapter> {
        let rate = dpo_learning_rate.map(|rate| rate.to_string());
        let mut arguments = vec!["train", "alice", "-m", &self.base, "--hold-out", "0"];
        if let Some(rate) = &rate {
            arguments.extend(["--dpo-learning-rate", rate]);
        }
        self.run(&arguments)?;
        Ok(Adapter::read_gguf(&self.folder.adapter())?)
    }

    fn answer(&self, example: &Example) -> Result<String> {
        let prompt = &example.prompt.last().context("a prompt")?.content;
        let arguments = [
            "generate", "--user", "alice", "-p", prompt, "-n", "96", "-m", &self.base,
        ];
        Ok(self.run(&arguments)?.trim_end().to_owned())
    }

    fn answers(&self, examples: &[Example]) -> Result<Vec<String>> {
        examples
            .iter()
            .map(|example| self.answer(example))
            .collect()
    }
}

/// β of the rewards. The rewards are of whole answers.
const BETA: f64 = 0.1;

/// The model that computes rewards.
struct Judge<'a> {
    alice: &'a Alice,
    model: TrainModel,
    vocabulary: std::sync::Arc<llama::Model>,
}

impl<'a> Judge<'a> {
    fn new(alice: &'a Alice) -> Result<Self> {
        let gguf = Gguf::open(Path::new(&alice.base))?;
        Ok(Self {
            alice,
            model: TrainModel::load(&gguf, TrainConfig::default().weight_type)?,
            vocabulary: llama::Model::load_vocabulary(Path::new(&alice.base))?,
        })
    }

    /// Pairs in which each answer that begins with `habit` is preferred to the answer itself.
    fn pairs(
        &self,
        held_out: &[Example],
        answers: &[String],
        habit: &str,
    ) -> Result<Vec<EncodedPair>> {
        let pair = |(example, answer): (&Example, &String)| {
            let edited = format!("{habit}{answer}");
            Pair::new(&example.prompt, edited, answer.clone(), true)
        };
        let pairs: Vec<Pair> = held_out.iter().zip(answers).filter_map(pair).collect();
        let encoder = Encoder::new(&self.vocabulary, self.model.shape().n_ctx)?;
        Ok(encoder.pairs(&pairs, &self.alice.folder.feedback_path())?)
    }

    /// The reward margin of each pair under an adapter.
    fn margins(&self, adapter: &Adapter, pairs: &[EncodedPair]) -> Result<Vec<f64>> {
        let lora = Lora::from_adapter(adapter, self.model.shape())?;
        let pairs: Vec<&EncodedPair> = pairs.iter().collect();
        let user = pair_logps(&self.model, Some(&lora), &pairs, &mut || Ok(()))?;
        let base = pair_logps(&self.model, None, &pairs, &mut || Ok(()))?;
        let margin = |(user, base): (&[f32; 2], &[f32; 2])| {
            let reward = |it: usize| BETA * f64::from(user[it] - base[it]);
            reward(0) - reward(1)
        };
        Ok(user.iter().zip(&base).map(margin).collect())
    }
}

/// The mean, and 1.96 standard errors of the mean.
fn mean(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, 1.96 * (variance / n).sqrt())
}
