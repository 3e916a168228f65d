//! The time a token of the user model alone and of CoPe.

use std::path::Path;

use anyhow::Result;
use cope_llama::decode::{AnswerOptions, Arm, Contrast, Decoder};
use cope_llama::llama::{ContextOptions, Model, Token, Twin};

use crate::process::memory_mb;
use crate::random_twin;

/// Tokens of the prompt.
const N_PROMPT: Token = 64;

/// Prints a row for each repetition, of answers of `n_predict` tokens.
pub fn rows(name: &str, path: &Path, n_predict: usize, repeats: usize) -> Result<()> {
    let options = ContextOptions {
        n_ctx: 512,
        ..ContextOptions::default()
    };
    let (model, mut twin) = random_twin::open(path, &options)?;
    let cope = Arm::Cope(Contrast::default());
    // The first pass of a context sizes its buffers.
    answer(&mut twin, &model, cope, 2)?;
    for repeat in 0..repeats {
        // Neither always comes second.
        let (user, cope) = if repeat % 2 == 0 {
            let user = answer(&mut twin, &model, Arm::User, n_predict)?;
            (user, answer(&mut twin, &model, cope, n_predict)?)
        } else {
            let cope = answer(&mut twin, &model, cope, n_predict)?;
            (answer(&mut twin, &model, Arm::User, n_predict)?, cope)
        };
        println!(
            "| {name} | {:.1} | {:.1} | {:.2} | {:.0} % | {:.0} |",
            user.milliseconds,
            cope.milliseconds,
            cope.milliseconds / user.milliseconds,
            1e2 * cope.undecided,
            memory_mb("self", "VmRSS")?
        );
    }
    Ok(())
}

/// The cost of an answer.
struct AnswerCost {
    /// Milliseconds a token, without the prompt.
    milliseconds: f64,
    /// The part of the choices between several plausible tokens.
    undecided: f64,
}

fn answer(twin: &mut Twin, model: &Model, arm: Arm, n_predict: usize) -> Result<AnswerCost> {
    twin.base.truncate(0);
    twin.user.truncate(0);
    let prompt: Vec<Token> = (300..300 + N_PROMPT).collect();
    let options = AnswerOptions {
        n_predict: Some(n_predict),
        ..AnswerOptions::default()
    };
    let mut decoder = Decoder::new(twin.policy(arm), model, &prompt, options.into())?;
    decoder.by_ref().try_for_each(|piece| piece.map(drop))?;
    let statistics = decoder.statistics();
    let n_chosen = statistics.n_chosen as f64;
    Ok(AnswerCost {
        milliseconds: 1e3 * statistics.time.as_secs_f64() / (n_chosen - 1.0),
        undecided: statistics.n_undecided as f64 / n_chosen,
    })
}
