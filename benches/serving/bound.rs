//! The upper bound of the server: the same texts in one batch of this process, all requested at once, without a server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use cope_convert::gguf::Gguf;
use cope_llama::decode::{
    AnswerOptions, Batch, BatchEvent, Contrast, PassSchedule, Policy, Processor, TextRequest,
};
use cope_llama::llama::{ContextOptions, LoraAdapter, Model, Sequences, devices};
use cope_llama::message::Message;
use cope_llama::prompt::ChatTemplate;
use cope_llama::serve::N_PROMPT;

use super::requests::{CONTRAST, Kind, PLAUSIBILITY};

/// Contexts with the options of the server's.
pub struct Bound {
    pub base: PathBuf,
    /// The users' adapters.
    pub adapters: Vec<PathBuf>,
    pub n_ctx: u32,
    pub parallel: usize,
    pub parallel_user: usize,
}

impl Bound {
    /// Tokens of answers per second over `n_requests`, the time of the prompts included.
    pub fn tokens_per_second(&self, n_requests: usize) -> Result<f64> {
        let model = Model::load(&self.base, None)?;
        let gguf = Gguf::open(&self.base)?;
        let sha256 = cope_convert::sha256(&self.base)?;
        let template = ChatTemplate::of_model(&model)?;
        let context = ContextOptions {
            n_ctx: self.n_ctx,
            ..ContextOptions::default()
        };
        let schedule = PassSchedule::fastest(if devices().iter().any(|device| device.is_gpu) {
            Processor::Gpu
        } else {
            let n_threads = context.n_threads;
            Processor::Cpu { n_threads }
        });
        let mut batch = Batch::new(Arc::clone(&model), schedule, N_PROMPT);
        let base = batch.add(Sequences::new(&model, None, &context, self.parallel)?);
        let mut users = Vec::new();
        for path in &self.adapters {
            let adapter = LoraAdapter::load(&model, path, &gguf, &sha256)?;
            let sequences =
                Sequences::new(&model, Some((adapter, 1.0)), &context, self.parallel_user)?;
            users.push(batch.add(sequences));
        }
        // The bans that a request's `ignore_eos` makes.
        let ends = model.eog_tokens().map(|token| (token, f32::NEG_INFINITY));
        let ends: Vec<_> = ends.collect();
        for kind in (0..n_requests).map(Kind::of) {
            let messages = [Message::user(kind.question())];
            batch.push(TextRequest {
                prompt: template.prompt_tokens(&model, &messages)?,
                base_prompt: None,
                policy: Policy::Cope {
                    base,
                    user: users[kind.user()],
                    contrast: Contrast::new(CONTRAST, PLAUSIBILITY)?,
                },
                options: AnswerOptions {
                    n_predict: Some(kind.n_predict),
                    logit_bias: ends.clone(),
                    ..AnswerOptions::default()
                },
                explained: None,
                explains_prompt: false,
                owner: Some(0),
            })?;
        }
        let mut n_tokens = 0;
        let started = Instant::now();
        for event in batch {
            match event?.1 {
                BatchEvent::Finished { response, .. } => n_tokens += response.len(),
                BatchEvent::Failed(error) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(n_tokens as f64 / started.elapsed().as_secs_f64())
    }
}
