//! Parquet files, in which data sets are published: each row is an item as in JSON.

use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Map, Value};

use super::export_files::ExportFile;
use super::source::{malformed, open};
use crate::Result;

/// The bytes with which a Parquet file begins and ends.
pub(super) const MAGIC: &[u8] = b"PAR1";

/// Calls `take` with each row, until it refuses one. One group of rows after the other is read.
///
/// # Errors
///
/// [`crate::Error::Input`], with the number of the row, when the file is damaged or `take` refuses a row;
/// [`crate::Error::Io`] when it cannot be opened.
pub(super) fn for_each_row(
    file: &ExportFile,
    mut take: impl FnMut(Map<String, Value>) -> Result<(), String>,
) -> Result<()> {
    let path = file.path();
    if file.is_zipped() {
        return Err(malformed(
            path,
            "is a Parquet file in an archive; unpack it first",
        ));
    }
    let disk = open(path)?;
    let mut number = 0;
    let mut take = |row| loudly(|| take(row));
    match quietly(|| rows(disk, &mut number, &mut take)) {
        Ok(read) => read.map_err(|why| malformed(path, why)),
        Err(_) => Err(malformed(
            path,
            format_args!("row {}: the file is damaged", number + 1),
        )),
    }
}

thread_local! {
    /// Whether a panic on this thread is one of the crate's, and no fault of this program.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// Runs a function of the crate, which checks what it reads in most places and panics in some; nothing is printed then.
fn quietly<T>(run: impl FnOnce() -> T) -> std::thread::Result<T> {
    HOOK.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                print(panic);
            }
        }));
    });
    IS_QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    IS_QUIET.set(false);
    result
}

/// Runs a function of this program within [`quietly`].
fn loudly<T>(run: impl FnOnce() -> T) -> T {
    IS_QUIET.set(false);
    let result = run();
    IS_QUIET.set(true);
    result
}

fn rows(
    file: File,
    number: &mut usize,
    take: &mut dyn FnMut(Map<String, Value>) -> Result<(), String>,
) -> Result<(), String> {
    let damaged = |number: usize| {
        move |error: ParquetError| format!("row {}: the file is damaged ({error})", number + 1)
    };
    let reader = SerializedFileReader::new(file).map_err(damaged(0))?;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(damaged(*number))?;
        for row in group.get_row_iter(None).map_err(damaged(*number))? {
            let row = row.map_err(damaged(*number))?;
            *number += 1;
            if let Value::Object(mut fields) = row.to_json_value() {
                for value in fields.values_mut() {
                    transpose(value);
                }
                take(fields).map_err(|why| format!("row {number}: {why}"))?;
            }
        }
    }
    Ok(())
}

/// Turns lists in an object, `{"role": […], "content": […]}`, into a list of objects. The messages of a chat are stored so by
/// older programs.
fn transpose(value: &mut Value) {
    let Value::Object(columns) = value else {
        return;
    };
    let mut lengths = columns
        .values()
        .map(|column| column.as_array().map(Vec::len));
    let Some(Some(length)) = lengths.next() else {
        return;
    };
    if lengths.any(|other| other != Some(length)) {
        return;
    }
    let mut rows = vec![Map::new(); length];
    for (name, column) in std::mem::take(columns) {
        if let Value::Array(cells) = column {
            for (row, cell) in rows.iter_mut().zip(cells) {
                row.insert(name.clone(), cell);
            }
        }
    }
    *value = rows.into_iter().map(Value::Object).collect();
}
