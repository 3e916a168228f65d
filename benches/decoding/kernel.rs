//! The time of the contrast kernel, compared with the time to read both rows of logits once.

use std::hint::black_box;
use std::time::Instant;

use cope_llama::decode::Contrast;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The number of plausible tokens besides the likeliest.
const N_PLAUSIBLE: [usize; 2] = [4, 400];

/// The sizes of the vocabularies of SmolLM2, Qwen2.5 and Gemma 3.
const N_VOCAB: [usize; 3] = [49_152, 151_936, 262_144];
const REPEATS: usize = 200;

pub fn table() {
    println!("| vocabulary | of it plausible | both rows read once, µs | the kernel, µs | ratio |");
    println!("|---|---|---|---|---|");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for n_vocab in N_VOCAB {
        for n_plausible in N_PLAUSIBLE {
            let mut row = || -> Vec<f32> {
                let mut row: Vec<f32> = (0..n_vocab)
                    .map(|_| rng.random_range(-10.0..10.0))
                    .collect();
                for _ in 0..n_plausible {
                    row[rng.random_range(0..n_vocab)] = rng.random_range(14.0..15.0);
                }
                row
            };
            let (user, base) = (row(), row());
            let (mut candidates, mut opinions) = (Vec::new(), Vec::new());
            let read = median(|| black_box(sum(black_box(&user)) + sum(black_box(&base))));
            let kernel = median(|| {
                Contrast::default()
                    .score(
                        black_box(&user),
                        black_box(&base),
                        &mut candidates,
                        &mut opinions,
                    )
                    .expect("finite logits");
                candidates.len() as f32
            });
            println!(
                "| {n_vocab} | {} | {read:.1} | {kernel:.1} | {:.2} |",
                candidates.len(),
                kernel / read
            );
        }
    }
}

/// A sum that the compiler vectorises, so that memory bandwidth limits it.
fn sum(row: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 64];
    for chunk in row.chunks_exact(64) {
        lanes
            .iter_mut()
            .zip(chunk)
            .for_each(|(sum, &it)| *sum += it);
    }
    lanes.iter().sum()
}

/// The median time of a run in microseconds.
fn median(mut run: impl FnMut() -> f32) -> f64 {
    let mut times: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let started = Instant::now();
            black_box(run());
            started.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[REPEATS / 2]
}
