//! The repetitions of a grammar in GBNF, which llama.cpp writes out part by part: without end where the least count is above
//! the most, and without a most where that is above its limit.

use std::iter::Peekable;
use std::str::Chars;

/// The largest count of a repetition.
const MAX_COUNT: u64 = 2000;

/// The most elements (characters, classes and names of rules) that all repetitions together write out, some tens of MiB.
const MAX_ELEMENTS: u64 = 400_000;

/// Checks the repetitions of `gbnf`. Text that is no sound GBNF is left to llama.cpp.
///
/// # Errors
///
/// The reason why they cannot be used, which follows the grammar's name.
pub(super) fn check(gbnf: &str) -> Result<(), String> {
    let mut chars = gbnf.chars().peekable();
    // The elements of the part before this place, and those of all repetitions so far.
    let (mut n_part, mut n_all) = (1_u64, 0_u64);
    while let Some(c) = chars.next() {
        let n_times = match c {
            '#' => {
                skip_comment(&mut chars);
                continue;
            }
            '"' => {
                n_part = skip_quoted(&mut chars, '"');
                continue;
            }
            '[' => {
                n_part = skip_quoted(&mut chars, ']');
                continue;
            }
            // The text of a token, which has no escapes.
            '<' => {
                while chars.next().is_some_and(|c| c != '>') {}
                n_part = 1;
                continue;
            }
            '*' | '+' | '?' => 1,
            '{' => count(&mut chars)?,
            c if c.is_ascii_whitespace() => continue,
            _ => {
                n_part = 1;
                continue;
            }
        };
        n_part = n_part.saturating_mul(n_times);
        n_all = n_all.saturating_add(n_part);
        if n_all > MAX_ELEMENTS {
            return Err(format!(
                "repeats more than it can: all repetitions together may write out {MAX_ELEMENTS} characters and names"
            ));
        }
    }
    Ok(())
}

/// Skips a comment up to the end of its line.
fn skip_comment(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| !matches!(c, '\r' | '\n')).is_some() {}
}

/// Skips the rest of a text or a class, in which a backslash escapes the next character. Returns the number of characters,
/// at least 1.
fn skip_quoted(chars: &mut Peekable<Chars<'_>>, end: char) -> u64 {
    let mut n = 0;
    while let Some(c) = chars.next() {
        if c == end {
            break;
        }
        if c == '\\' {
            chars.next();
        }
        n += 1;
    }
    n.max(1)
}

/// Reads the rest of a `{n}`, `{n,}` or `{n,m}`, with blanks and comments between its parts. Returns how often the part
/// before it is written out.
fn count(chars: &mut Peekable<Chars<'_>>) -> Result<u64, String> {
    let mut text = String::new();
    loop {
        match chars.next() {
            Some('}') => break,
            Some('#') => skip_comment(chars),
            Some(c) if c.is_ascii_whitespace() => {}
            Some(c) if c == ',' || c.is_ascii_digit() => text.push(c),
            _ => {
                return Err(
                    "has a `{` that begins no repetition `{n}`, `{n,}` or `{n,m}`".to_owned(),
                );
            }
        }
    }
    let wrong = |why: String| format!("has the repetition {{{text:.40}}}, {why}");
    let number = |digits: &str| match digits.parse::<u64>() {
        Ok(number) if number <= MAX_COUNT => Ok(number),
        Err(_) if digits.is_empty() || digits.contains(',') => {
            Err(wrong("which is not `{n}`, `{n,}` or `{n,m}`".to_owned()))
        }
        _ => Err(wrong(format!("whose count is above {MAX_COUNT}"))),
    };
    let (least, most) = text.split_once(',').unwrap_or((&text, &text));
    let least = number(least)?;
    if most.is_empty() {
        return Ok(least.max(1));
    }
    let most = number(most)?;
    if least > most {
        return Err(wrong("whose least count is above its most".to_owned()));
    }
    Ok(most.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_repetitions_are_taken() {
        for gbnf in [
            r#"root ::= "a"{3}"#,
            r#"root ::= "a"{2,3} [a-z]{0,2000} x{1,} ("b" | "c"){2000}"#,
            "root ::= \"a\" { 1 , 2 # a comment with {9,1}\n }",
            // Braces that are no repetitions.
            r#"root ::= "{3,1}" "\"{3,1}" [{3,1}] [\]{9,1}] <{3,1}> # {3,1}"#,
        ] {
            assert_eq!(check(gbnf), Ok(()), "{gbnf}");
        }
    }

    #[test]
    fn a_repetition_that_llama_cpp_reads_otherwise_is_refused() {
        let cases = [
            (
                r#"root ::= "a"{3,1}"#,
                "has the repetition {3,1}, whose least count is above its most",
            ),
            (
                "root ::= \"}\" # {\n [\\]] ( \"a\" { 1, # {\n 0 } )",
                "has the repetition {1,0}, whose least count is above its most",
            ),
            (
                r#"root ::= "a"{0,2001}"#,
                "has the repetition {0,2001}, whose count is above 2000",
            ),
            (
                r#"root ::= "a"{99999999999999999999}"#,
                "has the repetition {99999999999999999999}, whose count is above 2000",
            ),
            (
                r#"root ::= "a"{,3}"#,
                "has the repetition {,3}, which is not `{n}`, `{n,}` or `{n,m}`",
            ),
            (
                r#"root ::= "a"{1,2,3}"#,
                "has the repetition {1,2,3}, which is not `{n}`, `{n,}` or `{n,m}`",
            ),
            (
                r#"root ::= "a"{x}"#,
                "has a `{` that begins no repetition `{n}`, `{n,}` or `{n,m}`",
            ),
        ];
        for (gbnf, reason) in cases {
            assert_eq!(check(gbnf), Err(reason.to_owned()), "{gbnf}");
        }
    }

    #[test]
    fn all_repetitions_together_are_bounded() {
        let of = |n: usize| format!("root ::= {}", "\"abcd\"{50} ".repeat(n));
        assert_eq!(check(&of(2000)), Ok(()));
        let refused = check(&of(2001)).unwrap_err();
        assert!(refused.contains("may write out 400000"), "{refused}");
        // A repetition of a repetition writes out what the first one has.
        assert!(check(&format!("root ::= \"a\"{{1000}}{}", "{1}".repeat(400))).is_err());
    }
}
