//! `--calibrated`: what does each part of calibration's choice gain? The first users of each task are trained by SFT, with
//! all of the default steps and with about a quarter of them, and calibrated on the part of their history that training
//! leaves out. Their items of `dev` are then measured with the contrast that was the default (α 0.1) at scale 1, without
//! contrast at scale 1 and at the chosen scale, and with both choices. DPO is left out: what it does to held-out texts is
//! the other table's question. ROUGE-L is of greedy answers to the items.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use cope_convert::Adapter;
use cope_llama::decode::Contrast;
use cope_llama::home::{Home, Stage, UserFolder, UserName};
use cope_llama::profile::{Example, lamp, newest};
use cope_llama::train::calibrate::score::{TextScore, measure};
use cope_llama::train::{Encoded, Encoder};

use super::written::Writer;
use super::{Bench, Items, difference, examples, extend, mean};

/// The five main sets of `eval`.
const TASKS: [&str; 5] = [
    "news_headline_huffpost",
    "product_review_wine",
    "abstract_generation_acl",
    "scholarly_title_acl",
    "topic_writing_stackexchange",
];

/// The share of the default training's items and epochs: all, and half of each.
const STRENGTHS: [(&str, usize); 2] = [("the default", 1), ("a quarter", 2)];

/// Texts in a pass.
const PER_PASS: usize = 4;

/// The texts of the items under the base and the settings: α 0.1 at scale 1; α 0 at scale 1; α 0 at the chosen scale; the
/// chosen α at the chosen scale.
type Logprobs = [Items; 5];

/// ROUGE-L of answers under the settings, in the same order, without the base.
type RougeL = [Items; 4];

/// The measurements of some items.
#[derive(Clone, Default)]
struct Measured {
    logprobs: Logprobs,
    rouge_l: RougeL,
}

/// Prints the table.
pub fn table(bench: &Bench, n_users: usize) -> Result<()> {
    println!(
        "| task | user | training | chosen scale | chosen α | items | base | scale 1, α 0.1 | scale 1, α 0 | chosen scale, α 0 | calibrated | calibrated − (1, 0.1) | calibrated − (1, 0) | calibrated − scale alone | ROUGE-L: scale 1, α 0.1 | scale 1, α 0 | chosen scale, α 0 | calibrated | calibrated − (1, 0.1) | calibrated − (1, 0) | calibrated − scale alone |"
    );
    println!("|{}", "---|".repeat(21));
    let writer = Writer::load(&bench.path, &bench.base.sha256)?;
    let mut all = [Measured::default(), Measured::default()];
    for task in TASKS {
        if !task.contains(&bench.options.task) {
            continue;
        }
        let file = bench.file(task);
        let lamp = lamp::read(&file)?;
        let encoder = Encoder::new(&bench.vocabulary, bench.model.shape().n_ctx)?;
        let with_dev = lamp.users.iter().filter(|user| !user.dev.is_empty());
        let mut of_task = [Measured::default(), Measured::default()];
        for user in with_dev.take(n_users) {
            let dev: Vec<_> = examples(&user.dev).take(bench.options.dev_items).collect();
            let items = DevItems {
                encoded: encoder.examples(&dev, &file)?,
                examples: dev,
            };
            for ((training, part), of_task) in STRENGTHS.into_iter().zip(&mut of_task) {
                let history = newest(&user.history, bench.options.items / part);
                let (setting, measured) = row(bench, &writer, history, part, &items)?;
                let cells = cells(&measured)?;
                println!("| {task} | {} | {training} | {setting} | {cells}", user.id);
                of_task.extend(&measured);
            }
        }
        for (((training, _), of_task), all) in STRENGTHS.into_iter().zip(&of_task).zip(&mut all) {
            println!("| {task} | all | {training} | | | {}", cells(of_task)?);
            all.extend(of_task);
        }
    }
    for ((training, _), all) in STRENGTHS.into_iter().zip(&all) {
        println!("| all | all | {training} | | | {}", cells(all)?);
    }
    Ok(())
}

/// A user's items of `dev`.
struct DevItems {
    examples: Vec<Example>,
    encoded: Vec<Encoded>,
}

/// Trains and calibrates a user, and measures `items`. Returns the chosen scale and α as cells too.
fn row(
    bench: &Bench,
    writer: &Writer,
    history: &[Example],
    part: usize,
    items: &DevItems,
) -> Result<(String, Measured)> {
    let home = Home::at(bench.home.path());
    let folder = home.create_user(UserName::new("bench")?)?;
    let mut config = bench.options.config();
    config.hold_out = None;
    config.sft.epochs = config.sft.epochs.div_ceil(part);
    let run = |stage| bench.run(&folder, history, &bench.base, &config, &[stage]);
    run(Stage::Sft)?;
    std::fs::copy(folder.sft(), folder.dpo())?;
    run(Stage::Calibrate)?;
    let measured = measured(bench, writer, &folder, items)?;
    folder.delete()?;
    Ok(measured)
}

fn measured(
    bench: &Bench,
    writer: &Writer,
    folder: &UserFolder,
    items: &DevItems,
) -> Result<(String, Measured)> {
    let (sft, chosen) = (
        Adapter::read_gguf(&folder.sft())?,
        Adapter::read_gguf(&folder.adapter())?,
    );
    let alpha = chosen.contrast.context("a calibrated adapter has its α")?;
    let plausibility = Contrast::default().plausibility();
    let contrast = |alpha| Contrast::new(alpha, plausibility);
    let (fixed, none, own) = (Contrast::default(), contrast(0.0)?, contrast(alpha)?);
    let loras = [bench.lora(&folder.sft())?, bench.lora(&folder.adapter())?];
    let scores = measure(
        &bench.model,
        (&items.encoded, PER_PASS),
        &loras,
        &[fixed, none, own],
        &mut || Ok(()),
    )?;
    let [of_sft, of_chosen] = [0, 1].map(|lora| &scores.contrasted[lora]);
    let logprobs = [
        &scores.base,
        &of_sft[0],
        &of_sft[1],
        &of_chosen[1],
        &of_chosen[2],
    ];
    let rouge_l = |adapter: &Path, contrast| -> Result<Items> {
        let values = writer.rouge_l(adapter, contrast, &items.examples)?;
        Ok(values.into_iter().map(|value| (value, 1.0)).collect())
    };
    let (sft_path, chosen_path) = (folder.sft(), folder.adapter());
    let setting = format!("{} | {alpha}", chosen.lora_alpha / sft.lora_alpha);
    let measured = Measured {
        logprobs: logprobs.map(|scores| sums(scores)),
        rouge_l: [
            rouge_l(&sft_path, fixed)?,
            rouge_l(&sft_path, none)?,
            rouge_l(&chosen_path, none)?,
            rouge_l(&chosen_path, own)?,
        ],
    };
    Ok((setting, measured))
}

fn sums(scores: &[TextScore]) -> Items {
    let scores = scores.iter();
    scores.map(|it| (it.logprob, it.n_tokens as f64)).collect()
}

impl Measured {
    fn extend(&mut self, more: &Self) {
        extend(&mut self.logprobs, &more.logprobs);
        extend(&mut self.rouge_l, &more.rouge_l);
    }
}

/// The cells of a row from the number of items on.
fn cells(measured: &Measured) -> Result<String> {
    let [base, settings @ ..] = &measured.logprobs;
    let mut cells = format!("{} | {:.3} |", base.len(), mean(base));
    for settings in [settings, &measured.rouge_l] {
        for items in settings {
            write!(cells, " {:.3} |", mean(items))?;
        }
        let [others @ .., calibrated] = settings;
        for other in others {
            write!(cells, " {} |", difference(calibrated, other))?;
        }
    }
    Ok(cells)
}
