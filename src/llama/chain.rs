//! Chains of llama.cpp's samplers, applied to a list of scored candidates.

use std::ptr::NonNull;

use cope_contrast::Candidate;

use super::raw_sampler::RawSampler;
use super::{Token, start, sys};

/// A link of a chain: one of llama.cpp's samplers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Link {
    /// Lowers the scores of the last tokens of the text.
    Penalties {
        /// The number of last tokens that are penalised.
        last_n: u32,
        /// Divides positive scores and multiplies negative ones; above 0, 1 for no penalty.
        repeat: f32,
        /// Subtracted once per occurrence; finite, 0 for no penalty.
        frequency: f32,
        /// Subtracted once; finite, 0 for no penalty.
        presence: f32,
    },
    /// Keeps the `k` candidates of the highest scores, `k ≥ 1`.
    TopK(u32),
    /// Keeps the likeliest candidates whose probabilities sum to `p` (nucleus sampling).
    TopP(f32),
    /// Keeps the candidates at least `p` times as probable as the likeliest.
    MinP(f32),
    /// Keeps the candidates whose information is nearest to the entropy, until their probabilities sum to `p` (locally
    /// typical sampling).
    Typical(f32),
    /// Divides all scores by a positive temperature.
    Temperature(f32),
}

/// A chain of llama.cpp's samplers with its state, the last tokens of the text. It changes and filters candidates; the
/// caller chooses one.
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

    /// Feeds the accepted `token` to the penalties.
    pub fn accept(&mut self, token: Token) {
        self.sampler.accept(token);
    }

    /// Applies all links, which may change the scores of `candidates`, remove some of them, and reorder the rest.
    /// `candidates` is not empty, before and after.
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
        // Each link keeps at least one candidate.
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
    use crate::llama::test_kit::candidates;

    fn applied(chain: &mut SamplerChain, scores: &[f32]) -> Vec<Candidate> {
        let mut candidates = candidates(scores);
        chain.apply(&mut candidates);
        candidates
    }

    #[test]
    fn a_chain_without_links_changes_nothing() {
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
    fn penalties_apply_to_the_last_tokens_alone_and_a_clone_has_its_own_state() {
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
