//! llama.cpp's own samplers, applied to a list of scored candidates.

use std::ptr::NonNull;

use super::{Token, start, sys};

/// A token that may come next, and its score: a logit, or a contrast of logits. Only differences matter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub token: Token,
    /// Its score, unnormalised and finite.
    pub score: f32,
}

/// A link of a chain: one of llama.cpp's samplers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Link {
    /// Lowers the scores of tokens seen lately.
    Penalties {
        /// How many of the last tokens count.
        last_n: u32,
        /// Divides positive scores and multiplies negative ones; above 0, 1 for none.
        repeat: f32,
        /// Subtracted once per occurrence; finite, 0 for none.
        frequency: f32,
        /// Subtracted once; finite, 0 for none.
        presence: f32,
    },
    /// Keeps the `k` best, `k ≥ 1`.
    TopK(u32),
    /// Keeps the best whose probabilities sum to `p`.
    TopP(f32),
    /// Keeps those at least `p` times as probable as the best.
    MinP(f32),
    /// Divides all scores by a positive temperature.
    Temperature(f32),
    /// Chooses the best; of equals, the first in the list.
    Greedy,
    /// Draws by probability, from a generator of this seed; `u32::MAX` takes the seed from the clock.
    Draw {
        /// The generator's seed.
        seed: u32,
    },
}

/// A chain of llama.cpp's samplers with its state: the tokens seen lately and the random generator.
#[derive(Debug)]
pub struct SamplerChain {
    raw: NonNull<sys::llama_sampler>,
    data: Vec<sys::llama_token_data>,
}

// SAFETY: a chain belongs to no thread and shares nothing.
unsafe impl Send for SamplerChain {}

impl SamplerChain {
    /// The chain of `links`, applied in their order; the last must choose ([`Link::Greedy`] or [`Link::Draw`]).
    /// `n_vocab` is the size of the vocabulary.
    ///
    /// # Panics
    ///
    /// If the last link does not choose.
    #[must_use]
    pub fn new(n_vocab: usize, links: &[Link]) -> Self {
        assert!(
            matches!(links.last(), Some(Link::Greedy | Link::Draw { .. })),
            "a chain of samplers ends with one that chooses"
        );
        start();
        // SAFETY: takes a plain value; allocation failure throws, which ends the process.
        let raw =
            unsafe { sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params()) };
        let raw = NonNull::new(raw).expect("llama.cpp gives a chain");
        for link in links {
            // SAFETY: the arguments are plain values in their documented ranges, and the chain takes ownership.
            unsafe { sys::llama_sampler_chain_add(raw.as_ptr(), link.init(n_vocab)) };
        }
        Self {
            raw,
            data: Vec::new(),
        }
    }

    /// Tells the penalties that `token` has become part of the text.
    pub fn accept(&mut self, token: Token) {
        // SAFETY: the chain is live.
        unsafe { sys::llama_sampler_accept(self.raw.as_ptr(), token) };
    }

    /// The token that the chain chooses among `candidates`.
    ///
    /// # Panics
    ///
    /// If there is no candidate.
    pub fn choose(&mut self, candidates: &[Candidate]) -> Token {
        assert!(
            !candidates.is_empty(),
            "a token is chosen among at least one"
        );
        self.data.clear();
        self.data
            .extend(candidates.iter().map(|candidate| sys::llama_token_data {
                id: candidate.token,
                logit: candidate.score,
                p: 0.0,
            }));
        let mut array = sys::llama_token_data_array {
            data: self.data.as_mut_ptr(),
            size: self.data.len(),
            selected: -1,
            sorted: false,
        };
        // SAFETY: the chain is live, and the array points to `size` entries that outlive the call.
        unsafe { sys::llama_sampler_apply(self.raw.as_ptr(), &raw mut array) };
        // Samplers reorder the entries in place and shorten `size`, so the choice is within `data`.
        let selected = usize::try_from(array.selected).expect("the last link chooses");
        self.data[selected].id
    }
}

impl Drop for SamplerChain {
    fn drop(&mut self) {
        // SAFETY: the chain is live and frees its links.
        unsafe { sys::llama_sampler_free(self.raw.as_ptr()) };
    }
}

impl Link {
    /// A new sampler, owned by the caller.
    ///
    /// # Safety
    ///
    /// The link's numbers must be in their documented ranges.
    unsafe fn init(self, n_vocab: usize) -> *mut sys::llama_sampler {
        // What is kept is never less than one candidate.
        const MIN_KEEP: usize = 1;
        // SAFETY: plain values, in their ranges by this function's contract.
        unsafe {
            match self {
                Self::Penalties {
                    last_n,
                    repeat,
                    frequency,
                    presence,
                } => sys::llama_sampler_init_penalties(
                    n_vocab as i32,
                    last_n.min(i32::MAX as u32) as i32,
                    repeat,
                    frequency,
                    presence,
                ),
                Self::TopK(k) => sys::llama_sampler_init_top_k(k.min(i32::MAX as u32) as i32),
                Self::TopP(p) => sys::llama_sampler_init_top_p(p, MIN_KEEP),
                Self::MinP(p) => sys::llama_sampler_init_min_p(p, MIN_KEEP),
                Self::Temperature(temperature) => sys::llama_sampler_init_temp(temperature),
                Self::Greedy => sys::llama_sampler_init_greedy(),
                Self::Draw { seed } => sys::llama_sampler_init_dist(seed),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(scores: &[f32]) -> Vec<Candidate> {
        (0..)
            .zip(scores)
            .map(|(token, &score)| Candidate { token, score })
            .collect()
    }

    #[test]
    fn greedy_takes_the_best_and_the_first_of_equals() {
        let mut chain = SamplerChain::new(4, &[Link::Greedy]);
        assert_eq!(chain.choose(&candidates(&[0.0, 3.0, 1.0, 3.0])), 1);
        assert_eq!(chain.choose(&candidates(&[-1.0])), 0);
    }

    #[test]
    fn draws_repeat_by_seed_and_follow_the_scores() {
        let draw = |seed| {
            let mut chain = SamplerChain::new(4, &[Link::Draw { seed }]);
            let scores = candidates(&[0.0, 2.0, 1.0, -50.0]);
            (0..200).map(|_| chain.choose(&scores)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let count = |token| draw(7).iter().filter(|&&drawn| drawn == token).count();
        assert!(count(1) > count(2) && count(2) > count(0) && count(0) > 0 && count(3) == 0);
    }

    #[test]
    fn filters_leave_only_the_best() {
        for link in [
            Link::TopK(1),
            Link::TopP(0.05),
            Link::MinP(0.9),
            Link::Temperature(1e-3),
        ] {
            let mut chain = SamplerChain::new(4, &[link, Link::Draw { seed: 1 }]);
            for _ in 0..50 {
                assert_eq!(
                    chain.choose(&candidates(&[0.0, 2.0, 1.0, -1.0])),
                    1,
                    "{link:?}"
                );
            }
        }
    }

    #[test]
    fn penalties_count_only_the_last_tokens() {
        let penalties = Link::Penalties {
            last_n: 2,
            repeat: 1.0,
            frequency: 0.0,
            presence: 5.0,
        };
        let mut chain = SamplerChain::new(4, &[penalties, Link::Greedy]);
        let scores = candidates(&[3.0, 2.0, 1.0, 0.0]);
        let chosen: Vec<_> = (0..5)
            .map(|_| {
                let token = chain.choose(&scores);
                chain.accept(token);
                token
            })
            .collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1]);
    }
}
