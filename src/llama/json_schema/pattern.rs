//! The regular expressions that llama.cpp's grammars hold, inside a JSON text.

use std::iter::Peekable;
use std::str::Chars;

/// The deepest nesting of groups, which is llama.cpp's limit.
const MAX_DEPTH: usize = 100;

/// The characters that stand for themselves after a backslash.
const ESCAPED: &str = "^$.[]()|{}*+?-";

/// The part before a place in a pattern, which decides whether a repetition can follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// A part that llama.cpp repeats alone.
    Part,
    /// A character that llama.cpp would repeat together with those before it, or only in part.
    Glued,
    Repeated,
}

/// Checks that a grammar holds `pattern` and nothing else, and that all its texts are sound JSON.
///
/// # Errors
///
/// The reason why not.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    let inner = pattern
        .strip_prefix('^')
        .and_then(|it| it.strip_suffix('$'));
    let inner = inner.ok_or("it has to begin with `^` and end with `$`")?;
    let mut chars = inner.chars().peekable();
    let (mut depth, mut before) = (0_usize, Before::Nothing);
    // The number of characters of the literal text that ends here.
    let mut n_literal = 0;
    while let Some(c) = chars.next() {
        let mut is_literal = false;
        before = match c {
            '(' => {
                group(&mut chars)?;
                depth += 1;
                Before::Nothing
            }
            ')' => {
                depth = depth.checked_sub(1).ok_or("its parentheses do not match")?;
                Before::Part
            }
            '|' => Before::Nothing,
            '[' => {
                class(&mut chars)?;
                Before::Part
            }
            '*' | '+' | '?' => repeated(before)?,
            '{' => {
                counts(&mut chars)?;
                repeated(before)?
            }
            '\\' => {
                escaped(chars.next())?;
                is_literal = true;
                part_if(n_literal == 0)
            }
            '.' => {
                return Err(
                    "`.` would also stand for quotation marks; write a class such as `[a-z]`"
                        .into(),
                );
            }
            '^' | '$' | ']' | '}' => return Err(format!("`{c}` inside it has to be escaped")),
            c => {
                sound(c)?;
                is_literal = true;
                part_if(c.is_ascii())
            }
        };
        n_literal = if is_literal { n_literal + 1 } else { 0 };
        if depth > MAX_DEPTH {
            return Err(format!("its groups are nested more than {MAX_DEPTH} deep"));
        }
    }
    if depth > 0 {
        return Err("its parentheses do not match".into());
    }
    Ok(())
}

/// A character, which llama.cpp repeats alone or not.
fn part_if(alone: bool) -> Before {
    if alone { Before::Part } else { Before::Glued }
}

/// Checks what follows the opening of a group.
fn group(chars: &mut Peekable<Chars<'_>>) -> Result<(), String> {
    if chars.next_if_eq(&'?').is_some() && chars.next() != Some(':') {
        return Err("of the groups that begin with `(?`, only `(?:` is supported".into());
    }
    Ok(())
}

fn repeated(before: Before) -> Result<Before, String> {
    match before {
        Before::Part => Ok(Before::Repeated),
        Before::Glued => {
            Err("a character before a repetition has to be a class, such as `[.]`".into())
        }
        Before::Nothing => Err("a repetition has nothing before it".into()),
        Before::Repeated => Err("two repetitions follow each other".into()),
    }
}

/// Checks the rest of a `{n}`, `{n,}` or `{n,m}`.
fn counts(chars: &mut Peekable<Chars<'_>>) -> Result<(), String> {
    let wrong = || "its curly brackets have to be `{n}`, `{n,}` or `{n,m}`".to_owned();
    let mut text = String::new();
    loop {
        match chars.next().ok_or_else(wrong)? {
            '}' => break,
            c => text.push(c),
        }
    }
    let number = |text: &str| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u32>().ok();
        number
            .filter(|it| is_number && *it <= 2000)
            .ok_or_else(wrong)
    };
    let (least, most) = text.split_once(',').unwrap_or((&text, &text));
    let least = number(least)?;
    if !most.is_empty() && number(most)? < least {
        return Err(wrong());
    }
    Ok(())
}

fn escaped(c: Option<char>) -> Result<(), String> {
    match c {
        Some(c) if ESCAPED.contains(c) => Ok(()),
        Some('d') => Err("write `[0-9]` for `\\d`".into()),
        Some('w') => Err("write `[A-Za-z0-9_]` for `\\w`".into()),
        Some(c) => {
            sound(c)?;
            Err(format!("`\\{c}` is not supported"))
        }
        None => Err("it ends with a backslash".into()),
    }
}

/// Checks the rest of a class, which may hold no character that JSON escapes.
fn class(chars: &mut Peekable<Chars<'_>>) -> Result<(), String> {
    if chars.peek() == Some(&'^') {
        return Err("a class of the kind `[^…]` would also hold quotation marks".into());
    }
    let mut is_empty = true;
    loop {
        let unclosed = || "a class has no end".to_owned();
        let first = match chars.next().ok_or_else(unclosed)? {
            ']' if is_empty => return Err("a class is empty".into()),
            ']' => return Ok(()),
            first => member(first, chars)?,
        };
        is_empty = false;
        let mut ahead = chars.clone();
        if ahead.next() == Some('-') && ahead.peek().is_some_and(|&c| c != ']') {
            chars.next();
            let last = chars.next().ok_or_else(unclosed)?;
            let last = member(last, chars)?;
            if first > last {
                return Err(format!("the range {first}-{last} is empty"));
            }
            for c in ['"', '\\'] {
                if (first..=last).contains(&c) {
                    return Err(format!(
                        "the range {first}-{last} holds {c}, which JSON escapes"
                    ));
                }
            }
        }
    }
}

/// A character of a class, which may be escaped.
fn member(c: char, chars: &mut Peekable<Chars<'_>>) -> Result<char, String> {
    if c != '\\' {
        sound(c)?;
        return Ok(c);
    }
    match chars.next() {
        Some(c) if "[]-".contains(c) => Ok(c),
        c => {
            escaped(c)?;
            Err("in a class, only `[`, `]` and `-` can be escaped".into())
        }
    }
}

/// Checks that JSON writes a character as itself.
fn sound(c: char) -> Result<(), String> {
    if c == '"' || c == '\\' || c.is_ascii_control() {
        return Err(format!("it holds the character {c:?}, which JSON escapes"));
    }
    Ok(())
}
