//! llama.cpp's own samplers, applied to a list of scored candidates.

use std::ptr::NonNull;

use cope_contrast::Candidate;

use super::sampler::RawSampler;
use super::{Token, start, sys};

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
    /// Keeps those whose information is nearest to the expected, until their probabilities sum to `p`.
    Typical(f32),
    /// Divides all scores by a positive temperature.
    Temperature(f32),
}

/// A chain of llama.cpp's samplers with its state, the tokens seen lately. It changes and filters candidates; choosing
/// one is the caller's.
#[derive(Debug, Clone)]
pub struct SamplerChain {
    sampler: RawSampler,
    n_links: usize,
}

impl SamplerChain {
    /// The chain of `links`, applied in their order. `n_vocab` is the size of the vocabulary.
    #[must_use]
    pub fn new(n_vocab: usize, links: &[Link]) -> Self {
        let raw = empty_chain();
        for link in links {
            // SAFETY: the arguments are plain values in their documented ranges, and the chain takes ownership.
            unsafe { sys::llama_sampler_chain_add(raw.as_ptr(), link.init(n_vocab)) };
        }
        Self {
            // SAFETY: just made; all links can be cloned.
            sampler: unsafe { RawSampler::new(raw) },
            n_links: links.len(),
        }
    }

    /// Tells the penalties that `token` has become part of the text.
    pub fn accept(&mut self, token: Token) {
        self.sampler.accept(token);
    }

    /// Lets the links change the scores of `candidates`, at least one, and take some of them out; what stays, at least
    /// one, may be in another order.
    pub fn apply(&mut self, candidates: &mut Vec<Candidate>) {
        if self.n_links > 0 {
            self.sampler.apply(candidates);
        }
    }
}

fn empty_chain() -> NonNull<sys::llama_sampler> {
    start();
    // SAFETY: takes a plain value; allocation failure throws, which ends the process.
    let raw = unsafe { sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params()) };
    NonNull::new(raw).expect("llama.cpp gives a chain")
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
                Self::Typical(p) => sys::llama_sampler_init_typical(p, MIN_KEEP),
                Self::Temperature(temperature) => sys::llama_sampler_init_temp(temperature),
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

    fn applied(chain: &mut SamplerChain, scores: &[f32]) -> Vec<Candidate> {
        let mut candidates = candidates(scores);
        chain.apply(&mut candidates);
        candidates
    }

    #[test]
    fn no_link_changes_nothing() {
        let scores = [0.0, 3.0, 1.0];
        let mut chain = SamplerChain::new(3, &[]);
        assert_eq!(applied(&mut chain, &scores), candidates(&scores));
    }

    #[test]
    fn filters_leave_only_the_best() {
        for link in [
            Link::TopK(1),
            Link::TopP(0.05),
            Link::MinP(0.9),
            Link::Typical(0.05),
        ] {
            let mut chain = SamplerChain::new(4, &[link]);
            let left = applied(&mut chain, &[0.0, 9.0, 1.0, -1.0]);
            assert_eq!(left.len(), 1, "{link:?}");
            assert_eq!(left[0].token, 1, "{link:?}");
        }
        let halved = applied(
            &mut SamplerChain::new(2, &[Link::Temperature(2.0)]),
            &[1.0, 3.0],
        );
        assert_eq!(halved, candidates(&[0.5, 1.5]));
    }

    #[test]
    fn penalties_count_only_the_last_tokens_and_a_clone_goes_its_own_way() {
        let penalties = Link::Penalties {
            last_n: 2,
            repeat: 1.0,
            frequency: 0.0,
            presence: 5.0,
        };
        let mut chain = SamplerChain::new(4, &[penalties]);
        let scores = [3.0, 2.0, 1.0, 0.0];
        chain.accept(0);
        chain.accept(1);
        let mut clone = chain.clone();
        assert_eq!(
            applied(&mut chain, &scores),
            candidates(&[-2.0, -3.0, 1.0, 0.0])
        );
        clone.accept(2);
        assert_eq!(
            applied(&mut clone, &scores),
            candidates(&[3.0, -3.0, -4.0, 0.0])
        );
        assert_eq!(
            applied(&mut chain, &scores),
            candidates(&[-2.0, -3.0, 1.0, 0.0])
        );
    }
}
