//! Dates and times as messengers write them before a message, in the manner of any locale: the day, the month or the year
//! first, with slashes, dots, dashes or words between them, with 12 or 24 hours and any digits, in brackets or before a dash.
//!
//! The forms are those of Unicode's CLDR, short date and time, which `WhatsApp` writes.

use crate::error::is_mark;

/// The most characters of a date and time.
const MAX_STAMP: usize = 60;

/// The most numbers in a date and time.
const MAX_NUMBERS: usize = 7;

/// The most characters of words between and after the numbers.
const MAX_WORDS: usize = 24;

/// The zero of each set of digits, the others of which follow it.
const ZEROS: [char; 19] = [
    '0', '\u{660}', '\u{6f0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}', '\u{be6}',
    '\u{c66}', '\u{ce6}', '\u{d66}', '\u{de6}', '\u{e50}', '\u{ed0}', '\u{f20}', '\u{1040}',
    '\u{17e0}', '\u{ff10}',
];

/// Words of the hours after noon, folded, without dots and blanks. Noon itself is among the Chinese ones.
const AFTER_NOON: [&str; 25] = [
    "pm",
    "μμ",
    "下午",
    "晚上",
    "中午",
    "午後",
    "오후",
    "م",
    "بظ",
    "ch",
    "ptg",
    "pasdites",
    "odp",
    "du",
    "ip",
    "em",
    "ös",
    "öös",
    "nm",
    "अपराह्न",
    "मउ",
    "பிற்பகல்",
    "popoldne",
    "popołudniu",
    "ишм",
];

/// Words of the hours before noon.
const BEFORE_NOON: [&str; 22] = [
    "am",
    "πμ",
    "上午",
    "凌晨",
    "早上",
    "午前",
    "오전",
    "ص",
    "قظ",
    "sa",
    "pg",
    "paradites",
    "dop",
    "de",
    "ap",
    "fm",
    "öö",
    "vm",
    "पूर्वाह्न",
    "मपू",
    "முற்பகல்",
    "dopoldne",
];

/// A date and time before a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub form: StampForm,
    /// The three numbers of the date, in their order.
    date: [u32; 3],
    /// Seconds since midnight.
    seconds: u32,
}

/// The form that all dates and times of one file have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StampForm {
    is_bracketed: bool,
    is_time_first: bool,
    is_year_first: bool,
}

impl StampForm {
    /// Whether it may be that of `sigexport`: `[2026-03-07 21:22:39]`.
    pub fn is_signal(self) -> bool {
        self.is_bracketed && self.is_year_first && !self.is_time_first
    }
}

/// The order of a date whose year comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DateOrder {
    DayFirst,
    MonthFirst,
}

impl Stamp {
    /// The date and time that a line begins with, and the rest of the line: `[…] ` or `… - `.
    pub fn read(line: &str) -> Option<(Self, &str)> {
        let first = plain(line.chars().find(|it| !is_mark(*it))?);
        if first != '[' && !first.is_ascii_digit() {
            return None;
        }
        let characters = line.char_indices().filter(|(_, it)| !is_mark(*it));
        let head: Vec<_> = characters
            .map(|(at, it)| (at, plain(it)))
            .take(MAX_STAMP + 3)
            .collect();
        let is_bracketed = head.first()?.1 == '[';
        let is_end = |at: &usize| match head[*at].1 {
            ']' => is_bracketed,
            '-' => {
                let is_blank = |at: usize| head.get(at).is_none_or(|(_, it)| *it == ' ');
                !is_bracketed && *at > 0 && is_blank(at - 1) && is_blank(at + 1)
            }
            _ => false,
        };
        let end = (0..head.len()).find(is_end)?;
        let inner: String = head[usize::from(is_bracketed)..end]
            .iter()
            .map(|(_, it)| it)
            .collect();
        let rest = head.get(end + 1).map_or("", |(at, _)| &line[*at..]);
        let (form, date, seconds) = date_and_time(inner.trim(), is_bracketed)?;
        Some((
            Self {
                form,
                date,
                seconds,
            },
            rest,
        ))
    }

    /// Seconds since 1970, in the zone that the file is written in.
    pub fn time(&self, order: DateOrder) -> i64 {
        let [first, second, third] = self.date;
        let (year, month, day) = match (self.form.is_year_first, order) {
            (true, _) => (first, second, third),
            (false, DateOrder::DayFirst) => (third, second, first),
            (false, DateOrder::MonthFirst) => (third, first, second),
        };
        day_number(year, month, day) * 86_400 + i64::from(self.seconds)
    }

    /// Whether a line is a message of somebody that was copied from a chat: `[12/03, 18:02] Nora: …`, or as Telegram and
    /// Discord copy it.
    pub fn is_pasted(line: &str) -> bool {
        if is_row(line) {
            return true;
        }
        let line: String = line.chars().filter(|it| !is_mark(*it)).map(plain).collect();
        let line = line.trim();
        let is_clock = |text: &str| {
            let numbers = numbers(text).map(|numbers| numbers.len());
            text.chars().count() <= MAX_STAMP
                && text.contains(':')
                && numbers.is_some_and(|it| it >= 2)
        };
        let names = |rest: &str| {
            let name = rest.trim_start().split_once(':').map(|(name, _)| name);
            name.is_some_and(|name| !name.is_empty() && name.chars().count() <= MAX_STAMP)
        };
        if let Some(inner) = line.strip_prefix('[')
            && let Some((inner, rest)) = inner.split_once(']')
            && is_clock(inner)
        {
            return names(rest);
        }
        if let Some(before) = line.strip_suffix(']')
            && let Some((name, inner)) = before.rsplit_once(", [")
        {
            return !name.is_empty() && is_clock(inner);
        }
        if let Some((name, clock)) = line.split_once(" — ") {
            let numbers = numbers(clock).map_or(0, |numbers| numbers.len());
            return !name.is_empty()
                && name.chars().count() <= MAX_STAMP
                && [2, 5].contains(&numbers)
                && is_clock(clock);
        }
        heads(line).any(|(_, rest)| names(rest))
    }
}

/// The places in a line after what may be a date and time, with the characters before each: after `] ` and ` - `. A date need
/// not be well formed: what a damaged line says is still the text of the one whom it names.
pub(super) fn heads(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let ends = line.match_indices(['-', '–', ']']);
    ends.filter_map(move |(at, end)| {
        let before = &line[..at];
        let rest = &line[at + end.len()..];
        let is_apart = end == "]"
            || before.ends_with(char::is_whitespace) && rest.starts_with(char::is_whitespace);
        let stamp: Vec<_> = before
            .chars()
            .rev()
            .take(MAX_STAMP / 2)
            .map(plain)
            .collect();
        let n_digits = stamp.iter().filter(|it| it.is_ascii_digit()).count();
        let n_separators = stamp
            .iter()
            .filter(|it| "/.:-年月년월".contains(**it))
            .count();
        (is_apart && n_digits > 5 && n_separators > 1).then_some((before, rest))
    })
}

/// Whether a line begins as one with a date and time does, however it goes on.
pub(super) fn begins_with_date(line: &str) -> bool {
    let characters = line.chars().filter(|it| !is_mark(*it)).map(plain);
    let head: Vec<_> = characters.take(MAX_STAMP / 2 - 6).collect();
    let n = |known: &str| head.iter().filter(|it| known.contains(**it)).count();
    let n_digits = head.iter().filter(|it| it.is_ascii_digit()).count();
    let has_clock = n(":") > 0 || n(".") > 2;
    n_digits > 5 && has_clock && n("/.-年月년월") > 1
}

/// Whether a line holds the beginning of a row of a table of messages: a time before a tab.
fn is_row(line: &str) -> bool {
    let Some((before, _)) = line.split_once('\t') else {
        return false;
    };
    let clock: Vec<_> = before.chars().rev().take(10).collect();
    let n_digits = clock.iter().filter(|it| it.is_ascii_digit()).count();
    clock.contains(&':') && n_digits > 2
}

impl DateOrder {
    /// The order in which these dates are meant: one that they can have, and in which they rise.
    pub fn of(stamps: &[Stamp]) -> Self {
        let exceeds = |at: usize| stamps.iter().any(|it| it.date[at] > 12);
        if exceeds(0) != exceeds(1) {
            return if exceeds(0) {
                Self::DayFirst
            } else {
                Self::MonthFirst
            };
        }
        let n_falls = |order| {
            let pairs = stamps.windows(2);
            pairs
                .filter(|it| it[1].time(order) < it[0].time(order))
                .count()
        };
        if n_falls(Self::MonthFirst) < n_falls(Self::DayFirst) {
            Self::MonthFirst
        } else {
            Self::DayFirst
        }
    }
}

/// A character in the form in which dates are read: digits and blanks of any kind are those of ASCII.
fn plain(character: char) -> char {
    let digit = |zero: &char| {
        let offset = u32::from(character).checked_sub(u32::from(*zero))?;
        char::from_digit(offset, 10)
    };
    match character {
        '،' | '，' | '、' => ',',
        '：' => ':',
        '／' => '/',
        '–' | '−' => '-',
        it if it.is_whitespace() => ' ',
        it => ZEROS.iter().find_map(digit).unwrap_or(it),
    }
}

/// A number in a date or time, and the words after it.
pub(super) struct DateNumber {
    pub value: u32,
    pub n_digits: usize,
    pub words: String,
}

/// The numbers in a text that begins with one.
fn numbers(text: &str) -> Option<Vec<DateNumber>> {
    let mut numbers = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let n_digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=4).contains(&n_digits) || numbers.len() == MAX_NUMBERS {
            return None;
        }
        let (digits, after) = rest.split_at(n_digits);
        let end = after.find(|it: char| it.is_ascii_digit());
        let (words, after) = after.split_at(end.unwrap_or(after.len()));
        numbers.push(DateNumber {
            value: digits.parse().ok()?,
            n_digits,
            words: words.trim().to_owned(),
        });
        rest = after;
    }
    Some(numbers)
}

/// The numbers of the date, and the seconds since midnight, of a whole text.
fn date_and_time(text: &str, is_bracketed: bool) -> Option<(StampForm, [u32; 3], u32)> {
    let numbers = numbers(text)?;
    let n_time = numbers
        .len()
        .checked_sub(3)
        .filter(|n| [2, 3].contains(n))?;
    let is_time_first = numbers[0].words.contains(':');
    let (date, time) = if is_time_first {
        let (time, date) = numbers.split_at(n_time);
        (date, time)
    } else {
        numbers.split_at(3)
    };
    let ([year_or_day, month_or_day, last], [.., last_of_time]) = (date, time) else {
        return None;
    };
    let is_date = match [year_or_day.words.as_str(), month_or_day.words.as_str()] {
        [first, second] if first == second => ["/", ".", "-"].contains(&first),
        between => [["年", "月"], ["년", "월"]].contains(&between),
    };
    let mut between = time[..n_time - 1].iter();
    let is_time = between.all(|it| [":", ".", "h", "時", "시"].contains(&it.words.as_str()));
    let is_short = |it: &DateNumber| it.words.chars().count() <= MAX_WORDS;
    let is_year_first = year_or_day.n_digits == 4 || year_or_day.value > 31;
    let (one, other) = if is_year_first {
        (month_or_day.value, last.value)
    } else {
        (year_or_day.value, month_or_day.value)
    };
    let is_day = |number: u32| (1..=31).contains(&number);
    let can_be = is_day(one) && is_day(other) && (one <= 12 || other <= 12);
    if !(is_date && is_time && can_be && is_short(last) && is_short(last_of_time)) {
        return None;
    }
    let clock: Vec<_> = time.iter().map(|it| it.value).collect();
    let seconds = clock_seconds(&clock, &format!("{}{}", last.words, last_of_time.words))?;
    let form = StampForm {
        is_bracketed,
        is_time_first,
        is_year_first,
    };
    let date = [year_or_day.value, month_or_day.value, last.value];
    Some((form, date, seconds))
}

/// Seconds since midnight of hours, minutes and perhaps seconds; `words` may tell whether it is before or after noon.
pub(super) fn clock_seconds(numbers: &[u32], words: &str) -> Option<u32> {
    let (hours, minutes) = (*numbers.first()?, *numbers.get(1)?);
    let seconds = numbers.get(2).copied().unwrap_or(0);
    if hours > 24 || minutes > 59 || seconds > 59 {
        return None;
    }
    let words = words.to_lowercase();
    let words: String = words
        .chars()
        .filter(|it| !" .,-:日일г".contains(*it))
        .collect();
    let is_one_of = |known: &[&str]| known.iter().any(|it| words.trim_start_matches('à') == *it);
    let hours = match hours {
        1..12 if is_one_of(&AFTER_NOON) => hours + 12,
        12 if is_one_of(&BEFORE_NOON) => 0,
        hours => hours,
    };
    Some(hours * 3600 + minutes * 60 + seconds)
}

/// Whether hours and minutes stand in a text.
pub(super) fn holds_clock(text: &str) -> bool {
    let text: Vec<_> = text.chars().map(plain).collect();
    let mut parts = text.windows(4);
    parts.any(|it| {
        it[0].is_ascii_digit() && it[1] == ':' && it[2].is_ascii_digit() && it[3].is_ascii_digit()
    })
}

/// The time of a text of hours and minutes alone, in seconds since midnight.
pub(super) fn clock(text: &str) -> Option<u32> {
    let (before, numbers) = dated(text)?;
    let [first, .., last] = numbers.as_slice() else {
        return None;
    };
    let is_clock = numbers.len() < 4 && [":", "."].contains(&first.words.as_str());
    let values: Vec<_> = numbers.iter().map(|it| it.value).collect();
    clock_seconds(&values, &(before + &last.words)).filter(|_| is_clock)
}

/// The numbers of a short text, and the words before them.
pub(super) fn dated(text: &str) -> Option<(String, Vec<DateNumber>)> {
    let characters = text.chars().filter(|it| !is_mark(*it)).map(plain);
    let text: String = characters.take(MAX_STAMP).collect();
    let text = text.trim();
    let (before, rest) = text.split_at(text.find(|it: char| it.is_ascii_digit())?);
    let numbers = numbers(rest)?;
    let is_short = |words: &str| words.chars().count() <= MAX_WORDS;
    let is_date = is_short(before) && numbers.iter().all(|it| is_short(&it.words));
    is_date.then(|| (before.to_owned(), numbers))
}

/// Days since 1970 of a date; years of two digits are those after 2000.
pub(super) fn day_number(year: u32, month: u32, day: u32) -> i64 {
    let year = i64::from(if year < 100 { year + 2000 } else { year });
    let (month, day) = (i64::from(month), i64::from(day));
    // The year begins in March, so that the leap day is its last.
    let year = if month > 2 { year } else { year - 1 };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

/// Days since 1970 of a line that is a date alone, perhaps with the day of the week: `2026/03/12(木)`, `Thu, 3/12/2026`.
pub(super) fn day(text: &str) -> Option<i64> {
    let (_, numbers) = dated(text)?;
    let [first, second, third] = numbers.as_slice() else {
        return None;
    };
    let (year, month, day) = match first {
        it if it.n_digits == 4 => (first, second, third),
        it if it.value > 12 => (third, second, first),
        _ => (third, first, second),
    };
    let is_date = !first.words.is_empty() && !second.words.is_empty();
    let is_date = is_date && (1..=12).contains(&month.value) && (1..=31).contains(&day.value);
    is_date.then(|| day_number(year.value, month.value, day.value))
}

/// Seconds since 1970 of `2026-03-07T21:22:39.123+01:00` and shorter forms of it.
pub(super) fn iso_time(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to).and_then(|it| it.parse::<u32>().ok());
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let is_date =
        text.get(4..5) == Some("-") && (1..=12).contains(&month) && (1..=31).contains(&day);
    let clock = [number(11, 13), number(14, 16), number(17, 19)].map(|it| it.unwrap_or(0));
    let seconds = clock_seconds(&clock, "")?;
    let zone = text
        .get(19..)
        .and_then(|rest| rest.rfind(['+', '-']).map(|at| &rest[at..]));
    let offset = zone.and_then(|zone| {
        let digits: String = zone.chars().filter(char::is_ascii_digit).collect();
        let (hours, minutes) = (
            digits.get(..2)?.parse::<i64>().ok()?,
            digits.get(2..4)?.parse::<i64>().ok()?,
        );
        Some((hours * 3600 + minutes * 60) * if zone.starts_with('-') { -1 } else { 1 })
    });
    let time = day_number(year, month, day) * 86_400 + i64::from(seconds) - offset.unwrap_or(0);
    is_date.then_some(time)
}
