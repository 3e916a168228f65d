//! Many texts at once, by any of several models: a pass of a model reads a token of each of its texts, so that the weights,
//! once in a processor's cache, serve them all. Texts come and go between two passes.

mod choose;
mod models;
mod passes;
mod slots;

use std::collections::VecDeque;

use models::Models;
pub use slots::ModelId;
use slots::Slot;

use super::text_state::TextState;
use super::{
    AnswerOptions, Candidate, Choice, Finish, PassSchedule, Policy, SequenceSource, Vocabulary,
};
use crate::llama::Token;
use crate::{Error, Result};

/// A text of a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextId(usize);

/// A text that is wanted.
#[derive(Debug, Clone)]
pub struct TextRequest {
    /// The prompt's tokens.
    pub prompt: Vec<Token>,
    /// The models that answer.
    pub policy: Policy<ModelId>,
    /// Options of the answer.
    pub options: AnswerOptions,
    /// How many of the best candidates are explained beside each choice; `None` explains no choice.
    pub explained: Option<usize>,
    /// For whom what the models have read is kept afterwards: another text of the same owner that begins alike goes on
    /// from there. Nothing is kept for nobody.
    pub owner: Option<u64>,
}

/// What happens to a text. [`Finished`](Self::Finished) or [`Failed`](Self::Failed) is its last event.
#[derive(Debug)]
pub enum BatchEvent {
    /// A choice, where choices are explained, and the best candidates, the best first.
    Choice(Choice, Vec<Choice>),
    /// More of it.
    Text(String),
    /// Its end.
    Finished {
        /// All its tokens, without the one that ended the turn.
        response: Vec<Token>,
        /// Why it ended.
        finish: Finish,
        /// Choices against the user model's first one.
        n_changed: usize,
        /// Tokens of the prompt that all its models had read already.
        n_kept: usize,
    },
    /// Its end by an error of its own: of its sampler or its grammar, or of a pass that was to read it. The other texts
    /// go on.
    Failed(Error),
}

/// Texts being decoded: an iterator over what happens to them, which ends when all have ended and goes on when there are
/// others. A text begins when its models have a sequence free. Each is the text that a [`Decoder`](super::Decoder) gives,
/// up to the rounding of passes of another length.
pub struct Batch<S, V> {
    models: Models<S>,
    vocabulary: V,
    schedule: PassSchedule,
    n_prompt: usize,
    waiting: VecDeque<(TextId, TextRequest, TextState)>,
    /// Under way, in the order in which they began.
    texts: Vec<ActiveText>,
    events: VecDeque<(TextId, BatchEvent)>,
    n_texts: usize,
    /// Texts that have ended: the time of [`slots::Slots::free`].
    n_ended: u64,
    candidates: Vec<Candidate>,
    opinions: Vec<f32>,
}

/// A text under way.
struct ActiveText {
    id: TextId,
    policy: Policy<Slot>,
    state: TextState,
    plausibility: f32,
    /// How many candidates are explained beside each choice, if it is.
    explained: Option<usize>,
    prompt: Vec<Token>,
    /// Chosen, and not yet read; none before the prompt is read.
    newest: Option<Token>,
    n_changed: usize,
    n_kept: usize,
}

/// Of a prompt a multiple of so many tokens is kept, and the rest is always read in one pass. The same request then ends in
/// the same pass again, and gives the same answer to the last bit: passes of another length round otherwise.
const GRAIN: usize = 32;

/// As much of a prompt as another that begins alike may go on from: never all of it.
fn n_keepable(prompt: &[Token]) -> usize {
    prompt.len().saturating_sub(1) / GRAIN * GRAIN
}

impl ActiveText {
    /// Tokens of the prompt and of what was chosen.
    fn n_tokens(&self) -> usize {
        self.prompt.len() + self.state.response.len()
    }
}

impl<S: SequenceSource, V: Vocabulary> Batch<S, V> {
    /// No texts yet, and no models. Of `schedule` it has a use for what says whether passes run side by side, and whether
    /// they are lean. Between two tokens of the texts that are under way it reads `n_prompt` tokens of prompts, or little
    /// more: few, and nobody waits long; many, and passes are sooner over many texts.
    pub fn new(vocabulary: V, schedule: PassSchedule, n_prompt: usize) -> Self {
        Self {
            models: Models::new(),
            vocabulary,
            schedule,
            n_prompt,
            waiting: VecDeque::new(),
            texts: Vec::new(),
            events: VecDeque::new(),
            n_texts: 0,
            n_ended: 0,
            candidates: Vec::new(),
            opinions: Vec::new(),
        }
    }

    /// Adds a model. All of a batch have one vocabulary.
    pub fn add(&mut self, source: S) -> ModelId {
        self.models.add(source)
    }

    /// Takes a model out again; `None` while a text is under way in it, or waits for it.
    pub fn remove(&mut self, model: ModelId) -> Option<S> {
        let is_wanted = |request: &TextRequest| request.policy.each().any(|&it| it == model);
        if self
            .waiting
            .iter()
            .any(|(_, request, _)| is_wanted(request))
        {
            return None;
        }
        self.models.remove(model)
    }

    /// A model.
    ///
    /// # Panics
    ///
    /// It is not there any more.
    pub fn model(&self, model: ModelId) -> &S {
        &self.models.get(model).source
    }

    /// Wants a text.
    ///
    /// # Errors
    ///
    /// [`Error::Input`](crate::Error::Input) if the prompt is empty or longer than a sequence, or an option is out of its range.
    ///
    /// # Panics
    ///
    /// A model is not there any more, or would be contrasted with itself.
    pub fn push(&mut self, request: TextRequest) -> Result<TextId> {
        if let Policy::Cope { base, user, .. } = &request.policy {
            assert!(base != user, "a model is contrasted with itself");
        }
        let models = request.policy.each().map(|&model| self.model(model));
        let n_ctx = models.map(S::n_ctx).min().unwrap_or_default();
        let n_vocab = self.model(*request.policy.leader()).n_vocab();
        let state = TextState::new(&request.options, &request.prompt, n_vocab, n_ctx)?;
        let id = TextId(self.n_texts);
        self.n_texts += 1;
        self.waiting.push_back((id, request, state));
        Ok(id)
    }

    /// Ends a text, of which nothing more is told.
    pub fn cancel(&mut self, id: TextId) {
        self.waiting.retain(|it| it.0 != id);
        self.events.retain(|it| it.0 != id);
        if let Some(index) = self.texts.iter().position(|text| text.id == id) {
            self.end(index);
        }
    }

    /// Empties what the models keep of an owner's texts.
    pub fn forget(&mut self, owner: u64) {
        for model in self.models.ids() {
            self.models.get_mut(model).forget(owner);
        }
    }

    /// Texts that wait for a sequence to become free.
    pub fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Texts under way.
    pub fn n_running(&self) -> usize {
        self.texts.len()
    }

    /// Takes out a text that has ended.
    fn end(&mut self, index: usize) {
        let text = self.texts.remove(index);
        self.n_ended += 1;
        for slot in text.policy.each() {
            let slots = self.models.get_mut(slot.model);
            slots.free(slot.sequence, self.n_ended);
        }
    }

    /// A token more for all texts under way, after those that wait have begun where there is room.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`]; any other error is an event of the texts that it ends.
    fn advance(&mut self) -> Result<()> {
        self.begin_waiting();
        self.read_prompts()?;
        self.step()
    }

    /// Gives sequences to the texts that wait, as far as there are any.
    fn begin_waiting(&mut self) {
        let mut index = 0;
        while let Some((_, request, _)) = self.waiting.get(index) {
            let has_room = |model: &ModelId| self.models.get(*model).has_room();
            if !request.policy.each().all(has_room) {
                index += 1;
                continue;
            }
            let Some((id, request, state)) = self.waiting.remove(index) else {
                break;
            };
            let TextRequest {
                prompt,
                policy,
                options,
                explained,
                owner,
            } = request;
            // Of a single model the best is enough, unless others are to be shown.
            let takes_the_best = options.sampling.takes_the_best();
            let plausibility = policy.plausibility(takes_the_best && explained.unwrap_or(0) == 0);
            let policy = policy.map(|model| Slot {
                model,
                sequence: self.models.get_mut(model).take(&prompt, owner),
            });
            let n_kept = |slot: &Slot| self.models.of(*slot).tokens(slot.sequence).len();
            let n_kept = policy.each().map(n_kept).min().unwrap_or_default();
            self.texts.push(ActiveText {
                id,
                n_kept,
                policy,
                state,
                plausibility,
                explained,
                prompt,
                newest: None,
                n_changed: 0,
            });
        }
    }

    /// Ends all texts, whose work was interrupted.
    fn abandon(&mut self) {
        self.waiting.clear();
        self.events.clear();
        while !self.texts.is_empty() {
            self.end(self.texts.len() - 1);
        }
    }
}

impl<S: SequenceSource, V: Vocabulary> Iterator for Batch<S, V> {
    type Item = Result<(TextId, BatchEvent)>;

    /// What happens next; `None` while there is no text. The only error is [`Error::Interrupted`], which ends all texts;
    /// any other error ends its text alone and is a [`BatchEvent::Failed`].
    fn next(&mut self) -> Option<Self::Item> {
        while self.events.is_empty() {
            if self.waiting.is_empty() && self.texts.is_empty() {
                return None;
            }
            if let Err(error) = self.advance() {
                self.abandon();
                return Some(Err(error));
            }
        }
        self.events.pop_front().map(Ok)
    }
}

#[cfg(test)]
mod tests;
