//! The choice between a model's factors of the rotary frequencies for short and for long contexts, as Phi-3 has them.
//! llama.cpp chooses by the size of the context, whatever the length of the text in it: the long ones in a context that has
//! room for more tokens than the model was trained for at first.

use cope_convert::RopeFactors;
use cope_convert::gguf::Gguf;

use super::padded_ctx;
use crate::{Error, Result};

/// The sizes by which a model's factors are chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct FactorSets {
    /// The longest context of the model, in tokens.
    n_ctx_train: u32,
    /// The largest context in which the short factors count, in tokens.
    original: u32,
}

impl FactorSets {
    /// The sizes of `model`; `None` if it has no two sets.
    pub fn of(model: &Gguf) -> Option<Self> {
        let architecture = model.architecture().ok()?;
        let number = |key: &str| model.get(&format!("{architecture}.{key}"))?.as_u32();
        let is_set = |name: &str| {
            model
                .tensor(&format!("rope_factors_{name}.weight"))
                .is_some()
        };
        if !is_set("long") && !is_set("short") {
            return None;
        }
        let n_ctx_train = number("context_length")?;
        let original = number("rope.scaling.original_context_length");
        Some(Self {
            n_ctx_train,
            original: original.unwrap_or(n_ctx_train),
        })
    }

    /// The set that counts in a context of `n_ctx` tokens.
    pub fn in_context(self, n_ctx: u32) -> RopeFactors {
        if padded_ctx(n_ctx, self.n_ctx_train) > self.original {
            RopeFactors::Long
        } else {
            RopeFactors::Short
        }
    }

    /// Refuses an adapter that was trained with `trained` factors in a context of `n_ctx` tokens that rotates by the other
    /// ones.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if it does.
    pub fn check(self, trained: RopeFactors, n_ctx: u32) -> Result<()> {
        if self.in_context(n_ctx) == trained {
            return Ok(());
        }
        let (range, advice) = match trained {
            RopeFactors::Short => ("up to", "smaller"),
            RopeFactors::Long => ("of more than", "larger"),
        };
        Err(Error::input(format!(
            "the adapter was trained for contexts {range} {} tokens, and this one has {}, in which the model rotates positions otherwise; choose a {advice} context, or train again for this one",
            self.original,
            padded_ctx(n_ctx, self.n_ctx_train),
        )))
    }
}

/// The factors by which a context of `n_ctx` tokens rotates; `None` for a model that has no two sets.
#[must_use]
pub fn rope_factors(model: &Gguf, n_ctx: u32) -> Option<RopeFactors> {
    FactorSets::of(model).map(|sets| sets.in_context(n_ctx))
}
