//! The same tokens by the fast schedules of passes as by the naive loop, on small models with recurrent or shared states.

use std::sync::Arc;

use anyhow::Result;
use cope_llama::decode::{
    AnswerOptions, Arm, Contrast, Decoder, DecoderOptions, PassSchedule, Processor, Sampling,
};
use cope_llama::llama::{ContextOptions, FlashAttention, KvType, LoraAdapter, Model, Token, Twin};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::N_CTX;

/// The number of prompts, and the most tokens of a prompt and of its answer.
pub const N_PROMPTS: usize = 200;
const MAX_PROMPT: usize = 48;
const N_PREDICT: usize = 16;

/// The number of prompts whose answers by the schedules for CPU and GPU are those of the naive loop, greedy and drawn.
pub fn n_equal(model: &Arc<Model>, adapter: Arc<LoraAdapter>) -> Result<[usize; 2]> {
    let options = ContextOptions {
        n_ctx: N_CTX,
        kv_type: KvType::F32,
        flash_attention: FlashAttention::Off,
        n_threads: 1,
        ..ContextOptions::default()
    };
    let mut twin = Twin::new(model, None, adapter, 1.0, &options)?;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut counts = [0, 0];
    for seed in 0..N_PROMPTS as u32 {
        let n = random.random_range(1..MAX_PROMPT);
        let prompt: Vec<Token> = (0..n).map(|_| random.random_range(10..256)).collect();
        for (temperature, count) in [0.0, 0.8].into_iter().zip(&mut counts) {
            let sampling = Sampling {
                temperature,
                seed,
                ..Sampling::default()
            };
            let mut answer = |schedule| answer(&mut twin, model, &prompt, sampling, schedule);
            let naive = answer(PassSchedule::NAIVE)?;
            let on_cpu = answer(PassSchedule::fastest(Processor::Cpu { n_threads: 2 }))?;
            let on_gpu = answer(PassSchedule::fastest(Processor::Gpu))?;
            *count += usize::from(on_cpu == naive && on_gpu == naive);
        }
    }
    Ok(counts)
}

fn answer(
    twin: &mut Twin,
    model: &Model,
    prompt: &[Token],
    sampling: Sampling,
    schedule: PassSchedule,
) -> Result<Vec<Token>> {
    let answer = AnswerOptions {
        sampling,
        n_predict: Some(N_PREDICT),
        ..AnswerOptions::default()
    };
    let options = DecoderOptions {
        schedule,
        ..answer.into()
    };
    twin.base.truncate(0);
    twin.user.truncate(0);
    let policy = twin.policy(Arm::Cope(Contrast::default()));
    let mut decoder = Decoder::new(policy, model, prompt, options)?;
    decoder.by_ref().try_for_each(|piece| piece.map(drop))?;
    Ok(decoder.response().to_vec())
}
