//! Whole numbers that a schema writes with a fraction of 0, as in `"maxLength": 2.0`, which llama.cpp does not read.

use std::borrow::Cow;

/// The keywords whose values are counts.
const KEYWORDS: [&str; 4] = ["maxItems", "maxLength", "minItems", "minLength"];

/// The JSON text `schema` with its counts as integers. Everything else stays as it is.
pub fn as_integers(schema: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(schema);
    let mut key = "";
    // The place in `schema`, and the bytes that `text` is shorter by.
    let (mut at, mut n_less) = (0, 0);
    while let Some(c) = schema[at..].chars().next() {
        let rest = &schema[at..];
        let len = match c {
            '"' => {
                let len = quoted_len(rest);
                key = rest[..len].trim_matches('"');
                len
            }
            c if c.is_ascii_digit() => {
                let is_number =
                    |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
                let len = rest.find(|c: char| !is_number(c)).unwrap_or(rest.len());
                let number = rest[..len]
                    .parse::<f64>()
                    .ok()
                    .filter(|it| it.fract() == 0.0);
                if let Some(number) = number.filter(|it| *it <= super::MAX_COUNT as f64)
                    && KEYWORDS.contains(&key)
                {
                    let digits = format!("{number:.0}");
                    let from = at - n_less;
                    text.to_mut().replace_range(from..from + len, &digits);
                    n_less += len - digits.len();
                }
                len
            }
            c => c.len_utf8(),
        };
        // A comma or a bracket ends the value of the key.
        if matches!(c, ',' | '{' | '[') {
            key = "";
        }
        at += len;
    }
    text
}

/// The length of the JSON string at the beginning of `text`, with its quotes.
fn quoted_len(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_alone_become_integers() {
        for (schema, expected) in [
            (
                r#"{"maxLength": 2.0, "minLength":1.00}"#,
                r#"{"maxLength": 2, "minLength":1}"#,
            ),
            (
                r#"{"é": {"maxItems" : 1e1}, "enum": [2.0, "maxItems", 3.0]}"#,
                r#"{"é": {"maxItems" : 10}, "enum": [2.0, "maxItems", 3.0]}"#,
            ),
            (
                r#"{"title": "\"maxLength\": 2.0", "maximum": 2.0}"#,
                r#"{"title": "\"maxLength\": 2.0", "maximum": 2.0}"#,
            ),
            (
                r#"{"maxLength": 2, "minItems": 2.5}"#,
                r#"{"maxLength": 2, "minItems": 2.5}"#,
            ),
        ] {
            assert_eq!(as_integers(schema), expected);
        }
    }
}
