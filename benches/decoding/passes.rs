//! The time of a pass by its tokens, which bounds every schedule.

use std::time::Instant;

use anyhow::Result;
use cope_llama::llama::{Context, ContextOptions, Model, Rows, Token};

use crate::Options;

const N_TOKENS: [usize; 6] = [1, 2, 4, 8, 16, 32];
const N_PROMPT: usize = 128;
const REPEATS: usize = 15;

pub fn table(options: &Options) -> Result<()> {
    print!("| model | ms a pass over so many tokens |");
    N_TOKENS.iter().for_each(|n| print!(" {n} |"));
    println!(" prompt of {N_PROMPT} |");
    println!("|---|---|{}---|", "---|".repeat(N_TOKENS.len()));
    for path in options.models()? {
        let model = Model::load(&path, Some(0))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let context = || {
            let options = ContextOptions {
                n_outputs: N_TOKENS[N_TOKENS.len() - 1] as u32,
                ..ContextOptions::default()
            };
            Context::new(&model, None, &options)
        };
        let (mut one, mut other) = (context()?, context()?);
        for (what, shares, rows) in [
            ("all threads", 1, Rows::Full),
            ("all threads, without the head", 1, Rows::Candidates),
            ("half of the threads", 2, Rows::Full),
        ] {
            one.share_threads(shares);
            let mut pass = |tokens: &[Token]| read(&mut one, tokens, rows);
            row(&name, what, &mut pass)?;
        }
        other.share_threads(2);
        row(
            &name,
            "two contexts side by side, the one without the head",
            &mut |tokens| {
                std::thread::scope(|scope| {
                    let candidates = scope.spawn(|| read(&mut other, tokens, Rows::Candidates));
                    read(&mut one, tokens, Rows::Full)?;
                    candidates.join().expect("no panic")
                })
            },
        )?;
    }
    println!();
    Ok(())
}

/// Reads `tokens` after a prompt, or as a prompt if they are as long as one.
fn read(context: &mut Context, tokens: &[Token], rows: Rows) -> Result<()> {
    let (start, n_rows) = if tokens.len() == N_PROMPT {
        (0, 1)
    } else {
        (N_PROMPT, tokens.len())
    };
    context.truncate(start);
    context.extend(tokens, n_rows, rows)?;
    Ok(())
}

fn row(name: &str, what: &str, pass: &mut dyn FnMut(&[Token]) -> Result<()>) -> Result<()> {
    let tokens: Vec<Token> = (0..N_PROMPT as Token).map(|n| 100 + 7 * n).collect();
    let mut median = |tokens: &[Token]| -> Result<f64> {
        let mut times = Vec::new();
        for _ in 0..REPEATS {
            let started = Instant::now();
            pass(tokens)?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        Ok(times[REPEATS / 2])
    };
    let prompt = median(&tokens)?;
    print!("| {name} | {what} |");
    for n in N_TOKENS {
        print!(" {:.1} |", median(&tokens[..n])?);
    }
    println!(" {prompt:.0} |");
    Ok(())
}
