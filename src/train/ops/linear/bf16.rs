//! Weights that are multiplied in bf16. The rows that they are multiplied by are rounded to bf16 too, and so are the
//! adapters' matrices, which add a second term to the same products.

use super::super::bf16::RoundedRows;
use super::super::low_rank;
use super::super::matrix::Into;
use super::super::panels::{PanelSource, Panels, Transposed, product};
use super::super::stored::{Columns, Stored, StoredPanels};
use super::{LowRank, Multiply};

/// A weight in panels.
pub struct Packed(Panels);

impl Packed {
    pub fn new(stored: &Stored) -> Self {
        Self(Panels::from_source(&StoredPanels(stored)))
    }
}

impl Multiply for Packed {
    fn forward(&self, x: &[f32], lora: Option<&LowRank>, into: Into, y: &mut [f32]) -> Vec<f32> {
        forward(&self.0, x, lora, into, y)
    }

    fn backward(&self, dy: &[f32], lora: Option<&LowRank>, into: Into, dx: &mut [f32]) -> Vec<f32> {
        backward(&Transposed(&self.0), dy, lora, into, dx)
    }

    fn outer(&self, low: &[f32], rows: &[f32], width: usize) -> Vec<f32> {
        low_rank::outer(low, rows, width)
    }

    fn row(&self, index: usize) -> Vec<f32> {
        self.0.row(index)
    }
}

/// The weight stays as it is in the file, and is packed into panels anew for every product.
impl Multiply for Stored {
    fn forward(&self, x: &[f32], lora: Option<&LowRank>, into: Into, y: &mut [f32]) -> Vec<f32> {
        forward(&StoredPanels(self), x, lora, into, y)
    }

    fn backward(&self, dy: &[f32], lora: Option<&LowRank>, into: Into, dx: &mut [f32]) -> Vec<f32> {
        backward(&Columns(self), dy, lora, into, dx)
    }

    fn outer(&self, low: &[f32], rows: &[f32], width: usize) -> Vec<f32> {
        low_rank::outer(low, rows, width)
    }

    fn row(&self, index: usize) -> Vec<f32> {
        Self::row(self, index)
    }
}

fn forward(
    weight: &dyn PanelSource,
    x: &[f32],
    lora: Option<&LowRank>,
    into: Into,
    y: &mut [f32],
) -> Vec<f32> {
    let (_, n_in) = weight.shape();
    let matrices = lora.map(|lora| {
        let rank = lora.a.len() / n_in;
        let (a, b) = (
            Panels::from_rows(lora.a, n_in),
            Panels::from_rows(lora.b, rank),
        );
        (lora, rank, a, b)
    });
    adapted_product(weight, x, matrices, into, y)
}

/// The backward pass from `transposed`, which is `Wᵀ`.
fn backward(
    transposed: &dyn PanelSource,
    dy: &[f32],
    lora: Option<&LowRank>,
    into: Into,
    dx: &mut [f32],
) -> Vec<f32> {
    let (n_in, _) = transposed.shape();
    let matrices = lora.map(|lora| {
        let rank = lora.a.len() / n_in;
        let b_t = Panels::from_columns(lora.b, rank);
        (lora, rank, b_t, Panels::from_columns(lora.a, n_in))
    });
    adapted_product(transposed, dy, matrices, into, dx)
}

/// `y = x Wᵀ + low Uᵀ`, or `y += …`; returns `low = s (x Dᵀ)`, `[t, rank]`. `lora` is the adapter with its rank, `D`
/// (from the layer's features down to the rank) and `U` (from the rank up to the layer's features).
fn adapted_product(
    weight: &dyn PanelSource,
    x: &[f32],
    lora: Option<(&LowRank, usize, Panels, Panels)>,
    into: Into,
    y: &mut [f32],
) -> Vec<f32> {
    let x = RoundedRows::new(x, weight.shape().1);
    let Some((lora, rank, down, up)) = lora else {
        product((&x, weight), None, into, y);
        return Vec::new();
    };
    let mut low = vec![0.0; x.n_rows() * rank];
    product((&x, &down), None, Into::Set, &mut low);
    let low = lora.scaled(low);
    let rounded = RoundedRows::new(&low, rank);
    product((&x, weight), Some((&rounded, &up)), into, y);
    low
}
