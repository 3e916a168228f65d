//! Dates and times as pages write them: with the month in words of many languages or as a number, in any order, with 12 or 24
//! hours: `Nov 30, 2024 10:15:07 pm`, `30. November 2024 um 22:15`, `2024년 11월 30일 오후 10:15`.

use super::stamp::{DateNumber, clock_seconds, dated, day_number};

/// The beginnings of the names of months in many languages, folded, a line for each month. The longest that fits counts, so
/// that Finnish `marras` is not `mar`. Croatian is not among them: its `lipanj` and `listopad` are other months than in Polish.
const MONTHS: &str = include_str!("months.tsv");

/// Words that stand for a month whose number follows, and before which its number stands.
const MONTH_BEFORE: &str = "tháng";
const MONTH_AFTER: [char; 3] = ['月', '월', '월'];

/// Seconds since 1970, in the zone that the page is written in, of a date and time.
pub(super) fn written_time(text: &str) -> Option<i64> {
    let (before, numbers) = dated(&text.to_lowercase())?;
    let is_year = |it: &DateNumber| it.n_digits == 4;
    let year = numbers.iter().take(3).position(is_year);
    let (n_date, [year, month, day]) = match (year, numbers.as_slice()) {
        (Some(0), [year, day, ..]) if month_named(&year.words).is_some() => {
            (2, [year.value, month_named(&year.words)?, day.value])
        }
        (Some(0), [year, month, day, ..]) => (3, [year.value, month.value, day.value]),
        (Some(1), [day, year, ..]) => {
            let month = month_named(&day.words).or_else(|| month_named(&before))?;
            (2, [year.value, month, day.value])
        }
        (_, [first, second, year, ..]) => {
            let is_day_first = is_day_first(&before, [first, second], &numbers[3..])?;
            let (day, month) = if is_day_first {
                (first, second)
            } else {
                (second, first)
            };
            (3, [year.value, month.value, day.value])
        }
        _ => return None,
    };
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day);
    let seconds = clock_of(&numbers[n_date - 1].words, &numbers[n_date..])?;
    is_date.then(|| day_number(year, month, day) * 86_400 + i64::from(seconds))
}

/// The month among some words.
fn month_named(words: &str) -> Option<u32> {
    let separators = |it: char| it.is_whitespace() || ",()".contains(it);
    words.split(separators).rev().find_map(|word| {
        let word = word.trim_start_matches('.');
        let known = (1..).zip(MONTHS.lines());
        let stems = known.flat_map(|(month, stems)| stems.split('\t').map(move |it| (it, month)));
        let fits = stems.filter(|(stem, _)| word.starts_with(stem));
        fits.max_by_key(|(stem, _)| stem.len())
            .map(|(_, month)| month)
    })
}

/// Whether the first of two numbers before the year is the day, by the words around them, by their sizes, or by the hours:
/// the month comes first where the day has twice twelve of them. `None` if they are no date.
fn is_day_first(
    before: &str,
    [first, second]: [&DateNumber; 2],
    clock: &[DateNumber],
) -> Option<bool> {
    if before.trim_end().ends_with(MONTH_BEFORE) || first.words.starts_with(MONTH_AFTER) {
        return Some(false);
    }
    if first.words.ends_with(MONTH_BEFORE) {
        return Some(true);
    }
    let is_separated =
        first.words == second.words && ["/", ".", "-"].contains(&first.words.as_str());
    let has_noon = clock.iter().any(|it| {
        let words = it.words.replace(['.', ' '], "");
        words.starts_with("am") || words.starts_with("pm")
    });
    is_separated
        .then(|| first.value > 12 || second.value <= 12 && !(first.words == "/" && has_noon))
}

/// Seconds since midnight of the numbers after a date. The words between both, or those behind, may tell the half of the day.
fn clock_of(between: &str, numbers: &[DateNumber]) -> Option<u32> {
    let (first, second) = (numbers.first()?, numbers.get(1)?);
    let is_separator = |words: &str| [":", ".", "h", "時", "时", "点", "點", "시"].contains(&words);
    let has_seconds = [":", ".", "分", "분"].contains(&second.words.as_str());
    let values = match numbers.get(2) {
        Some(third) if has_seconds => vec![first.value, second.value, third.value],
        _ => vec![first.value, second.value],
    };
    let behind = &numbers[values.len() - 1].words;
    let noon = [between, behind]
        .into_iter()
        .flat_map(|it| [it].into_iter().chain(it.split(' ')));
    let seconds = noon.filter_map(|words| clock_seconds(&values, words));
    // Words that tell nothing leave the hours as they are.
    let plain = clock_seconds(&values, "").filter(|_| is_separator(&first.words))?;
    Some(seconds.into_iter().find(|it| *it != plain).unwrap_or(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_in_many_languages_are_read() {
        let time = |hours: i64| day_number(2024, 11, 3) * 86_400 + hours * 3600 + 15 * 60;
        for text in [
            "Nov 03, 2024 10:15 pm",
            "Nov 3, 2024, 10:15 PM",
            "Nov 03, 2024 10:15:00pm",
            "Sunday, November 3, 2024 at 10:15pm UTC+01",
            "03.11.2024, 22:15",
            "3. Nov. 2024, 22:15",
            "So., 3. November 2024 um 22:15",
            "03/11/2024 22:15",
            "11/3/2024, 10:15 PM",
            "11/03/24, 10:15 p.m.",
            "2024-11-03 22:15",
            "3 nov. 2024, 22:15:00",
            "nov 03, 2024 10:15:00 pm",
            "3 de noviembre de 2024, 10:15:00 p. m.",
            "3 de novembro de 2024 às 22:15",
            "domenica 3 novembre 2024 22:15",
            "lis 03, 2024 10:15:00 po południu",
            "3. listopadu 2024 22:15",
            "3 ноября 2024 г., 22:15",
            "3 Kasım 2024 22:15",
            "3 marraskuuta 2024 klo 22.15",
            "Tháng 11 03, 2024 10:15:00 ch",
            "11月 03, 2024 10:15 下午",
            "2024年11月3日 22:15",
            "2024年11月3日下午10:15",
            "2024년 11월 3일 오후 10:15",
            "3 พ.ย. 2024 22:15",
            "2024 nov. 3. 22:15",
        ] {
            assert_eq!(written_time(text), Some(time(22)), "{text}");
        }
        for text in [
            "Nov 3, 2024 12:15 am",
            "3 listopada 2024 00:15",
            "Nov 03, 2024 00:15",
        ] {
            assert_eq!(written_time(text), Some(time(0)), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_not_read() {
        for text in [
            "",
            "yesterday",
            "wat 3, 2024 10:15 pm",
            "Nov 3, 2024",
            "Nov 33, 2024 10:15",
            "Nov 3, 2024 33:15",
            "13/13/2024 10:15",
            "1.2.3",
            "12345678 10:15",
        ] {
            assert_eq!(written_time(text), None, "{text}");
        }
    }
}
