//! The terminal: what it can do, and how it is kept from showing what is typed while an answer runs.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};

use nix::sys::termios::{
    InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};

/// Terminals without cursor movement, at which lines are read without editing.
const PLAIN: [&str; 3] = ["dumb", "cons25", "emacs"];

/// The terminal's mode before it was made quiet; `None` while it is not.
static NORMAL: Mutex<Option<Termios>> = Mutex::new(None);

/// While this lives, the terminal shows no typed keys and hands them to the next prompt as they were typed, finished lines
/// and half ones alike. Ctrl-C and Ctrl-Z keep their effect, and Ctrl-C discards nothing that was typed.
pub struct Quiet;

impl Quiet {
    /// Makes the terminal at stdin quiet; does nothing where stdin is no terminal, or one without line editing.
    pub fn begin() -> Self {
        let stdin = io::stdin();
        if let Ok(normal) = tcgetattr(&stdin)
            && is_capable()
        {
            let mut quiet = normal.clone();
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
            *NORMAL.lock().unwrap_or_else(PoisonError::into_inner) = Some(normal);
            // A terminal that refuses shows the keys, which does no harm.
            let _ = tcsetattr(&stdin, SetArg::TCSANOW, &quiet);
        }
        Self
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives a quiet terminal its normal mode back. A process that exits without unwinding has to call this.
pub fn restore() {
    let normal = NORMAL.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(normal) = normal {
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &normal);
    }
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
