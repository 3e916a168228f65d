//! Models in parts. The first, `NAME-00001-of-00003.gguf`, has the metadata, and each has some of the tensors. Like
//! llama.cpp, this reader finds the others beside the first by their names.
//!
//! | key | meaning | type |
//! |---|---|---|
//! | `split.no` | the number of the part, from 0 on | u16, in every part |
//! | `split.count` | the number of parts | u16, in the first part |
//! | `split.tensors.count` | the number of tensors in all parts | i32, in the first part |

use std::path::{Path, PathBuf};

use crate::error::{Error, GgufFlaw, Result};

use super::read::{MAX_TENSORS, index, open_file};
use super::{Gguf, Value};

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const N_TENSORS: &str = "split.tensors.count";

/// Whether the name of a file says that it is a part of a model in several parts.
#[must_use]
pub fn is_part(path: &Path) -> bool {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = path
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| {
            let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
            Some((rest.rsplit_once('-')?.1, count))
        });
    numbers.is_some_and(|(no, count)| number(no) && number(count) && count != "00001")
}

/// Opens the other parts of `first`, if it is a part, and makes one model of all.
pub(super) fn join(first: Gguf) -> Result<Gguf> {
    let count = match number_of_parts(&first)? {
        0 | 1 => return Ok(first),
        count => count,
    };
    let refuse = |flaw| Error::Gguf {
        path: first.path.clone(),
        flaw,
    };
    let no = number(&first)?;
    let part = part_name(&first.path, no, count);
    let part = part.ok_or_else(|| refuse(GgufFlaw::PartName { no, count }))?;
    if no != 0 {
        return Err(refuse(GgufFlaw::NotFirstPart {
            count,
            first: part(0),
        }));
    }
    let mut whole = first;
    for no in 1..count {
        let other = open_file(&part(no)).map_err(|error| match error {
            Error::Missing { path: missing } => Error::Gguf {
                path: whole.path.clone(),
                flaw: GgufFlaw::MissingPart { count, missing },
            },
            error => error,
        })?;
        add(&mut whole, other, no)?;
    }
    check_count(&whole)?;
    whole
        .metadata
        .retain(|(key, _)| ![NO, COUNT, N_TENSORS].contains(&key.as_str()));
    Ok(whole)
}

/// Adds the tensors of the part that is `no` by its name.
fn add(whole: &mut Gguf, part: Gguf, no: u16) -> Result<()> {
    let refuse = |flaw| Error::Gguf {
        path: part.path.clone(),
        flaw,
    };
    let got = number(&part)?;
    if got != no {
        return Err(refuse(GgufFlaw::PartNumber { got, expected: no }));
    }
    let is_known = |name: &str| whole.tensor(name).is_some();
    if let Some(twice) = part.tensors.iter().find(|it| is_known(&it.name)) {
        return Err(refuse(GgufFlaw::DuplicateTensor(twice.name.clone())));
    }
    let got = (whole.tensors.len() + part.tensors.len()) as u64;
    if got > MAX_TENSORS {
        return Err(refuse(GgufFlaw::TooMany {
            field: "the parts together".to_owned(),
            what: "tensors",
            got,
            limit: MAX_TENSORS,
        }));
    }
    whole.tensors.extend(part.tensors);
    whole.index = index(&whole.tensors);
    whole.parts.push(part.path);
    Ok(())
}

/// The paths of the parts by their number, from the path of the part `no`; `None` if its name is not that of a part.
fn part_name(path: &Path, no: u16, count: u16) -> Option<impl Fn(u16) -> PathBuf + use<>> {
    let ending = move |no: u16| format!("-{:05}-of-{count:05}.gguf", u32::from(no) + 1);
    let prefix = path
        .file_name()?
        .to_str()?
        .strip_suffix(&ending(no))?
        .to_owned();
    let path = path.to_owned();
    let part = move |no| path.with_file_name(format!("{prefix}{}", ending(no)));
    Some(part)
}

/// The number of parts that the first one claims; 0 for a whole model.
fn number_of_parts(file: &Gguf) -> Result<u16> {
    match file.get(COUNT) {
        Some(_) => file.typed(COUNT, "u16", u16_of),
        None => Ok(0),
    }
}

/// The number of a part. llama.cpp ends the process where it is of another type.
fn number(part: &Gguf) -> Result<u16> {
    part.typed(NO, "u16", u16_of)
}

fn u16_of(value: &Value) -> Option<u16> {
    match value {
        Value::U16(number) => Some(*number),
        _ => None,
    }
}

/// Checks that the parts together have as many tensors as the first one claims.
fn check_count(whole: &Gguf) -> Result<()> {
    let claimed = whole.typed(N_TENSORS, "i32", |value| match value {
        Value::I32(number) => Some(*number),
        _ => None,
    })?;
    let got = whole.tensors.len();
    if usize::try_from(claimed) == Ok(got) {
        return Ok(());
    }
    Err(Error::Gguf {
        path: whole.path.clone(),
        flaw: GgufFlaw::PartTensors { claimed, got },
    })
}
