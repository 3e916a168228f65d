//! The terminal: what it can do, and how it is kept from showing what is typed while an answer runs.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::termios::{
    InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};

/// Terminals without cursor movement, at which lines are read without editing.
const PLAIN: [&str; 3] = ["dumb", "cons25", "emacs"];

/// The terminal's mode when the program began to use it.
static NORMAL: Mutex<Option<Termios>> = Mutex::new(None);

/// Notes the terminal's mode, to which [`restore`] returns.
pub fn remember() {
    *normal() = tcgetattr(io::stdin()).ok();
}

/// While this lives, the terminal shows no typed keys and hands them to the next prompt as they were typed, finished lines
/// and half ones alike. Ctrl-C and Ctrl-Z keep their effect, and Ctrl-C discards nothing that was typed.
pub struct Quiet;

impl Quiet {
    /// Makes the terminal at stdin quiet; does nothing where stdin is no terminal, or one without line editing.
    pub fn begin() -> Self {
        let stdin = io::stdin();
        if let Ok(mut quiet) = tcgetattr(&stdin)
            && is_capable()
        {
            // The line editor reads keys one by one, so they must wait unedited and with the Enter key's own code.
            let echo = LocalFlags::ECHO | LocalFlags::ECHONL;
            quiet
                .local_flags
                .remove(echo | LocalFlags::ICANON | LocalFlags::IEXTEN);
            quiet.local_flags.insert(LocalFlags::NOFLSH);
            quiet
                .input_flags
                .remove(InputFlags::ICRNL | InputFlags::IXON);
            quiet.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
            quiet.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
            // A terminal that refuses shows the keys, which does no harm.
            let _ = tcsetattr(&stdin, SetArg::TCSANOW, &quiet);
        }
        Self
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        set_normal();
    }
}

/// Gives the terminal back as it was found, for a process that ends while a line is read or an answer runs.
pub fn restore() {
    if set_normal() {
        // The line editor makes the terminal mark text that is pasted.
        let _ = write!(io::stdout(), "\x1b[?2004l");
        let _ = io::stdout().flush();
    }
}

/// Sets the noted mode; returns whether there is one.
fn set_normal() -> bool {
    let normal = normal();
    if let Some(normal) = &*normal {
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, normal);
    }
    normal.is_some()
}

fn normal() -> MutexGuard<'static, Option<Termios>> {
    NORMAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether stdout is a terminal that can move its cursor.
pub fn is_screen() -> bool {
    io::stdout().is_terminal() && is_capable()
}

/// Whether the terminal can move its cursor, as far as `$TERM` tells.
fn is_capable() -> bool {
    std::env::var("TERM").map_or(true, |name| {
        !PLAIN.iter().any(|plain| name.eq_ignore_ascii_case(plain))
    })
}
