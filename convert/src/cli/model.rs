//! Helpers of the commands that write a model.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, Outcome, signals};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::rewrite::Retyped;

/// Runs `write` with a function to which it reports its progress through `base`, in bytes. A bar shows the progress,
/// and a signal ends the work.
pub fn with_progress<T>(
    base: &Gguf,
    write: impl FnOnce(&dyn Fn(u64) -> Result<()>) -> Result<T>,
) -> Result<T> {
    let style = ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let n_bytes = base.tensors.iter().map(|tensor| tensor.n_bytes).sum();
    let bar = ProgressBar::new(n_bytes).with_style(style);
    let stop = Arc::new(AtomicBool::new(false));
    // Otherwise a signal would end the process at once, and leave the temporary file behind.
    signals::stop_sets(&stop);
    let written = write(&|n_bytes| {
        bar.inc(n_bytes);
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        Ok(())
    });
    bar.finish_and_clear();
    written
}

/// Prints how many tensors changed from which type to which.
pub fn report_types(retyped: &Retyped, out: &mut impl Write) -> Outcome<()> {
    for ((from, to), n) in retyped {
        writeln!(out, "{n} tensors changed from {from} to {to}")?;
    }
    Ok(())
}

/// Makes sure that `output` is not one of the files that are read.
pub fn refuse_overwriting<'a>(
    inputs: impl Iterator<Item = &'a PathBuf>,
    output: &Path,
) -> Outcome<()> {
    let Ok(output) = fs::canonicalize(output) else {
        return Ok(());
    };
    for input in inputs {
        if fs::canonicalize(input).is_ok_and(|input| input == output) {
            return Err(Failure::Usage(format!(
                "{} is read, and cannot be the output: name another file",
                input.display()
            )));
        }
    }
    Ok(())
}
