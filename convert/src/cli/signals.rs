//! The signals that ask a program to stop: SIGINT (Ctrl-C), SIGTERM and SIGHUP.
//!
//! [`watch`] blocks them in every thread and lets one thread wait for them. Until a command says otherwise, the first
//! one ends the process at once, as it would have without [`watch`]. Long work asks for a flag instead ([`stop_sets`]),
//! ends in order when the flag is set, and may then die of the signal that it received ([`die_of_received`]).
//!
//! Signals that the parent process blocks are received all the same. SIGHUP is left ignored where the parent ignores it,
//! as `nohup` does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

use nix::sys::signal::{SigSet, Signal, raise};

/// The signals that are waited for.
const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Time after the first signal from which on SIGINT ends the process at once. A scheduler sends signals twice, and so does
/// an impatient person; both leave enough time to end in order.
const PATIENCE: Duration = Duration::from_secs(2);

/// The state of the watching thread.
static STATE: Mutex<State> = Mutex::new(State {
    response: Response::Die,
    first: None,
    before_death: None,
});

struct State {
    response: Response,
    /// The first signal, and when it came.
    first: Option<(Signal, Instant)>,
    before_death: Option<fn()>,
}

/// The response to a signal.
enum Response {
    /// The process ends.
    Die,
    /// The first signal calls this. Others change nothing, except a late SIGINT, which ends the process.
    Stop(Box<dyn FnMut() + Send>),
    /// SIGINT sets the flag, and ends the process where the flag is still set. The other signals end the process.
    Interrupt(Arc<AtomicBool>),
}

/// Begins to watch for signals. A program calls this first, since threads that run already would not have the signals
/// blocked. If no thread can be started, signals end the process as they would have without this.
pub fn watch() {
    let watched = SIGNALS.into_iter();
    let watched = watched.filter(|&signal| signal != Signal::SIGHUP || !is_hangup_ignored());
    let watched: SigSet = watched.collect();
    if watched.thread_block().is_err() {
        return;
    }
    let thread = thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            while let Ok(signal) = watched.wait() {
                receive(signal);
            }
        });
    if thread.is_err() {
        let _ = watched.thread_unblock();
    }
}

/// From now on, the first signal sets `stop`. Another signal changes nothing, but SIGINT ends the process from two seconds
/// after the first one on.
pub fn stop_sets(stop: &Arc<AtomicBool>) {
    let stop = Arc::clone(stop);
    stop_calls(move || stop.store(true, Ordering::Relaxed));
}

/// From now on, the first signal calls `stop` on the watching thread. Another signal is treated as by [`stop_sets`].
pub fn stop_calls(stop: impl FnMut() + Send + 'static) {
    state().response = Response::Stop(Box::new(stop));
}

/// From now on, SIGINT sets `interrupted`, which the program resets, and ends the process if it is set already. SIGTERM and
/// SIGHUP end the process.
pub fn interrupt_sets(interrupted: &Arc<AtomicBool>) {
    state().response = Response::Interrupt(Arc::clone(interrupted));
}

/// Lets `tidy` be called before a signal ends the process.
pub fn before_death(tidy: fn()) {
    state().before_death = Some(tidy);
}

/// Ends the process by the signal that was received first, so that the parent process learns of it. Returns where none
/// was received.
pub fn die_of_received() {
    let first = state().first;
    if let Some((signal, _)) = first {
        die(signal);
    }
}

/// Until the result is dropped, signals are treated as after [`stop_sets`], and then as they were before.
pub fn stop_sets_within(stop: &Arc<AtomicBool>) -> StopScope {
    let stop = Arc::clone(stop);
    let response = Response::Stop(Box::new(move || stop.store(true, Ordering::Relaxed)));
    StopScope(std::mem::replace(&mut state().response, response))
}

/// The work that [`stop_sets_within`] begins.
pub struct StopScope(Response);

impl Drop for StopScope {
    fn drop(&mut self) {
        state().response = std::mem::replace(&mut self.0, Response::Die);
    }
}

fn receive(signal: Signal) {
    let dies = {
        let mut state = state();
        let is_first = state.first.is_none();
        let (_, since) = *state.first.get_or_insert((signal, Instant::now()));
        match &mut state.response {
            Response::Die => true,
            Response::Stop(stop) if is_first => {
                stop();
                false
            }
            Response::Stop(_) => signal == Signal::SIGINT && since.elapsed() >= PATIENCE,
            Response::Interrupt(flag) => {
                signal != Signal::SIGINT || flag.swap(true, Ordering::Relaxed)
            }
        }
    };
    if dies {
        die(signal);
    }
}

fn die(signal: Signal) -> ! {
    let tidy = state().before_death;
    if let Some(tidy) = tidy {
        tidy();
    }
    // The signal's default action ends the process here, unless the process is the first of a container.
    let _ = SigSet::from(signal).thread_unblock();
    let _ = raise(signal);
    process::exit(128 + signal as i32)
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the parent process has made this one ignore SIGHUP. Linux gives an ignored signal to a thread that waits for it
/// all the same; other systems do not, and do not have the file that is read here.
fn is_hangup_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signal n is bit n − 1.
    mask.is_some_and(|mask| mask & 1 << (Signal::SIGHUP as u32 - 1) != 0)
}
