//! Checks of what a pattern has matched: checksums of numbers, and whether a word looks like a secret.

use std::net::Ipv6Addr;
use std::ops::Range;

use super::identities;
use super::numbers::{SecretCheck, digits, is_luhn, runs, whole};

/// The check with this name in the tables.
pub(super) fn named(name: &str) -> Option<SecretCheck> {
    Some(match name {
        "-" => |text| Some(0..text.len()),
        "dense" => |text| whole(text, is_dense(text)),
        "value" => |text| whole(text, !is_stand_in(text)),
        "key" => |text| word(text, is_key),
        "after_sign" => |text| word(text, is_mixed),
        "after_word" => |text| word(text, is_striking),
        "lone" => |text| whole(text, !is_stand_in(text) && !is_state(text)),
        "quoted" => |text| whole(text, !is_stand_in(text)),
        "number" => |text| whole(text, text.bytes().filter(u8::is_ascii_digit).count() >= 5),
        "card" => card,
        "iban" => iban,
        "phone" => |text| whole(text, is_phone(text)),
        "ip" => |text| whole(text, is_address(text)),
        _ => return identities::named(name),
    })
}

/// Whether a text has a long run of letters and digits, as random keys have and words joined by hyphens have not.
fn is_dense(text: &str) -> bool {
    let mut runs = text.split(|c: char| !c.is_ascii_alphanumeric());
    runs.any(|run| {
        run.len() >= 16
            && run.contains(|c: char| c.is_ascii_digit())
            && run.contains(|c: char| c.is_ascii_alphabetic())
    })
}

/// A word without the punctuation after it, if it looks like a secret.
fn word(text: &str, is_secret: fn(&str) -> bool) -> Option<Range<usize>> {
    let punctuation = [
        ".", ",", ";", ":", "!", "?", ")", "]", "}", "'", "**", "_", "|",
    ];
    let mut word = text;
    while let Some(rest) = punctuation.iter().find_map(|it| word.strip_suffix(it)) {
        word = rest;
    }
    // An exclamation or question mark may belong to a password.
    let end = word.len() + usize::from(text[word.len()..].starts_with(['!', '?']));
    let is_word = word.chars().count() >= 4 && !is_stand_in(word);
    (is_word && is_secret(word)).then_some(0..end)
}

/// Whether a text stands in the place of a secret: `<password>`, `${KEY}`, `****`, `get_key()`, and placeholders of ours.
fn is_stand_in(text: &str) -> bool {
    let mut letters = text.chars();
    let first = letters.next().unwrap_or_default();
    "[<{$%(".contains(first)
        || text.contains("://")
        || text.starts_with("//")
        || text.starts_with("&str")
        || text.contains(['(', '…'])
        || text.contains("...")
        || letters.all(|c| c == first)
}

/// States of a password, which may stand after a colon in its place.
const STATES: [&str; 20] = [
    "changed",
    "empty",
    "expired",
    "false",
    "forgotten",
    "hidden",
    "incorrect",
    "invalid",
    "missing",
    "none",
    "null",
    "optional",
    "protected",
    "required",
    "reset",
    "string",
    "true",
    "undefined",
    "unknown",
    "wrong",
];

fn is_state(text: &str) -> bool {
    STATES.contains(&text.to_lowercase().as_str())
}

/// Signs that are within passwords more often than within words.
const SIGNS: &str = "!@#$%^&*+=~?";

/// Whether a word has digits, signs or capitals within, as few words of a language have.
fn is_mixed(word: &str) -> bool {
    let mut pairs = word.chars().zip(word.chars().skip(1));
    word.contains(|c: char| c.is_ascii_digit() || SIGNS.contains(c))
        || pairs.any(|(a, b)| a.is_lowercase() && b.is_uppercase())
}

/// Whether a word looks like a password in the middle of a sentence.
fn is_striking(word: &str) -> bool {
    let has_digit = word.contains(|c: char| c.is_ascii_digit());
    let has_letter = word.contains(char::is_alphabetic);
    let has_sign = word.contains(|c| SIGNS.contains(c));
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    let is_year = word.len() == 4 && (word.starts_with("19") || word.starts_with("20"));
    is_number && !is_year
        || word.len() >= 6 && has_letter && (has_digit && !is_measure(word) || has_sign)
}

/// Whether a word is a number with its unit, or a name with its number: `8-character`, `10MB`, `COVID-19`, `1990s`.
fn is_measure(word: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_digit();
    let after = word.trim_start_matches(is_digit).trim_start_matches('-');
    let before = word.trim_end_matches(is_digit);
    let is_unit = after.len() < word.len() && after.chars().all(|c| c.is_alphabetic() || c == '-');
    let is_name = before.ends_with('-')
        && before
            .trim_end_matches('-')
            .chars()
            .all(char::is_alphabetic);
    is_unit || is_name
}

/// Whether a word looks like a key: long, of letters and digits, and no path or call.
fn is_key(word: &str) -> bool {
    word.len() >= 12
        && word.contains(|c: char| c.is_ascii_digit())
        && word.contains(|c: char| c.is_ascii_alphabetic())
        && !is_measure(word)
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/=_.~-".contains(&byte))
        && !word.split(['/', '.', '-', '_']).all(|part| part.len() < 6)
}

/// A card's number among groups of digits: of a known issuer and its length, in one group or in groups as cards have
/// them, with the check digit of Luhn (ISO/IEC 7812-1, annex B).
fn card(text: &str) -> Option<Range<usize>> {
    let groups = groups(text);
    (0..groups.len()).find_map(|first| {
        [4, 5, 3, 1].into_iter().find_map(|n| {
            let taken = groups.get(first..first + n)?;
            let lengths: Vec<_> = taken.iter().map(ExactSizeIterator::len).collect();
            let is_grouped = matches!(
                lengths[..],
                [4, 4, 4, 4] | [4, 4, 4, 4, 3] | [4, 6, 5 | 4] | [13..=19]
            );
            let range = taken[0].start..taken[n - 1].end;
            let number = digits(&text[range.clone()]);
            (is_grouped && is_issued(&number) && is_luhn(&number)).then_some(range)
        })
    })
}

/// The places of the groups of digits in a text.
fn groups(text: &str) -> Vec<Range<usize>> {
    runs(text, |c| c.is_ascii_digit())
}

/// Whether the first digits are those of a network of cards with numbers of this length.
fn is_issued(number: &[u32]) -> bool {
    let first = |n: usize| number.iter().take(n).fold(0, |sum, digit| sum * 10 + digit);
    match number.len() {
        14 => matches!(first(3), 300..=305 | 309 | 360..=369 | 380..=399),
        15 => matches!(first(2), 34 | 37) || matches!(first(4), 1800 | 2131),
        13 | 16..=19 => {
            let is_known = first(1) == 4
                || matches!(first(2), 50..=69)
                || matches!(first(4), 2221..=2720 | 3528..=3589);
            // Mir, and the eighteen-digit numbers of Maestro and UnionPay, begin as these do.
            is_known && (number.len() != 13 || first(1) == 4) || matches!(first(4), 2200..=2204)
        }
        _ => false,
    }
}

/// The lengths of IBANs by country (SWIFT's IBAN registry).
const IBAN_LENGTHS: &str = "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 \
    EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 \
    LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 \
    RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30";

/// An IBAN at the beginning of a text that may go on: as long as its country's are, with the checksum of ISO 7064.
fn iban(text: &str) -> Option<Range<usize>> {
    let country = text.get(..2)?.to_ascii_uppercase();
    let known = IBAN_LENGTHS
        .split(' ')
        .find_map(|it| it.strip_prefix(country.as_str()));
    let length: usize = known?.parse().ok()?;
    let is_sign = |c: &char| c.is_ascii_alphanumeric();
    let signs: Vec<_> = text
        .char_indices()
        .filter(|(_, c)| is_sign(c))
        .take(length)
        .collect();
    let (last, _) = *signs.get(length - 1)?;
    let is_whole = !text[last + 1..].starts_with(|c: char| c.is_ascii_alphanumeric());
    let value = |c: char| u64::from(c.to_digit(36).unwrap_or_default());
    let moved = signs[4..].iter().chain(&signs[..4]);
    let rest = moved.fold(0, |rest, &(_, c)| {
        let scale = if c.is_ascii_digit() { 10 } else { 100 };
        (rest * scale + value(c)) % 97
    });
    (is_whole && rest == 1).then_some(0..last + 1)
}

/// Whether digits are a phone number: in the international form, or with the zero, the parentheses or the groups of a
/// national one.
fn is_phone(text: &str) -> bool {
    let n = text.bytes().filter(u8::is_ascii_digit).count();
    let groups: Vec<_> = groups(text).iter().map(ExactSizeIterator::len).collect();
    let is_grouped = groups.len() > 1 && n >= 8;
    let is_date = matches!(
        groups[..],
        [4, 2, 2, ..] | [2, 2, 4, ..] | [1 | 2, 1 | 2, 4]
    );
    let is_national = text.starts_with(['0', '(']) && (is_grouped || n >= 9)
        || matches!(groups[..], [3, 3, 4] | [1, 3, 3, 4]);
    (7..=15).contains(&n) && !is_date && (text.starts_with('+') || is_national)
}

fn is_address(text: &str) -> bool {
    let is_v6 = || text.len() > 4 && text.parse::<Ipv6Addr>().is_ok();
    text.split('.').count() == 4 && text.split('.').all(|part| part.parse::<u8>().is_ok())
        || is_v6()
}
