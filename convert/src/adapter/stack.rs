//! Stacks several adapters into one that equals their sum exactly: `A = [A₁; A₂; …]`, `B = [s₁B₁, s₂B₂, …]`,
//! `lora_alpha = rank`, where `sᵢ` is an adapter's factor times its `lora_scale`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Adapter, LoraPair};
use crate::error::{Error, Result};
use crate::gguf::GgmlType;

/// The pairs of several adapters for one tensor, as one pair whose matrices are put together on demand.
#[derive(Debug, Clone)]
pub struct StackedPair<'a, P> {
    name: &'a str,
    rank: usize,
    parts: Vec<Part<'a, P>>,
}

#[derive(Debug, Clone)]
struct Part<'a, P> {
    pair: &'a P,
    scale: f32,
    /// The index of its first row in the stacked `A`, and of its first column in the stacked `B`. Rows and columns that
    /// belong to no part are 0.
    first: usize,
}

/// The sum of `adapters`, each times its factor and its own `lora_scale`.
pub(super) fn stack<'a, P: LoraPair>(
    adapters: &[(&'a Adapter<P>, f32)],
) -> Result<Adapter<StackedPair<'a, P>>> {
    let (Some(&(first, _)), Some(&(last, _))) = (adapters.first(), adapters.last()) else {
        return Err(Error::Stack("there are no adapters to stack".into()));
    };
    for (other, _) in adapters {
        let has_same_base = first.architecture == other.architecture
            && match (&first.base_sha256, &other.base_sha256) {
                (Some(x), Some(y)) => x == y,
                _ => true,
            };
        if !has_same_base {
            return Err(Error::Stack(
                "the adapters belong to different bases".into(),
            ));
        }
        if let (Some(x), Some(y)) = (first.rope_factors, other.rope_factors)
            && x != y
        {
            return Err(Error::Stack(
                "one adapter was trained for short contexts and another for long ones".into(),
            ));
        }
    }
    let rank: usize = adapters.iter().map(|(adapter, _)| adapter.rank()).sum();
    let mut stacked: BTreeMap<&str, StackedPair<'_, P>> = BTreeMap::new();
    let mut first = 0;
    for &(adapter, factor) in adapters {
        for pair in &adapter.tensors {
            let name = pair.name();
            let parts = Vec::new();
            let whole = stacked
                .entry(name)
                .or_insert(StackedPair { name, rank, parts });
            whole.parts.push(Part {
                pair,
                scale: factor * adapter.lora_scale(pair.rank()),
                first,
            });
            if (whole.n_in(), whole.n_out()) != (pair.n_in(), pair.n_out()) {
                return Err(Error::Stack(format!(
                    "{name} has different shapes in the adapters"
                )));
            }
        }
        first += adapter.rank();
    }
    let base_sha256 = adapters.iter().find_map(|(it, _)| it.base_sha256.clone());
    let rope_factors = adapters.iter().find_map(|(it, _)| it.rope_factors);
    Ok(Adapter {
        lora_alpha: rank as f32,
        // The task adapter may be one of the parts, so the sum needs none beside it.
        task_sha256: None,
        base_sha256,
        rope_factors,
        ..last.with(stacked.into_values().collect())
    })
}

impl<P: LoraPair> LoraPair for StackedPair<'_, P> {
    fn name(&self) -> &str {
        self.name
    }

    fn rank(&self) -> usize {
        self.rank
    }

    fn n_in(&self) -> usize {
        self.parts[0].pair.n_in()
    }

    fn n_out(&self) -> usize {
        self.parts[0].pair.n_out()
    }

    fn types(&self) -> [GgmlType; 2] {
        [GgmlType::F32; 2]
    }

    fn a(&self) -> Result<Cow<'_, [f32]>> {
        let n_in = self.n_in();
        let mut whole = vec![0.0; self.rank * n_in];
        for part in &self.parts {
            let a = part.pair.a()?;
            whole[part.first * n_in..][..a.len()].copy_from_slice(&a);
        }
        Ok(whole.into())
    }

    fn b(&self) -> Result<Cow<'_, [f32]>> {
        let mut whole = vec![0.0; self.n_out() * self.rank];
        for part in &self.parts {
            let b = part.pair.b()?;
            let rows = whole.chunks_exact_mut(self.rank);
            for (whole, row) in rows.zip(b.chunks_exact(part.pair.rank())) {
                let values = whole[part.first..].iter_mut().zip(row);
                values.for_each(|(whole, value)| *whole = part.scale * value);
            }
        }
        Ok(whole.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{LoraTensor, Matrix};

    fn adapter(names: &[&str], rank: usize, lora_alpha: f32, turn: f32) -> Adapter {
        let matrix = |rows: usize, cols: usize| Matrix {
            rows,
            cols,
            data: (0..rows * cols).map(|i| (i as f32 * turn).sin()).collect(),
        };
        let tensor = |name: &&str| LoraTensor {
            name: (*name).to_owned(),
            a: matrix(rank, 6),
            b: matrix(4, rank),
        };
        Adapter::new("llama", lora_alpha, names.iter().map(tensor).collect())
    }

    /// `lora_scale · B A` for one tensor, `(4, 6)`; all 0 if the adapter does not adapt the tensor.
    fn delta(adapter: &Adapter, name: &str) -> Vec<f32> {
        let mut delta = vec![0.0; 24];
        if let Some(tensor) = adapter.tensors.iter().find(|tensor| tensor.name == name) {
            for (place, delta) in delta.iter_mut().enumerate() {
                for r in 0..tensor.rank() {
                    let (a, b) = (&tensor.a.data, &tensor.b.data);
                    *delta += adapter.lora_scale(tensor.rank())
                        * b[place / 6 * tensor.rank() + r]
                        * a[r * 6 + place % 6];
                }
            }
        }
        delta
    }

    #[test]
    fn the_stack_changes_a_weight_by_the_sum_of_the_changes() {
        let (x, y) = (
            adapter(&["p", "q"], 2, 3.0, 0.3),
            adapter(&["q", "r"], 5, 0.0, 0.7),
        );
        let stacked = stack(&[(&x, 1.0), (&y, 0.5)]).unwrap().load().unwrap();
        assert_eq!((stacked.rank(), stacked.tensors.len()), (7, 3));
        for name in ["p", "q", "r"] {
            let sum = delta(&x, name)
                .into_iter()
                .zip(delta(&y, name))
                .map(|(x, y)| x + 0.5 * y);
            let same = delta(&stacked, name).into_iter().zip(sum);
            assert!(
                same.into_iter().all(|(x, y)| (x - y).abs() < 1e-5),
                "{name}"
            );
        }
    }

    #[test]
    fn adapters_of_different_bases_and_an_empty_list_are_refused() {
        let x = adapter(&["p"], 2, 2.0, 0.3);
        let other_base = Adapter {
            architecture: "qwen2".into(),
            ..x.clone()
        };
        assert!(stack(&[(&x, 1.0), (&other_base, 1.0)]).is_err());
        assert!(stack::<LoraTensor>(&[]).is_err());
    }
}
