//! Other programs that keep cores busy.

use std::hint::spin_loop;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::Result;

/// The numbers of other programs that benches measure beside.
pub const N_BUSY: [usize; 3] = [0, 1, 2];

/// Another program that keeps a core busy, until it is dropped.
pub struct Spinning(Child);

impl Spinning {
    /// Starts `n` copies of this bench, which call [`spin`] for their option `--spin`.
    pub fn start(n: usize) -> Result<Vec<Self>> {
        let start = |_| {
            let mut copy = Command::new(std::env::current_exe()?);
            Ok(Self(copy.arg("--spin").spawn()?))
        };
        (0..n).map(start).collect()
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Keeps a core busy for at most a quarter of an hour.
pub fn spin() {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(900) {
        spin_loop();
    }
}
