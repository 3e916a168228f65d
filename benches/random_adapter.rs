//! An adapter with random weights, in the shapes of a trained one. The time of a pass does not depend on the values.

use std::path::Path;

use anyhow::Result;
use cope_convert::gguf::Gguf;
use cope_convert::{Adapter, LoraTensor, Matrix};
use cope_llama::train::TrainConfig;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Writes an adapter for the model at `base`, of the rank and the layers that training uses by default. It is weak, so that
/// the model's answers stay texts.
pub fn write(base: &Path, path: &Path) -> Result<()> {
    let gguf = Gguf::open(base)?;
    let lora = TrainConfig::default().lora;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut matrix = |rows: usize, cols: usize| Matrix {
        rows,
        cols,
        data: (0..rows * cols)
            .map(|_| random.random_range(-0.01..0.01))
            .collect(),
    };
    let mut tensors = Vec::new();
    for layer in 0..gguf.u32(&format!("{}.block_count", gguf.architecture()?))? {
        for module in &lora.target_modules {
            let name = module.tensor_name(layer as usize);
            if let Some(weight) = gguf.tensor(&name) {
                let (n_in, n_out) = (weight.shape[0] as usize, weight.shape[1] as usize);
                tensors.push(LoraTensor {
                    name,
                    a: matrix(lora.rank, n_in),
                    b: matrix(n_out, lora.rank),
                });
            }
        }
    }
    tensors.sort_by(|x, y| x.name.cmp(&y.name));
    let adapter = Adapter::new(gguf.architecture()?, lora.lora_alpha, tensors);
    Ok(adapter.write_gguf(path)?)
}
