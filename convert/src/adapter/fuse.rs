//! Adapters of q, k and v for a base that holds them as one matrix.

use std::collections::BTreeMap;

use crate::error::{AdapterFlaw, Error, Result, excerpt};
use crate::family::{Family, fused_tensor};
use crate::gguf::{Gguf, TensorInfo};

use super::{Adapter, StoredPair, StoredPart};

impl Adapter<StoredPair> {
    /// The adapter for the tensors of `base`: where the base holds q, k and v as one matrix, their pairs become one pair,
    /// whose rank is the sum of theirs. It changes the base as before.
    ///
    /// # Errors
    ///
    /// A matrix does not fit the base, or the base is of a family that is not known.
    pub fn fused_for(mut self, base: &Gguf) -> Result<Self> {
        // An adapter of another family does not fit, whatever its tensors are called.
        let is_of_family = self.architecture == base.architecture()?;
        let is_part = |pair: &&StoredPair| is_of_family && whole(base, &pair.name).is_some();
        let part = self.tensors.iter().find(is_part);
        let Some(part) = part.and_then(|pair| pair.parts.first()) else {
            return Ok(self);
        };
        let path = part.a.path.to_path_buf();
        let family = Family::read(base)?;
        let tensors = fuse(self.tensors, self.lora_alpha, &family, base);
        self.tensors = tensors.map_err(|flaw| Error::Adapter { path, flaw })?;
        Ok(self)
    }
}

/// The tensor of which the tensor `name`, which `base` lacks, is a part.
fn whole<'g>(base: &'g Gguf, name: &str) -> Option<&'g TensorInfo> {
    fused_tensor(base, name).filter(|_| base.tensor(name).is_none())
}

/// Puts the pairs together whose tensors the base holds as one. Pairs are sorted by name, before and after.
pub(crate) fn fuse(
    pairs: Vec<StoredPair>,
    lora_alpha: f32,
    family: &Family,
    base: &Gguf,
) -> Result<Vec<StoredPair>, AdapterFlaw> {
    let mut all = BTreeMap::<String, StoredPair>::new();
    for pair in pairs {
        let (name, mut pair) = match whole(base, &pair.name) {
            Some(whole) => (whole.name.clone(), part(pair, whole, family)?),
            None => (pair.name.clone(), pair),
        };
        match all.get_mut(&name) {
            Some(fused) => fused.parts.append(&mut pair.parts),
            None => drop(all.insert(name, pair)),
        }
    }
    for pair in all.values_mut().filter(|pair| pair.is_fused()) {
        pair.parts.sort_by_key(|part| part.first_row);
        // Without alpha the factor is 1 at any rank. With it, the factor alpha / rank of the tensor has the rank of all parts,
        // and each part was read with its own.
        if lora_alpha == 0.0 {
            continue;
        }
        let rank = pair.parts.iter().map(|part| part.a.rows).sum::<usize>() as f32;
        for part in &mut pair.parts {
            part.b.factor *= rank / part.a.rows as f32;
        }
    }
    Ok(all.into_values().collect())
}

/// The pair of a layer as a pair of the tensor `whole`, which holds it.
fn part(
    mut pair: StoredPair,
    whole: &TensorInfo,
    family: &Family,
) -> Result<StoredPair, AdapterFlaw> {
    let &[n_in, n_out] = &*whole.shape else {
        return Ok(pair);
    };
    let parts = family.parts(&whole.name, n_out as usize);
    let place = parts.and_then(|it| it.into_iter().find(|(name, _)| *name == pair.name));
    let rows = place.map_or(0..0, |(_, rows)| rows);
    for StoredPart { a, b, first_row } in &mut pair.parts {
        for (matrix, fits) in [(&*a, a.cols == n_in as usize), (b, b.rows == rows.len())] {
            if !fits {
                return Err(AdapterFlaw::Part {
                    tensor: excerpt(&matrix.tensor),
                    shape: [matrix.rows, matrix.cols],
                    whole: whole.name.clone(),
                });
            }
        }
        *first_row = rows.start;
    }
    pair.name.clone_from(&whole.name);
    pair.n_out = n_out as usize;
    Ok(pair)
}
