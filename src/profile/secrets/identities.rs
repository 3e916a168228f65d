//! Checks of numbers by which states know people.

use super::numbers::{SecretCheck, digits, is_luhn, whole};

/// The check of a number with this name in the table of rules.
pub(super) fn named(name: &str) -> Option<SecretCheck> {
    Some(match name {
        "ssn" => |text| whole(text, is_ssn(text)),
        "nino" => |text| {
            whole(
                text,
                !["BG", "GB", "KN", "NK", "NT", "TN", "ZZ"].contains(&&text[..2]),
            )
        },
        "dni" => |text| whole(text, is_dni(text)),
        "codice_fiscale" => |text| whole(text, is_codice_fiscale(text)),
        "nir" => |text| whole(text, is_nir(text)),
        "pesel" => |text| whole(text, is_pesel(text)),
        "kimlik" => |text| whole(text, is_kimlik(text)),
        "personnummer" => |text| whole(text, is_personnummer(text)),
        "cpf" => |text| whole(text, is_cpf(text)),
        "resident" => |text| whole(text, is_resident(text)),
        "rrn" => |text| whole(text, is_date(&digits(text)[2..6])),
        "snils" => |text| whole(text, is_snils(text)),
        _ => return None,
    })
}

/// The sum of digits times their weights.
fn weighted(digits: &[u32], weights: &[u32]) -> u32 {
    digits
        .iter()
        .zip(weights)
        .map(|(digit, weight)| digit * weight)
        .sum()
}

/// A number of several digits.
fn number(digits: &[u32]) -> u64 {
    digits
        .iter()
        .fold(0, |sum, &digit| sum * 10 + u64::from(digit))
}

/// Whether four digits are a month and a day.
fn is_date(digits: &[u32]) -> bool {
    (1..=12).contains(&number(&digits[..2])) && (1..=31).contains(&number(&digits[2..]))
}

/// United States: no area 000, 666 or from 900 on, no group 00, no serial 0000 (Social Security Administration).
fn is_ssn(text: &str) -> bool {
    let area = &text[..3];
    area != "000"
        && area != "666"
        && !area.starts_with('9')
        && &text[4..6] != "00"
        && &text[7..] != "0000"
}

/// Spain: the letter is the number modulo 23; a foreigner's first letter X, Y or Z stands for 0, 1 or 2.
fn is_dni(text: &str) -> bool {
    let text: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let (first, last) = (&text[..1], text.chars().last());
    let leading = match first {
        "X" => "0",
        "Y" => "1",
        "Z" => "2",
        digit => digit,
    };
    let number = number(&digits(&format!("{leading}{}", &text[1..])));
    last == "TRWAGMYFPDXBNJZSQVHLCKE"
        .chars()
        .nth((number % 23) as usize)
}

/// Italy: the last letter is a sum over the others, with values of their own at odd places (decree of 23 December 1976).
fn is_codice_fiscale(text: &str) -> bool {
    const ODD: [u32; 26] = [
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24,
        23,
    ];
    let value = |c: char| {
        c.to_digit(10)
            .unwrap_or((c as u32).wrapping_sub('A' as u32)) as usize
    };
    let values: Vec<_> = text.chars().map(value).collect();
    let (others, last) = values.split_at(15);
    let places = others.iter().zip([true, false].into_iter().cycle());
    let sum: usize = places
        .map(|(&value, is_odd)| if is_odd { ODD[value] as usize } else { value })
        .sum();
    sum % 26 == last[0]
}

/// France: the key of two digits is 97 less the number modulo 97; Corsica's 2A and 2B stand for 19 and 18.
fn is_nir(text: &str) -> bool {
    let digits = digits(&text.replace("2A", "19").replace("2B", "18"));
    digits.len() == 15 && 97 - number(&digits[..13]) % 97 == number(&digits[13..])
}

/// Poland: weights 1, 3, 7, 9; the century is added to the month.
fn is_pesel(text: &str) -> bool {
    let digits = digits(text);
    let sum = weighted(&digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]);
    let month = [digits[2] % 2, digits[3], digits[4], digits[5]];
    sum.is_multiple_of(10) && is_date(&month)
}

/// Turkey: two check digits over those before them.
fn is_kimlik(text: &str) -> bool {
    let digits = digits(text);
    let odd: u32 = digits[..9].iter().step_by(2).sum();
    let even: u32 = digits[1..9].iter().step_by(2).sum();
    let sum: u32 = digits[..10].iter().sum();
    (odd * 7 + 90 - even) % 10 == digits[9] && sum % 10 == digits[10]
}

/// Sweden: Luhn's check digit over the ten last digits; 60 is added to the day of a coordination number.
fn is_personnummer(text: &str) -> bool {
    let all = digits(text);
    let digits = &all[all.len() - 10..];
    let day = [digits[2], digits[3], digits[4] % 6, digits[5]];
    is_luhn(digits) && is_date(&day)
}

/// Brazil: two check digits modulo 11.
fn is_cpf(text: &str) -> bool {
    let digits = digits(text);
    let check = |n: usize| {
        let weights: Vec<u32> = (2..=n as u32 + 1).rev().collect();
        weighted(&digits[..n], &weights) * 10 % 11 % 10
    };
    check(9) == digits[9] && check(10) == digits[10] && digits.iter().any(|&it| it != digits[0])
}

/// China: ISO 7064, modulus 11-2, after a region and a date (GB 11643).
fn is_resident(text: &str) -> bool {
    let digits = digits(&text[..17]);
    let sum = weighted(
        &digits,
        &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2],
    );
    let last = "10X98765432".chars().nth((sum % 11) as usize);
    last == text.to_ascii_uppercase().chars().last() && is_date(&digits[10..14])
}

/// Russia: weights from 9 to 1, modulo 101.
fn is_snils(text: &str) -> bool {
    let digits = digits(text);
    let sum = weighted(&digits[..9], &[9, 8, 7, 6, 5, 4, 3, 2, 1]);
    u64::from(sum % 101 % 100) == number(&digits[9..])
}
