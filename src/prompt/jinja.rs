//! The environment of chat templates: Jinja as `transformers` sets it up, where minijinja differs from Python.

use std::fmt::Write;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, ErrorKind, Output, State, Value, filters};

/// The most steps of one rendering. A chat of a thousand messages takes some hundred thousand.
const MAX_STEPS: u64 = 20_000_000;

type JinjaResult<T> = Result<T, minijinja::Error>;

/// An environment without templates.
///
/// # Errors
///
/// None with this syntax.
pub fn environment() -> JinjaResult<Environment<'static>> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build()?);
    environment.set_formatter(format);
    environment.set_fuel(Some(MAX_STEPS));
    environment.set_unknown_method_callback(method);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |value: &Value| python_str(value));
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_test("iterable", |value: &Value| {
        !value.is_none() && value.try_iter().is_ok()
    });
    environment.add_test("sequence", is_sequence);
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    Ok(environment)
}

/// Removes the tags by which templates for `transformers` mark the model's answers for training masks; they change no text.
pub fn without_generation_tags(source: &str) -> String {
    let mut source = source.to_owned();
    for opening in ["{%", "{%-"] {
        for (tag, instead) in [("generation", "if true"), ("endgeneration", "endif")] {
            for (before, after) in [" ", ""]
                .into_iter()
                .flat_map(|it| [(it, " "), (it, "%"), (it, "-")])
            {
                source = source.replace(
                    &format!("{opening}{before}{tag}{after}"),
                    &format!("{opening} {instead} {}", after.trim()),
                );
            }
        }
    }
    source
}

/// Python's methods of strings, lists and dictionaries.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> JinjaResult<Value> {
    if let (Some(text), Some(first)) = (value.as_str(), args.first())
        && let Some(result) = string_method(text, name, first, args.get(1))
    {
        return Ok(result);
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// Methods of strings with one argument or two that minijinja's package for Python lacks.
fn string_method(text: &str, name: &str, first: &Value, second: Option<&Value>) -> Option<Value> {
    let three = |parts: [&str; 3]| Value::from_iter(parts);
    let around = |at: usize, n: usize| [&text[..at], &text[at..at + n], &text[at + n..]];
    Some(match (name, first.as_str()) {
        ("removeprefix", Some(prefix)) => text.strip_prefix(prefix).unwrap_or(text).into(),
        ("removesuffix", Some(suffix)) => text.strip_suffix(suffix).unwrap_or(text).into(),
        ("partition", Some(separator)) => match text.find(separator) {
            Some(at) => three(around(at, separator.len())),
            None => three([text, "", ""]),
        },
        ("rpartition", Some(separator)) => match text.rfind(separator) {
            Some(at) => three(around(at, separator.len())),
            None => three(["", "", text]),
        },
        ("rsplit", Some(separator)) => {
            let n = second.and_then(Value::as_usize).unwrap_or(text.len());
            let mut parts: Vec<&str> = text.rsplitn(n + 1, separator).collect();
            parts.reverse();
            Value::from_iter(parts)
        }
        ("ljust", None) => format!("{text:<0$}", first.as_usize()?).into(),
        ("rjust", None) => format!("{text:>0$}", first.as_usize()?).into(),
        _ => return None,
    })
}

/// The filter `int`, which in Jinja gives 0 where a value holds no number and the template names no default.
fn int(
    state: &State,
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    kwargs: Kwargs,
) -> JinjaResult<Value> {
    let default = default.or(kwargs.get("default")?);
    let default = default.unwrap_or_else(|| Value::from(0));
    filters::int(state, value, Some(default), base, kwargs)
}

/// The filter `float`, which has a default as [`int`] does.
fn float(
    state: &State,
    value: &Value,
    default: Option<Value>,
    kwargs: Kwargs,
) -> JinjaResult<Value> {
    let default = default.or(kwargs.get("default")?);
    let default = default.unwrap_or_else(|| Value::from(0.0));
    filters::float(state, value, Some(default), kwargs)
}

/// The test `sequence`, which in Python holds for all that has a length and items.
fn is_sequence(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Undefined
    )
}

/// Writes a value as Python's `str` does.
fn format(out: &mut Output, _: &mut State, value: &Value) -> JinjaResult<()> {
    Ok(out.write_str(&python_str(value))?)
}

/// A value as Python's `str` gives it.
fn python_str(value: &Value) -> String {
    if let Some(text) = value.as_str() {
        return text.to_owned();
    }
    let mut text = String::new();
    write_repr(&mut text, value);
    text
}

/// Writes a value as Python's `repr` gives it.
fn write_repr(out: &mut String, value: &Value) {
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::String => write_repr_str(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq => {
            out.push('[');
            for (i, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                write_repr(out, &item);
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                write_repr(out, &key);
                out.push_str(": ");
                write_repr(out, &value.get_item(&key).unwrap_or_default());
            }
            out.push('}');
        }
        ValueKind::Number => write_number(out, value),
        _ => {
            let _ = write!(out, "{value}");
        }
    }
}

/// Writes a number as Python does.
fn write_number(out: &mut String, value: &Value) {
    let text = match f64::try_from(value.clone()) {
        // Rust changes to an exponent at the same sizes as Python, and writes it without a sign and without zeros.
        Ok(x) if !value.is_integer() => format!("{x:?}"),
        _ => value.to_string(),
    };
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            let _ = write!(out, "{digits}e{sign}{exponent:0>2}");
        }
        None => out.push_str(&text),
    }
}

fn write_repr_str(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// The filter `tojson` as `transformers` has it: Python's `json.dumps` with keys in their order and nothing escaped for HTML.
#[expect(
    clippy::needless_pass_by_value,
    reason = "minijinja passes arguments by value"
)]
fn tojson(value: &Value, ensure_ascii: Option<Value>, kwargs: Kwargs) -> JinjaResult<Value> {
    let mut style = JsonStyle::read(&kwargs)?;
    style.ensure_ascii |= ensure_ascii.is_some_and(|it| it.is_true());
    let mut out = String::new();
    style.write(&mut out, value, 0)?;
    Ok(Value::from(out))
}

/// The settings of Python's `json.dumps`.
struct JsonStyle {
    ensure_ascii: bool,
    sort_keys: bool,
    /// The indentation of a level, if every item has a line of its own.
    indent: Option<String>,
    between_items: String,
    after_key: String,
}

impl JsonStyle {
    fn read(kwargs: &Kwargs) -> JinjaResult<Self> {
        let indent: Option<Value> = kwargs.get("indent")?;
        let indent = indent
            .filter(|it| !it.is_none())
            .map(|it| match it.as_str() {
                Some(text) => text.to_owned(),
                None => " ".repeat(it.as_usize().unwrap_or_default()),
            });
        let separators: Option<Value> = kwargs.get("separators")?;
        let separator = |i: usize, default: &str| {
            let given = separators
                .as_ref()
                .and_then(|it| it.get_item_by_index(i).ok());
            let given = given.as_ref().and_then(Value::as_str);
            given.unwrap_or(default).to_owned()
        };
        let style = Self {
            ensure_ascii: kwargs
                .get::<Option<bool>>("ensure_ascii")?
                .unwrap_or_default(),
            sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or_default(),
            between_items: separator(0, if indent.is_some() { "," } else { ", " }),
            after_key: separator(1, ": "),
            indent,
        };
        kwargs.assert_all_used()?;
        Ok(style)
    }

    fn write(&self, out: &mut String, value: &Value, depth: usize) -> JinjaResult<()> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => write_number(out, value),
            ValueKind::String => self.write_str(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_items(out, ['[', ']'], depth, &items, |out, item| {
                    self.write(out, item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.write_items(out, ['{', '}'], depth, &keys, |out, key| {
                    self.write_str(out, &python_str(key));
                    out.push_str(&self.after_key);
                    self.write(out, &value.get_item(key)?, depth + 1)
                })?;
            }
            kind => {
                let reason = format!("tojson: a value of the type {kind} is not JSON");
                return Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason));
            }
        }
        Ok(())
    }

    /// Writes the items of a list or an object at this depth between its brackets.
    fn write_items(
        &self,
        out: &mut String,
        [begin, end]: [char; 2],
        depth: usize,
        items: &[Value],
        write: impl Fn(&mut String, &Value) -> JinjaResult<()>,
    ) -> JinjaResult<()> {
        let new_line = |out: &mut String, depth: usize| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                out.push_str(&indent.repeat(depth));
            }
        };
        out.push(begin);
        for (i, item) in items.iter().enumerate() {
            out.push_str(if i == 0 { "" } else { &self.between_items });
            new_line(out, depth + 1);
            write(out, item)?;
        }
        if !items.is_empty() {
            new_line(out, depth);
        }
        out.push(end);
        Ok(())
    }

    fn write_str(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// The function that templates call to refuse messages that they cannot express.
fn raise_exception(message: String) -> JinjaResult<Value> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// The templates' function `strftime_now(format)`, which always formats midnight of Friday 26 July 2024, the date that Llama
/// 3's template falls back to. With today's date, prompts would differ from those that an adapter was trained on.
fn strftime_now(format: &str) -> JinjaResult<String> {
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        text.push_str(match rest.next() {
            Some('Y') => "2024",
            Some('y') => "24",
            Some('m') => "07",
            Some('B') => "July",
            Some('b') => "Jul",
            Some('d' | 'e') => "26",
            Some('j') => "208",
            Some('I') => "12",
            Some('p') => "AM",
            Some('F') => "2024-07-26",
            Some('-') => match rest.next() {
                Some('d') => "26",
                Some('m') => "7",
                _ => return Err(unknown_format(format)),
            },
            Some('A') => "Friday",
            Some('a') => "Fri",
            Some('H' | 'M' | 'S') => "00",
            Some('%') => "%",
            _ => return Err(unknown_format(format)),
        });
    }
    Ok(text)
}

fn unknown_format(format: &str) -> minijinja::Error {
    let reason = format!("strftime_now: unknown format {format:?}");
    minijinja::Error::new(ErrorKind::InvalidOperation, reason)
}
