//! The choice of the next token of one text of a batch, and the end of a text.

use super::slots::Slot;
use super::{ActiveText, Batch, BatchEvent};
use crate::decode::choice::Explainer;
use crate::decode::sampling::best;
use crate::decode::{Candidate, Choice, Piece, Policy, SequenceSource, Vocabulary};
use crate::llama::Token;
use crate::{Error, Result};

impl<S: SequenceSource, V: Vocabulary> Batch<S, V> {
    /// Chooses the next token of the text at `index`, whose models have just read all of it. Returns whether the text
    /// has ended; it is then no longer in `texts`.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`]; any other error ends this text alone.
    pub(super) fn go_on(&mut self, index: usize) -> Result<bool> {
        if self.texts[index].state.finish.is_none()
            && let Err(error) = self.choose(index)
        {
            self.fail(index, error)?;
            return Ok(true);
        }
        let text = &mut self.texts[index];
        let Some(finish) = text.state.finish else {
            return Ok(false);
        };
        let event = BatchEvent::Finished {
            response: std::mem::take(&mut text.state.response),
            finish,
            n_changed: text.n_changed,
            n_kept: text.n_kept,
        };
        self.events.push_back((text.id, event));
        self.end(index);
        Ok(true)
    }

    /// Chooses a token and takes it into the text at `index`.
    ///
    /// # Errors
    ///
    /// The model's logits are not numbers, the sampler has no candidate left, or the base's logits cannot be computed.
    fn choose(&mut self, index: usize) -> Result<()> {
        let first = self.find_candidates(index)?;
        let text = &mut self.texts[index];
        let position = text.position();
        let newest = text.state.sampler.choose(&self.candidates, position);
        text.newest = Some(newest);
        text.n_changed += usize::from(newest != first);
        self.explain(index, first);
        let has_room = self.has_room(index);
        let text = &mut self.texts[index];
        let piece = text.state.take(newest, has_room, &self.vocabulary)?;
        if let Some(Piece::Text(shown)) = piece {
            self.events.push_back((text.id, BatchEvent::Text(shown)));
        }
        Ok(())
    }

    /// Fills `candidates` with the plausible next tokens and their contrasted scores. Returns the token that the leader
    /// finds likeliest.
    fn find_candidates(&mut self, index: usize) -> Result<Token> {
        let text = &mut self.texts[index];
        let leader = *text.policy.leader();
        let logits = self.models.source(leader).logits(leader.sequence);
        let sampler = &mut text.state.sampler;
        sampler.head(logits, text.plausibility, &mut self.candidates)?;
        let first = best(&self.candidates).token;
        if let Policy::Cope { base, contrast, .. } = &text.policy {
            let source = self.models.source_mut(*base);
            source.logits_of(base.sequence, &self.candidates, &mut self.opinions)?;
            contrast.apply(&mut self.candidates, &self.opinions);
        }
        Ok(first)
    }

    /// Adds the event that explains the newest token of the text at `index` and the best candidates, if the text's choices
    /// are explained. `first` is the token that the leader finds likeliest.
    fn explain(&mut self, index: usize, first: Token) {
        let text = &self.texts[index];
        let (Some(n_alternatives), Some(newest)) = (text.explained, text.newest) else {
            return;
        };
        let logits = |slot: &Slot| self.models.source(*slot).logits(slot.sequence);
        let base = match &text.policy {
            Policy::Plain(_) => None,
            Policy::Cope { base, .. } => Some(logits(base)),
        };
        let user = logits(text.policy.leader());
        let explainer = Explainer::new(user, base, self.candidates.len(), first);
        let Some(chosen) = self.candidates.iter().find(|it| it.token == newest) else {
            return;
        };
        let chosen = explainer.explain(*chosen);
        let alternatives = alternatives(&self.candidates, n_alternatives, &explainer);
        let event = BatchEvent::Choice(chosen, alternatives);
        self.events.push_back((text.id, event));
    }

    /// Whether each model of the text at `index` has room for one token after its prompt and the response.
    fn has_room(&self, index: usize) -> bool {
        let text = &self.texts[index];
        let n_response = text.state.response.len();
        text.readers()
            .all(|(slot, prompt)| prompt.len() + n_response < self.models.source(*slot).n_ctx())
    }

    /// Ends the text at `index` by `error`.
    ///
    /// # Errors
    ///
    /// `error` itself if it is [`Error::Interrupted`], which ends all texts.
    pub(super) fn fail(&mut self, index: usize, error: Error) -> Result<()> {
        if matches!(error, Error::Interrupted) {
            return Err(error);
        }
        let id = self.texts[index].id;
        self.events.push_back((id, BatchEvent::Failed(error)));
        self.end(index);
        Ok(())
    }

    /// Ends each text that `was_read` picks, by the error of the pass that was to read it.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] if `error` is that, which ends all texts.
    pub(super) fn fail_each(
        &mut self,
        was_read: impl Fn(&ActiveText) -> bool,
        error: &Error,
    ) -> Result<()> {
        while let Some(index) = self.texts.iter().position(&was_read) {
            self.fail(index, same_failure(error))?;
        }
        Ok(())
    }
}

/// The error of a pass for one more of its texts: [`Error`] cannot be cloned, since an I/O error cannot.
fn same_failure(error: &Error) -> Error {
    match error {
        Error::Interrupted => Error::Interrupted,
        Error::Llama { operation, reason } => Error::Llama {
            operation: operation.clone(),
            reason: reason.clone(),
        },
        error => Error::Llama {
            operation: "read the next token of several texts".to_owned(),
            reason: error.to_string(),
        },
    }
}

/// The `n` candidates of the highest scores, the best first, each explained as if it had been chosen.
pub(super) fn alternatives(
    candidates: &[Candidate],
    n: usize,
    explainer: &Explainer<'_>,
) -> Vec<Choice> {
    let mut by_score: Vec<_> = candidates.to_vec();
    by_score.sort_by(|x, y| y.score.total_cmp(&x.score));
    by_score.truncate(n);
    by_score
        .into_iter()
        .map(|it| explainer.explain(it))
        .collect()
}
