//! Grammars in GBNF, checked by the rules of llama.cpp's parser before it reads them. It prints what it refuses to stderr,
//! and some of what it takes would never end, or end the process.

mod recursion;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

/// The largest count of a repetition, and of repetitions that are repeated.
const MAX_COUNT: u64 = 2000;

/// The most elements (characters, classes and names of rules) that all repetitions together write out, some tens of MiB.
const MAX_ELEMENTS: u64 = 400_000;

/// Checks that llama.cpp accepts `gbnf`, and can begin a text by it. `is_token` says whether a text such as `<[7]>` or
/// `<|end|>` names a token of the model.
///
/// # Errors
///
/// The reason why not, which follows the grammar's name.
pub(super) fn check(gbnf: &str, is_token: &dyn Fn(&str) -> bool) -> Result<(), String> {
    let mut parser = Parser {
        text: gbnf,
        at: 0,
        is_token,
        rules: Vec::new(),
        names: HashMap::new(),
        n_generated: 0,
        n_elements: 0,
    };
    parser.space(true);
    while parser.peek().is_some() {
        parser.rule()?;
    }
    parser.check_rules()
}

/// The digits in a name such as `<[7]>`, empty if it has something else; `None` for the text of a token.
pub(super) fn token_digits(name: &str) -> Option<&str> {
    let digits = name.strip_prefix("<[")?.strip_suffix("]>");
    let are_digits = |it: &&str| it.bytes().all(|byte| byte.is_ascii_digit());
    Some(digits.filter(are_digits).unwrap_or_default())
}

/// A rule, or a group, which llama.cpp makes a rule of.
struct Rule<'a> {
    /// Empty for a group.
    name: &'a str,
    /// Where its name first stands.
    at: usize,
    /// `None` before the rule is defined.
    alternatives: Option<Vec<Vec<GbnfPart>>>,
}

impl Rule<'_> {
    fn alternatives(&self) -> &[Vec<GbnfPart>] {
        self.alternatives.as_deref().unwrap_or_default()
    }
}

/// A part of a sequence: a text, a class, a token, a rule or a group, with its repetitions.
struct GbnfPart {
    /// Where it ends.
    at: usize,
    /// The rule, by its number.
    rule: Option<usize>,
    /// Whether it may be left out.
    is_optional: bool,
    /// Whether it may be repeated without end.
    is_endless: bool,
}

/// The size of the part before a place.
#[derive(Clone, Copy)]
struct Size {
    n_elements: u64,
    /// The rules that llama.cpp makes of it.
    n_rules: u64,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    is_token: &'a dyn Fn(&str) -> bool,
    rules: Vec<Rule<'a>>,
    names: HashMap<&'a str, usize>,
    /// The rules that llama.cpp makes of repetitions.
    n_generated: u64,
    /// The elements of all repetitions so far.
    n_elements: u64,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Goes past `expected` if it is next.
    fn eat(&mut self, expected: &str) -> bool {
        let is_next = self.rest().starts_with(expected);
        if is_next {
            self.at += expected.len();
        }
        is_next
    }

    /// Goes past the characters of which `is_of` holds.
    fn take_while(&mut self, is_of: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !is_of(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Goes past blanks and comments, and past ends of lines where these mean nothing.
    fn space(&mut self, newline_ok: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\r' | '\n' if newline_ok => self.at += 1,
                '#' => {
                    self.take_while(|c| !matches!(c, '\r' | '\n'));
                }
                _ => break,
            }
        }
    }

    /// The reason for a refusal, with the line of the place `at`.
    fn wrong_at(&self, at: usize, what: &str) -> String {
        let line = 1 + self.text[..at].matches('\n').count();
        format!("is wrong in line {line}: {what}")
    }

    fn wrong(&self, what: &str) -> String {
        self.wrong_at(self.at, what)
    }

    /// The character here, for a message.
    fn found(&self) -> String {
        match self.peek() {
            None => "the end".to_owned(),
            Some('\r' | '\n') => "the end of the line".to_owned(),
            Some(c) => format!("`{}`", c.escape_debug()),
        }
    }

    fn rule(&mut self) -> Result<(), String> {
        let start = self.at;
        let name = self.name();
        if name.is_empty() {
            let hint = match self.peek() {
                Some('|') => {
                    "; a rule ends with its line, unless the line ends with `|` or is in parentheses"
                }
                Some('_') => "; names have letters, digits and hyphens",
                _ => "",
            };
            let found = self.found();
            return Err(self.wrong(&format!(
                "a rule begins with its name, not with {found}{hint}"
            )));
        }
        self.space(false);
        if !self.eat("::=") {
            let hint = match self.peek() {
                Some('_') => " (names have letters, digits and hyphens)",
                _ => "",
            };
            let found = self.found();
            return Err(self.wrong(&format!(
                "`::=` has to follow the name `{name}`, not {found}{hint}"
            )));
        }
        self.space(true);
        let number = self.number(name, start);
        let alternatives = self.alternatives(false)?;
        if self.rules[number].alternatives.is_some() {
            return Err(self.wrong_at(start, &format!("the rule `{name}` is defined twice")));
        }
        self.rules[number].alternatives = Some(alternatives);
        if !matches!(self.peek(), None | Some('\r' | '\n')) {
            let found = self.found();
            return Err(self.wrong(&format!("{found} cannot stand here in the rule `{name}`")));
        }
        self.space(true);
        Ok(())
    }

    fn name(&mut self) -> &'a str {
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '-')
    }

    /// The number of the rule `name`, which stands at `at`.
    fn number(&mut self, name: &'a str, at: usize) -> usize {
        let next = self.rules.len();
        let number = *self.names.entry(name).or_insert(next);
        if number == next {
            self.rules.push(Rule {
                name,
                at,
                alternatives: None,
            });
        }
        number
    }

    fn alternatives(&mut self, is_nested: bool) -> Result<Vec<Vec<GbnfPart>>, String> {
        let mut alternatives = vec![self.sequence(is_nested)?];
        while self.eat("|") {
            self.space(true);
            alternatives.push(self.sequence(is_nested)?);
        }
        Ok(alternatives)
    }

    fn sequence(&mut self, is_nested: bool) -> Result<Vec<GbnfPart>, String> {
        let mut parts = Vec::new();
        // The size of the part before this place.
        let mut size = Size {
            n_elements: 0,
            n_rules: 1,
        };
        while let Some(c) = self.peek() {
            if matches!(c, '*' | '+' | '?' | '{') {
                self.repetition(is_nested, &mut size, &mut parts)?;
                self.space(is_nested);
                continue;
            }
            let n_rules = self.n_rules();
            let (mut rule, mut n_elements) = (None, 1);
            match c {
                '"' => n_elements = self.quoted('"', "a text has no closing quotation mark")?,
                '[' => {
                    n_elements = self.quoted(']', "a class has no closing `]`")?;
                    if n_elements == 0 {
                        return Err(self.wrong("a class is empty"));
                    }
                }
                '<' | '!' => self.token()?,
                '(' => rule = Some(self.group()?),
                '.' => self.at += 1,
                c if c.is_ascii_alphanumeric() || c == '-' => {
                    let at = self.at;
                    let name = self.name();
                    rule = Some(self.number(name, at));
                }
                _ => break,
            }
            size = Size {
                n_elements,
                n_rules: if c == '(' {
                    self.n_rules() - n_rules
                } else {
                    1
                },
            };
            if n_elements > 0 {
                parts.push(GbnfPart {
                    at: self.at,
                    rule,
                    is_optional: false,
                    is_endless: false,
                });
            }
            self.space(is_nested);
        }
        Ok(parts)
    }

    /// The number of rules that llama.cpp has made so far.
    fn n_rules(&self) -> u64 {
        self.rules.len() as u64 + self.n_generated
    }

    fn group(&mut self) -> Result<usize, String> {
        let start = self.at;
        self.at += 1;
        self.space(true);
        let number = self.rules.len();
        self.rules.push(Rule {
            name: "",
            at: start,
            alternatives: None,
        });
        self.rules[number].alternatives = Some(self.alternatives(true)?);
        if self.eat(")") {
            return Ok(number);
        }
        Err(match self.peek() {
            None => self.wrong_at(start, "a group has no closing `)`"),
            Some(_) => self.wrong(&format!("{} cannot stand in a group", self.found())),
        })
    }

    /// Reads a text or a class. Returns the number of its characters.
    fn quoted(&mut self, end: char, unclosed: &str) -> Result<u64, String> {
        let start = self.at;
        self.at += 1;
        if end == ']' {
            self.eat("^");
        }
        let mut n = 0;
        loop {
            match self.next() {
                None => return Err(self.wrong_at(start, unclosed)),
                Some(c) if c == end => return Ok(n),
                Some('\\') => self.escape()?,
                Some(_) => {}
            }
            n += 1;
        }
    }

    /// Reads what follows a backslash.
    fn escape(&mut self) -> Result<(), String> {
        let start = self.at;
        let n_digits = match self.next() {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            Some('t' | 'r' | 'n' | '\\' | '"' | '[' | ']' | '-') => 0,
            None => return Err(self.wrong("a backslash has nothing behind it")),
            Some(c) => {
                let what = format!("the escape `\\{}` is not known", c.escape_debug());
                return Err(self.wrong_at(start, &what));
            }
        };
        for _ in 0..n_digits {
            if !self.next().is_some_and(|c| c.is_ascii_hexdigit()) {
                let kind = &self.text[start..=start];
                let what = format!("`\\{kind}` needs {n_digits} hexadecimal digits behind it");
                return Err(self.wrong_at(start, &what));
            }
        }
        Ok(())
    }

    /// Reads the name of a token, which has no escapes.
    fn token(&mut self) -> Result<(), String> {
        self.eat("!");
        let start = self.at;
        let end = self.rest().find('>').map(|end| start + end + 1);
        let name = &self.text[start..end.unwrap_or(start)];
        if !name.starts_with('<') {
            return Err(self.wrong("a token is named as `<[7]>` or `<|end|>`"));
        }
        if !(self.is_token)(name) {
            let what = format!("`{}` is not one token of the model", name.escape_debug());
            return Err(self.wrong(&what));
        }
        self.at = start + name.len();
        Ok(())
    }

    /// Reads a repetition, which changes the last of the `parts` and its size.
    fn repetition(
        &mut self,
        is_nested: bool,
        size: &mut Size,
        parts: &mut Vec<GbnfPart>,
    ) -> Result<(), String> {
        let start = self.at;
        let (least, most) = match self.next() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            _ => self.counts(is_nested)?,
        };
        let Some(part) = parts.last_mut().filter(|_| size.n_elements > 0) else {
            return Err(self.wrong_at(start, "a repetition has nothing before it"));
        };
        let n_times = most.unwrap_or(least).max(1);
        size.n_elements = size.n_elements.saturating_mul(n_times);
        self.n_elements = self.n_elements.saturating_add(size.n_elements);
        if self.n_elements > MAX_ELEMENTS {
            return Err(format!(
                "repeats more than it can: all repetitions together may write out {MAX_ELEMENTS} characters and names"
            ));
        }
        size.n_rules = size.n_rules.saturating_mul(n_times);
        if size.n_rules > MAX_COUNT {
            return Err(format!("repeats repetitions more than {MAX_COUNT} times"));
        }
        self.n_generated += most.map_or(1, |most| most - least);
        if most == Some(0) {
            parts.pop();
            size.n_elements = 0;
            return Ok(());
        }
        if most.is_none() && part.is_optional {
            return Err(self.wrong_at(start, EMPTY_FOREVER));
        }
        part.is_optional |= least == 0;
        part.is_endless |= most.is_none();
        Ok(())
    }

    /// Reads the rest of a `{n}`, `{n,}` or `{n,m}`. Returns the least count, and the most if there is one.
    fn counts(&mut self, is_nested: bool) -> Result<(u64, Option<u64>), String> {
        let start = self.at - 1;
        self.space(is_nested);
        let least = self.digits();
        self.space(is_nested);
        let has_most = self.eat(",");
        self.space(is_nested);
        let most = if has_most { self.digits() } else { least };
        self.space(is_nested);
        if least.is_empty() || !self.eat("}") {
            let what = "a `{` begins no repetition `{n}`, `{n,}` or `{n,m}`";
            return Err(self.wrong_at(start, what));
        }
        let written = &self.text[start..self.at];
        let count = |digits: &str| {
            let count = digits.parse().ok().filter(|it| *it <= MAX_COUNT);
            count.ok_or_else(|| {
                let what = format!("the repetition {written:.40} has a count above {MAX_COUNT}");
                self.wrong_at(start, &what)
            })
        };
        let least = count(least)?;
        let most = (!most.is_empty()).then(|| count(most)).transpose()?;
        if most.is_some_and(|most| most < least) {
            let what = format!("the repetition {written:.40} has a least count above its most");
            return Err(self.wrong_at(start, &what));
        }
        Ok((least, most))
    }

    fn digits(&mut self) -> &'a str {
        self.take_while(|c| c.is_ascii_digit())
    }
}

/// llama.cpp takes this for a rule that begins with itself.
const EMPTY_FOREVER: &str = "what may be empty is repeated without end";
