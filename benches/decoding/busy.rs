//! The time of a pass beside other programs that never rest. ggml uses its own threads; the time with those of OpenMP is
//! measured by:
//!
//! ```text
//! cargo bench --bench decoding --features llama-cpp-sys-2/openmp --target-dir target/openmp -- --what busy
//! ```

use std::time::Instant;

use anyhow::Result;
use cope_llama::llama::{Context, ContextOptions, Model, Rows, Token};

use crate::Options;
use crate::spinning::{N_BUSY, Spinning};

const N_PROMPT: usize = 64;
const REPEATS: u32 = 20;

pub fn table(options: &Options) -> Result<()> {
    println!("| model | ms a token; programs that spin beside: | 0 | 1 | 2 | 1 ÷ 0 | 2 ÷ 0 |");
    println!("|---|---|---|---|---|---|---|");
    for path in options.models()? {
        let model = Model::load(&path, Some(0))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let prompt: Vec<Token> = (0..N_PROMPT as Token).map(|n| 100 + 7 * n).collect();
        let context = || -> Result<Context> {
            let mut context = Context::new(&model, None, &ContextOptions::default())?;
            context.extend(&prompt, 1, Rows::Full)?;
            Ok(context)
        };
        let (mut one, mut other) = (context()?, context()?);
        row(&name, "all threads", || pass(&mut one))?;
        one.share_threads(2);
        row(&name, "half of the threads", || pass(&mut one))?;
        other.share_threads(2);
        row(&name, "two contexts side by side, half each", || {
            std::thread::scope(|scope| {
                let beside = scope.spawn(|| pass(&mut other));
                pass(&mut one)?;
                beside.join().expect("no panic")
            })
        })?;
    }
    println!();
    Ok(())
}

fn pass(context: &mut Context) -> Result<()> {
    context.truncate(N_PROMPT);
    Ok(context.extend(&[100], 1, Rows::Full)?)
}

fn row(name: &str, what: &str, mut pass: impl FnMut() -> Result<()>) -> Result<()> {
    print!("| {name} | {what} |");
    let mut times = Vec::new();
    for n_busy in N_BUSY {
        let _spinning = Spinning::start(n_busy)?;
        let started = Instant::now();
        (0..REPEATS).try_for_each(|_| pass())?;
        times.push((started.elapsed() / REPEATS).as_secs_f64() * 1e3);
        print!(" {:.1} |", times[times.len() - 1]);
    }
    for time in &times[1..] {
        print!(" {:.2} |", time / times[0]);
    }
    println!();
    Ok(())
}
