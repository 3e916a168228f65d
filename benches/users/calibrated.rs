//! `--calibrated`: what does each part of calibration's choice gain? The first users of each task are trained by SFT, with
//! all of the default steps and with about a quarter of them, and calibrated on the part of their history that training
//! leaves out. Their items of `dev` are then measured with the contrast that was the default (α 0.1) at scale 1, without
//! contrast at scale 1 and at the chosen scale, and with both choices. DPO is left out: what it does to held-out texts is
//! the other table's question.

use std::fmt::Write;

use anyhow::{Context, Result};
use cope_convert::Adapter;
use cope_llama::decode::Contrast;
use cope_llama::home::{Home, Stage, UserFolder, UserName};
use cope_llama::profile::{Example, lamp, newest};
use cope_llama::train::calibrate::score::{TextScore, measure};
use cope_llama::train::{Encoded, Encoder};

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

/// The items under the base and the settings: α 0.1 at scale 1; α 0 at scale 1; α 0 at the chosen scale; the chosen α at
/// the chosen scale.
type Measured = [Items; 5];

/// Prints the table.
pub fn table(bench: &Bench, n_users: usize) -> Result<()> {
    println!(
        "| task | user | training | chosen scale | chosen α | items | base | scale 1, α 0.1 | scale 1, α 0 | chosen scale, α 0 | calibrated | calibrated − (1, 0.1) | calibrated − scale alone |"
    );
    println!("|{}", "---|".repeat(13));
    let mut all = [Measured::default(), Measured::default()];
    for task in TASKS {
        if !task.contains(&bench.options.task) {
            continue;
        }
        let file = bench.file(task);
        let lamp = lamp::read(&file)?;
        let encoder = Encoder::new(&bench.vocabulary, bench.model.shape().n_ctx)?;
        let with_dev = lamp.users.iter().filter(|user| !user.dev.is_empty());
        for user in with_dev.take(n_users) {
            let dev: Vec<_> = examples(&user.dev).collect();
            let items = encoder.examples(&dev, &file)?;
            for ((training, part), all) in STRENGTHS.into_iter().zip(&mut all) {
                let history = newest(&user.history, bench.options.items / part);
                let (setting, measured) = row(bench, history, part, &items)?;
                let cells = cells(&measured)?;
                println!("| {task} | {} | {training} | {setting} | {cells}", user.id);
                extend(all, &measured);
            }
        }
    }
    for ((training, _), all) in STRENGTHS.into_iter().zip(&all) {
        println!("| all | all | {training} | | | {}", cells(all)?);
    }
    Ok(())
}

/// Trains and calibrates a user, and measures `items`. Returns the chosen scale and α as cells too.
fn row(
    bench: &Bench,
    history: &[Example],
    part: usize,
    items: &[Encoded],
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
    let measured = measured(bench, &folder, items)?;
    folder.delete()?;
    Ok(measured)
}

fn measured(bench: &Bench, folder: &UserFolder, items: &[Encoded]) -> Result<(String, Measured)> {
    let (sft, chosen) = (
        Adapter::read_gguf(&folder.sft())?,
        Adapter::read_gguf(&folder.adapter())?,
    );
    let alpha = chosen.contrast.context("a calibrated adapter has its α")?;
    let plausibility = Contrast::default().plausibility();
    let contrast = |alpha| Contrast::new(alpha, plausibility);
    let loras = [bench.lora(&folder.sft())?, bench.lora(&folder.adapter())?];
    let contrasts = [Contrast::default(), contrast(0.0)?, contrast(alpha)?];
    let scores = measure(
        &bench.model,
        (items, PER_PASS),
        &loras,
        &contrasts,
        &mut || Ok(()),
    )?;
    let [of_sft, of_chosen] = [0, 1].map(|lora| &scores.contrasted[lora]);
    let settings = [
        &scores.base,
        &of_sft[0],
        &of_sft[1],
        &of_chosen[1],
        &of_chosen[2],
    ];
    let setting = format!("{} | {alpha}", chosen.lora_alpha / sft.lora_alpha);
    Ok((setting, settings.map(|scores| sums(scores))))
}

fn sums(scores: &[TextScore]) -> Items {
    let scores = scores.iter();
    scores.map(|it| (it.logprob, it.n_tokens as f64)).collect()
}

/// The cells of a row from the number of items on.
fn cells(measured: &Measured) -> Result<String> {
    let [_, fixed, _, scaled, calibrated] = measured;
    let mut cells = format!("{} |", calibrated.len());
    for items in measured {
        write!(cells, " {:.3} |", mean(items))?;
    }
    for other in [fixed, scaled] {
        write!(cells, " {} |", difference(calibrated, other))?;
    }
    Ok(cells)
}
