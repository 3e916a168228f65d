//! Splits a web page into the elements that it repeats, such as a chat's messages, so that one of them is in memory at a time.

use std::io::{BufRead, Read, Result};

/// The most bytes of an element that are kept.
const MAX_ELEMENT: usize = 4 << 20;

/// Calls `take` with the HTML from each tag that begins an element to the next such tag. `begins` gets a tag without its
/// bracket, with what follows it.
///
/// # Errors
///
/// The error of the reader.
pub(super) fn for_each_element(
    reader: &mut dyn BufRead,
    begins: impl Fn(&[u8]) -> bool,
    mut take: impl FnMut(&str),
) -> Result<()> {
    let mut element = Vec::new();
    let (mut is_inside, mut is_tag) = (false, false);
    loop {
        let start = element.len();
        let mut some = (&mut *reader).take(MAX_ELEMENT as u64);
        let n_read = some.read_until(b'<', &mut element)?;
        let is_new = is_tag && begins(&element[start..]);
        is_tag = element.ends_with(b"<");
        if is_new || n_read == 0 {
            let next = element.split_off(start);
            if is_inside {
                let html = String::from_utf8_lossy(&element);
                take(&format!("<{}", html.trim_end_matches('<')));
            }
            element = next;
            is_inside = is_new;
        }
        if n_read == 0 {
            return Ok(());
        }
        if !is_inside {
            element.clear();
        }
        element.truncate(MAX_ELEMENT);
    }
}
