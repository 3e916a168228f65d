//! The inputs that the blocks of some models have beside the residual stream (Gemma 4's E2B and E4B). With `e` the rows of a
//! token in a table, one for each block, and `x` the embedded token:
//!
//! ```text
//! input = (√n_input · e + norm(P x / √n_embd)) / √2
//! ```
//!
//! llama.cpp applies no adapter to `P`, so nothing here is trained.

use std::sync::Arc;

use super::file_table::FileTable;
use super::ops::linear::FrozenWeight;
use super::ops::matrix::Into;
use super::ops::norm::RmsNorm;
use super::shape::Shape;
use super::weights::Weights;
use crate::Result;
use crate::llama::Token;

/// The tensor of the table, which stays in the file.
pub(super) const TABLE: &str = "per_layer_token_embd.weight";

/// The weights that the inputs are made with.
pub(super) struct LayerInputs {
    /// The rows of each token, `[n_vocab, n_layer · n_input]`: in the published models the largest tensor.
    table: FileTable,
    /// `P`, in f32: the CPU computes the inputs for every device, and they are the same on all.
    projection: FrozenWeight,
    /// Over the part of each block.
    norm: RmsNorm,
}

impl LayerInputs {
    /// Reads the weights; `None` for a model whose blocks have no inputs.
    ///
    /// # Errors
    /// A tensor is missing, has another shape, or is of a type that cannot be read.
    pub fn read(weights: &mut Weights, shape: &Shape) -> Result<Option<Self>> {
        let Some(n_input) = shape.n_input else {
            return Ok(None);
        };
        let width = shape.n_layer * n_input;
        let projection = "per_layer_model_proj.weight";
        Ok(Some(Self {
            table: weights.file_table(TABLE, shape.n_vocab, width)?,
            projection: weights.exact_linear(projection, width, shape.n_embd)?,
            norm: RmsNorm::new(
                weights.vector("per_layer_proj_norm.weight", n_input)?,
                shape.epsilon,
            ),
        }))
    }

    /// The inputs of each block, `[t, n_input]` each, from the tokens, which are those of the vocabulary, and from what they
    /// are embedded as, `[t, n_embd]`.
    ///
    /// # Errors
    /// The file cannot be read, or a value of it is not finite.
    pub fn of(&self, tokens: &[Token], x: &[f32]) -> Result<Vec<Arc<Vec<f32>>>> {
        let (width, n_input) = (self.table.width(), self.norm.weight().len());
        let mut projected = vec![0.0; tokens.len() * width];
        self.projection.forward(x, None, Into::Set, &mut projected);
        let scale = (self.projection.n_in() as f32).sqrt().recip();
        projected.iter_mut().for_each(|p| *p *= scale);
        let mut inputs = self.norm.forward(&projected);
        let scale = (n_input as f32).sqrt();
        for (row, &token) in inputs.chunks_exact_mut(width).zip(tokens) {
            let table = self.table.row(token as usize)?;
            for (input, e) in row.iter_mut().zip(table) {
                *input = (*input + scale * e) * std::f32::consts::FRAC_1_SQRT_2;
            }
        }
        let of_block = |block: usize| {
            let rows = inputs.chunks_exact(width);
            let parts = rows.flat_map(|row| &row[block * n_input..][..n_input]);
            Arc::new(parts.copied().collect())
        };
        Ok((0..width / n_input).map(of_block).collect())
    }
}
