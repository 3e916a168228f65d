//! A loaded base that answers prompts, with a method's adapters.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use cope_convert::gguf::Gguf;

use crate::decode::{
    Arm, Contrast, DecodeOptions, Decoder, Finish, Piece, Policy, Schedule, Statistics,
};
use crate::home::BaseRef;
use crate::llama::{Context, ContextOptions, LoraAdapter, Model, Token, Twin};
use crate::prompt::{ChatTemplate, Message};
use crate::{Error, Result};

/// Room for tokens.
pub(super) const N_CTX: u32 = 2048;

pub(super) struct Writer<'a> {
    model: Arc<Model>,
    template: ChatTemplate,
    gguf: Gguf,
    base: &'a BaseRef,
    options: ContextOptions,
    stop: &'a Arc<AtomicBool>,
}

/// The contexts of a method.
pub(super) enum Voice {
    Alone(Box<Context>),
    Contrasted(Box<Twin>, Contrast),
}

/// An answer, and what it has cost.
pub(super) struct Written {
    pub text: String,
    pub finish: Finish,
    pub statistics: Statistics,
    pub elapsed: Duration,
}

impl<'a> Writer<'a> {
    /// `stop`, once true, ends the work.
    pub fn load(path: &Path, base: &'a BaseRef, stop: &'a Arc<AtomicBool>) -> Result<Self> {
        let model = Model::load(path, None)?;
        Ok(Self {
            template: ChatTemplate::of_model(&model)?,
            gguf: Gguf::open(path)?,
            options: ContextOptions {
                n_ctx: N_CTX,
                ..ContextOptions::default()
            },
            model,
            base,
            stop,
        })
    }

    pub fn adapter(&self, path: &Path) -> Result<Arc<LoraAdapter>> {
        LoraAdapter::load(&self.model, path, &self.gguf, &self.base.sha256)
    }

    pub fn alone(&self, adapter: Option<Arc<LoraAdapter>>) -> Result<Voice> {
        let adapter = adapter.map(|adapter| (adapter, 1.0));
        let mut context = Context::new(&self.model, adapter, &self.options)?;
        context.set_interrupt(Arc::clone(self.stop));
        Ok(Voice::Alone(Box::new(context)))
    }

    pub fn contrasted(
        &self,
        task: Arc<LoraAdapter>,
        user: Arc<LoraAdapter>,
        contrast: Contrast,
    ) -> Result<Voice> {
        let mut twin = Twin::new(&self.model, Some(task), user, 1.0, &self.options)?;
        twin.set_interrupt(self.stop);
        Ok(Voice::Contrasted(Box::new(twin), contrast))
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
        let n_ctx = self.options.n_ctx.min(self.model.n_ctx_train()) as usize;
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

    /// The greedy answer to `prompt`, of at most `n_predict` tokens and guarded against loops.
    pub fn write(&self, voice: &mut Voice, prompt: &[Token], n_predict: usize) -> Result<Written> {
        let options = DecodeOptions {
            n_predict: Some(n_predict),
            loop_guard: true,
            // No schedule that reads several tokens in a pass, whose rounding is another's: then a text would depend on it.
            schedule: Schedule {
                side_by_side: true,
                lean: true,
                ..Schedule::NAIVE
            },
            ..DecodeOptions::default()
        };
        // So that what is read, and with which rounding, does not depend on the prompt before.
        let policy = match voice {
            Voice::Alone(context) => {
                context.truncate(0);
                Policy::Plain(&mut **context)
            }
            Voice::Contrasted(twin, contrast) => {
                twin.base.truncate(0);
                twin.user.truncate(0);
                twin.policy(Arm::Cope(*contrast))
            }
        };
        let started = Instant::now();
        let decoder = Decoder::new(policy, &*self.model, prompt, options)?;
        let mut decoder = decoder.interruptible(self.stop);
        let mut text = String::new();
        for piece in &mut decoder {
            if let Piece::Text(more) = piece? {
                text.push_str(&more);
            }
        }
        match decoder.finish() {
            None | Some(Finish::Interrupted) => Err(Error::Interrupted),
            Some(finish) => Ok(Written {
                text,
                finish,
                statistics: *decoder.statistics(),
                elapsed: started.elapsed(),
            }),
        }
    }
}
