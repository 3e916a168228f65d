//! The decoding loop.

use std::sync::atomic::{AtomicBool, Ordering};

use super::answer::Answer;
use super::schedule::Scheduler;
use super::{Choice, Drafter, LogitSource, Policy, Sampling, Schedule, Statistics, Vocabulary};
use crate::llama::{Grammar, Token};
use crate::{Error, Result};

/// How a text is decoded.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The most tokens to generate; `None` for no limit.
    pub n_predict: Option<usize>,
    /// Whether a full context makes room by forgetting, rather than ending the text.
    pub context_shift: bool,
    /// The first tokens of the prompt, which are never forgotten: a system prompt, or at least the few on which
    /// attention rests. At most half the context.
    pub n_keep: usize,
    /// Strings that end the text before them.
    pub stop: Vec<String>,
    /// Whether a text that goes round in a loop is ended: a block of tokens that comes three times in a row, and 24
    /// tokens of it after the first time.
    pub loop_guard: bool,
    /// So many tokens never come twice in the same order within the answer, which keeps it from loops; 0 for no such rule.
    pub no_repeat_ngram: usize,
    /// Added to the user model's logits of these tokens, before anything else; −∞ bans a token.
    pub logit_bias: Vec<(Token, f32)>,
    /// What the text may look like.
    pub grammar: Option<Grammar>,
    /// Whether each choice is [explained](Decoder::choices), which costs some speed.
    pub explain: bool,
    /// How many of the best candidates a [`Batch`](super::Batch) explains beside each choice that it explains.
    pub n_alternatives: usize,
    /// Which passes are run, and when; it does not change the text.
    pub schedule: Schedule,
    /// What drafts are taken from beside the prompt and the text itself.
    pub drafter: Drafter,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            sampling: Sampling::default(),
            n_predict: None,
            context_shift: true,
            n_keep: 4,
            stop: Vec::new(),
            loop_guard: false,
            no_repeat_ngram: 0,
            logit_bias: Vec::new(),
            grammar: None,
            explain: false,
            n_alternatives: 0,
            schedule: Schedule::default(),
            drafter: Drafter::default(),
        }
    }
}

/// What a [`Decoder`] has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// More text: whole characters, at least one.
    Text(String),
    /// The context was full, and this many tokens after the first [`n_keep`](DecodeOptions::n_keep) are forgotten.
    Shifted(usize),
}

/// Why a text has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    EndOfTurn,
    /// It has [`n_predict`](DecodeOptions::n_predict) tokens.
    Length,
    /// It came to a stop string.
    Stop,
    /// It went round in a [loop](DecodeOptions::loop_guard).
    Loop,
    /// The context is full, and cannot or must not forget.
    ContextFull,
    /// The person stopped it.
    Interrupted,
}

/// A text being decoded: an iterator over its pieces. Nothing is computed before the first is asked for, and no more
/// than is asked for.
pub struct Decoder<'a, S, V> {
    scheduler: Scheduler<'a, S>,
    vocabulary: &'a V,
    answer: Answer,
    /// `n_keep`, if a full context makes room.
    shift: Option<usize>,
    interrupt: Option<&'a AtomicBool>,
    /// The choices so far, if they are to be explained.
    choices: Option<Vec<Choice>>,
    failed: bool,
}

impl<'a, S: LogitSource, V: Vocabulary> Decoder<'a, S, V> {
    /// A decoder of what follows `prompt`, whose tokens that the models' caches begin with are not computed again.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the prompt is empty or longer than the context, or an option is out of its range.
    pub fn new(
        policy: Policy<&'a mut S>,
        vocabulary: &'a V,
        prompt: &[Token],
        options: DecodeOptions,
    ) -> Result<Self> {
        let (n_vocab, n_ctx) = (policy.leader().n_vocab(), policy.leader().n_ctx());
        let answer = Answer::new(&options, prompt, n_vocab, n_ctx)?;
        let takes_the_best = options.sampling.takes_the_best();
        let (schedule, choices) = if options.explain {
            (options.schedule.explained(), Some(Vec::new()))
        } else {
            (options.schedule, None)
        };
        Ok(Self {
            scheduler: Scheduler::new(policy, schedule, prompt, options.drafter, takes_the_best),
            vocabulary,
            answer,
            shift: options.context_shift.then_some(options.n_keep),
            interrupt: None,
            choices,
            failed: false,
        })
    }

    /// Lets `flag`, once true, end the text between two tokens. To stop a pass that is under way, give the contexts the
    /// same flag ([`Twin::set_interrupt`](crate::llama::Twin::set_interrupt)).
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
        &self.answer.response
    }

    /// Why the text has ended; `None` while it goes on, and after an error.
    #[must_use]
    pub fn finish(&self) -> Option<Finish> {
        self.answer.finish
    }

    /// Why each token was chosen, the one that ended the turn included; none without
    /// [`explain`](DecodeOptions::explain).
    #[must_use]
    pub fn choices(&self) -> &[Choice] {
        self.choices.as_deref().unwrap_or_default()
    }

    /// What it has cost so far.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        self.scheduler.statistics()
    }

    /// Generates one token, unless the text ends first. `None` if there is nothing to tell yet.
    fn step(&mut self) -> Result<Option<Piece>> {
        if self
            .interrupt
            .is_some_and(|flag| flag.load(Ordering::Relaxed))
        {
            return Err(Error::Interrupted);
        }
        if self.answer.is_long_enough() {
            return Ok(self.answer.end(Finish::Length));
        }
        if self.scheduler.is_full() {
            return self.make_room();
        }
        let is_end = |token| self.vocabulary.is_eog(token);
        let token = self.scheduler.choose(&mut self.answer.sampler, &is_end)?;
        if let Some(choices) = &mut self.choices {
            choices.push(self.scheduler.explain(token));
        }
        if is_end(token) {
            return Ok(self.answer.end(Finish::EndOfTurn));
        }
        self.scheduler.push(token);
        self.answer.push(token, self.vocabulary)
    }

    fn make_room(&mut self) -> Result<Option<Piece>> {
        if let Some(n_keep) = self.shift
            && let Some(forgotten) = self.scheduler.shift(n_keep)?
        {
            return Ok(Some(Piece::Shifted(forgotten)));
        }
        Ok(self.answer.end(Finish::ContextFull))
    }
}

impl<S: LogitSource, V: Vocabulary> Iterator for Decoder<'_, S, V> {
    type Item = Result<Piece>;

    /// The next piece; `None` once the text has [ended](Decoder::finish) or an error was given.
    fn next(&mut self) -> Option<Self::Item> {
        while self.finish().is_none() && !self.failed {
            match self.step() {
                Ok(None) => {}
                Ok(Some(piece)) => return Some(Ok(piece)),
                Err(Error::Interrupted) => return self.answer.end(Finish::Interrupted).map(Ok),
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
