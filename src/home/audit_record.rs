//! The record of an audit: how much of a user's texts their adapter gives away.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::read_json_if_there;
use crate::Result;
use crate::estimate::Estimate;

/// The name of the record's file.
pub(super) const FILE: &str = "audit.json";

/// The findings of an audit of `adapter.gguf`, in `audit.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// The SHA-256 of the adapter, in hexadecimal. The record counts for no other.
    pub adapter_sha256: String,
    /// The texts that it was trained on, and how many of them are given back.
    pub trained: GivenBack,
    /// The same of texts that it was not trained on, for comparison.
    pub untrained: GivenBack,
    /// How well trained texts are told from others; `None` where there are too few others.
    pub membership: Option<Membership>,
    /// The canaries of a second training; `None` if there was none.
    pub canaries: Option<CanaryRecord>,
}

/// A figure for each arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ByArm<T> {
    /// The base's.
    pub base: T,
    /// The user model's.
    pub user: T,
    /// CoPe's.
    pub cope: T,
}

impl<T> ByArm<T> {
    /// The figures of base, user model and CoPe that `figure` gives for 0, 1 and 2.
    pub fn new(mut figure: impl FnMut(usize) -> T) -> Self {
        Self {
            base: figure(0),
            user: figure(1),
            cope: figure(2),
        }
    }

    /// The values that `figure` makes of the figures.
    pub fn map<U>(&self, mut figure: impl FnMut(&T) -> U) -> ByArm<U> {
        ByArm {
            base: figure(&self.base),
            user: figure(&self.user),
            cope: figure(&self.cope),
        }
    }

    /// The figures of base, user model and CoPe.
    pub fn each(&self) -> [&T; 3] {
        [&self.base, &self.user, &self.cope]
    }
}

impl<T> From<[T; 3]> for ByArm<T> {
    fn from([base, user, cope]: [T; 3]) -> Self {
        Self { base, user, cope }
    }
}

/// Numbers of texts of which greedy decoding gives back a part: it writes [`GivenBack::N_TOKENS`] tokens or more as they
/// stand there when it is given the prompt and the tokens before. Tokens that the prompt holds do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GivenBack {
    /// The texts that have so many tokens which their prompts do not hold.
    pub n_texts: usize,
    /// The texts of which any part is given back.
    pub any: ByArm<usize>,
    /// The texts of which the part that the base finds least probable is given back.
    pub rarest: ByArm<usize>,
}

impl GivenBack {
    /// The length of a part, in tokens.
    pub const N_TOKENS: usize = 8;
}

/// How well somebody who has a text can tell whether it was trained on: areas under the ROC curve. At 0.5 nobody can, at 1
/// everybody.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Membership {
    /// The number of texts that were not trained on, with which those that were are compared.
    pub n_untrained: usize,
    /// The areas by the mean log-probability of a token. The base knows neither; its area says how unlike the two kinds of texts are.
    pub by_logprob: ByArm<Estimate>,
    /// The area by how much likelier a token is under the user model than under the base, in the mean: what the contrast adds.
    pub by_gain: Estimate,
}

/// The memory of canaries: invented numbers that were planted among the texts of a training, once each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CanaryRecord {
    /// The number of canaries.
    pub n_canaries: usize,
    /// Mean exposure, in bits (Carlini et al. 2019): `log2 n − log2 rank`, with the rank of a canary's number among
    /// [`CanaryRecord::N_NUMBERS`] numbers by their probabilities. Without any memory it is 1.4, and at most 8.
    pub exposure: ByArm<f64>,
    /// The canaries whose number greedy decoding writes when it is given the words before.
    pub given_back: ByArm<usize>,
}

impl AuditRecord {
    /// The record in the folder of an adapter, if it is of this adapter.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] when a file cannot be read; [`crate::Error::Damaged`] when the record is malformed.
    pub fn beside(adapter: &Path) -> Result<Option<Self>> {
        let record: Option<Self> = read_json_if_there(&adapter.with_file_name(FILE))?;
        match record.filter(|_| adapter.is_file()) {
            Some(record) if record.adapter_sha256 == cope_convert::sha256(adapter)? => {
                Ok(Some(record))
            }
            _ => Ok(None),
        }
    }
}

impl CanaryRecord {
    /// The numbers that a canary's is ranked among, itself included.
    pub const N_NUMBERS: usize = 256;
}
