//! Shows the progress of a training and its results.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use cope_convert::say;
use cope_llama::Error;
use cope_llama::home::{Calibration, Stage};
use cope_llama::train::TrainEvent;
use indicatif::{ProgressBar, ProgressStyle};

use super::calibration_text;
use super::long_work::LongWork;

/// Time after which a person is told what is being waited for.
const SILENCE: Duration = Duration::from_millis(1200);

/// Says what the program is doing, unless it is dropped before that has taken long.
pub struct Waiting {
    // The thread that would print wakes up when this is dropped.
    _ended: Sender<()>,
}

impl Waiting {
    pub fn new(what: String) -> Self {
        let (ended, has_ended) = channel();
        // Where no thread can be started, nothing is said.
        let _ = std::thread::Builder::new().spawn(move || {
            if has_ended.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) {
                say!("{what}");
            }
        });
        Self { _ended: ended }
    }
}

/// Shows a progress bar per stage at a terminal, else a line per stage, and prints a stage's figures to stdout when it
/// has ended.
pub struct TrainProgress {
    bar: ProgressBar,
    /// When the current stage began.
    started: Instant,
    /// Whether the base is answering prompts whose answers are replayed.
    is_replaying: bool,
    /// Options that would take less memory, appended to the estimate.
    less_memory_hint: &'static str,
    /// Says what happens before the first event, if that takes long.
    waiting: Option<Waiting>,
}

impl TrainProgress {
    pub fn new(less_memory_hint: &'static str, waiting: Waiting) -> Self {
        Self {
            bar: ProgressBar::hidden(),
            started: Instant::now(),
            is_replaying: false,
            less_memory_hint,
            waiting: Some(waiting),
        }
    }

    /// Shows an event. Fails once a signal has stopped `work`, except after the last stage.
    pub fn tell(&mut self, event: TrainEvent, work: &LongWork) -> cope_llama::Result<()> {
        self.waiting = None;
        if event.is_kept() {
            work.note_progress();
        }
        match event {
            TrainEvent::UpToDate { stage, figures } => {
                say!("{stage} is done already");
                show(stage, &figures)
            }
            TrainEvent::Memory { bytes } => {
                let gigabytes = bytes as f64 / 1e9;
                say!("memory: about {gigabytes:.2} GB{}", self.less_memory_hint);
                work.check()
            }
            TrainEvent::LeftOut { file, lines, n_ctx } => {
                say!("{}", left_out(&file, &lines, n_ctx));
                work.check()
            }
            TrainEvent::Replay { done, total } => {
                if !std::mem::replace(&mut self.is_replaying, true) {
                    let what = "the base answers everyday prompts, to be learnt too";
                    self.start(Stage::Sft.name(), what, (total, 0));
                }
                self.advance(done, work)
            }
            TrainEvent::Audit { done, total } => self.audit(done, total, work),
            TrainEvent::Saved { .. } => Ok(()),
            TrainEvent::Pass => work.check(),
            TrainEvent::Started { stage, total, done } => {
                self.is_replaying = false;
                self.bar.finish_and_clear();
                self.start(stage.name(), purpose(stage), (total, done));
                work.check()
            }
            TrainEvent::Step { done, metrics, .. } => {
                if let Some(loss) = metrics.get("loss") {
                    self.bar.set_message(format!("loss {loss:.3}"));
                }
                self.advance(done, work)
            }
            TrainEvent::Ended { stage, figures } => {
                self.bar.finish_and_clear();
                let ended = Instant::now();
                let seconds = (ended - std::mem::replace(&mut self.started, ended)).as_secs();
                say!("{stage} took {seconds} s");
                let figures = figures
                    .into_iter()
                    .map(|(name, figure)| (name.to_owned(), figure))
                    .collect();
                show(stage, &figures)
            }
            TrainEvent::Calibrated(calibration) => show_calibration(&calibration),
        }
    }

    /// Shows a pass of an audit.
    fn audit(&mut self, done: usize, total: usize, work: &LongWork) -> cope_llama::Result<()> {
        if done == 1 {
            self.bar.finish_and_clear();
            let what = "the base and the user model read the texts";
            self.start("audit", what, (total, 0));
        }
        self.advance(done, work)?;
        if done == total {
            self.bar.finish_and_clear();
        }
        Ok(())
    }

    /// Moves the bar, unless a signal has stopped the training.
    fn advance(&self, done: usize, work: &LongWork) -> cope_llama::Result<()> {
        self.bar.set_position(done as u64);
        work.check().inspect_err(|_| self.bar.abandon())
    }

    fn start(&mut self, work: &str, what: &str, (total, done): (usize, usize)) {
        if !io::stderr().is_terminal() {
            say!("{work}: {what}, {total} steps");
        }
        let style = "{prefix} {wide_bar} {pos}/{len} {msg} {eta} left";
        self.bar = ProgressBar::new(total as u64)
            .with_position(done as u64)
            .with_prefix(format!("{work}: {what}"));
        // A malformed template falls back to indicatif's own bar.
        self.bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        self.bar.reset_eta();
    }
}

/// A sentence about the items that are left out of a training.
fn left_out(file: &Path, lines: &[usize], n_ctx: usize) -> String {
    /// The most lines that are named.
    const NAMED: usize = 8;
    let named: Vec<_> = lines.iter().take(NAMED).map(usize::to_string).collect();
    let (named, file) = (named.join(", "), file.display());
    let reason = format!("more tokens than the model's context of {n_ctx}");
    match lines.len() {
        1 => format!("{file}: line {named} is left out: it has {reason}"),
        n if n > NAMED => {
            format!("{file}: {n} lines are left out ({named} and others): they have {reason}")
        }
        _ => format!("{file}: lines {named} are left out: they have {reason}"),
    }
}

/// A stage's purpose.
fn purpose(stage: Stage) -> &'static str {
    match stage {
        Stage::Sft => "learning the user's texts",
        Stage::Mine => "sampling texts that the user would not write",
        Stage::Dpo => "learning to prefer the better text of each pair",
        Stage::Calibrate => "choosing the adapter's scale and the contrast",
    }
}

/// Prints the figures of a stage that has ended; those on held-out texts only where there are any.
fn show(stage: Stage, figures: &BTreeMap<String, f64>) -> cope_llama::Result<()> {
    let mut lines = Vec::new();
    match figures.get("pairs") {
        Some(0.0) => lines.push(
            "no pairs: no sample ended by itself, or all samples were alike; --sample-tokens allows longer samples"
                .into(),
        ),
        Some(pairs) => lines.push(format!("{pairs} pairs")),
        None => {}
    }
    if let Some(pairs) = figures.get("feedback/pairs") {
        lines.push(format!("{pairs} of them from the user's feedback"));
    }
    for (name, what) in [
        (
            "logprob",
            "log-probability of the held-out texts, nats per token",
        ),
        ("margin", "reward margin on the held-out pairs"),
    ] {
        let figure = |suffix| figures.get(&format!("held_out/{name}{suffix}"));
        if let (Some(before), Some(after)) = (figure("_before"), figure("")) {
            let change = after - before;
            lines.push(format!("{what}: {before:.3} → {after:.3} ({change:+.3})"));
        }
    }
    let lines = lines.iter().map(|line| format!("{stage}: {line}"));
    print(lines)
}

/// Prints what calibration has chosen, and what the training has brought.
fn show_calibration(calibration: &Calibration) -> cope_llama::Result<()> {
    let choice = calibration_text::choice(calibration).into_iter();
    let choice = choice.map(|line| format!("{}: {line}", Stage::Calibrate));
    let gain = calibration.gain.map(|gain| gain.to_string());
    print(choice.chain(gain))
}

fn print(mut lines: impl Iterator<Item = String>) -> cope_llama::Result<()> {
    let mut out = io::stdout().lock();
    lines
        .try_for_each(|line| writeln!(out, "{line}"))
        .map_err(Error::io("write", "the figures"))
}
