//! Turns Ctrl-C into a flag, which running work checks so that it can end in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use super::terminal;

/// Installs a handler with which Ctrl-C sets the returned flag. A second Ctrl-C while the flag is set ends the program.
///
/// # Errors
///
/// The handler cannot be installed, for example because there is one already.
pub fn flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let handled = Arc::clone(&flag);
    ctrlc::set_handler(move || {
        if handled.swap(true, Ordering::Relaxed) {
            terminal::restore();
            std::process::exit(130);
        }
    })
    .context("cannot handle Ctrl-C")?;
    Ok(flag)
}
