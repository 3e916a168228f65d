//! Schedules: which passes run, and when.
//!
//! The naive schedule runs each model over each token, one model after the other. All other schedules give the same tokens,
//! since the choice at a position depends only on the logits after the tokens before it, and neither on when these were
//! computed nor on what was tried meanwhile ([`Sampler`]). So models may read ahead of the text. Tokens that were read ahead
//! stay in the cache as long as the text continues with them, and are removed where it does not.
//!
//! ```text
//! text    ████████████▌            ▌ the position whose token is to be chosen
//! user    ████████████▌░░░         ░ read ahead: a draft, or guesses
//! base    █████████   ▌            waits, while V_head has one token
//! ```
//!
//! Schedules differ only in rounding, which depends on the number of tokens of a pass.

use std::collections::VecDeque;
use std::time::Instant;

use super::choice::Explainer;
use super::draft::Drafter;
use super::sampling::best;
use super::{Candidate, Choice, LogitSource, Passes, Policy, Rows, Sampler, Statistics};
use crate::llama::Token;
use crate::{Error, Result};

/// A schedule of passes; each part can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassSchedule {
    /// Whether base and user model run at the same time, each on half of the threads. With small models, the threads of a
    /// CPU often wait for each other, so that two passes side by side take little longer than one. With `lean`, the user
    /// model's output head is computed after both passes, on all threads. Prompts are read one after the other.
    pub side_by_side: bool,
    /// Whether the base's output head is computed for the candidates alone.
    pub lean: bool,
    /// Whether the base waits while `V_head` has only one token, and later reads all tokens that it has missed in one pass.
    /// Side by side, only the base's reading of a prompt waits.
    pub lazy: bool,
    /// The most undecided positions (those with more than one token in `V_head`) over which the user model reads ahead of
    /// the base, by its own guesses; 0 for none. It has no effect side by side.
    pub speculate: usize,
    /// The most tokens of a draft; 0 for none.
    pub draft: usize,
}

/// The processor that runs the passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// A CPU, by this many threads.
    Cpu {
        /// Threads of a context, at least 1.
        n_threads: usize,
    },
    /// A GPU.
    Gpu,
}

impl PassSchedule {
    /// The naive schedule, which runs both models over each token, one after the other. Tests compare the others with it.
    pub const NAIVE: Self = Self {
        side_by_side: false,
        lean: false,
        lazy: false,
        speculate: 0,
        draft: 0,
    };

    /// The default number of tokens that a model reads ahead. A pass then has 8 tokens, which suits ggml's kernels.
    pub const AHEAD: usize = 7;

    /// The fastest schedule. On a CPU the time of a pass grows with its tokens; on a GPU a pass over a few tokens takes hardly
    /// longer than one over a single token.
    #[must_use]
    pub fn fastest(processor: Processor) -> Self {
        match processor {
            Processor::Cpu { n_threads } => Self {
                side_by_side: n_threads > 1,
                lean: true,
                lazy: true,
                speculate: 0,
                draft: Self::AHEAD,
            },
            Processor::Gpu => Self {
                side_by_side: false,
                lean: false,
                lazy: true,
                speculate: Self::AHEAD,
                draft: Self::AHEAD,
            },
        }
    }
}

impl PassSchedule {
    /// This schedule for models that can go back by at most `max_cut` tokens of a pass ([`LogitSource::max_cut`]): drafts are
    /// not longer, and where guesses could not be taken back, none are read ahead one by one.
    fn within(self, max_cut: usize) -> Self {
        Self {
            speculate: if max_cut == usize::MAX {
                self.speculate
            } else {
                0
            },
            draft: self.draft.min(max_cut),
            ..self
        }
    }

    /// This schedule without the parts that leave out logits that explanations need.
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
        Self::fastest(Processor::Cpu { n_threads: 2 })
    }
}

/// The least number of repeated tokens before a draft. After shorter repeats, too few tokens of a draft are right to pay for
/// the others.
const MIN_MATCH: usize = 8;

/// The probability that all guesses are right above which reading ahead saves time.
const BREAK_EVEN: f64 = 0.6;

/// The weight of the newest guess in the moving average [`Scheduler::acceptance`].
const NEWEST: f64 = 0.1;

/// The most tokens that two models read side by side. A pass over more tokens keeps all threads busy, and reads faster with
/// all of them.
pub(super) const MAX_BESIDE: usize = 2 * PassSchedule::AHEAD;

/// Runs the passes that the choice of each token needs.
pub(super) struct Scheduler<'a, S> {
    policy: Policy<&'a mut S>,
    schedule: PassSchedule,
    /// The least probability of a candidate, relative to the likeliest token.
    plausibility: f32,
    /// The tokens of the prompt and of the answer, without those that a shift has removed.
    text: Vec<Token>,
    n_forgotten: usize,
    drafter: Drafter,
    /// `V_head` at the position whose token is to be chosen, and at the positions after it that the user model has read
    /// ahead.
    ahead: VecDeque<Vec<Candidate>>,
    /// A moving average of how often a guess was right.
    acceptance: f64,
    /// The number of tokens that were read ahead as part of a draft.
    n_draft: usize,
    candidates: Vec<Candidate>,
    opinions: Vec<f32>,
    /// The user model's likeliest candidate.
    first: Token,
    /// The user model's choice without contrast; `None` where a contrast cannot change it.
    alone: Option<Token>,
    statistics: Statistics,
}

impl<'a, S: LogitSource> Scheduler<'a, S> {
    /// A scheduler at the end of `prompt`; [`Policy::plausibility`] explains `takes_the_best`.
    pub fn new(
        policy: Policy<&'a mut S>,
        schedule: PassSchedule,
        prompt: &[Token],
        mut drafter: Drafter,
        takes_the_best: bool,
    ) -> Self {
        let plausibility = policy.plausibility(takes_the_best);
        let mut policy = if schedule.lazy {
            policy.without_idle_base()
        } else {
            policy
        };
        policy.each_mut().for_each(|model| {
            // The last token is always read again, for a row of the kind that this schedule needs.
            model.truncate(common_len(model.tokens(), prompt).min(prompt.len() - 1));
        });
        let max_cut = policy.each_mut().map(|model| model.max_cut()).min();
        drafter.extend(prompt);
        Self {
            policy,
            schedule: schedule.within(max_cut.unwrap_or(usize::MAX)),
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
            alone: None,
            statistics: Statistics {
                n_prompt: prompt.len(),
                ..Statistics::default()
            },
        }
    }

    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Whether the context has no room to read the newest token.
    pub fn is_full(&self) -> bool {
        self.text.len() > self.policy.leader().n_ctx()
    }

    /// Chooses the next token, which becomes part of the text when it is [pushed](Self::push).
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

    /// The token that the user model would have chosen last without contrast; `None` if it is the chosen one in any case,
    /// since only one model answers or only one token was plausible.
    pub fn alone(&self) -> Option<Token> {
        self.alone
    }

    /// Explains the choice of `token`, the one chosen last. The schedule is one of
    /// [`PassSchedule::explained`], which keeps the logits for that.
    pub fn explain(&self, token: Token) -> Choice {
        let len = self.text.len();
        let base_logits = match &self.policy {
            Policy::Plain(_) => None,
            Policy::Cope { base, .. } => Some(base.logits(len)),
        };
        let user_logits = self.policy.leader().logits(len);
        let n_plausible = self.candidates.len();
        let explainer = Explainer::new(user_logits, base_logits, n_plausible, self.first);
        let chosen = self.candidates.iter().find(|it| it.token == token);
        let unknown = Candidate {
            token,
            score: f32::NAN,
        };
        explainer.explain(*chosen.unwrap_or(&unknown))
    }

    /// Appends `token` to the text, and removes from the caches what was read ahead and is wrong.
    pub fn push(&mut self, token: Token) {
        let len = self.text.len();
        self.text.push(token);
        self.drafter.extend(&[token]);
        let models = self.policy.each_mut();
        let passes = [&mut self.statistics.user, &mut self.statistics.base];
        let mut user_has_read = false;
        for (number, (model, passes)) in models.zip(passes).enumerate() {
            let ahead = model.tokens().get(len).copied();
            if ahead.is_some_and(|ahead| ahead != token) {
                model.truncate(len);
                passes.n_rollbacks += 1;
            }
            user_has_read |= number == 0 && ahead == Some(token);
        }
        if user_has_read && self.n_draft > 0 {
            self.statistics.n_draft_accepted += 1;
            self.n_draft -= 1;
        } else {
            self.n_draft = 0;
        }
        if user_has_read && self.ahead.len() > 1 {
            self.statistics.n_guess_accepted += 1;
            self.ahead.pop_front();
        } else {
            self.ahead.clear();
        }
    }

    /// Makes room in each model alike: keeps the first `n_keep` tokens (at most half of the context) and removes the older
    /// half of the others. Returns how many were removed. The models must be able to shift.
    pub fn shift(&mut self, n_keep: usize) -> Result<usize> {
        // All tokens but the newest have to be read before any are removed.
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

    /// The position of the next token, counted from the beginning of the prompt, removed tokens included.
    fn position(&self) -> usize {
        self.n_forgotten + self.text.len()
    }

    /// Fills `candidates` with the candidates for the next token and their scores.
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
        self.alone = None;
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
                self.read_ahead(sampler, is_end)?;
            }
            self.read_base()?;
        }
        self.alone = is_undecided.then(|| sampler.choose(&self.candidates, self.position()));
        let Policy::Cope { base, .. } = &mut self.policy else {
            unreachable!("there is a base");
        };
        base.logits_of(len, &self.candidates, &mut self.opinions)?;
        contrast.apply(&mut self.candidates, &self.opinions);
        if let Some(guess) = self.alone.filter(|_| self.schedule.speculate > 0) {
            let is_right = sampler.choose(&self.candidates, self.position()) == guess;
            self.acceptance += NEWEST * (f64::from(u8::from(is_right)) - self.acceptance);
        }
        Ok(())
    }

    /// Brings the leader to the end of the text, and of a draft if there is one. In a side-by-side schedule, brings the base
    /// there too, unless the leader has a prompt to read.
    fn read_leader(&mut self) -> Result<()> {
        let len = self.text.len();
        let is_prompt = len - self.policy.leader().tokens().len() > MAX_BESIDE;
        if self.schedule.side_by_side && !is_prompt {
            self.catch_up()?;
        }
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
            } if self.schedule.side_by_side && !is_prompt => {
                base_model.share_threads(2);
                user_model.share_threads(2);
                beside(
                    || read(*base_model, text, n_rows, base_rows, base),
                    || read(*user_model, text, n_rows, user_rows, user),
                )
                .and_then(|()| {
                    let started = Instant::now();
                    user_model.finish()?;
                    user.time += started.elapsed();
                    Ok(())
                })
            }
            Policy::Cope { user: model, .. } | Policy::Plain(model) => {
                model.share_threads(1);
                read(*model, text, n_rows, Rows::Full, user)
            }
        };
        self.text.truncate(len);
        result
    }

    /// Lets the user model read ahead from an undecided position by its own guesses, until so many positions are undecided
    /// that a guess is probably wrong, or the text would end.
    fn read_ahead(&mut self, sampler: &Sampler, is_end: &dyn Fn(Token) -> bool) -> Result<()> {
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

    /// Brings a base that has a prompt to read to where the user model is, so that the two can go on side by side.
    fn catch_up(&mut self) -> Result<()> {
        let is_behind = match &self.policy {
            Policy::Cope { user, base, .. } => {
                user.tokens().len() > common_len(base.tokens(), user.tokens()) + MAX_BESIDE
            }
            Policy::Plain(_) => false,
        };
        if is_behind { self.read_base() } else { Ok(()) }
    }

    /// Brings the base to where the user model is.
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
        base.share_threads(1);
        read(*base, user.tokens(), n_rows, rows, passes)
    }
}

/// Brings `model` to the end of `sequence`, with rows after the last `n_rows` tokens. A prefix of the sequence that is in the
/// cache is not read again.
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

/// Runs both at the same time. If both fail, the first error is returned.
pub(super) fn beside(
    one: impl FnOnce() -> Result<()> + Send,
    other: impl FnOnce() -> Result<()>,
) -> Result<()> {
    std::thread::scope(|scope| {
        let one = std::thread::Builder::new().spawn_scoped(scope, one);
        let one = one.map_err(Error::no_thread)?;
        let other = other();
        let one = one
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        one.and(other)
    })
}

/// The length of the longest common prefix.
pub(super) fn common_len(one: &[Token], other: &[Token]) -> usize {
    std::iter::zip(one, other)
        .take_while(|(x, y)| x == y)
        .count()
}

#[cfg(test)]
mod tests;
