//! `model recommend`: which published model this machine can be trained on, and which of those that are here already.

use std::io::{self, Write};

use anyhow::Result;
use cope_llama::bases::{self, Places, PublishedModel, TrainingFit, TrainingRoom};
use cope_llama::home::Home;
use cope_llama::llama::{self, ContextOptions, Device};

use super::measured::MeasuredModel;
use crate::cli::byte_size::size;

/// The memory that is assumed where the system does not tell how much is free.
const UNKNOWN_MEMORY: u64 = 8_000_000_000;

pub fn run(home: &Home) -> Result<()> {
    let gpu = training_gpu();
    let room = room(gpu.as_ref());
    let mut out = io::stdout().lock();
    let place = match &gpu {
        Some(gpu) => format!("on {}", gpu.description),
        None => format!("on the CPU, with {} threads", room.n_threads.unwrap_or(1)),
    };
    writeln!(out, "A training has {} here, {place}.\n", size(room.memory))?;
    let models = bases::published();
    table(&mut out, &models, &room)?;
    writeln!(out)?;
    let chosen = models
        .iter()
        .rfind(|model| model.fit(&room) == TrainingFit::Fits);
    here(&mut out, home, &room)?;
    let (why, option) = if let Some(model) = chosen {
        let why = format!(
            "Take the largest of the list that fits: a larger model knows more and writes better, and takes longer. {}.",
            model.note
        );
        (why, model.option.clone())
    } else {
        let why = "None of the list fits by default settings. The smallest takes the least memory with its weights as in the file:";
        let option = format!("{} --weights quantized --recompute", models[0].option);
        (why.into(), option)
    };
    writeln!(out, "{why}\n  cope-llama train NAME {option}")?;
    Ok(())
}

fn table(out: &mut impl Write, models: &[PublishedModel], room: &TrainingRoom) -> Result<()> {
    let options = models.iter().map(|model| model.option.chars().count());
    let width = options.max().unwrap_or_default();
    writeln!(
        out,
        "{:<width$}{:>9}{:>10}{:>6}  {:<10}LICENCE",
        "MODEL", "SIZE", "TRAINING", "TIME", "HERE"
    )?;
    for model in models {
        let fit = match model.fit(room) {
            TrainingFit::Fits => "fits",
            TrainingFit::TooLarge => "too large",
            TrainingFit::TooSlow => "too slow",
        };
        let tried = if model.is_tried { "; tried" } else { "" };
        writeln!(
            out,
            "{:<width$}{:>9}{:>10}{:>5}×  {fit:<10}{}{tried}",
            model.option,
            size(model.bytes),
            size(model.training_memory(room)),
            model.time(),
            model.licence,
        )?;
    }
    Ok(())
}

/// Says which models on this machine a training fits on, the largest last.
fn here(out: &mut impl Write, home: &Home, room: &TrainingRoom) -> Result<()> {
    let stored = bases::all_stored(&Places::of_this_user()).models;
    let stored = stored.into_iter().map(|model| (model.name, model.path));
    let own = home.bases()?.into_iter().map(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        (name.into_owned(), path)
    });
    let mut fitting: Vec<(u64, String)> = own
        .chain(stored)
        .filter_map(|(name, path)| {
            let model = MeasuredModel::read(&path).ok()?;
            let training = model.training.filter(|&bytes| bytes <= room.memory)?;
            Some((training, format!("{name} ({})", size(training))))
        })
        .collect();
    fitting.sort();
    if !fitting.is_empty() {
        let names: Vec<String> = fitting.into_iter().map(|(_, name)| name).collect();
        writeln!(
            out,
            "On this machine already, with the memory of a training: {}. `-m NAME` takes each.\n",
            names.join(", ")
        )?;
    }
    Ok(())
}

/// The GPU that trainings of this build use, if there is one.
fn training_gpu() -> Option<Device> {
    let can_train = cfg!(any(feature = "cuda", feature = "metal"));
    let mut gpus = llama::devices().into_iter().filter(|device| device.is_gpu);
    gpus.next().filter(|_| can_train)
}

fn room(gpu: Option<&Device>) -> TrainingRoom {
    match gpu {
        Some(gpu) => TrainingRoom {
            memory: gpu.memory_free,
            parameter_bytes: 2,
            n_threads: None,
        },
        None => TrainingRoom {
            memory: llama::free_memory().unwrap_or(UNKNOWN_MEMORY),
            parameter_bytes: parameter_bytes(),
            n_threads: Some(ContextOptions::default().n_threads),
        },
    }
}

/// Bytes of a parameter in a training with default settings on this CPU.
#[cfg(feature = "train")]
fn parameter_bytes() -> u64 {
    use cope_llama::train::{TrainConfig, WeightType};
    match TrainConfig::default().weight_type {
        WeightType::Bf16 => 2,
        WeightType::F32 | WeightType::Quantized => 4,
    }
}

#[cfg(not(feature = "train"))]
fn parameter_bytes() -> u64 {
    4
}
