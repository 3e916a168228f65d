//! Attention over packed sequences, [`super::super::ops::attention`] in candle's operations: with a mask of all queries by
//! all keys, which takes few operations where each costs a launch.

use candle_core::{Device, Result, Tensor};

use super::super::ops::attention::{Heads, Mask};
use super::softmax;

/// `[t, n]`: 0 where a query sees a key, −∞ elsewhere. `t` queries and `n` keys have rows.
pub fn dense(mask: Mask, t: usize, n: usize, device: &Device) -> Result<Tensor> {
    let mut seen = vec![f32::NEG_INFINITY; t * n];
    for segment in mask.segments {
        let keys: Vec<usize> = segment.keys.iter().cloned().flatten().collect();
        let own = keys.len() - segment.queries.len();
        for (i, query) in segment.queries.clone().enumerate() {
            let end = own + i + 1;
            let start = mask.window.map_or(0, |window| end.saturating_sub(window));
            for &key in &keys[start..end] {
                seen[query * n + key] = 0.0;
            }
        }
    }
    Tensor::from_vec(seen, (t, n), device)
}

/// `q`: `[t, n_head, head_dim]`; `k`, `v`: `[n, n_head_kv, head_dim]`; `mask`: of [`dense`]. `[t, n_head · head_dim]`.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, mask: &Tensor) -> Result<Tensor> {
    let Heads {
        n_head,
        n_head_kv,
        head_dim,
    } = heads;
    let (t, n) = mask.dims2()?;
    // The queries of the heads that share a key head lie one after the other.
    let shared = n_head / n_head_kv * t;
    let q = q
        .transpose(0, 1)?
        .contiguous()?
        .reshape((n_head_kv, shared, head_dim))?;
    let k = k.permute((1, 2, 0))?.contiguous()?;
    let v = v.transpose(0, 1)?.contiguous()?;
    let scores = (q.matmul(&k)? / (head_dim as f64).sqrt())?;
    let scores = scores.reshape((n_head, t, n))?.broadcast_add(mask)?;
    let p = softmax(&scores)?.reshape((n_head_kv, shared, n))?;
    let out = p.matmul(&v)?.reshape((n_head, t, head_dim))?;
    out.transpose(0, 1)?
        .contiguous()?
        .reshape((t, n_head * head_dim))
}
