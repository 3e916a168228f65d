//! The state of a text, token by token, which both decoding loops have in common.

use super::options::{AnswerOptions, Finish, Piece};
use super::repetition::is_looping;
use super::{Sampler, StopFilter, Vocabulary};
use crate::llama::Token;
use crate::{Error, Result};

/// The tokens of a text so far, its sampler, and the limits at which it ends.
pub(super) struct TextState {
    pub sampler: Sampler,
    text: StopFilter,
    /// The tokens of the answer, without the one that ended the turn.
    pub response: Vec<Token>,
    n_predict: Option<usize>,
    loop_guard: bool,
    pub finish: Option<Finish>,
}

impl TextState {
    /// The state of an empty answer to `prompt`, by models of `n_vocab` tokens and with room for `n_ctx`.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the prompt is empty or an option is out of its range, [`Error::PromptTooLong`] if the prompt is
    /// longer than the context.
    pub fn new(
        options: &AnswerOptions,
        prompt: &[Token],
        n_vocab: usize,
        n_ctx: usize,
    ) -> Result<Self> {
        check_prompt(prompt, n_ctx)?;
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

    /// Appends the chosen `token` to the text, unless it ends the turn. Returns the text that has become certain, if any.
    ///
    /// This is the one rule by which a text ends, for both loops, in this order: an end token, a stop string, a guarded
    /// loop, the most tokens, or a full context. `has_room` says whether the models can read `token`, which a loop that
    /// shifts contexts always makes possible.
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

    /// Ends the text. Returns what was held back of it, if anything.
    pub fn end(&mut self, finish: Finish) -> Option<Piece> {
        self.finish = Some(finish);
        piece(self.text.finish())
    }
}

/// Makes sure that there is a prompt, and that a context of `n_ctx` tokens has room for it.
///
/// # Errors
///
/// [`Error::Input`] if the prompt is empty, [`Error::PromptTooLong`] if it is longer than the context.
pub(super) fn check_prompt(prompt: &[Token], n_ctx: usize) -> Result<()> {
    if prompt.is_empty() {
        return Err(Error::input("the prompt is empty; say something"));
    }
    if prompt.len() > n_ctx {
        return Err(Error::PromptTooLong {
            n_prompt: prompt.len(),
            n_ctx,
        });
    }
    Ok(())
}

fn piece(text: String) -> Option<Piece> {
    (!text.is_empty()).then_some(Piece::Text(text))
}
