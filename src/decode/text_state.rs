//! A text under way, token by token, whatever reads them.

use super::options::{AnswerOptions, Finish, Piece};
use super::repetition::is_looping;
use super::{Sampler, StopFilter, Vocabulary};
use crate::llama::Token;
use crate::{Error, Result};

/// What has been chosen so far, and what is still to be obeyed.
pub(super) struct TextState {
    pub sampler: Sampler,
    text: StopFilter,
    /// The tokens, without the one that ended the turn.
    pub response: Vec<Token>,
    n_predict: Option<usize>,
    loop_guard: bool,
    pub finish: Option<Finish>,
}

impl TextState {
    /// An empty answer to `prompt`, by models of `n_vocab` tokens and with room for `n_ctx`.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the prompt is empty or longer than the context, or an option is out of its range.
    pub fn new(
        options: &AnswerOptions,
        prompt: &[Token],
        n_vocab: usize,
        n_ctx: usize,
    ) -> Result<Self> {
        if prompt.is_empty() {
            return Err(Error::input("the prompt is empty; say something"));
        }
        if prompt.len() > n_ctx {
            return Err(Error::PromptTooLong {
                n_prompt: prompt.len(),
                n_ctx,
            });
        }
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
            .with_logit_bias(options.logit_bias.clone())
            .with_no_repeat_ngram(options.no_repeat_ngram)
            .with_grammar(options.grammar.clone());
        for &token in prompt {
            sampler.accept_prompt(token);
        }
        Ok(Self {
            sampler,
            text: StopFilter::new(&options.stop),
            response: Vec::new(),
            n_predict: options.n_predict,
            loop_guard: options.loop_guard,
            finish: (options.n_predict == Some(0)).then_some(Finish::Length),
        })
    }

    /// Takes the chosen `token` into the text, unless it ends the turn. This is the one rule by which a text ends, for
    /// both loops: by an end token, before a stop string, after a guarded loop, at the most tokens, or because the models
    /// have no room to read `token`. Gives what can be shown, if anything.
    ///
    /// # Errors
    ///
    /// [`Error::Llama`] if the grammar does not allow the token.
    pub fn take(
        &mut self,
        token: Token,
        has_room: bool,
        vocabulary: &impl Vocabulary,
    ) -> Result<Option<Piece>> {
        if vocabulary.is_eog(token) {
            return Ok(self.end(Finish::EndOfTurn));
        }
        self.sampler.accept(token)?;
        self.response.push(token);
        let (mut text, stopped) = self.text.push(&vocabulary.token_bytes(token));
        self.finish = if stopped {
            Some(Finish::Stop)
        } else if self.loop_guard && is_looping(&self.response) {
            Some(Finish::Loop)
        } else if self.n_predict.is_some_and(|n| self.response.len() >= n) {
            Some(Finish::Length)
        } else if !has_room {
            Some(Finish::ContextFull)
        } else {
            None
        };
        if self.finish.is_some() {
            text.push_str(&self.text.finish());
        }
        Ok(piece(text))
    }

    /// Ends it, with what was held back of it.
    pub fn end(&mut self, finish: Finish) -> Option<Piece> {
        self.finish = Some(finish);
        piece(self.text.finish())
    }
}

fn piece(text: String) -> Option<Piece> {
    (!text.is_empty()).then_some(Piece::Text(text))
}
