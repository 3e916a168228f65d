//! Decoding of many texts at once, by any of several models. A pass of a model reads a token of each of its texts, so that
//! weights that are loaded into a processor's cache serve all of them. Texts begin and end between two passes.

mod choose;
mod explained_prompt;
mod model_slots;
mod passes;
mod slots;

use std::collections::VecDeque;

use model_slots::Models;
pub use slots::ModelId;
use slots::Slot;

use super::text_state::{TextState, check_prompt};
use super::{
    AnswerOptions, Candidate, Choice, Finish, PassSchedule, Policy, SequenceSource, Vocabulary,
};
use crate::llama::Token;
use crate::{Error, Result};

/// The number of a text in a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextId(usize);

/// A request for a text of a [`Batch`].
#[derive(Debug, Clone)]
pub struct TextRequest {
    /// The prompt's tokens.
    pub prompt: Vec<Token>,
    /// The prompt that the base of a contrast reads, if it differs from the user model's; a single model ignores it.
    pub base_prompt: Option<Vec<Token>>,
    /// The models that answer.
    pub policy: Policy<ModelId>,
    /// Options of the answer.
    pub options: AnswerOptions,
    /// How many of the best candidates are explained beside each choice; `None` explains no choice.
    pub explained: Option<usize>,
    /// Whether the tokens of the prompt are explained too, from the second on, which is read more slowly and from no cache.
    /// It has no effect unless choices are explained, and needs the same prompt for all models.
    pub explains_prompt: bool,
    /// The owner of the text. When it has ended, its tokens stay in the models' caches, and the next text of the same owner
    /// that has a prefix in common resumes from there. `None` keeps nothing.
    pub owner: Option<u64>,
}

/// An event of a text. [`Finished`](Self::Finished) or [`Failed`](Self::Failed) is its last event.
#[derive(Debug)]
pub enum BatchEvent {
    /// A token of the prompt, explained as if it had been chosen, and the candidates of the highest scores at its place, the
    /// best first. These events come in the order of the prompt, and before all others.
    Prompt(Choice, Vec<Choice>),
    /// An explained choice, and the candidates of the highest scores, the best first.
    Choice(Choice, Vec<Choice>),
    /// More text.
    Text(String),
    /// The end of the text.
    Finished {
        /// All tokens of the text, without the one that ended the turn.
        response: Vec<Token>,
        /// Why the text ended.
        finish: Finish,
        /// The number of choices that are not the user model's likeliest token.
        n_changed: usize,
        /// Tokens of the prompt that were in the caches of all its models already.
        n_kept: usize,
    },
    /// The end of the text by an error of its sampler, of its grammar, or of a pass that was to read it. The other texts
    /// go on.
    Failed(Error),
}

/// Texts being decoded: an iterator over their events. It ends when all texts have ended, and resumes after another
/// [`push`](Self::push). A text begins when each of its models has a free sequence. It is the text that a
/// [`Decoder`](super::Decoder) gives, up to the rounding of passes of different lengths.
pub struct Batch<S, V> {
    models: Models<S>,
    vocabulary: V,
    schedule: PassSchedule,
    n_prompt: usize,
    waiting: VecDeque<(TextId, TextRequest, TextState)>,
    /// The texts that have a sequence, in the order in which they began.
    texts: Vec<ActiveText>,
    events: VecDeque<(TextId, BatchEvent)>,
    /// Whether prompts are read next, or else the newest token of each text.
    prompts_are_next: bool,
    n_texts: usize,
    /// The number of texts that have ended, which is the clock of [`slots::Slots::free`].
    n_ended: u64,
    candidates: Vec<Candidate>,
    opinions: Vec<f32>,
}

/// A text that has a sequence of each of its models.
struct ActiveText {
    id: TextId,
    policy: Policy<Slot>,
    state: TextState,
    plausibility: f32,
    /// How many candidates are explained beside each choice, if choices are explained.
    explained: Option<usize>,
    /// Whether the tokens of the prompt are explained too.
    explains_prompt: bool,
    /// The prompt of each model, the leader's first.
    prompts: [Vec<Token>; 2],
    /// The token that was chosen last, which no model has read yet; `None` before the prompt is read.
    newest: Option<Token>,
    n_changed: usize,
    n_kept: usize,
}

/// A prefix of a prompt that is reused has a multiple of this many tokens, unless the prompt goes on from all that was read,
/// and the last pass over a prompt begins at a multiple of it. Passes of different lengths round differently; this way, the
/// same request ends in the same pass again and gets the same answer to the last bit.
const GRAIN: usize = 32;

/// The most tokens of a prompt that can be reused: never all of them, since a pass over the last one gives the logits.
fn n_keepable(prompt: &[Token]) -> usize {
    prompt.len().saturating_sub(1) / GRAIN * GRAIN
}

impl ActiveText {
    /// Every model of the text with its prompt, the leader first.
    fn readers(&self) -> impl Iterator<Item = (&Slot, &[Token])> {
        let prompts = self.prompts.iter().map(Vec::as_slice);
        self.policy.each().zip(prompts)
    }

    /// The position of the next token in the leader's sequence.
    fn position(&self) -> usize {
        self.prompts[0].len() + self.state.response.len()
    }
}

impl<S: SequenceSource, V: Vocabulary> Batch<S, V> {
    /// A batch without texts or models. It uses `side_by_side` and `lean` of `schedule`. Between two tokens of the running
    /// texts it reads about `n_prompt` tokens of prompts: a small number keeps running texts flowing, a large one gets new
    /// texts started sooner.
    pub fn new(vocabulary: V, schedule: PassSchedule, n_prompt: usize) -> Self {
        Self {
            models: Models::new(),
            vocabulary,
            schedule,
            n_prompt,
            waiting: VecDeque::new(),
            texts: Vec::new(),
            events: VecDeque::new(),
            prompts_are_next: true,
            n_texts: 0,
            n_ended: 0,
            candidates: Vec::new(),
            opinions: Vec::new(),
        }
    }

    /// Adds a model, which must have the vocabulary of the others.
    pub fn add(&mut self, source: S) -> ModelId {
        self.models.add(source)
    }

    /// Removes a model and returns it; `None` while a text runs in it or waits for it.
    pub fn remove(&mut self, model: ModelId) -> Option<S> {
        let uses_model = |request: &TextRequest| request.policy.each().any(|&it| it == model);
        if self
            .waiting
            .iter()
            .any(|(_, request, _)| uses_model(request))
        {
            return None;
        }
        self.models.remove(model)
    }

    /// The model of this number.
    ///
    /// # Panics
    ///
    /// If it was removed.
    pub fn model(&self, model: ModelId) -> &S {
        &self.models.get(model).source
    }

    /// Adds a text.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if a prompt is empty or an option is out of its range, [`Error::PromptTooLong`] if a prompt is
    /// longer than a sequence.
    ///
    /// # Panics
    ///
    /// If a model was removed, or would be contrasted with itself.
    pub fn push(&mut self, request: TextRequest) -> Result<TextId> {
        if let Policy::Cope { base, user, .. } = &request.policy {
            assert!(base != user, "a model is contrasted with itself");
        }
        let models = request.policy.each().map(|&model| self.model(model));
        let n_ctx = models.map(S::n_ctx).min().unwrap_or_default();
        let n_vocab = self.model(*request.policy.leader()).n_vocab();
        let state = TextState::new(&request.options, &request.prompt, n_vocab, n_ctx)?;
        if let Some(base_prompt) = &request.base_prompt {
            check_prompt(base_prompt, n_ctx)?;
        }
        let id = TextId(self.n_texts);
        self.n_texts += 1;
        self.waiting.push_back((id, request, state));
        Ok(id)
    }

    /// Ends a text without any further event.
    pub fn cancel(&mut self, id: TextId) {
        self.waiting.retain(|it| it.0 != id);
        self.events.retain(|it| it.0 != id);
        if let Some(index) = self.texts.iter().position(|text| text.id == id) {
            self.end(index);
        }
    }

    /// Removes what the models' caches keep of an owner's texts.
    pub fn forget(&mut self, owner: u64) {
        for model in self.models.ids() {
            self.models.get_mut(model).forget(owner);
        }
    }

    /// The number of texts that wait for a free sequence.
    pub fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The number of texts that have a sequence.
    pub fn n_running(&self) -> usize {
        self.texts.len()
    }

    /// Removes the text at `index` and frees its sequences.
    fn end(&mut self, index: usize) {
        let text = self.texts.remove(index);
        self.n_ended += 1;
        for slot in text.policy.each() {
            let slots = self.models.get_mut(slot.model);
            slots.free(slot.sequence, self.n_ended);
        }
    }

    /// Begins the waiting texts for which there is room, and then reads prompts or, every other time, chooses one more token
    /// of each text. The first token of a text is thus an event before the second is computed.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`]; any other error is an event of the texts that it ends.
    fn advance(&mut self) -> Result<()> {
        self.begin_waiting();
        self.prompts_are_next = !self.prompts_are_next;
        if self.prompts_are_next {
            self.step()
        } else {
            self.read_prompts()
        }
    }

    /// Gives free sequences to the texts that wait.
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
                base_prompt,
                policy,
                options,
                explained,
                explains_prompt,
                owner,
            } = request;
            let explains_prompt = explains_prompt && explained.is_some();
            // Logits are needed after every token. The passes that give them are shorter than others and round differently,
            // so that nothing of them is kept.
            let owner = owner.filter(|_| !explains_prompt);
            // The best candidate of a single model is enough, unless alternatives are explained.
            let takes_the_best = options.sampling.takes_the_best();
            let plausibility = policy.plausibility(takes_the_best && explained.unwrap_or(0) == 0);
            let policy = if explained.is_none() {
                policy.without_idle_base()
            } else {
                policy
            };
            let base_prompt = base_prompt.unwrap_or_else(|| prompt.clone());
            let prompts = [prompt, base_prompt];
            let leader = *policy.leader();
            let policy = policy.map(|model| {
                let prompt = &prompts[usize::from(model != leader)];
                let sequence = self.models.get_mut(model).take(prompt, owner);
                Slot { model, sequence }
            });
            let n_kept = |slot: &Slot| self.models.source(*slot).tokens(slot.sequence).len();
            let n_kept = policy.each().map(n_kept).min().unwrap_or_default();
            self.texts.push(ActiveText {
                id,
                n_kept,
                policy,
                state,
                plausibility,
                explained,
                explains_prompt,
                prompts,
                newest: None,
                n_changed: 0,
            });
        }
    }

    /// Ends all texts after an interrupt.
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

    /// The next event; `None` while there is no text. The only error is [`Error::Interrupted`], which ends all texts;
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
