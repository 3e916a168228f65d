//! Fixed words with gaps between them, and what may stand in the gaps of a line of attribution.

/// How surely a text is a line of attribution, which says who wrote the quoted mail and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attribution {
    /// A name and a verb: one only right above a quotation.
    Named,
    /// A date too, in the order of a language that begins with neither a word of its own nor a name.
    Dated,
    /// A date too, after a known beginning.
    Opened,
    /// The date with the year, and the address, or the time of day and a full name: one even if no mark of quotation follows.
    Certain,
}

/// A row of the table of markers, cut at its gaps. Punctuation around a gap does not count.
pub(super) struct Template {
    pieces: Vec<TemplatePiece>,
    has_colon: bool,
}

enum TemplatePiece {
    Words {
        text: String,
        /// Whether a blank or punctuation must stand before and after the words.
        is_apart: [bool; 2],
    },
    Gap {
        has_date: bool,
        has_name: bool,
    },
}

const PLACEHOLDERS: [&str; 5] = ["DATE", "TIME", "NAME", "ADDR", "…"];

/// The most words in the gap of a line that a phone writes.
const MAX_GAP_WORDS: usize = 5;

/// Small words within names.
const PARTICLES: [&str; 22] = [
    "von", "van", "de", "der", "den", "del", "della", "di", "da", "dos", "du", "la", "le", "el",
    "al", "bin", "of", "the", "und", "and", "via", "zu",
];

/// A text with every run of blanks as one blank, none at the ends, without marks of the direction of writing, with the digits
/// from 0 to 9 and a usual colon at its end.
pub(super) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split(char::is_whitespace) {
        let word = word.chars().filter_map(folded_character);
        let mut word = word.peekable();
        if word.peek().is_some() && !folded.is_empty() {
            folded.push(' ');
        }
        folded.extend(word);
    }
    folded
        .replace(" :", ":")
        .replace("< ", "<")
        .replace(" >", ">")
}

fn folded_character(character: char) -> Option<char> {
    let digit = |zero: char| char::from_digit(character as u32 - zero as u32, 10);
    match character {
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
        '٠'..='٩' => digit('٠'),
        '۰'..='۹' => digit('۰'),
        '０'..='９' => digit('０'),
        '：' => Some(':'),
        _ => Some(character),
    }
}

impl Template {
    pub fn parse(row: &str) -> Self {
        let row = fold(row);
        let row = row.trim_matches(['-', ' ']);
        let (mut rest, has_colon) = match row.strip_suffix(':') {
            Some(rest) => (rest, true),
            None => (row, false),
        };
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let next = PLACEHOLDERS
                .iter()
                .filter_map(|name| Some((rest.find(name)?, *name)));
            let (start, name) = next.min().unwrap_or((rest.len(), ""));
            push_words(&mut pieces, &rest[..start]);
            if !name.is_empty() {
                push_gap(&mut pieces, name);
            }
            rest = &rest[start + name.len()..];
        }
        Self { pieces, has_colon }
    }

    /// Whether a whole line has these words, with a few others in the gaps.
    pub fn is_line(&self, line: &str) -> bool {
        matches(&self.pieces, line, &|_, _, gap| {
            let is_plain = !gap.contains([',', ';', '?', '!', ':']);
            is_plain && gap.split_whitespace().count() <= MAX_GAP_WORDS
        })
    }

    /// The line of attribution that a text is by this template.
    pub fn attribution(&self, text: &str) -> Option<Attribution> {
        let text = match text.strip_suffix(':') {
            Some(text) => text,
            None if self.has_colon => return None,
            None => text,
        };
        let has_words = self
            .pieces
            .iter()
            .any(|piece| matches!(piece, TemplatePiece::Words { .. }));
        if !has_words {
            return None;
        }
        let has_address = has_address(text);
        // A program writes the time of day and the year, and then the name may be any.
        let is_exact = is_moment(text);
        let fits = |has_date: bool, has_name: bool, gap: &str| {
            (!has_date || has_digit(gap) || is_name(gap))
                && (!has_name
                    || has_address
                    || is_exact
                    || ends_as_name(gap) && (has_date || is_name(gap)))
        };
        if !matches(&self.pieces, text, &fits) {
            return None;
        }
        let is_dated = self
            .pieces
            .iter()
            .any(|piece| matches!(piece, TemplatePiece::Gap { has_date: true, .. }));
        let is_certain = is_exact || has_year(text) && has_address;
        Some(match &self.pieces[0] {
            _ if !is_dated => Attribution::Named,
            TemplatePiece::Gap {
                has_date: true,
                has_name: false,
            } if !begins_as_date(text) => return None,
            _ if is_certain => Attribution::Certain,
            TemplatePiece::Gap { has_date: true, .. } => Attribution::Dated,
            _ => Attribution::Opened,
        })
    }

    /// The line of attribution that a text is by its date, time and address alone, in whatever language.
    pub fn any_attribution(text: &str) -> Option<Attribution> {
        let text = text.strip_suffix(':')?;
        let has_sender = has_address(text) && text.contains('<');
        let is_dated = has_year(text) && (has_sender || has_time(text));
        let is_certain = has_sender && has_time(text) && begins_as_date(text);
        is_dated.then_some(if is_certain {
            Attribution::Certain
        } else {
            Attribution::Dated
        })
    }
}

fn push_words(pieces: &mut Vec<TemplatePiece>, words: &str) {
    let is_mark = |character: char| " ,.<>()\"'«»、，".contains(character);
    let text = words.trim_matches(is_mark);
    if !text.is_empty() {
        pieces.push(TemplatePiece::Words {
            text: text.to_owned(),
            is_apart: [words.starts_with(is_mark), words.ends_with(is_mark)],
        });
    }
}

fn push_gap(pieces: &mut Vec<TemplatePiece>, name: &str) {
    let (is_date, is_name) = (
        ["DATE", "TIME"].contains(&name),
        ["NAME", "ADDR"].contains(&name),
    );
    match pieces.last_mut() {
        Some(TemplatePiece::Gap { has_date, has_name }) => {
            *has_date |= is_date;
            *has_name |= is_name;
        }
        _ => pieces.push(TemplatePiece::Gap {
            has_date: is_date,
            has_name: is_name,
        }),
    }
}

/// Whether a text has these pieces and nothing else. `fits(has_date, has_name, text)` says what a gap may hold.
fn matches(pieces: &[TemplatePiece], text: &str, fits: &dyn Fn(bool, bool, &str) -> bool) -> bool {
    match pieces {
        [] => !text.contains(char::is_alphanumeric),
        [
            TemplatePiece::Words {
                text: words,
                is_apart,
            },
            rest @ ..,
        ] => {
            let after = text.trim_start().strip_prefix(words.as_str());
            after.is_some_and(|after| is_end(after, is_apart[1]) && matches(rest, after, fits))
        }
        [TemplatePiece::Gap { has_date, has_name }] => fits(*has_date, *has_name, text.trim()),
        [TemplatePiece::Gap { has_date, has_name }, rest @ ..] => {
            let [
                TemplatePiece::Words {
                    text: words,
                    is_apart,
                },
                rest @ ..,
            ] = rest
            else {
                unreachable!("two gaps are one")
            };
            text.match_indices(words.as_str()).any(|(start, _)| {
                let (gap, after) = (&text[..start], &text[start + words.len()..]);
                let is_start = !is_apart[0] || !gap.ends_with(char::is_alphanumeric);
                is_start
                    && is_end(after, is_apart[1])
                    && !gap.trim().is_empty()
                    && fits(*has_date, *has_name, gap.trim())
                    && matches(rest, after, fits)
            })
        }
    }
}

fn is_end(after: &str, is_apart: bool) -> bool {
    !is_apart || !after.starts_with(char::is_alphanumeric)
}

fn has_digit(text: &str) -> bool {
    text.contains(|character: char| character.is_ascii_digit())
}

pub(super) fn has_address(text: &str) -> bool {
    text.split_once('@').is_some_and(|(before, after)| {
        before.ends_with(|last: char| last.is_alphanumeric() || "._+-=".contains(last))
            && after.starts_with(char::is_alphanumeric)
    })
}

/// Whether a word may be one of a name: it does not begin with a small letter, or is a particle.
fn is_part_of_name(word: &str) -> bool {
    let first = word.chars().find(|character| character.is_alphabetic());
    first.is_none_or(|first| !first.is_lowercase()) || PARTICLES.contains(&word)
}

fn is_name(text: &str) -> bool {
    let words: Vec<_> = text
        .split([' ', ','])
        .filter(|word| !word.is_empty())
        .collect();
    (1..=8).contains(&words.len()) && words.iter().all(|word| is_part_of_name(word))
}

fn ends_as_name(text: &str) -> bool {
    text.split(' ').next_back().is_some_and(is_part_of_name)
}

/// Whether a text begins with a date: a number within its first three words, none of which is long.
fn begins_as_date(text: &str) -> bool {
    let mut words = text.split(' ').take(3);
    words.any(has_digit)
        && text
            .split(' ')
            .next()
            .is_some_and(|word| word.chars().count() <= 14)
}

/// Whether a text has a date with its year, and a time of day.
pub(super) fn is_moment(text: &str) -> bool {
    has_year(text) && has_time(text)
}

/// The numbers of a text: the places of their first and last digits.
fn numbers(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut numbers = Vec::new();
    let mut start = None;
    for (i, byte) in bytes.iter().chain([&b' ']).enumerate() {
        match (byte.is_ascii_digit(), start) {
            (true, None) => start = Some(i),
            (false, Some(first)) => {
                numbers.push((first, i));
                start = None;
            }
            _ => {}
        }
    }
    numbers
}

/// Whether a text has a year, or a date of three numbers.
fn has_year(text: &str) -> bool {
    let numbers = numbers(text);
    let year = numbers
        .iter()
        .any(|&(start, end)| matches!(text[start..end].parse(), Ok(1970..=2099)));
    let follows = |pair: &[(usize, usize)]| {
        pair[0].1 + 1 == pair[1].0 && "./-".contains(&text[pair[0].1..pair[1].0])
    };
    year || numbers
        .windows(3)
        .any(|three| follows(&three[..2]) && follows(&three[1..]))
}

/// Whether a text has a time of day: two numbers around a colon or a full stop, the second of two digits.
fn has_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    numbers(text).windows(2).any(|pair| {
        let [(start, end), (next, last)] = [pair[0], pair[1]];
        let is_pair = end + 1 == next && end - start <= 2 && last - next == 2;
        let is_date = bytes.get(last) == Some(&b'.') || start > 0 && bytes[start - 1] == b'.';
        is_pair && (bytes[end] == b':' || bytes[end] == b'h' || bytes[end] == b'.' && !is_date)
    })
}
