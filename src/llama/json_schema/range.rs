//! Ranges of integers, and counts of items and characters.

use super::{MAX_COUNT, Object, only};

/// The most items of an array. llama.cpp counts two more rules for the list around them.
const MAX_ITEMS: u64 = MAX_COUNT - 2;

/// The bounds of integers that a grammar holds, which writes numbers of at most 16 digits.
const MAX_BOUND: f64 = 1e15;

pub(super) fn integer(map: &Object, path: &str) -> Result<(), String> {
    let first = |keys: [&'static str; 2]| {
        let mut keys = keys.into_iter();
        keys.find(|it| map.contains_key(*it))
    };
    let least = first(["minimum", "exclusiveMinimum"]);
    let most = first(["maximum", "exclusiveMaximum"]);
    let held: Vec<_> = ["type"].into_iter().chain(least).chain(most).collect();
    only(map, &held, "integer", path)?;
    let bound = |key: Option<&'static str>| {
        let Some(key) = key else {
            return Ok(None);
        };
        let value = map[key].as_f64().filter(|it| it.abs() <= MAX_BOUND);
        let wrong = || format!("`{key}` at {path:?} has to be a number within ±{MAX_BOUND:e}");
        value.map(|it| Some((key, it))).ok_or_else(wrong)
    };
    match (bound(least)?, bound(most)?) {
        (Some(least), Some(most)) if first_from(least) > last_to(most) => {
            Err(format!("no integer is in the range at {path:?}"))
        }
        // llama.cpp's rules for numbers of any length lose zeros inside a bound.
        (Some((key, least)), None) if loses_zeros(key, least) => Err(format!(
            "the keyword `{key}` at {path:?} is not supported with {least} and without a `maximum`"
        )),
        (None, Some((key, most))) if most < 0.0 => Err(format!(
            "the keyword `{key}` at {path:?} is not supported with {most} and without a `minimum`"
        )),
        _ => Ok(()),
    }
}

/// The least integer that a lower bound allows.
fn first_from((key, bound): (&str, f64)) -> f64 {
    match key {
        "minimum" => bound.ceil(),
        _ => bound.floor() + 1.0,
    }
}

/// The greatest integer that an upper bound allows.
fn last_to((key, bound): (&str, f64)) -> f64 {
    match key {
        "maximum" => bound.floor(),
        _ => bound.ceil() - 1.0,
    }
}

/// Whether a bound that no other bound meets has a zero after its first digit that other digits follow.
fn loses_zeros(key: &str, bound: f64) -> bool {
    let least = first_from((key, bound));
    let digits = (least.max(0.0) as u64).to_string();
    digits.len() > 2 && digits[1..digits.len() - 1].contains('0')
}

/// Checks the bounds of a number of items.
pub(super) fn item_counts(map: &Object, path: &str) -> Result<(), String> {
    counts(map, "minItems", "maxItems", path)?;
    for key in ["minItems", "maxItems"] {
        if let Some(n) = count(map, key, path)?.filter(|it| *it > MAX_ITEMS) {
            return Err(format!(
                "`{key}` at {path:?} is at most {MAX_ITEMS}, not {n}"
            ));
        }
    }
    Ok(())
}

/// Checks the bounds of a number of items or characters.
pub(super) fn counts(map: &Object, least: &str, most: &str, path: &str) -> Result<(), String> {
    match (count(map, least, path)?, count(map, most, path)?) {
        (Some(n_least), Some(n_most)) if n_least > n_most => {
            Err(format!("`{least}` at {path:?} is larger than `{most}`"))
        }
        _ => Ok(()),
    }
}

pub(super) fn count(map: &Object, key: &str, path: &str) -> Result<Option<u64>, String> {
    let Some(value) = map.get(key) else {
        return Ok(None);
    };
    // Some programs write whole numbers as `2.0`.
    let count = value.as_f64().filter(|it| it.fract() == 0.0);
    let count = count.filter(|it| (0.0..=MAX_COUNT as f64).contains(it));
    count.map(|it| Some(it as u64)).ok_or_else(|| {
        format!("`{key}` at {path:?} has to be a whole number from 0 to {MAX_COUNT}, not {value}")
    })
}
