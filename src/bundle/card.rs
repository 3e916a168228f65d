//! The texts of a bundle: the model card, and the Modelfile for Ollama.

use std::collections::BTreeMap;

use clap::ValueEnum;
use cope_convert::Adapter;
use cope_convert::gguf::{Array, Gguf, Value};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, context};

use super::{BundleTarget, CARD, MODELFILE, UserModel};
use crate::bases;
use crate::home::{Calibration, Manifest, StageRecord};
use crate::{Error, Result};

/// The template of the Modelfile for Ollama.
const MODELFILE_TEMPLATE: &str = include_str!("Modelfile.jinja");
/// The template of the model card.
const CARD_TEMPLATE: &str = include_str!("README.md.jinja");

/// The highest ranks of adapters that vLLM can be set to.
const VLLM_RANKS: [usize; 8] = [8, 16, 32, 64, 128, 256, 320, 512];

/// The names and contents of a bundle's texts. `base_name` is the name under which transformers finds the base, for a PEFT
/// folder.
pub(super) fn texts(
    model: &UserModel<'_>,
    target: BundleTarget,
    base_name: Option<String>,
) -> Result<Vec<(&'static str, String)>> {
    let UserModel {
        user,
        manifest,
        gguf: base,
        adapter,
        ..
    } = model;
    let rank = adapter.rank();
    let stages = manifest.stages.iter().map(|(stage, record)| {
        let StageRecord {
            seconds, figures, ..
        } = record;
        context! { name => stage.name(), seconds, figures }
    });
    let adapter_record = manifest.adapter.as_ref();
    let calibration = adapter_record.and_then(|record| record.calibration.as_ref());
    let n_held_out = calibration.map_or(0, Calibration::n_texts);
    let n_history = user.profile()?.history.len();
    let values = context! {
        user => user.name().as_str(),
        n_trained => n_history.saturating_sub(n_held_out),
        base_file => manifest.base.file.as_str(),
        architecture => manifest.base.architecture.as_str(),
        on_task => manifest.base.task_sha256.is_some(),
        from_another => adapter_record.is_some_and(|record| record.start.is_some()),
        licence => licence(manifest, base),
        target => target.to_possible_value().map(|value| value.get_name().to_owned()),
        base_name,
        rank,
        max_rank => VLLM_RANKS.into_iter().find(|max| rank <= *max).unwrap_or(rank),
        lora_alpha => adapter.lora_alpha.to_string(),
        n_tensors => adapter.tensors.len(),
        targets => target_counts(adapter),
        contrast => adapter.contrast.map(|contrast| contrast.to_string()),
        plausibility => adapter.plausibility.map(|plausibility| plausibility.to_string()),
        stages => stages.collect::<Vec<_>>(),
        // Ollama recognises the chat templates of common models in their GGUF files.
        own_template => base.str("tokenizer.chat_template").is_ok(),
        eos => end_of_sequence(base),
    };
    let mut texts = vec![(CARD, render(CARD_TEMPLATE, &values)?)];
    if target.has_modelfile() {
        texts.push((MODELFILE, render(MODELFILE_TEMPLATE, &values)?));
    }
    Ok(texts)
}

fn render(template: &str, values: &minijinja::Value) -> Result<String> {
    let mut syntax = SyntaxConfig::builder();
    syntax
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true);
    let rendered = syntax.build().and_then(|syntax| {
        let mut environment = Environment::new();
        environment.set_syntax(syntax);
        environment.render_str(template, values)
    });
    rendered.map_err(|error| Error::Template(error.to_string()))
}

/// The base's licence, from the list of bases or else from the base's metadata.
fn licence(manifest: &Manifest, base: &Gguf) -> Option<String> {
    let listed = bases::all()
        .into_iter()
        .find(|listed| listed.sha256 == manifest.base.sha256);
    match listed {
        Some(listed) => Some(listed.licence),
        None => base.str("general.license").ok().map(str::to_owned),
    }
}

/// The number of adapted tensors of each kind, such as `attn_q`.
fn target_counts(adapter: &Adapter) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for pair in &adapter.tensors {
        let kind = pair.name.trim_end_matches(".weight").rsplit('.').next();
        *counts.entry(kind.unwrap_or_default()).or_default() += 1;
    }
    counts
}

/// The text of the token that ends a sequence.
fn end_of_sequence(base: &Gguf) -> Option<&str> {
    let id = base.u32("tokenizer.ggml.eos_token_id").ok()?;
    match base.get("tokenizer.ggml.tokens")? {
        Value::Array(Array::String(tokens)) => tokens.get(id as usize).map(String::as_str),
        _ => None,
    }
}
