//! Long work that can be stopped and resumed: trainings and evaluations.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use cope_convert::cli::signals;
use cope_convert::say;
use cope_llama::Error;

/// The exit code of work that was stopped after it got further: the same command resumes it. Schedulers can be told to run
/// a command with this code again (`EX_TEMPFAIL` of sysexits.h).
const RESUMABLE: u8 = 75;

/// Work that the first signal stops.
pub struct LongWork {
    stop: Arc<AtomicBool>,
    /// Whether anything was done that a resumed run does not have to do again.
    has_progressed: AtomicBool,
}

impl LongWork {
    /// Begins work that SIGINT, SIGTERM and SIGHUP stop.
    pub fn begin() -> Self {
        let stop = Arc::default();
        signals::stop_sets(&stop);
        Self {
            stop,
            has_progressed: AtomicBool::new(false),
        }
    }

    /// The flag that a signal sets.
    pub fn stop(&self) -> &Arc<AtomicBool> {
        &self.stop
    }

    /// Whether a signal was received.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Fails once a signal was received.
    pub fn check(&self) -> cope_llama::Result<()> {
        if self.is_stopped() {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    /// Notes that something was done that is kept.
    pub fn note_progress(&self) {
        self.has_progressed.store(true, Ordering::Relaxed);
    }

    /// The exit code of work that has ended with `result`. Work that was stopped is resumable only if it got further:
    /// otherwise a scheduler would repeat it without end.
    pub fn exit_code(&self, result: Result<()>) -> Result<ExitCode> {
        let is_stopped = |error: &anyhow::Error| {
            matches!(error.downcast_ref::<Error>(), Some(Error::Interrupted))
        };
        match result {
            Err(error) if is_stopped(&error) => {
                if self.has_progressed.load(Ordering::Relaxed) {
                    say!("stopped; the same command resumes");
                    return Ok(ExitCode::from(RESUMABLE));
                }
                say!("error: stopped before anything was done; the same command tries again");
                Ok(ExitCode::FAILURE)
            }
            result => result.map(|()| ExitCode::SUCCESS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stopped_work_that_got_further_is_resumable() {
        let work = LongWork {
            stop: Arc::default(),
            has_progressed: AtomicBool::new(false),
        };
        let code = |result: Result<()>| format!("{:?}", work.exit_code(result).unwrap());
        let expected = |code: u8| format!("{:?}", ExitCode::from(code));
        let stopped = || Err(anyhow::Error::from(Error::Interrupted).context("ann"));
        assert_eq!(code(stopped()), expected(1));
        work.note_progress();
        assert_eq!(code(stopped()), expected(75));
        assert_eq!(code(Ok(())), expected(0));
        assert!(work.exit_code(Err(anyhow::anyhow!("no items"))).is_err());
    }
}
