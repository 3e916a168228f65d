//! A flag that ends work within a pass of a model, which can take seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// A flag that another thread sets to stop the work, or none.
#[derive(Clone, Debug, Default)]
pub(super) struct StopFlag(Option<Arc<AtomicBool>>);

/// The message of the error by which the flag ends an operation of candle's graph, which has errors of its own.
const STOPPED: &str = "the work was stopped within a pass";

impl StopFlag {
    pub fn new(flag: Option<&Arc<AtomicBool>>) -> Self {
        Self(flag.cloned())
    }

    fn is_set(&self) -> bool {
        let flag = self.0.as_ref();
        flag.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// Ends the work if the flag is set.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`].
    pub fn check(&self) -> Result<()> {
        if self.is_set() {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    /// [`check`](Self::check) within an operation of candle's graph.
    ///
    /// # Errors
    ///
    /// An error of candle's that becomes [`Error::Interrupted`].
    pub fn check_in_graph(&self) -> candle_core::Result<()> {
        if self.is_set() {
            candle_core::bail!("{STOPPED}");
        }
        Ok(())
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        // A backtrace may follow.
        let message = error.to_string();
        if message.starts_with(STOPPED) {
            return Self::Interrupted;
        }
        Self::Train(message)
    }
}
