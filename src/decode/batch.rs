//! Many texts at once, by any of several models: a pass of a model reads a token of each of its texts, so that the weights,
//! once in a processor's cache, serve them all. Texts come and go between two passes.

mod models;
mod slots;

use std::collections::VecDeque;

use models::Models;
pub use slots::ModelId;
use slots::Slot;

use super::choice::Explainer;
use super::sampling::best;
use super::schedule::beside;
use super::text_state::TextState;
use super::{
    Candidate, Choice, DecodeOptions, Finish, PassSchedule, Piece, Policy, SequenceSource,
    Vocabulary,
};
use crate::Result;
use crate::llama::Token;

/// A text of a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextId(usize);

/// A text that is wanted. Of the options a batch has no use for drafts, context shifts and the schedule, of which it has
/// one for all.
#[derive(Debug, Clone)]
pub struct TextRequest {
    /// Its tokens so far.
    pub prompt: Vec<Token>,
    /// Who goes on.
    pub policy: Policy<ModelId>,
    /// How.
    pub options: DecodeOptions,
    /// For whom what the models have read is kept afterwards: another text of the same owner that begins alike goes on
    /// from there. Nothing is kept for nobody.
    pub owner: Option<u64>,
}

/// What happens to a text.
#[derive(Debug, Clone, PartialEq)]
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
    answer: TextState,
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

/// On a CPU two models side by side read a few tokens faster one after the other than together, and so many or more
/// not.
const WIDE: usize = 5;

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
        let answer = TextState::new(&request.options, &request.prompt, n_vocab, n_ctx)?;
        let id = TextId(self.n_texts);
        self.n_texts += 1;
        self.waiting.push_back((id, request, answer));
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
    fn advance(&mut self) -> Result<()> {
        self.slot();
        self.read_prompts()?;
        self.step()
    }

    /// Gives sequences to the texts that wait, as far as there are any.
    fn slot(&mut self) {
        let mut index = 0;
        while let Some((_, request, _)) = self.waiting.get(index) {
            let has_room = |model: &ModelId| self.models.get(*model).has_room();
            if !request.policy.each().all(has_room) {
                index += 1;
                continue;
            }
            let Some((id, request, answer)) = self.waiting.remove(index) else {
                break;
            };
            let TextRequest {
                prompt,
                policy,
                options,
                owner,
            } = request;
            // Of a single model the best is enough, unless others are to be shown.
            let takes_the_best = options.sampling.takes_the_best();
            let plausibility = policy.plausibility(takes_the_best && options.n_alternatives == 0);
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
                answer,
                plausibility,
                explained: options.explain.then_some(options.n_alternatives),
                prompt,
                newest: None,
                n_changed: 0,
            });
        }
    }

    /// Reads on in the prompts, the oldest first, and chooses the first token after each.
    fn read_prompts(&mut self) -> Result<()> {
        let mut n_read = 0;
        let mut index = 0;
        while n_read < self.n_prompt && index < self.texts.len() {
            if self.texts[index].newest.is_some() {
                index += 1;
                continue;
            }
            let (is_last, n) = self.read_part(index)?;
            n_read += n;
            if is_last && !self.choose(index)? {
                index += 1;
            }
        }
        Ok(())
    }

    /// A pass of each model over what comes next of a prompt. Returns whether it was the last, which they make together,
    /// and how many tokens it had.
    fn read_part(&mut self, index: usize) -> Result<(bool, usize)> {
        let text = &self.texts[index];
        let n_keepable = n_keepable(&text.prompt);
        let n_known = |slot: &Slot| self.models.of(*slot).tokens(slot.sequence).len();
        let is_last = text.policy.each().all(|slot| n_known(slot) >= n_keepable);
        let part = |slot: &Slot| {
            let known = n_known(slot);
            let end = if is_last {
                text.prompt.len()
            } else {
                n_keepable.min(known + self.models.of(*slot).n_batch())
            };
            (slot.sequence, text.prompt[known..end].to_vec())
        };
        let parts: Vec<_> = text.policy.each().map(part).collect();
        let longest = parts.iter().map(|(_, part)| part.len()).max();
        let lean = self.schedule.lean && text.explained.is_none();
        self.pass(index, |source, number| {
            let (sequence, part) = &parts[number];
            if part.is_empty() {
                return Ok(());
            }
            source.read(*sequence, part, lean && number > 0)
        })?;
        Ok((is_last, longest.unwrap_or_default()))
    }

    /// Reads the newest token of all texts, and chooses the next.
    fn step(&mut self) -> Result<()> {
        let is_running = |text: &ActiveText| text.newest.is_some();
        let n_running = self.texts.iter().filter(|it| is_running(it)).count();
        let one_by_one = self.schedule.side_by_side && n_running < WIDE;
        if !one_by_one {
            self.step_together()?;
        }
        let mut index = 0;
        while index < self.texts.len() {
            if is_running(&self.texts[index]) {
                if one_by_one {
                    self.step_one(index)?;
                }
                if self.choose(index)? {
                    continue;
                }
            }
            index += 1;
        }
        Ok(())
    }

    /// A pass of each model over the newest token of a text.
    fn step_one(&mut self, index: usize) -> Result<()> {
        let text = &self.texts[index];
        let sequences: Vec<_> = text.policy.each().map(|slot| slot.sequence).collect();
        let newest = text.newest;
        let lean = self.schedule.lean && text.explained.is_none();
        self.pass(index, |source, number| {
            let items: Vec<_> = newest.iter().map(|&it| (sequences[number], it)).collect();
            source.step(&items, lean && number > 0)
        })
    }

    /// A pass of each model over the newest tokens of all its texts.
    fn step_together(&mut self) -> Result<()> {
        for model in self.models.ids() {
            let mut items = Vec::new();
            let mut lean = self.schedule.lean;
            for text in &self.texts {
                let Some(newest) = text.newest else {
                    continue;
                };
                let slots = text.policy.each().enumerate();
                for (number, slot) in slots.filter(|(_, slot)| slot.model == model) {
                    items.push((slot.sequence, newest));
                    lean &= number > 0 && text.explained.is_none();
                }
            }
            if !items.is_empty() {
                items.sort_unstable();
                let source = &mut self.models.get_mut(model).source;
                source.share_threads(1);
                source.step(&items, lean)?;
            }
        }
        Ok(())
    }

    /// Passes of the models of one text, by `read`, which is told the model's number, the leader's being 0; at the same
    /// time, if that is how they run.
    fn pass(
        &mut self,
        index: usize,
        read: impl Fn(&mut S, usize) -> Result<()> + Sync,
    ) -> Result<()> {
        let policy = self.texts[index].policy;
        match policy {
            Policy::Cope { base, user, .. } if self.schedule.side_by_side => {
                let [base, user] = self.models.both_mut(base, user);
                base.share_threads(2);
                user.share_threads(2);
                beside(|| read(base, 1), || read(user, 0))
            }
            _ => {
                // The base first, as side by side.
                let slots: Vec<_> = policy.each().enumerate().collect();
                for (number, slot) in slots.into_iter().rev() {
                    let source = self.models.of_mut(*slot);
                    source.share_threads(1);
                    read(source, number)?;
                }
                Ok(())
            }
        }
    }

    /// Chooses the next token of a text whose models have just read all of it, unless it ends first. Returns whether it
    /// has ended.
    fn choose(&mut self, index: usize) -> Result<bool> {
        let text = &mut self.texts[index];
        let ActiveText { id, answer, .. } = text;
        let id = *id;
        let leader = *text.policy.leader();
        let n_ctx = text
            .policy
            .each()
            .map(|slot| self.models.of(*slot).n_ctx())
            .min();
        let mut pieces = [None, None];
        if !answer.is_long_enough() {
            let position = text.prompt.len() + answer.response.len();
            let logits = self.models.of(leader).logits(leader.sequence);
            answer
                .sampler
                .head(logits, text.plausibility, &mut self.candidates)?;
            let first = best(&self.candidates).token;
            if let Policy::Cope { base, contrast, .. } = &text.policy {
                let base_source = self.models.of_mut(*base);
                base_source.logits_of(base.sequence, &self.candidates, &mut self.opinions)?;
                contrast.apply(&mut self.candidates, &self.opinions);
            }
            let newest = answer.sampler.choose(&self.candidates, position);
            text.newest = Some(newest);
            text.n_changed += usize::from(newest != first);
            if let Some(n_alternatives) = text.explained {
                let logits = |slot: &Slot| self.models.of(*slot).logits(slot.sequence);
                let of_base = match &text.policy {
                    Policy::Plain(_) => None,
                    Policy::Cope { base, .. } => Some(logits(base)),
                };
                let n_plausible = self.candidates.len();
                let explainer = Explainer::new(logits(&leader), of_base, n_plausible, first);
                let chosen = self.candidates.iter().find(|it| it.token == newest);
                let mut best: Vec<_> = self.candidates.iter().collect();
                best.sort_by(|x, y| y.score.total_cmp(&x.score));
                let best = best.into_iter().take(n_alternatives);
                let best = best.map(|it| explainer.explain(*it)).collect();
                if let Some(chosen) = chosen {
                    let event = BatchEvent::Choice(explainer.explain(*chosen), best);
                    self.events.push_back((id, event));
                }
            }
            pieces[0] = if self.vocabulary.is_eog(newest) {
                answer.end(Finish::EndOfTurn)
            } else {
                answer.push(newest, &self.vocabulary)?
            };
        }
        if answer.finish.is_none() {
            if answer.is_long_enough() {
                pieces[1] = answer.end(Finish::Length);
            } else if n_ctx.is_some_and(|n_ctx| text.prompt.len() + answer.response.len() > n_ctx) {
                pieces[1] = answer.end(Finish::ContextFull);
            }
        }
        for piece in pieces.into_iter().flatten() {
            if let Piece::Text(text) = piece {
                self.events.push_back((id, BatchEvent::Text(text)));
            }
        }
        let Some(finish) = answer.finish else {
            return Ok(false);
        };
        let response = std::mem::take(&mut answer.response);
        let event = BatchEvent::Finished {
            response,
            finish,
            n_changed: text.n_changed,
            n_kept: text.n_kept,
        };
        self.events.push_back((id, event));
        self.end(index);
        Ok(true)
    }

    /// Gives up all texts, whose models have failed.
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

    /// What happens next; `None` while there is no text. An error is the end of all texts.
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
