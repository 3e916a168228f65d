//! The decoding loop.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{LogitSource, Policy, Sampling, Text, Vocabulary};
use crate::llama::{Candidate, SamplerChain, Token};
use crate::{Error, Result};

/// How a text is decoded.
#[derive(Debug, Clone, PartialEq)]
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
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            sampling: Sampling::default(),
            n_predict: None,
            context_shift: true,
            n_keep: 4,
            stop: Vec::new(),
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

/// What the models have yet to see.
#[derive(Debug)]
enum Pending {
    Prompt(Vec<Token>),
    Token(Token),
}

/// A text being decoded: an iterator over its pieces. Nothing is computed before the first is asked for, and no more
/// than is asked for.
pub struct Decoder<'a, S, V> {
    policy: Policy<'a, S>,
    vocabulary: &'a V,
    chain: SamplerChain,
    options: DecodeOptions,
    interrupt: Option<&'a AtomicBool>,
    pending: Pending,
    candidates: Vec<Candidate>,
    text: Text,
    response: Vec<Token>,
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
        let n_ctx = policy.n_ctx();
        if prompt.is_empty() {
            return Err(Error::input("the prompt is empty; say something"));
        }
        if prompt.len() > n_ctx {
            return Err(Error::input(format!(
                "the prompt has {} tokens and the context {n_ctx}; shorten it, or give a larger --ctx-size",
                prompt.len()
            )));
        }
        let n_vocab = policy.n_vocab();
        let mut chain = options.sampling.chain(n_vocab, n_ctx)?;
        for &token in prompt {
            chain.accept(token);
        }
        Ok(Self {
            policy,
            vocabulary,
            chain,
            interrupt: None,
            pending: Pending::Prompt(prompt.to_vec()),
            candidates: Vec::with_capacity(n_vocab),
            text: Text::new(&options.stop),
            options,
            response: Vec::new(),
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

    /// Generates one token, unless the text ends first. `None` if there is nothing to tell yet.
    fn step(&mut self) -> Result<Option<Piece>> {
        if self
            .interrupt
            .is_some_and(|flag| flag.load(Ordering::Relaxed))
        {
            return Err(Error::Interrupted);
        }
        if self
            .options
            .n_predict
            .is_some_and(|limit| self.response.len() >= limit)
        {
            return Ok(self.end(Finish::Length));
        }
        match &self.pending {
            Pending::Prompt(prompt) => self.policy.prefill(prompt)?,
            Pending::Token(_) if self.policy.is_full() => return self.make_room(),
            Pending::Token(token) => self.policy.extend(*token)?,
        }
        self.policy.candidates(&mut self.candidates)?;
        let token = self.chain.choose(&self.candidates);
        self.pending = Pending::Token(token);
        if self.vocabulary.is_eog(token) {
            return Ok(self.end(Finish::EndOfTurn));
        }
        self.chain.accept(token);
        self.response.push(token);
        let (text, stopped) = self.text.push(&self.vocabulary.token_bytes(token));
        if stopped {
            self.finish = Some(Finish::Stop);
        }
        Ok(piece(text))
    }

    fn make_room(&mut self) -> Result<Option<Piece>> {
        if self.options.context_shift
            && let Some(discarded) = self.policy.shift(self.options.n_keep)?
        {
            return Ok(Some(Piece::Shifted(discarded)));
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
