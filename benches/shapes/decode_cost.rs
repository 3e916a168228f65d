//! The time a token of the user model alone and of CoPe, by several schedules.

use std::path::Path;

use anyhow::Result;
use cope_llama::decode::{AnswerOptions, Arm, Contrast, Decoder, DecoderOptions, PassSchedule};
use cope_llama::llama::{ContextOptions, Model, Token, Twin};

use crate::process::memory_mb;
use crate::random_twin;

/// Tokens of the prompt.
const N_PROMPT: Token = 64;

/// The schedules that are compared, the default of a CPU first. In the second and the third one the base waits while a choice
/// is decided, and in the third the user model reads ahead of it by its own guesses.
fn schedules() -> [(&'static str, PassSchedule); 3] {
    let side_by_side = PassSchedule::default();
    let waiting = PassSchedule {
        side_by_side: false,
        ..side_by_side
    };
    let guessing = PassSchedule {
        speculate: PassSchedule::AHEAD,
        ..waiting
    };
    [
        ("side by side", side_by_side),
        ("waiting", waiting),
        ("guessing", guessing),
    ]
}

/// Prints a row for each schedule and repetition, of answers of `n_predict` tokens.
pub fn rows(name: &str, path: &Path, n_predict: usize, repeats: usize) -> Result<()> {
    let options = ContextOptions {
        n_ctx: 512,
        ..ContextOptions::default()
    };
    let (model, mut twin) = random_twin::open(path, &options)?;
    let cope = Arm::Cope(Contrast::default());
    // The first pass of a context sizes its buffers.
    answer(&mut twin, &model, cope, PassSchedule::default(), 2)?;
    for _ in 0..repeats {
        let mut answer = |arm, schedule| answer(&mut twin, &model, arm, schedule, n_predict);
        let mut user = answer(Arm::User, PassSchedule::default())?.milliseconds;
        for (schedule_name, schedule) in schedules() {
            let cope = answer(cope, schedule)?;
            // The user model is measured before and after, so that a machine that grows slower harms both alike.
            let after = answer(Arm::User, PassSchedule::default())?.milliseconds;
            let mean = f64::midpoint(user, after);
            user = after;
            println!(
                "| {name} | {schedule_name} | {mean:.1} | {:.1} | {:.2} | {:.0} % | {:.0} % | {:.0} |",
                cope.milliseconds,
                cope.milliseconds / mean,
                1e2 * cope.undecided,
                1e2 * cope.changed,
                memory_mb("self", "VmRSS")?
            );
        }
    }
    Ok(())
}

/// The cost of an answer.
struct AnswerCost {
    /// Milliseconds a token, without the prompt.
    milliseconds: f64,
    /// The part of the choices between several plausible tokens.
    undecided: f64,
    /// The part of the choices that the contrast changed.
    changed: f64,
}

fn answer(
    twin: &mut Twin,
    model: &Model,
    arm: Arm,
    schedule: PassSchedule,
    n_predict: usize,
) -> Result<AnswerCost> {
    twin.base.truncate(0);
    twin.user.truncate(0);
    let prompt: Vec<Token> = (300..300 + N_PROMPT).collect();
    let options = AnswerOptions {
        n_predict: Some(n_predict),
        ..AnswerOptions::default()
    };
    let options = DecoderOptions {
        schedule,
        ..options.into()
    };
    let mut decoder = Decoder::new(twin.policy(arm), model, &prompt, options)?;
    decoder.by_ref().try_for_each(|piece| piece.map(drop))?;
    let statistics = decoder.statistics();
    let n_chosen = statistics.n_chosen as f64;
    Ok(AnswerCost {
        milliseconds: 1e3 * statistics.time.as_secs_f64() / (n_chosen - 1.0),
        undecided: statistics.n_undecided as f64 / n_chosen,
        changed: statistics.n_changed as f64 / n_chosen,
    })
}
