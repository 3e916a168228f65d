//! The number of threads of a pass, on a machine that may be busy with other things.
//!
//! ggml's threads wait for each other after each of the hundreds of operations of a pass, and spin while they wait. When
//! another program takes one of their cores, the others spin until the system's scheduler gives that core back, so that a
//! pass takes a hundred times as long as on one thread less. A pass therefore watches the time that its threads really get.
//! Once they get too little of it, the pass is ended and runs again with one thread less. From time to time a later pass
//! tries one thread more.
//!
//! ```text
//! threads   2 ─ starved ─→ 1 ─ after MIN_WAIT ─→ 2 ─ starved ─→ 1 ─ after twice as long ─→ 2 ─ …
//! ```
//!
//! The number of threads does not change a result: each value is computed by one thread, in one order.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The time after which a pass is first looked at. Passes over one token of a small model are shorter on an idle machine.
const FIRST_LOOK: Duration = Duration::from_millis(20);

/// The least share of the time that the threads of a pass get on an idle machine. With one other busy program, two threads
/// on two cores get two thirds, and four threads on four cores get four fifths.
const IDLE_SHARE: f64 = 0.85;

/// The time between a starved pass and the first that tries one thread more. It doubles with each try that starves, up to
/// [`MAX_WAIT`].
const MIN_WAIT: Duration = Duration::from_millis(250);
const MAX_WAIT: Duration = Duration::from_secs(8);

/// Chooses the number of threads of each pass of a context.
#[derive(Debug)]
pub(super) struct Pace {
    /// The most threads of a pass.
    most: i32,
    /// The threads of the next pass.
    n_threads: i32,
    /// When one thread more is tried.
    retry_at: Instant,
    wait: Duration,
}

impl Pace {
    /// Passes with `most` threads, until one starves.
    pub fn new(most: i32) -> Self {
        Self {
            most,
            n_threads: most,
            retry_at: Instant::now(),
            wait: MIN_WAIT,
        }
    }

    /// The most threads of a pass.
    pub fn most(&self) -> i32 {
        self.most
    }

    /// The threads of a pass that starts `now`.
    pub fn n_threads(&mut self, now: Instant) -> i32 {
        if self.n_threads < self.most && now >= self.retry_at {
            self.n_threads += 1;
            self.retry_at = now + self.wait;
        }
        self.n_threads
    }

    /// Takes note `now` that a pass with `n_threads` has starved.
    pub fn starved(&mut self, n_threads: i32, now: Instant) {
        self.n_threads = (n_threads - 1).max(1);
        self.retry_at = now + self.wait;
        self.wait = (2 * self.wait).min(MAX_WAIT);
    }

    /// Takes note that a pass with `n_threads` has not starved.
    pub fn fared_well(&mut self, n_threads: i32) {
        if n_threads == self.most {
            self.wait = MIN_WAIT;
        }
    }
}

/// Watches a running pass. llama.cpp asks it between two operations whether to end the pass.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    /// Ends the pass when it is true.
    interrupt: Option<&'a AtomicBool>,
    /// The threads whose time is looked at; fewer than 2 are never starved by each other.
    n_threads: i32,
    started: Instant,
    own: Duration,
    all: Duration,
    /// Whether the pass has starved, and is ended for that.
    is_starved: AtomicBool,
}

impl<'a> Watch<'a> {
    /// A watch over a pass by `n_threads` that starts now, one of which is this thread.
    pub fn new(interrupt: Option<&'a AtomicBool>, n_threads: i32) -> Self {
        Self {
            interrupt,
            n_threads,
            started: Instant::now(),
            own: cpu_time(ClockId::ThreadCPUTime),
            all: cpu_time(ClockId::ProcessCPUTime),
            is_starved: AtomicBool::new(false),
        }
    }

    /// Whether the pass was ended because its threads got too little time.
    pub fn is_starved(&self) -> bool {
        self.is_starved.load(Ordering::Relaxed)
    }

    /// llama.cpp's abort callback and its data, which must not outlive the watch.
    pub fn callback(&self) -> (unsafe extern "C" fn(*mut c_void) -> bool, *mut c_void) {
        (ends, std::ptr::from_ref(self).cast_mut().cast())
    }

    /// Whether the pass has to end.
    fn ends(&self) -> bool {
        if self
            .interrupt
            .is_some_and(|flag| flag.load(Ordering::Relaxed))
        {
            return true;
        }
        let is_starved = self.n_threads > 1 && self.share() < IDLE_SHARE;
        self.is_starved.store(is_starved, Ordering::Relaxed);
        is_starved
    }

    /// The share of the time since the start that the threads have got: that of this thread, or that of all threads, if it
    /// is less. 1 before the first look.
    fn share(&self) -> f64 {
        let time = self.started.elapsed();
        if time < FIRST_LOOK {
            return 1.0;
        }
        // The threads of ggml never sleep within a pass, so that they are owed all of its time.
        let own = cpu_time(ClockId::ThreadCPUTime).saturating_sub(self.own);
        let all = cpu_time(ClockId::ProcessCPUTime).saturating_sub(self.all);
        let each = all.as_secs_f64() / f64::from(self.n_threads);
        own.as_secs_f64().min(each) / time.as_secs_f64()
    }
}

/// The time for which the processor has worked for this thread or this process.
fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        time.tv_sec.try_into().unwrap_or_default(),
        time.tv_nsec.try_into().unwrap_or_default(),
    )
}

/// llama.cpp's abort callback.
///
/// # Safety
///
/// `watch` must point to a live [`Watch`].
unsafe extern "C" fn ends(watch: *mut c_void) -> bool {
    // SAFETY: this function's contract.
    unsafe { &*watch.cast::<Watch>() }.ends()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starved_pass_costs_one_thread_until_the_wait_is_over() {
        let start = Instant::now();
        let mut pace = Pace::new(3);
        assert_eq!(pace.n_threads(start), 3);
        pace.starved(3, start);
        assert_eq!(pace.n_threads(start), 2);
        pace.starved(2, start);
        // The second wait is twice the first.
        assert_eq!(pace.n_threads(start + MIN_WAIT), 1);
        let late = start + 2 * MIN_WAIT;
        assert_eq!(pace.n_threads(late), 2);
        // One thread at a time.
        assert_eq!(pace.n_threads(late), 2);
    }

    #[test]
    fn tries_that_starve_become_rare_and_one_that_does_not_makes_them_frequent() {
        let mut now = Instant::now();
        let mut pace = Pace::new(2);
        for _ in 0..10 {
            assert_eq!(pace.n_threads(now), 2);
            pace.starved(2, now);
            assert_eq!(pace.n_threads(now), 1);
            now += MAX_WAIT;
        }
        assert_eq!(pace.n_threads(now), 2);
        pace.fared_well(2);
        pace.starved(2, now);
        assert_eq!(pace.n_threads(now + MIN_WAIT), 2);
        pace.fared_well(1);
    }

    #[test]
    fn one_thread_is_the_least() {
        let start = Instant::now();
        let mut pace = Pace::new(1);
        pace.starved(1, start);
        assert_eq!(pace.n_threads(start), 1);
    }

    #[test]
    fn threads_that_sleep_are_starved_and_a_thread_that_works_is_not() {
        let asleep = Watch::new(None, 2);
        assert!(!asleep.ends(), "no look before {FIRST_LOOK:?}");
        std::thread::sleep(2 * FIRST_LOOK);
        assert!(asleep.ends() && asleep.is_starved());
        let alone = Watch::new(None, 1);
        std::thread::sleep(2 * FIRST_LOOK);
        assert!(!alone.ends() && !alone.is_starved());
    }

    #[test]
    fn an_interrupt_ends_a_pass_that_is_not_starved() {
        let flag = AtomicBool::new(false);
        let watch = Watch::new(Some(&flag), 2);
        assert!(!watch.ends());
        flag.store(true, Ordering::Relaxed);
        assert!(watch.ends() && !watch.is_starved());
    }
}
