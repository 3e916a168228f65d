//! The decoding loop of one text.

use std::sync::atomic::{AtomicBool, Ordering};

use super::options::{DecoderOptions, Finish, Piece};
use super::schedule::Scheduler;
use super::text_state::TextState;
use super::{Choice, LogitSource, Policy, Statistics, Steered, Vocabulary};
use crate::llama::Token;
use crate::{Error, Result};

/// A text being decoded: a lazy iterator over its pieces.
pub struct Decoder<'a, S, V> {
    scheduler: Scheduler<'a, S>,
    vocabulary: &'a V,
    state: TextState,
    /// `n_keep`, if a full context makes room; `None` if it ends the text.
    shift: Option<usize>,
    interrupt: Option<&'a AtomicBool>,
    /// The explained choices so far, if choices are explained.
    choices: Option<Vec<Choice>>,
    /// Each choice so far beside that without contrast. It needs no logits but those of the candidates, so that every text
    /// can have it.
    steered: Vec<Steered>,
    failed: bool,
}

impl<'a, S: LogitSource, V: Vocabulary> Decoder<'a, S, V> {
    /// A decoder of the text that follows `prompt`. A prefix of the prompt that is in a model's cache is not computed
    /// again.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the prompt is empty or an option is out of its range, [`Error::PromptTooLong`] if the prompt is
    /// longer than the context.
    pub fn new(
        policy: Policy<&'a mut S>,
        vocabulary: &'a V,
        prompt: &[Token],
        options: DecoderOptions,
    ) -> Result<Self> {
        let (n_vocab, n_ctx) = (policy.leader().n_vocab(), policy.leader().n_ctx());
        let state = TextState::new(&options.answer, prompt, n_vocab, n_ctx)?;
        let takes_the_best = options.answer.sampling.takes_the_best();
        let shifts = options.context_shift && policy.leader().can_shift();
        let (schedule, choices) = if options.explain {
            (options.schedule.explained(), Some(Vec::new()))
        } else {
            (options.schedule, None)
        };
        Ok(Self {
            scheduler: Scheduler::new(policy, schedule, prompt, options.drafter, takes_the_best),
            vocabulary,
            state,
            shift: shifts.then_some(options.n_keep),
            interrupt: None,
            choices,
            steered: Vec::new(),
            failed: false,
        })
    }

    /// Makes the text end before the next token once `flag` is true. To stop a running pass too, give the contexts the same
    /// flag ([`Twin::set_interrupt`](crate::llama::Twin::set_interrupt)).
    #[must_use]
    pub fn interruptible(self, flag: &'a AtomicBool) -> Self {
        Self {
            interrupt: Some(flag),
            ..self
        }
    }

    /// The tokens generated so far, without the one that ended the turn.
    #[must_use]
    pub fn response(&self) -> &[Token] {
        &self.state.response
    }

    /// Why the text has ended; `None` before its end and after an error.
    #[must_use]
    pub fn finish(&self) -> Option<Finish> {
        self.state.finish
    }

    /// The explained choice of each token, the one that ended the turn included; empty without
    /// [`explain`](DecoderOptions::explain).
    #[must_use]
    pub fn choices(&self) -> &[Choice] {
        self.choices.as_deref().unwrap_or_default()
    }

    /// Each chosen token, the one that ended the turn included, beside the one without contrast.
    #[must_use]
    pub fn steered(&self) -> &[Steered] {
        &self.steered
    }

    /// The cost of the text so far.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        self.scheduler.statistics()
    }

    /// Generates one token, or makes room for it. `None` if no text is certain yet.
    fn step(&mut self) -> Result<Option<Piece>> {
        if self
            .interrupt
            .is_some_and(|flag| flag.load(Ordering::Relaxed))
        {
            return Err(Error::Interrupted);
        }
        if self.scheduler.is_full() {
            return self.make_room();
        }
        let is_end = |token| self.vocabulary.is_eog(token);
        let token = self.scheduler.choose(&mut self.state.sampler, &is_end)?;
        let alone = self.scheduler.alone().unwrap_or(token);
        self.steered.push(Steered { token, alone });
        if let Some(choices) = &mut self.choices {
            choices.push(self.scheduler.explain(token));
        }
        if !is_end(token) {
            self.scheduler.push(token);
        }
        let has_room = self.shift.is_some() || !self.scheduler.is_full();
        self.state.take(token, has_room, self.vocabulary)
    }

    /// Forgets some of the text in a full context.
    fn make_room(&mut self) -> Result<Option<Piece>> {
        let n_keep = self.shift.unwrap_or_default();
        let n_forgotten = self.scheduler.shift(n_keep)?;
        Ok(Some(Piece::Shifted(n_forgotten)))
    }
}

impl<S: LogitSource, V: Vocabulary> Iterator for Decoder<'_, S, V> {
    type Item = Result<Piece>;

    /// The next piece; `None` once the text has [ended](Decoder::finish) or failed.
    fn next(&mut self) -> Option<Self::Item> {
        while self.finish().is_none() && !self.failed {
            match self.step() {
                Ok(None) => {}
                Ok(Some(piece)) => return Some(Ok(piece)),
                Err(Error::Interrupted) => return self.state.end(Finish::Interrupted).map(Ok),
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
