//! Which passes are run, and when.
//!
//! The naive schedule runs each model over each token, one after the other. All others give the same tokens, for a
//! choice at a position depends on the logits after the tokens before it and on nothing else: not on when these were
//! computed, nor on what was tried meanwhile ([`Sampler`]). So models may run ahead of the text. What they have read
//! is kept as long as the text goes on with it, and taken back where it does not.
//!
//! ```text
//! text    ████████████▌            ▌ the position whose token is to be chosen
//! user    ████████████▌░░░         ░ read ahead: a draft, or guesses
//! base    █████████   ▌            waits, while V_head has one token
//! ```
//!
//! What remains is the rounding of a pass, which depends on how many tokens it has.

use std::collections::VecDeque;
use std::time::Instant;

use super::choice::Explainer;
use super::draft::Drafter;
use super::sampling::best;
use super::{Candidate, Choice, LogitSource, Passes, Policy, Rows, Sampler, Statistics};
use crate::llama::Token;
use crate::{Error, Result};

/// The parts of a schedule; each can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassSchedule {
    /// Whether base and user model run at the same time, each on half of the threads. On a CPU small models leave
    /// threads waiting for each other, so that two passes side by side take little longer than one. With `lean` the user
    /// model's head comes after both, on all threads.
    pub side_by_side: bool,
    /// Whether the base's head is computed for the candidates alone.
    pub lean: bool,
    /// Whether the base waits while `V_head` has but one token, and then reads all that it has missed in one pass.
    /// Of no use side by side.
    pub lazy: bool,
    /// The most undecided positions over which the user model goes ahead of the base, on its own choices; 0 for none.
    /// Of no use side by side.
    pub speculate: usize,
    /// The most tokens of a draft; 0 for none.
    pub draft: usize,
}

impl PassSchedule {
    /// Both models over each token, one after the other: the oracle of the others.
    pub const NAIVE: Self = Self {
        side_by_side: false,
        lean: false,
        lazy: false,
        speculate: 0,
        draft: 0,
    };

    /// What a model goes ahead by, unless told otherwise: a pass then has 8 tokens, which suits ggml's kernels.
    pub const AHEAD: usize = 7;

    /// What is fastest: on a CPU, where a pass costs by its tokens, or on a GPU, where one over a few tokens costs hardly
    /// more than one over a single one.
    #[must_use]
    pub fn fastest(n_threads: usize, on_gpu: bool) -> Self {
        Self {
            side_by_side: !on_gpu && n_threads > 1,
            lean: !on_gpu,
            lazy: on_gpu || n_threads == 1,
            speculate: if on_gpu { Self::AHEAD } else { 0 },
            draft: Self::AHEAD,
        }
    }
}

impl PassSchedule {
    /// This schedule without what leaves out logits that an explanation needs.
    #[must_use]
    pub fn explained(self) -> Self {
        Self {
            lean: false,
            lazy: false,
            speculate: 0,
            ..self
        }
    }
}

impl Default for PassSchedule {
    /// The [fastest](Self::fastest) on a CPU of several cores.
    fn default() -> Self {
        Self::fastest(2, false)
    }
}

/// A draft is read only where at least so many tokens of the text are repeated: where fewer are, too few of its tokens
/// are right to pay for the others.
const MIN_MATCH: usize = 8;

/// Going ahead pays as long as all guesses are right with this probability.
const BREAK_EVEN: f64 = 0.6;

/// How much the newest guess counts for [`Scheduler::acceptance`].
const NEWEST: f64 = 0.1;

/// Reads what is needed for the choice of each token.
pub(super) struct Scheduler<'a, S> {
    policy: Policy<&'a mut S>,
    schedule: PassSchedule,
    /// How plausible a candidate must be.
    plausibility: f32,
    /// The prompt and what was chosen, but for what was forgotten.
    text: Vec<Token>,
    n_forgotten: usize,
    drafter: Drafter,
    /// `V_head` at the position whose token is to be chosen and at those after it over which the user model has gone
    /// ahead.
    ahead: VecDeque<Vec<Candidate>>,
    /// How often, of late, a guess was right.
    acceptance: f64,
    /// How many of the tokens that were read ahead are of a draft.
    n_draft: usize,
    candidates: Vec<Candidate>,
    opinions: Vec<f32>,
    /// The likeliest of the candidates to the user model.
    first: Token,
    statistics: Statistics,
}

impl<'a, S: LogitSource> Scheduler<'a, S> {
    /// A scheduler at the end of `prompt`; `takes_the_best` as [`Policy::plausibility`].
    pub fn new(
        mut policy: Policy<&'a mut S>,
        schedule: PassSchedule,
        prompt: &[Token],
        mut drafter: Drafter,
        takes_the_best: bool,
    ) -> Self {
        let plausibility = policy.plausibility(takes_the_best);
        let is_twin = matches!(policy, Policy::Cope { .. });
        let n_beside = if schedule.side_by_side && is_twin {
            2
        } else {
            1
        };
        policy.each_mut().for_each(|model| {
            model.share_threads(n_beside);
            // The last token is read again if need be, for a row of the kind that is asked for now.
            model.truncate(common_len(model.tokens(), prompt).min(prompt.len() - 1));
        });
        drafter.extend(prompt);
        Self {
            policy,
            schedule,
            plausibility,
            text: prompt.to_vec(),
            n_forgotten: 0,
            drafter,
            ahead: VecDeque::new(),
            acceptance: 1.0,
            n_draft: 0,
            candidates: Vec::new(),
            opinions: Vec::new(),
            first: 0,
            statistics: Statistics {
                n_prompt: prompt.len(),
                ..Statistics::default()
            },
        }
    }

    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Whether there is no room to read the newest token.
    pub fn is_full(&self) -> bool {
        self.text.len() > self.policy.leader().n_ctx()
    }

    /// Chooses the next token. It is not part of the text before it is [pushed](Self::push).
    pub fn choose(
        &mut self,
        sampler: &mut Sampler,
        is_end: &dyn Fn(Token) -> bool,
    ) -> Result<Token> {
        let started = Instant::now();
        self.find_candidates(sampler, is_end)?;
        let token = sampler.choose(&self.candidates, self.position());
        let time = match self.statistics.n_chosen {
            0 => &mut self.statistics.prompt_time,
            _ => &mut self.statistics.time,
        };
        *time += started.elapsed();
        self.statistics.n_chosen += 1;
        self.statistics.n_changed += usize::from(token != self.first);
        Ok(token)
    }

    /// Why `token` was chosen just now. The schedule is one that keeps [logits for
    /// explanations](Schedule::explained).
    pub fn explain(&self, token: Token) -> Choice {
        let len = self.text.len();
        let of_base = match &self.policy {
            Policy::Plain(_) => None,
            Policy::Cope { base, .. } => Some(base.logits(len)),
        };
        let of_user = self.policy.leader().logits(len);
        let explainer = Explainer::new(of_user, of_base, self.candidates.len(), self.first);
        let chosen = self.candidates.iter().find(|it| it.token == token);
        let unknown = Candidate {
            token,
            score: f32::NAN,
        };
        explainer.explain(*chosen.unwrap_or(&unknown))
    }

    /// Goes on with `token`.
    pub fn push(&mut self, token: Token) {
        let len = self.text.len();
        self.text.push(token);
        self.drafter.extend(&[token]);
        let models = self.policy.each_mut();
        let passes = [&mut self.statistics.user, &mut self.statistics.base];
        let mut user_goes_on = false;
        for (number, (model, passes)) in models.zip(passes).enumerate() {
            let ahead = model.tokens().get(len).copied();
            if ahead.is_some_and(|ahead| ahead != token) {
                model.truncate(len);
                passes.n_rollbacks += 1;
            }
            user_goes_on |= number == 0 && ahead == Some(token);
        }
        if user_goes_on && self.n_draft > 0 {
            self.statistics.n_draft_accepted += 1;
            self.n_draft -= 1;
        } else {
            self.n_draft = 0;
        }
        if user_goes_on && self.ahead.len() > 1 {
            self.statistics.n_guess_accepted += 1;
            self.ahead.pop_front();
        } else {
            self.ahead.clear();
        }
    }

    /// Makes room in every model alike: keeps the first `n_keep` tokens (at most half the context) and forgets half of
    /// the others. Gives how many were forgotten. The models can shift.
    pub fn shift(&mut self, n_keep: usize) -> Result<usize> {
        // The newest token is yet to be read; all others have to be, before any are forgotten.
        let len = self.text.len() - 1;
        let keep = n_keep.min(len / 2);
        let discard = (len - keep).div_ceil(2);
        let passes = [&mut self.statistics.user, &mut self.statistics.base];
        for (model, passes) in self.policy.each_mut().zip(passes) {
            read(*model, &self.text[..len], 0, Rows::Full, passes)?;
            if model.tokens().len() != len {
                return Err(Error::bug(
                    "the base and the user context have fallen out of step",
                ));
            }
            model.shift(keep, discard);
        }
        self.text.drain(keep..keep + discard);
        self.n_forgotten += discard;
        self.ahead.clear();
        Ok(discard)
    }

    /// The position of the next token, counted from the beginning of the prompt.
    fn position(&self) -> usize {
        self.n_forgotten + self.text.len()
    }

    /// Fills `candidates` with those of the next token and their scores.
    fn find_candidates(
        &mut self,
        sampler: &mut Sampler,
        is_end: &dyn Fn(Token) -> bool,
    ) -> Result<()> {
        let len = self.text.len();
        if let Some(head) = self.ahead.front() {
            self.candidates.clone_from(head);
        } else {
            if !self.policy.leader().rows().contains(&len) {
                self.read_leader()?;
            }
            let logits = self.policy.leader().logits(len);
            sampler.head(logits, self.plausibility, &mut self.candidates)?;
        }
        self.first = best(&self.candidates).token;
        let is_undecided = self.candidates.len() > 1;
        let Policy::Cope { base, contrast, .. } = &self.policy else {
            return Ok(());
        };
        let contrast = *contrast;
        self.statistics.n_undecided += usize::from(is_undecided);
        if self.schedule.lazy && !is_undecided {
            return Ok(());
        }
        if !base.rows().contains(&len) {
            if self.schedule.speculate > 0 {
                self.go_ahead(sampler, is_end)?;
            }
            self.read_base()?;
        }
        let guess = (is_undecided && self.schedule.speculate > 0)
            .then(|| sampler.choose(&self.candidates, self.position()));
        let Policy::Cope { base, .. } = &mut self.policy else {
            unreachable!("there is a base");
        };
        base.logits_of(len, &self.candidates, &mut self.opinions)?;
        contrast.apply(&mut self.candidates, &self.opinions);
        if let Some(guess) = guess {
            let is_right = sampler.choose(&self.candidates, self.position()) == guess;
            self.acceptance += NEWEST * (f64::from(u8::from(is_right)) - self.acceptance);
        }
        Ok(())
    }

    /// Brings the leader to the end of the text, and of a draft if there is one; side by side, the base too.
    fn read_leader(&mut self) -> Result<()> {
        let len = self.text.len();
        let leader = self.policy.leader();
        let room = (leader.max_rows() - 1).min(leader.n_ctx() - len);
        let draft = self
            .drafter
            .propose(MIN_MATCH, room.min(self.schedule.draft));
        self.n_draft = draft.len();
        self.statistics.n_drafted += draft.len();
        self.text.extend_from_slice(draft);
        let n_rows = 1 + draft.len();
        let Statistics { user, base, .. } = &mut self.statistics;
        let text = &self.text;
        let (base_rows, user_rows) = if self.schedule.lean {
            (Rows::Candidates, Rows::Deferred)
        } else {
            (Rows::Full, Rows::Full)
        };
        let result = match &mut self.policy {
            Policy::Cope {
                user: user_model,
                base: base_model,
                ..
            } if self.schedule.side_by_side => beside(
                || read(*base_model, text, n_rows, base_rows, base),
                || read(*user_model, text, n_rows, user_rows, user),
            )
            .and_then(|()| {
                let started = Instant::now();
                user_model.finish()?;
                user.time += started.elapsed();
                Ok(())
            }),
            Policy::Cope { user: model, .. } | Policy::Plain(model) => {
                read(*model, text, n_rows, Rows::Full, user)
            }
        };
        self.text.truncate(len);
        result
    }

    /// Lets the user model go on from an undecided position by its own choices, until so many positions are undecided
    /// that it has probably gone wrong, or the text would end.
    fn go_ahead(&mut self, sampler: &Sampler, is_end: &dyn Fn(Token) -> bool) -> Result<()> {
        let Policy::Cope { user, base, .. } = &mut self.policy else {
            return Ok(());
        };
        let most = BREAK_EVEN.ln() / self.acceptance.max(f64::EPSILON).ln();
        let most = (most.abs() as usize).min(self.schedule.speculate);
        let (max_rows, n_ctx) = (base.max_rows(), user.n_ctx());
        let mut guesser = sampler.clone();
        let mut head = self.candidates.clone();
        let mut n_undecided = 0;
        self.ahead.clear();
        loop {
            n_undecided += usize::from(head.len() > 1);
            let len = self.text.len() + self.ahead.len();
            let guess = guesser.choose(&head, self.n_forgotten + len);
            self.ahead.push_back(head);
            let is_enough = n_undecided > most || self.ahead.len() == max_rows || len >= n_ctx;
            if is_enough || is_end(guess) {
                return Ok(());
            }
            guesser.accept(guess)?;
            self.statistics.n_guessed += 1;
            let started = Instant::now();
            // A draft may have been read that far already.
            if user.tokens().get(len) != Some(&guess) || !user.rows().contains(&(len + 1)) {
                user.truncate(len);
                user.extend(&[guess], 1, Rows::Full)?;
                let passes = &mut self.statistics.user;
                passes.n_passes += 1;
                passes.n_tokens += 1;
                passes.time += started.elapsed();
            }
            head = Vec::new();
            guesser.head(user.logits(len + 1), self.plausibility, &mut head)?;
        }
    }

    /// Brings the base as far as the user model is.
    fn read_base(&mut self) -> Result<()> {
        let Policy::Cope { user, base, .. } = &mut self.policy else {
            return Ok(());
        };
        let n_rows = 1 + user.tokens().len().saturating_sub(self.text.len());
        let passes = &mut self.statistics.base;
        let rows = if self.schedule.lean {
            Rows::Candidates
        } else {
            Rows::Full
        };
        read(*base, user.tokens(), n_rows, rows, passes)
    }
}

/// Brings `model` to the end of `sequence`, with rows after its last `n_rows` lengths. What its cache has of the
/// sequence is kept.
fn read<S: LogitSource>(
    model: &mut S,
    sequence: &[Token],
    n_rows: usize,
    rows: Rows,
    passes: &mut Passes,
) -> Result<()> {
    let started = Instant::now();
    let shared = common_len(model.tokens(), sequence);
    model.truncate(shared.min(sequence.len() - n_rows));
    let tokens = &sequence[model.tokens().len()..];
    if tokens.is_empty() {
        return Ok(());
    }
    model.extend(tokens, n_rows, rows)?;
    passes.n_passes += 1;
    passes.n_tokens += tokens.len();
    passes.time += started.elapsed();
    Ok(())
}

/// Both at the same time.
pub(super) fn beside(
    one: impl FnOnce() -> Result<()> + Send,
    other: impl FnOnce() -> Result<()>,
) -> Result<()> {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        let one = one
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        one.and(other)
    })
}

pub(super) fn common_len(one: &[Token], other: &[Token]) -> usize {
    std::iter::zip(one, other)
        .take_while(|(x, y)| x == y)
        .count()
}

#[cfg(test)]
mod tests;
