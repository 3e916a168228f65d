//! Many texts at once, in one pair of contexts: a pass reads a token of every text, so that the weights, once in a
//! processor's cache, serve them all.

use std::collections::VecDeque;

use super::answer::Answer;
use super::sampling::best;
use super::schedule::beside;
use super::{Candidate, DecodeOptions, Finish, Piece, Policy, Schedule, Vocabulary};
use crate::Result;
use crate::llama::{Sequences, Token};

/// A language model at the end of each of several sequences of tokens.
pub trait SequenceSource: Send {
    /// Size of the vocabulary.
    fn n_vocab(&self) -> usize;
    /// How many sequences there are.
    fn n_sequences(&self) -> usize;
    /// Room for tokens in each.
    fn n_ctx(&self) -> usize;
    /// Reads `tokens` into an empty sequence; what may follow them is then known. `lean` if of that only
    /// [`logits_of`](Self::logits_of) is asked.
    ///
    /// # Errors
    ///
    /// The pass was interrupted, or it failed.
    fn read(&mut self, sequence: usize, tokens: &[Token], lean: bool) -> Result<()>;
    /// Reads a token into each of several sequences, in ascending order; what may follow each is then known.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    fn step(&mut self, items: &[(usize, Token)], lean: bool) -> Result<()>;
    /// What may follow a sequence of the last pass, `[n_vocab]`, unnormalised.
    fn logits(&self, sequence: usize) -> &[f32];
    /// The same of `candidates` alone, in their order; `logits` is emptied first.
    ///
    /// # Errors
    ///
    /// What they are computed from cannot be read.
    fn logits_of(
        &mut self,
        sequence: usize,
        candidates: &[Candidate],
        logits: &mut Vec<f32>,
    ) -> Result<()>;
    /// Empties a sequence.
    fn clear(&mut self, sequence: usize);
    /// Computes from now on as one of `n` sources whose passes run at the same time.
    fn share_threads(&mut self, n: usize);
}

impl SequenceSource for Sequences {
    fn n_vocab(&self) -> usize {
        self.model().n_vocab()
    }

    fn n_sequences(&self) -> usize {
        self.len()
    }

    fn n_ctx(&self) -> usize {
        self.n_ctx()
    }

    fn read(&mut self, sequence: usize, tokens: &[Token], lean: bool) -> Result<()> {
        self.read(sequence, tokens, lean)
    }

    fn step(&mut self, items: &[(usize, Token)], lean: bool) -> Result<()> {
        self.step(items, lean)
    }

    fn logits(&self, sequence: usize) -> &[f32] {
        self.logits(sequence)
    }

    fn logits_of(
        &mut self,
        sequence: usize,
        candidates: &[Candidate],
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        self.logits_of(sequence, candidates, logits)
    }

    fn clear(&mut self, sequence: usize) {
        self.clear(sequence);
    }

    fn share_threads(&mut self, n: usize) {
        self.share_threads(n);
    }
}

/// A text that is wanted. Of the options a batch has no use for drafts, explanations, context shifts and the schedule,
/// of which it has one for all.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its tokens so far.
    pub prompt: Vec<Token>,
    /// How it goes on.
    pub options: DecodeOptions,
}

/// What happens to a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchEvent {
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
    },
}

/// Texts being decoded: an iterator over what happens to them, by their numbers in the order of the requests. A text
/// begins when another has ended, if there are more than sequences. Each is the text that a
/// [`Decoder`](super::Decoder) gives, up to the rounding of passes of another length.
pub struct Batch<'a, S, V> {
    policy: Policy<'a, S>,
    schedule: Schedule,
    vocabulary: &'a V,
    waiting: VecDeque<(Vec<Token>, Slot)>,
    slots: Vec<Option<Slot>>,
    events: VecDeque<(usize, BatchEvent)>,
    candidates: Vec<Candidate>,
    opinions: Vec<f32>,
    failed: bool,
}

/// A text in its sequence.
struct Slot {
    number: usize,
    answer: Answer,
    plausibility: f32,
    /// Tokens of the prompt.
    n_prompt: usize,
    /// Chosen, and not yet read.
    newest: Token,
    n_changed: usize,
}

/// On a CPU two models side by side read a few tokens faster one after the other than together, and so many or more
/// not.
const WIDE: usize = 5;

impl<'a, S: SequenceSource, V: Vocabulary> Batch<'a, S, V> {
    /// The texts of `requests`; all sequences of the models are emptied. Of `schedule` it has a use for what says
    /// whether passes run side by side, and whether they are lean.
    ///
    /// # Errors
    ///
    /// [`Error::Input`](crate::Error::Input) if a prompt is empty or longer than a sequence, or an option is out of its
    /// range.
    pub fn new(
        mut policy: Policy<'a, S>,
        schedule: Schedule,
        vocabulary: &'a V,
        requests: Vec<Request>,
    ) -> Result<Self> {
        let (n_vocab, n_ctx) = (policy.leader().n_vocab(), policy.leader().n_ctx());
        let waiting = requests.into_iter().enumerate().map(|(number, request)| {
            let Request { prompt, options } = request;
            let slot = Slot {
                number,
                answer: Answer::new(&options, &prompt, n_vocab, n_ctx)?,
                plausibility: policy.plausibility(options.sampling.takes_the_best()),
                n_prompt: prompt.len(),
                newest: 0,
                n_changed: 0,
            };
            Ok((prompt, slot))
        });
        let waiting = waiting.collect::<Result<_>>()?;
        let n_sequences = policy.leader().n_sequences();
        for model in policy.models() {
            (0..n_sequences).for_each(|sequence| model.clear(sequence));
        }
        Ok(Self {
            policy,
            schedule,
            vocabulary,
            waiting,
            slots: (0..n_sequences).map(|_| None).collect(),
            events: VecDeque::new(),
            candidates: Vec::new(),
            opinions: Vec::new(),
            failed: false,
        })
    }

    /// A token more for all texts under way, after those that wait have begun where there is room.
    fn advance(&mut self) -> Result<()> {
        for sequence in 0..self.slots.len() {
            if self.slots[sequence].is_none()
                && let Some((prompt, slot)) = self.waiting.pop_front()
            {
                self.begin(sequence, &prompt, slot)?;
            }
        }
        let slots = self.slots.iter().enumerate();
        let items: Vec<_> = slots
            .filter_map(|(sequence, slot)| Some((sequence, slot.as_ref()?.newest)))
            .collect();
        let one_by_one = self.runs_side_by_side() && items.len() < WIDE;
        let n_together = if one_by_one { 1 } else { items.len().max(1) };
        for items in items.chunks(n_together) {
            self.pass(one_by_one, |model, lean| model.step(items, lean))?;
            for &(sequence, _) in items {
                self.choose(sequence)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, sequence: usize, prompt: &[Token], slot: Slot) -> Result<()> {
        self.pass(self.runs_side_by_side(), |model, lean| {
            model.read(sequence, prompt, lean)
        })?;
        self.slots[sequence] = Some(slot);
        self.choose(sequence)
    }

    fn runs_side_by_side(&self) -> bool {
        self.schedule.side_by_side && matches!(self.policy, Policy::Cope { .. })
    }

    /// A pass of each model, by `read`, which is told whether it is lean.
    fn pass(
        &mut self,
        side_by_side: bool,
        read: impl Fn(&mut S, bool) -> Result<()> + Sync,
    ) -> Result<()> {
        let n = if side_by_side { 2 } else { 1 };
        self.policy
            .models()
            .for_each(|model| model.share_threads(n));
        let lean = self.schedule.lean;
        match &mut self.policy {
            Policy::Plain(model) => read(model, false),
            Policy::Cope { base, user, .. } if side_by_side => {
                beside(|| read(base, lean), || read(user, false))
            }
            Policy::Cope { base, user, .. } => {
                read(base, lean)?;
                read(user, false)
            }
        }
    }

    /// Chooses the next token of a sequence that the last pass has read, unless its text ends first.
    fn choose(&mut self, sequence: usize) -> Result<()> {
        let Some(slot) = &mut self.slots[sequence] else {
            return Ok(());
        };
        let Slot { answer, newest, .. } = slot;
        let n_ctx = self.policy.leader().n_ctx();
        let mut pieces = [None, None];
        if !answer.is_long_enough() {
            let position = slot.n_prompt + answer.response.len();
            let sampler = &mut answer.sampler;
            sampler.head(
                self.policy.leader().logits(sequence),
                slot.plausibility,
                &mut self.candidates,
            )?;
            let first = best(&self.candidates).token;
            if let Policy::Cope { base, contrast, .. } = &mut self.policy {
                base.logits_of(sequence, &self.candidates, &mut self.opinions)?;
                contrast.apply(&mut self.candidates, &self.opinions);
            }
            *newest = sampler.choose(&self.candidates, position);
            slot.n_changed += usize::from(*newest != first);
            pieces[0] = if self.vocabulary.is_eog(*newest) {
                answer.end(Finish::EndOfTurn)
            } else {
                answer.push(*newest, self.vocabulary)?
            };
        }
        if answer.finish.is_none() {
            if answer.is_long_enough() {
                pieces[1] = answer.end(Finish::Length);
            } else if slot.n_prompt + answer.response.len() > n_ctx {
                pieces[1] = answer.end(Finish::ContextFull);
            }
        }
        for piece in pieces.into_iter().flatten() {
            if let Piece::Text(text) = piece {
                self.events.push_back((slot.number, BatchEvent::Text(text)));
            }
        }
        if let Some(finish) = answer.finish {
            let response = std::mem::take(&mut answer.response);
            let event = BatchEvent::Finished {
                response,
                finish,
                n_changed: slot.n_changed,
            };
            self.events.push_back((slot.number, event));
            self.slots[sequence] = None;
            self.policy.models().for_each(|model| model.clear(sequence));
        }
        Ok(())
    }
}

impl<S: SequenceSource, V: Vocabulary> Iterator for Batch<'_, S, V> {
    type Item = Result<(usize, BatchEvent)>;

    /// What happens next; `None` once all texts have ended, or an error was given.
    fn next(&mut self) -> Option<Self::Item> {
        while self.events.is_empty() && !self.failed {
            if self.waiting.is_empty() && self.slots.iter().all(Option::is_none) {
                return None;
            }
            if let Err(error) = self.advance() {
                self.failed = true;
                return Some(Err(error));
            }
        }
        self.events.pop_front().map(Ok)
    }
}
