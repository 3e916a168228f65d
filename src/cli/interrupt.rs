//! Ctrl-C as a flag that the work under way looks at, so that it ends tidily.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

/// From now on Ctrl-C sets the flag that this gives; a second one before the flag is taken down again
/// ends the program. Called once a program.
pub fn flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let handled = Arc::clone(&flag);
    ctrlc::set_handler(move || {
        if handled.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .context("cannot handle Ctrl-C")?;
    Ok(flag)
}
