//! Answers prompts with a loaded base and the adapters of a method.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use cope_convert::gguf::Gguf;

use crate::decode::{
    AnswerOptions, Batch, BatchEvent, Contrast, Finish, ModelId, PassSchedule, Policy, TextRequest,
};
use crate::home::BaseRef;
use crate::llama::{ContextOptions, LoraAdapter, Model, Sequences, Token};
use crate::message::Message;
use crate::prompt::ChatTemplate;
use crate::{Error, Result};

/// The most tokens of a prompt and its answer together.
pub(super) const N_CTX: u32 = 2048;

/// The most prompts that are answered at once.
pub(super) const N_SEQUENCES: usize = 8;

/// A loaded base that answers prompts.
pub(super) struct Answerer<'a> {
    model: Arc<Model>,
    template: ChatTemplate,
    gguf: Gguf,
    base: &'a BaseRef,
    stop: &'a Arc<AtomicBool>,
}

/// The texts of answers, decoded in contexts of llama.cpp.
type AnswerBatch = Batch<Sequences, Arc<Model>>;

/// The loaded adapters that answer.
pub(super) enum LoadedVoice {
    /// The base with an adapter, or without one, and without contrast.
    Alone(Option<Arc<LoraAdapter>>),
    /// The base with the stacked adapter of task and user, contrasted with the base that has the task adapter alone.
    Contrasted {
        task: Arc<LoraAdapter>,
        user: Arc<LoraAdapter>,
        contrast: Contrast,
    },
}

/// The tokens before an answer.
pub(super) struct AnswerPrompt {
    /// The prompt of the model that answers.
    pub prompt: Vec<Token>,
    /// The prompt of the base that it is contrasted with, if it differs.
    pub base_prompt: Option<Vec<Token>>,
}

impl AnswerPrompt {
    /// The tokens of the longer prompt.
    fn len(&self) -> usize {
        let base_prompt = self.base_prompt.as_ref();
        base_prompt.map_or(0, Vec::len).max(self.prompt.len())
    }
}

/// The limits of an answer.
#[derive(Clone, Copy)]
pub(super) struct AnswerLimits {
    /// The most tokens of the answer.
    pub n_predict: usize,
    /// The length of the runs of tokens that may not occur twice in the answer; 0 for no such limit.
    pub no_repeat_ngram: usize,
}

/// An answer, while it is generated and afterwards.
#[derive(Default)]
pub(super) struct GeneratedAnswer {
    pub text: String,
    pub n_tokens: usize,
    /// The number of tokens that are not the user model's first choice.
    pub n_changed: usize,
    pub finish: Option<Finish>,
}

impl<'a> Answerer<'a> {
    /// Loads the base at `path`. Once `stop` is true, work on its answers ends.
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

    /// Loads the adapter at `path`.
    pub fn adapter(&self, path: &Path) -> Result<Arc<LoraAdapter>> {
        LoraAdapter::load(&self.model, path, &self.gguf, &self.base.sha256)
    }

    /// The tokens of the first of `prompts` that leaves room for an answer of `n_predict` tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when no prompt does.
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

    /// The greedy answers to `prompts`, guarded against repetition, in the order of the prompts, and the time that they
    /// took together. Rounding, and so a choice between two tokens of nearly the same score, depends on which prompts
    /// are answered together.
    pub fn answer(
        &self,
        voice: &LoadedVoice,
        prompts: Vec<AnswerPrompt>,
        limits: AnswerLimits,
    ) -> Result<(Vec<GeneratedAnswer>, Duration)> {
        let longest = prompts
            .iter()
            .map(AnswerPrompt::len)
            .max()
            .unwrap_or_default();
        let n_sequences = prompts.len().min(N_SEQUENCES);
        let (mut batch, policy) = self.batch(voice, longest + limits.n_predict, n_sequences)?;
        let mut answers = BTreeMap::new();
        for AnswerPrompt {
            prompt,
            base_prompt,
        } in prompts
        {
            let options = AnswerOptions {
                n_predict: Some(limits.n_predict),
                loop_guard: true,
                no_repeat_ngram: limits.no_repeat_ngram,
                ..AnswerOptions::default()
            };
            let id = batch.push(TextRequest {
                prompt,
                base_prompt,
                policy,
                options,
                explained: None,
                explains_prompt: false,
                owner: None,
            })?;
            answers.insert(id, GeneratedAnswer::default());
        }
        let started = Instant::now();
        for event in batch {
            let (id, event) = event?;
            answers.entry(id).or_default().add(event)?;
        }
        // The ids rise in the order in which the texts were pushed.
        Ok((answers.into_values().collect(), started.elapsed()))
    }

    /// An empty batch with the contexts of `voice`, and the policy by which these decode. Each context has room for
    /// `n_sequences` texts of `n_ctx` tokens.
    fn batch(
        &self,
        voice: &LoadedVoice,
        n_ctx: usize,
        n_sequences: usize,
    ) -> Result<(AnswerBatch, Policy<ModelId>)> {
        let options = ContextOptions {
            n_ctx: n_ctx as u32,
            ..ContextOptions::default()
        };
        let sequences = |adapter: Option<&Arc<LoraAdapter>>| -> Result<Sequences> {
            let adapter = adapter.map(|adapter| (Arc::clone(adapter), 1.0));
            let mut sequences = Sequences::new(&self.model, adapter, &options, n_sequences)?;
            sequences.set_interrupt(Arc::clone(self.stop));
            Ok(sequences)
        };
        // Every pass reads all texts, which is fastest where ggml's kernels take rows together, as those of Q8_0 do.
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
        Ok((batch, policy))
    }
}

impl GeneratedAnswer {
    /// Takes note of an event of the answer's text.
    fn add(&mut self, event: BatchEvent) -> Result<()> {
        match event {
            BatchEvent::Prompt(..) | BatchEvent::Choice(..) => {}
            BatchEvent::Text(text) => self.text.push_str(&text),
            BatchEvent::Finished {
                response,
                finish,
                n_changed,
                ..
            } => {
                self.n_tokens = response.len();
                self.n_changed = n_changed;
                self.finish = Some(finish);
            }
            BatchEvent::Failed(error) => return Err(error),
        }
        Ok(())
    }
}
