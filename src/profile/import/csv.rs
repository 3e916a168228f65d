//! Tables in CSV or TSV format: one column holds prompts, another the user's responses.

use std::path::Path;

use super::export_files::ExportFile;
use super::source::{malformed, utf8};
use super::{ImportOption, ImportOptions, Imported};
use crate::Result;
use crate::error::Unspecified;

/// The largest table, in bytes. It is read as a whole.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// The examples of a table in a file.
///
/// # Errors
///
/// Those of [`parse`], and [`crate::Error::Io`] when it cannot be read.
pub(super) fn import(
    file: &ExportFile,
    delimiter: u8,
    options: &ImportOptions,
) -> Result<Imported> {
    let bytes = file.content(MAX_FILE_BYTES)?;
    let table = parse(file.path(), &bytes, delimiter, options.columns.as_ref())?;
    Ok(table.with(ImportOption::Columns))
}

/// The examples of a table whose first row names the columns; `columns` are those of prompts and responses. A row that is
/// shorter than the first is skipped.
///
/// # Errors
///
/// [`crate::Error::Unspecified`] when `columns` is `None`; [`crate::Error::Input`] when the table has not each of these columns
/// once, a quoted field does not end as it should, or a row has text in more fields than the first.
pub fn parse(
    path: &Path,
    bytes: &[u8],
    delimiter: u8,
    columns: Option<&[String; 2]>,
) -> Result<Imported> {
    let text = utf8(path, bytes)?;
    check_quotes(text.as_bytes(), delimiter)
        .map_err(|(line, what)| malformed(path, format_args!("line {line}: {what}")))?;
    let mut reader = ::csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .from_reader(text.as_bytes());
    let wrong = |error: ::csv::Error| malformed(path, error);
    let names = reader.headers().map_err(wrong)?.clone();
    let Some(columns) = columns else {
        return Err(Unspecified::Columns {
            path: path.to_owned(),
            known: names.iter().map(str::to_owned).collect(),
        }
        .into());
    };
    let [prompt, response] = places(&names, columns).map_err(|what| malformed(path, what))?;
    let mut imported = Imported::default();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        if record
            .iter()
            .skip(names.len())
            .any(|it| !it.trim().is_empty())
        {
            let line = record.position().map_or(0, ::csv::Position::line);
            let (found, expected) = (record.len(), names.len());
            return Err(malformed(
                path,
                format_args!(
                    "line {line}: the row has {found} fields, and the first row has {expected}; put a text with the separator between quotation marks"
                ),
            ));
        }
        match (record.get(prompt), record.get(response)) {
            (Some(prompt), Some(response)) => imported.add(prompt.trim(), response.trim()),
            _ => imported.skip("the row is shorter than the first"),
        }
    }
    Ok(imported)
}

/// The places of the two columns.
fn places(names: &::csv::StringRecord, columns: &[String; 2]) -> Result<[usize; 2], String> {
    let [prompt, response] = columns;
    if prompt == response {
        return Err(format!(
            "the column {prompt:?} cannot hold both prompts and responses"
        ));
    }
    let place = |name: &String| {
        let mut places = (0..names.len()).filter(|&place| names[place].trim() == name);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (Some(_), Some(_)) => Err(format!(
                "has the column {name:?} twice; give one of them another name"
            )),
            (None, _) => {
                let known: Vec<_> = names.iter().collect();
                Err(format!(
                    "has no column {name:?}; it has {}",
                    known.join(", ")
                ))
            }
        }
    };
    Ok([place(prompt)?, place(response)?])
}

/// Where the reader of a table is in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldBegins,
    Unquoted,
    /// Within a quoted field that begins on this line.
    Quoted(usize),
    /// After a quotation mark within such a field, which ends it or is the first of two.
    QuoteEnds(usize),
}

/// Checks that each quoted field ends with a quotation mark before the next field or row. The crate `csv` takes what is
/// wrong here as text, so that one missing quotation mark makes a text of many rows.
///
/// # Errors
///
/// The line, and what is wrong there.
fn check_quotes(text: &[u8], delimiter: u8) -> Result<(), (usize, &'static str)> {
    let mut place = Place::FieldBegins;
    let mut line = 1;
    for (at, &byte) in text.iter().enumerate() {
        let ends_field = byte == delimiter || byte == b'\n' || byte == b'\r';
        place = match (place, byte) {
            (Place::FieldBegins, b'"') => Place::Quoted(line),
            (Place::Quoted(begin), b'"') => Place::QuoteEnds(begin),
            (Place::Quoted(begin), _) | (Place::QuoteEnds(begin), b'"') => Place::Quoted(begin),
            _ if ends_field => Place::FieldBegins,
            (Place::QuoteEnds(_), b' ') => place,
            (Place::QuoteEnds(_), _) => {
                return Err((
                    line,
                    "there is text after the quotation mark that ends a field; write a quotation mark within a field twice",
                ));
            }
            _ => Place::Unquoted,
        };
        if byte == b'\n' || byte == b'\r' && text.get(at + 1) != Some(&b'\n') {
            line += 1;
        }
    }
    match place {
        Place::Quoted(begin) => Err((begin, "a quotation mark begins a field that does not end")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, columns: [&str; 2]) -> Result<String, String> {
        let columns = columns.map(str::to_owned);
        let imported = parse(Path::new("t"), text.as_bytes(), b',', Some(&columns));
        let imported = imported.map_err(|error| error.to_string())?;
        let examples = imported.examples.iter();
        let examples = examples.map(|it| format!("{} / {}", it.prompt[0].content, it.response));
        let skipped = imported.skipped.iter().map(|(why, n)| format!("{n} {why}"));
        Ok(examples.chain(skipped).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn rows_are_read_and_those_that_hide_text_are_refused() {
        for (rows, expected) in [
            ("p,r\n", Ok("p / r")),
            ("p,\"r, \"\"s\"\"\nt\"\r\nq,s", Ok("p / r, \"s\"\nt\nq / s")),
            ("5\" p,r \"x\"\n", Ok("5\" p / r \"x\"")),
            ("p,\"r\" ,\nq,s,,\n", Ok("p / r\nq / s")),
            ("p\nq,s\n", Ok("q / s\n1 the row is shorter than the first")),
            (
                "p,\"r\nq,s\nt,u\n",
                Err("line 2: a quotation mark begins a field that does not end"),
            ),
            (
                "p,r\n\nq,\"s\nt,\"u\"\n",
                Err(
                    "line 5: there is text after the quotation mark that ends a field; write a quotation mark within a field twice",
                ),
            ),
            (
                "p,r\nq,s, and more\n",
                Err(
                    "line 3: the row has 3 fields, and the first row has 2; put a text with the separator between quotation marks",
                ),
            ),
        ] {
            let said = read(&format!("prompt,response\n{rows}"), ["prompt", "response"]);
            let expected = expected.map(str::to_owned);
            assert_eq!(
                said,
                expected.map_err(|what| format!("t: {what}")),
                "{rows}"
            );
        }
    }

    #[test]
    fn each_column_is_there_once() {
        for (header, columns, what) in [
            (
                "a,b,b",
                ["a", "b"],
                "has the column \"b\" twice; give one of them another name",
            ),
            (
                "a,b",
                ["a", "a"],
                "the column \"a\" cannot hold both prompts and responses",
            ),
            ("a,b", ["a", "c"], "has no column \"c\"; it has a, b"),
        ] {
            let said = read(&format!("{header}\np,r,s\n"), columns).unwrap_err();
            assert_eq!(said, format!("t: {what}"), "{header}");
        }
        assert_eq!(read("a,a, b ,c\np,q,r,s\n", ["b", "c"]).unwrap(), "r / s");
    }
}
