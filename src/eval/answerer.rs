//! A loaded base that answers prompts, with a method's adapters.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use cope_convert::gguf::Gguf;

use crate::decode::{
    AnswerOptions, Batch, BatchEvent, Contrast, Finish, PassSchedule, Policy, TextRequest,
};
use crate::home::BaseRef;
use crate::llama::{ContextOptions, LoraAdapter, Model, Sequences, Token};
use crate::message::Message;
use crate::prompt::ChatTemplate;
use crate::{Error, Result};

/// Room for the tokens of a prompt and its answer.
pub(super) const N_CTX: u32 = 2048;

/// The most answers that are written at once.
pub(super) const N_SEQUENCES: usize = 8;

pub(super) struct Answerer<'a> {
    model: Arc<Model>,
    template: ChatTemplate,
    gguf: Gguf,
    base: &'a BaseRef,
    stop: &'a Arc<AtomicBool>,
}

/// Who answers.
pub(super) enum LoadedVoice {
    /// The base, with an adapter or without.
    Alone(Option<Arc<LoraAdapter>>),
    /// The base with the user's adapter, contrasted with the base with the task's.
    Contrasted {
        task: Arc<LoraAdapter>,
        user: Arc<LoraAdapter>,
        contrast: Contrast,
    },
}

/// What an answer may be.
#[derive(Clone, Copy)]
pub(super) struct AnswerLimits {
    /// The most tokens.
    pub n_predict: usize,
    /// So many tokens never come twice in the same order; 0 for no such rule.
    pub no_repeat_ngram: usize,
}

/// An answer.
#[derive(Default)]
pub(super) struct Written {
    pub text: String,
    pub n_tokens: usize,
    pub n_changed: usize,
    pub finish: Option<Finish>,
}

impl<'a> Answerer<'a> {
    /// `stop`, once true, ends the work.
    pub fn load(path: &Path, base: &'a BaseRef, stop: &'a Arc<AtomicBool>) -> Result<Self> {
        let model = Model::load(path, None)?;
        Ok(Self {
            template: ChatTemplate::of_model(&model)?,
            gguf: Gguf::open(path)?,
            model,
            base,
            stop,
        })
    }

    pub fn adapter(&self, path: &Path) -> Result<Arc<LoraAdapter>> {
        LoraAdapter::load(&self.model, path, &self.gguf, &self.base.sha256)
    }

    /// The tokens of the first of `prompts` that leaves room for an answer of `n_predict`.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when none does.
    pub fn fitting(
        &self,
        prompts: impl Iterator<Item = Vec<Message>>,
        n_predict: usize,
    ) -> Result<Vec<Token>> {
        let n_ctx = N_CTX.min(self.model.n_ctx_train()) as usize;
        let room = n_ctx.saturating_sub(n_predict);
        for messages in prompts {
            let tokens = self.template.prompt_tokens(&self.model, &messages)?;
            if tokens.len() <= room {
                return Ok(tokens);
            }
        }
        Err(Error::input(format!(
            "a prompt leaves no room for an answer of {n_predict} tokens in a context of {n_ctx}"
        )))
    }

    /// The greedy answers to `prompts`, guarded against loops, and the time that they took together. Their last bits, and so
    /// a choice between two tokens of nearly the same score, depend on which prompts are answered together.
    pub fn write(
        &self,
        voice: &LoadedVoice,
        prompts: Vec<Vec<Token>>,
        limits: AnswerLimits,
    ) -> Result<(Vec<Written>, Duration)> {
        let AnswerLimits {
            n_predict,
            no_repeat_ngram,
        } = limits;
        let longest = prompts.iter().map(Vec::len).max().unwrap_or_default();
        let n_sequences = prompts.len().min(N_SEQUENCES);
        let options = ContextOptions {
            n_ctx: (longest + n_predict) as u32,
            ..ContextOptions::default()
        };
        let sequences = |adapter: Option<&Arc<LoraAdapter>>| -> Result<Sequences> {
            let adapter = adapter.map(|adapter| (Arc::clone(adapter), 1.0));
            let mut sequences = Sequences::new(&self.model, adapter, &options, n_sequences)?;
            sequences.set_interrupt(Arc::clone(self.stop));
            Ok(sequences)
        };
        // All texts in each pass, which is fastest where ggml's kernels take rows together, as those of Q8_0 do.
        let schedule = PassSchedule {
            lean: true,
            ..PassSchedule::NAIVE
        };
        let mut batch = Batch::new(Arc::clone(&self.model), schedule, usize::MAX);
        let policy = match voice {
            LoadedVoice::Alone(adapter) => Policy::Plain(batch.add(sequences(adapter.as_ref())?)),
            LoadedVoice::Contrasted {
                task,
                user,
                contrast,
            } => Policy::Cope {
                user: batch.add(sequences(Some(user))?),
                base: batch.add(sequences(Some(task))?),
                contrast: *contrast,
            },
        };
        let mut answers: BTreeMap<_, _> = BTreeMap::new();
        for prompt in prompts {
            let options = AnswerOptions {
                n_predict: Some(n_predict),
                loop_guard: true,
                no_repeat_ngram,
                ..AnswerOptions::default()
            };
            let id = batch.push(TextRequest {
                prompt,
                policy,
                options,
                explained: None,
                owner: None,
            })?;
            answers.insert(id, Written::default());
        }
        let started = Instant::now();
        for event in batch {
            let (id, event) = event?;
            let answer = answers.entry(id).or_default();
            match event {
                BatchEvent::Choice(..) => {}
                BatchEvent::Text(text) => answer.text.push_str(&text),
                BatchEvent::Finished {
                    response,
                    finish,
                    n_changed,
                    ..
                } => {
                    answer.n_tokens = response.len();
                    answer.n_changed = n_changed;
                    answer.finish = Some(finish);
                }
                BatchEvent::Failed(error) => return Err(error),
            }
        }
        // In the order in which they were asked for.
        Ok((answers.into_values().collect(), started.elapsed()))
    }
}
