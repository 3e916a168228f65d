//! From the bytes of tokens to text that can be shown: whole characters, and no part of a stop string.

/// A filter of a text's bytes, which holds back what may become part of a character or of a stop string.
#[derive(Debug, Default)]
pub struct StopFilter {
    /// Bytes of a character that is not whole yet: at most three.
    bytes: Vec<u8>,
    /// Whole characters that may be the beginning of a stop string.
    held: String,
    stops: Vec<String>,
}

impl StopFilter {
    /// A filter of an empty text that ends before the first of `stops`; empty strings are ignored.
    #[must_use]
    pub fn new(stops: &[String]) -> Self {
        let stops = stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .cloned()
            .collect();
        Self {
            stops,
            ..Self::default()
        }
    }

    /// Takes a token's bytes. Returns the text that has become certain, and whether a stop string was reached. It ends the
    /// text, and what comes after it is dropped.
    pub fn push(&mut self, bytes: &[u8]) -> (String, bool) {
        self.bytes.extend_from_slice(bytes);
        let whole = drain_characters(&mut self.bytes);
        self.held.push_str(&whole);
        if let Some(end) = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop))
            .min()
        {
            self.held.truncate(end);
            self.bytes.clear();
            return (std::mem::take(&mut self.held), true);
        }
        let rest = self.held.split_off(self.certain());
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// Returns what was held back, at the end of the text; an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let mut text = std::mem::take(&mut self.held);
        text.push_str(&String::from_utf8_lossy(&std::mem::take(&mut self.bytes)));
        text
    }

    /// The number of bytes of `held` that cannot belong to a stop string.
    fn certain(&self) -> usize {
        let held = &self.held;
        let mut starts = held.char_indices().map(|(start, _)| start);
        starts
            .find(|&start| {
                self.stops
                    .iter()
                    .any(|stop| stop.starts_with(&held[start..]))
            })
            .unwrap_or(held.len())
    }
}

/// Removes all whole characters from the front of `bytes`, with each maximal ill-formed sequence as U+FFFD. The bytes that
/// stay may become a character.
fn drain_characters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut rest = bytes.as_slice();
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                rest = &[];
                break;
            }
            Err(error) => {
                let (valid, after) = rest.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                rest = after;
                let Some(length) = error.error_len() else {
                    break;
                };
                text.push(char::REPLACEMENT_CHARACTER);
                rest = &rest[length..];
            }
        }
    }
    let taken = bytes.len() - rest.len();
    bytes.drain(..taken);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stops(stops: &[&str]) -> Vec<String> {
        stops.iter().map(ToString::to_string).collect()
    }

    /// The results of the pushes and of `finish`, which is `None` after a stop string.
    fn run(stop: &[&str], pushes: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let mut text = StopFilter::new(&stops(stop));
        let mut pieces = Vec::new();
        for push in pushes {
            let (piece, stopped) = text.push(push);
            pieces.push(piece);
            if stopped {
                return (pieces, None);
            }
        }
        (pieces, Some(text.finish()))
    }

    fn pieces(texts: &[&str]) -> Vec<String> {
        stops(texts)
    }

    #[test]
    fn characters_wait_for_their_last_byte() {
        let (given, rest) = run(&[], &[b"a\xC3", b"\xA9b\xF0\x9F", b"\x98\x80"]);
        assert_eq!(given, pieces(&["a", "éb", "😀"]));
        assert_eq!(rest.unwrap(), "");
    }

    #[test]
    fn ill_formed_bytes_become_replacement_characters() {
        let (given, rest) = run(&[], &[b"a\xFFb", b"\xC3", b"c", b"\xF0\x9F"]);
        assert_eq!(given, pieces(&["a\u{FFFD}b", "", "\u{FFFD}c", ""]));
        assert_eq!(rest.unwrap(), "\u{FFFD}");
    }

    #[test]
    fn a_stop_string_is_never_shown_not_even_in_part() {
        let (given, rest) = run(&["END", "\n\n"], &[b"one\n", b"two E", b"N", b"D three"]);
        assert_eq!(given, pieces(&["one", "\ntwo ", "", ""]));
        assert_eq!(rest, None);
    }

    #[test]
    fn a_beginning_that_is_no_stop_string_is_shown_later() {
        let (given, rest) = run(&["aab"], &[b"xaa", b"a", b"c", b"a"]);
        assert_eq!(given, pieces(&["x", "a", "aac", ""]));
        assert_eq!(rest.unwrap(), "a");
    }

    #[test]
    fn the_earliest_stop_string_ends_the_text() {
        let (given, rest) = run(&["later", "so", ""], &[b"and so it is later"]);
        assert_eq!(given, pieces(&["and "]));
        assert_eq!(rest, None);
    }

    /// `bytes` cut at the given places, taken modulo its length.
    fn split<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.windows(2)
            .map(|ends| &bytes[ends[0]..ends[1]])
            .collect()
    }

    proptest! {
        #[test]
        fn any_split_of_any_bytes_joins_to_their_text(
            bytes in prop_oneof![
                any::<String>().prop_map(String::into_bytes),
                any::<Vec<u8>>(),
            ],
            cuts in proptest::collection::vec(any::<usize>(), 0..12),
        ) {
            let (given, rest) = run(&[], &split(&bytes, &cuts));
            prop_assert_eq!(given.concat() + &rest.unwrap(), String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn any_split_ends_before_the_first_stop_string(
            text in "[abc ]{0,30}",
            stop in proptest::collection::vec("[abc]{1,3}", 0..3),
            cuts in proptest::collection::vec(any::<usize>(), 0..12),
        ) {
            let stop: Vec<_> = stop.iter().map(String::as_str).collect();
            let (given, rest) = run(&stop, &split(text.as_bytes(), &cuts));
            let shown = given.concat() + &rest.unwrap_or_default();
            prop_assert!(text.starts_with(&shown));
            prop_assert!(stop.iter().all(|stop| !shown.contains(stop)));
            if stop.iter().all(|stop| !text.contains(stop)) {
                prop_assert_eq!(shown, text);
            }
        }
    }
}
