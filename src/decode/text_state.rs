//! A text under way, token by token, whatever reads them.

use super::options::{DecodeOptions, Finish, Piece};
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
        options: &DecodeOptions,
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
            finish: None,
        })
    }

    /// Whether it has as many tokens as it may.
    pub fn is_long_enough(&self) -> bool {
        self.n_predict
            .is_some_and(|limit| self.response.len() >= limit)
    }

    /// Goes on by `token`, which does not end the turn. Gives what can be shown, if anything; a stop string ends the
    /// answer, and so does a loop if it is guarded against.
    ///
    /// # Errors
    ///
    /// As [`Sampler::accept`].
    pub fn push(&mut self, token: Token, vocabulary: &impl Vocabulary) -> Result<Option<Piece>> {
        self.sampler.accept(token)?;
        self.response.push(token);
        let (mut text, stopped) = self.text.push(&vocabulary.token_bytes(token));
        if stopped {
            self.finish = Some(Finish::Stop);
        } else if self.loop_guard && is_looping(&self.response) {
            self.finish = Some(Finish::Loop);
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
