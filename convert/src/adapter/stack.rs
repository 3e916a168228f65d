//! Several adapters as one, exactly: `A = [A₁; A₂; …]`, `B = [s₁B₁, s₂B₂, …]`, `lora_alpha = rank`.

use std::collections::BTreeMap;

use super::{Adapter, LoraTensor, Matrix};
use crate::error::{Error, Result};

/// The sum of `adapters`, each times its factor beside its own `lora_scale`.
pub(super) fn stack(adapters: &[(&Adapter, f32)]) -> Result<Adapter> {
    let Some(&(first, _)) = adapters.first() else {
        return Err(Error::Stack("there are no adapters to stack".into()));
    };
    for (other, _) in adapters {
        let of_one_base = first.architecture == other.architecture
            && match (&first.base_sha256, &other.base_sha256) {
                (Some(x), Some(y)) => x == y,
                _ => true,
            };
        if !of_one_base {
            return Err(Error::Stack("the adapters are of different bases".into()));
        }
    }
    let rank: usize = adapters.iter().map(|(adapter, _)| adapter.rank()).sum();
    let mut stacked: BTreeMap<&str, LoraTensor> = BTreeMap::new();
    let mut first_row = 0;
    for (adapter, factor) in adapters {
        for tensor in &adapter.tensors {
            let scale = factor * adapter.lora_scale(tensor.rank());
            let (n_in, n_out) = (tensor.a.cols, tensor.b.rows);
            let whole = stacked.entry(&tensor.name).or_insert_with(|| LoraTensor {
                name: tensor.name.clone(),
                a: zeros(rank, n_in),
                b: zeros(n_out, rank),
            });
            if (whole.a.cols, whole.b.rows) != (n_in, n_out) {
                let name = &tensor.name;
                return Err(Error::Stack(format!(
                    "{name} has different shapes in the adapters"
                )));
            }
            whole.a.data[first_row * n_in..][..tensor.a.data.len()].copy_from_slice(&tensor.a.data);
            let rows = whole.b.data.chunks_exact_mut(rank);
            for (whole, row) in rows.zip(tensor.b.data.chunks_exact(tensor.rank())) {
                let part = whole[first_row..].iter_mut().zip(row);
                part.for_each(|(whole, value)| *whole = scale * value);
            }
        }
        first_row += adapter.rank();
    }
    let last = adapters.last().map_or(first, |(adapter, _)| adapter);
    Ok(Adapter {
        lora_alpha: rank as f32,
        tensors: stacked.into_values().collect(),
        // It is in here now.
        task_sha256: None,
        base_sha256: adapters
            .iter()
            .find_map(|(adapter, _)| adapter.base_sha256.clone()),
        ..last.clone()
    })
}

fn zeros(rows: usize, cols: usize) -> Matrix {
    Matrix {
        rows,
        cols,
        data: vec![0.0; rows * cols],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        Adapter {
            architecture: "llama".into(),
            lora_alpha,
            base_sha256: None,
            task_sha256: None,
            contrast: None,
            plausibility: None,
            name: None,
            tensors: names.iter().map(tensor).collect(),
        }
    }

    /// `lora_scale · B A` of one tensor, `(4, 6)`; zero where the adapter has none.
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
    fn adds_what_the_adapters_add() {
        let (x, y) = (
            adapter(&["p", "q"], 2, 3.0, 0.3),
            adapter(&["q", "r"], 5, 0.0, 0.7),
        );
        let stacked = stack(&[(&x, 1.0), (&y, 0.5)]).unwrap();
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
    fn refuses_what_has_no_sum() {
        let x = adapter(&["p"], 2, 2.0, 0.3);
        let other_base = Adapter {
            architecture: "qwen2".into(),
            ..x.clone()
        };
        assert!(stack(&[(&x, 1.0), (&other_base, 1.0)]).is_err());
        assert!(stack(&[]).is_err());
    }
}
