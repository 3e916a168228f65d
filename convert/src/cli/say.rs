//! Lines on stderr: progress, warnings and errors.

/// Writes a line to stderr, with the arguments of [`format!`]. A line that cannot be written is dropped: a command whose
/// reader has gone, or whose terminal is closed, ends in order all the same.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}
