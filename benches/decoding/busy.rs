//! The time of a pass on a busy machine. ggml uses its own threads; the time with those of OpenMP is measured by:
//!
//! ```text
//! cargo bench --bench decoding --features llama-cpp-sys-2/openmp --target-dir target/openmp -- --what busy
//! ```

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use cope_llama::llama::{Context, ContextOptions, Model, Rows, Token};

use crate::Options;

/// The number of other threads, which spin.
const N_BUSY: [usize; 3] = [0, 1, 2];
const N_PROMPT: usize = 64;
const REPEATS: u32 = 60;

pub fn table(options: &Options) -> Result<()> {
    println!("| model | ms a token; threads that spin beside: | 0 | 1 | 2 |");
    println!("|---|---|---|---|---|");
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
    for n_busy in N_BUSY {
        let time = beside_busy_threads(n_busy, || {
            let started = Instant::now();
            (0..REPEATS).try_for_each(|_| pass())?;
            Ok(started.elapsed() / REPEATS)
        })?;
        print!(" {:.1} |", time.as_secs_f64() * 1e3);
    }
    println!();
    Ok(())
}

fn beside_busy_threads(n: usize, run: impl FnOnce() -> Result<Duration>) -> Result<Duration> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..n {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    spin_loop();
                }
            });
        }
        let result = run();
        is_over.store(true, Ordering::Relaxed);
        result
    })
}
