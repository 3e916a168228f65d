//! The decoding loop.

use std::sync::atomic::{AtomicBool, Ordering};

use super::schedule::Scheduler;
use super::{
    Choice, Drafter, LogitSource, Policy, Sampler, Sampling, Schedule, Statistics, Text, Vocabulary,
};
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
    /// Added to the user model's logits of these tokens, before anything else; −∞ bans a token.
    pub logit_bias: Vec<(Token, f32)>,
    /// What the text may look like.
    pub grammar: Option<Grammar>,
    /// Whether each choice is [explained](Decoder::choices), which costs some speed.
    pub explain: bool,
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
            logit_bias: Vec::new(),
            grammar: None,
            explain: false,
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
    sampler: Sampler,
    n_predict: Option<usize>,
    /// `n_keep`, if a full context makes room.
    shift: Option<usize>,
    interrupt: Option<&'a AtomicBool>,
    text: Text,
    response: Vec<Token>,
    /// The choices so far, if they are to be explained.
    choices: Option<Vec<Choice>>,
    finish: Option<Finish>,
    failed: bool,
}

impl<'a, S: LogitSource, V: Vocabulary> Decoder<'a, S, V> {
    /// A decoder of what follows `prompt`, whose tokens that the models' caches begin with are not computed again.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the prompt is empty or longer than the context, or a sampling setting is out of its range.
    pub fn new(
        policy: Policy<'a, S>,
        vocabulary: &'a V,
        prompt: &[Token],
        options: DecodeOptions,
    ) -> Result<Self> {
        let n_ctx = policy.leader().n_ctx();
        if prompt.is_empty() {
            return Err(Error::input("the prompt is empty; say something"));
        }
        if prompt.len() > n_ctx {
            return Err(Error::input(format!(
                "the prompt has {} tokens and the context {n_ctx}; shorten it, or give a larger --ctx-size",
                prompt.len()
            )));
        }
        let n_vocab = policy.leader().n_vocab();
        for &(token, bias) in &options.logit_bias {
            if !usize::try_from(token).is_ok_and(|token| token < n_vocab) {
                return Err(Error::input(format!(
                    "a logit bias is for token {token}, which the model does not have"
                )));
            }
            if bias.is_nan() || bias == f32::INFINITY {
                return Err(Error::input(format!(
                    "the logit bias of token {token} must be a number, not {bias}"
                )));
            }
        }
        let mut sampler = (options.sampling)
            .sampler(n_vocab, n_ctx)?
            .with_logit_bias(options.logit_bias)
            .with_grammar(options.grammar);
        for &token in prompt {
            sampler.accept_prompt(token);
        }
        let takes_the_best = options.sampling.takes_the_best();
        let (schedule, choices) = if options.explain {
            (options.schedule.explained(), Some(Vec::new()))
        } else {
            (options.schedule, None)
        };
        Ok(Self {
            scheduler: Scheduler::new(policy, schedule, prompt, options.drafter, takes_the_best),
            vocabulary,
            sampler,
            n_predict: options.n_predict,
            shift: options.context_shift.then_some(options.n_keep),
            interrupt: None,
            text: Text::new(&options.stop),
            response: Vec::new(),
            choices,
            finish: None,
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
        &self.response
    }

    /// Why the text has ended; `None` while it goes on, and after an error.
    #[must_use]
    pub fn finish(&self) -> Option<Finish> {
        self.finish
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
        if self
            .n_predict
            .is_some_and(|limit| self.response.len() >= limit)
        {
            return Ok(self.end(Finish::Length));
        }
        if self.scheduler.is_full() {
            return self.make_room();
        }
        let is_end = |token| self.vocabulary.is_eog(token);
        let token = self.scheduler.choose(&mut self.sampler, &is_end)?;
        if let Some(choices) = &mut self.choices {
            choices.push(self.scheduler.explain(token));
        }
        if is_end(token) {
            return Ok(self.end(Finish::EndOfTurn));
        }
        self.sampler.accept(token)?;
        self.scheduler.push(token);
        self.response.push(token);
        let (text, stopped) = self.text.push(&self.vocabulary.token_bytes(token));
        if stopped {
            self.finish = Some(Finish::Stop);
        }
        Ok(piece(text))
    }

    fn make_room(&mut self) -> Result<Option<Piece>> {
        if let Some(n_keep) = self.shift
            && let Some(forgotten) = self.scheduler.shift(n_keep)?
        {
            return Ok(Some(Piece::Shifted(forgotten)));
        }
        Ok(self.end(Finish::ContextFull))
    }

    /// Ends the text, with what was held back of it.
    fn end(&mut self, finish: Finish) -> Option<Piece> {
        self.finish = Some(finish);
        piece(self.text.finish())
    }
}

fn piece(text: String) -> Option<Piece> {
    (!text.is_empty()).then_some(Piece::Text(text))
}

impl<S: LogitSource, V: Vocabulary> Iterator for Decoder<'_, S, V> {
    type Item = Result<Piece>;

    /// The next piece; `None` once the text has [ended](Decoder::finish) or an error was given.
    fn next(&mut self) -> Option<Self::Item> {
        while self.finish.is_none() && !self.failed {
            match self.step() {
                Ok(None) => {}
                Ok(Some(piece)) => return Some(Ok(piece)),
                Err(Error::Interrupted) => return self.end(Finish::Interrupted).map(Ok),
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
