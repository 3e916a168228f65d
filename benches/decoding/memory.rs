//! The peak memory of a process that answers one query, plain and by CoPe.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use cope_convert::gguf::Gguf;
use cope_llama::decode::{AnswerOptions, Arm, Contrast, Decoder, Policy};
use cope_llama::home::Home;
use cope_llama::llama::{Boundary, Context, ContextOptions, LoraAdapter, Model, Special, Twin};

use crate::Options;
use crate::adapters::TASKS;
use crate::process::memory_mb;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Probe {
    Plain,
    Cope,
}

pub fn table(options: &Options) -> Result<()> {
    println!("| model | plain, MB | CoPe, MB | one KV cache, MB | CoPe ÷ (plain + one KV cache) |");
    println!("|---|---|---|---|---|");
    for path in options.models()? {
        let probe = |probe: Probe| -> Result<f64> {
            let name = probe.to_possible_value().context("a name")?;
            let output = Command::new(std::env::current_exe()?)
                .args(["--probe", name.get_name(), "-m"])
                .arg(&path)
                .arg("--adapters")
                .arg(&options.adapters)
                .output()?;
            let errors = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "the probe failed: {errors}");
            Ok(String::from_utf8(output.stdout)?.trim().parse()?)
        };
        let (plain, cope) = (probe(Probe::Plain)?, probe(Probe::Cope)?);
        let cache = kv_cache_mb(&Gguf::open(&path)?)?;
        println!(
            "| {} | {plain:.0} | {cope:.0} | {cache:.0} | {:.2} |",
            path.file_stem().unwrap_or_default().to_string_lossy(),
            cope / (plain + cache)
        );
    }
    println!();
    Ok(())
}

/// The size of the default context's KV cache in MB: keys and values of all layers in F16, all of it written.
fn kv_cache_mb(gguf: &Gguf) -> Result<f64> {
    let number = |key: &str| gguf.u32(&format!("{}.{key}", gguf.architecture()?));
    let (n_head, n_embd) = (number("attention.head_count")?, number("embedding_length")?);
    let head_dim = number("attention.key_length").unwrap_or(n_embd / n_head);
    let numbers = number("block_count")? * number("attention.head_count_kv")? * head_dim * 2;
    Ok(f64::from(numbers) * 2.0 * f64::from(ContextOptions::default().n_ctx) / f64::from(1 << 20))
}

/// Fills a context with one prompt and its answer, and prints the process's peak in MB.
pub fn answer(options: &Options, probe: Probe) -> Result<()> {
    let [path] = &options.model[..] else {
        bail!("a probe has one model");
    };
    let home = Home::at(options.adapters.join(path.file_stem().context("a name")?));
    let user = home.user(cope_llama::home::UserName::new(
        &TASKS[0].replace('_', "-"),
    )?)?;
    let model = Model::load(path, Some(0))?;
    let sha256 = home.base_ref(path)?.sha256;
    let adapter = LoraAdapter::load(&model, &user.adapter(), &Gguf::open(path)?, &sha256)?;
    let context_options = ContextOptions::default();
    let prompt = model.tokenize(
        &"The letters of my friend. ".repeat(300),
        Boundary::Add,
        Special::ByName,
    )?;
    let decode_options = AnswerOptions {
        n_predict: Some(64),
        ..AnswerOptions::default()
    };
    let run = |policy: Policy<&mut Context>| -> Result<()> {
        let mut decoder = Decoder::new(policy, &*model, &prompt, decode_options.into())?;
        decoder.try_for_each(|piece| piece.map(drop))?;
        Ok(())
    };
    match probe {
        Probe::Plain => run(Policy::Plain(&mut Context::new(
            &model,
            Some((adapter, 1.0)),
            &context_options,
        )?))?,
        Probe::Cope => {
            let mut twin = Twin::new(&model, None, adapter, 1.0, &context_options)?;
            run(twin.policy(Arm::Cope(Contrast::default())))?;
        }
    }
    println!("{}", memory_mb("self", "VmHWM")?);
    Ok(())
}
