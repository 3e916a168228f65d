//! Tables in CSV or TSV format: one column holds prompts, another the user's responses.

use std::path::Path;

use super::Imported;
use super::source::{malformed, utf8};
use crate::Result;
use crate::error::Unspecified;

/// The examples of a table whose first row names the columns; `columns` are those of prompts and responses.
///
/// # Errors
///
/// [`crate::Error::Unspecified`] when `columns` is `None`; [`crate::Error::Input`] when the table is malformed or has no
/// such columns.
pub fn parse(
    path: &Path,
    bytes: &[u8],
    delimiter: u8,
    columns: Option<&[String; 2]>,
) -> Result<Imported> {
    let mut reader = ::csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .from_reader(utf8(path, bytes)?.as_bytes());
    let wrong = |error: ::csv::Error| malformed(path, error);
    let names = reader.headers().map_err(wrong)?.clone();
    let known = || names.iter().collect::<Vec<_>>().join(", ");
    let Some(columns) = columns else {
        return Err(Unspecified::Columns {
            path: path.to_owned(),
            known: names.iter().map(str::to_owned).collect(),
        }
        .into());
    };
    let place = |name: &String| {
        names
            .iter()
            .position(|it| it.trim() == name)
            .ok_or_else(|| {
                malformed(
                    path,
                    format_args!("has no column {name:?}; it has {}", known()),
                )
            })
    };
    let [prompt, response] = [place(&columns[0])?, place(&columns[1])?];
    let mut imported = Imported::default();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        match (record.get(prompt), record.get(response)) {
            (Some(prompt), Some(response)) => imported.add(prompt.trim(), response.trim()),
            _ => imported.skip("the row is shorter than the first"),
        }
    }
    Ok(imported)
}
