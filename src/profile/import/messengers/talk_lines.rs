//! Reads a text line by line, of any length as a whole.

use std::io::{BufRead, Read};

use crate::profile::import::export_files::ExportFile;
use crate::profile::import::source::malformed;
use crate::{Error, Result};

/// The longest line, in bytes. Messengers allow far shorter messages.
const MAX_LINE: u64 = 1 << 20;

/// The most bytes of a text that are kept. No example has room for more, and a text of this length is left for it.
const MAX_TEXT: usize = 64 << 10;

/// Calls `take` with each line, without its ending.
///
/// # Errors
///
/// [`Error::Io`] when the file cannot be read; [`Error::Input`], with the line, when it is no UTF-8 or a line is too long.
pub(super) fn for_each_line(file: &ExportFile, take: &mut dyn FnMut(&str)) -> Result<()> {
    file.read(|reader| {
        let mut bytes = Vec::new();
        for number in 1_usize.. {
            bytes.clear();
            let read = (&mut *reader)
                .take(MAX_LINE + 1)
                .read_until(b'\n', &mut bytes);
            if read.map_err(Error::io("read", file.path()))? == 0 {
                break;
            }
            if bytes.len() as u64 > MAX_LINE {
                let what = format!("line {number} is longer than {} MiB", MAX_LINE >> 20);
                return Err(malformed(file.path(), what));
            }
            let Ok(line) = str::from_utf8(&bytes) else {
                let what = format!("line {number} is not valid UTF-8; save the file in UTF-8");
                return Err(malformed(file.path(), what));
            };
            let line = if number == 1 {
                line.trim_start_matches('\u{feff}')
            } else {
                line
            };
            take(line.trim_end_matches(['\n', '\r']));
        }
        Ok(())
    })
}

/// Adds a line to a text, if there is room for it.
pub(super) fn push_line(text: &mut String, line: &str) {
    if text.len() < MAX_TEXT {
        text.push('\n');
        text.push_str(line);
    }
}
