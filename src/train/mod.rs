//! Training in candle.

pub mod batch;
pub mod dpo;
pub mod examples;
pub mod fit;
pub mod generate;
pub mod lora;
pub mod loss;
pub mod mine;
pub mod model;
pub mod ops;
pub mod optimizer;
pub mod progress;
pub mod sft;
pub mod weights;

impl From<candle_core::Error> for crate::Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Train(error.to_string())
    }
}
