//! Reads a JSON text item by item: a list, JSON Lines, or values that follow each other in any layout. No more than one
//! item is in memory.

use std::cell::Cell;
use std::fmt::{self, Display};
use std::io::{self, BufRead, ErrorKind, Read};
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::de::IoRead;
use serde_json::error::Category;

use super::object::JsonObject;
use super::turn::Turn;
use crate::profile::import::source::malformed;
use crate::{Error, Result};

/// The largest item, in bytes of the file.
const MAX_ITEM_BYTES: u64 = 64 << 20;

/// An item of a JSON text.
pub(super) enum JsonItem {
    Object(JsonObject),
    /// A chat without any fields but its messages.
    Chat(Vec<Turn>),
}

/// Calls `take` with each item. `path` is for messages only.
///
/// # Errors
///
/// [`Error::Input`] with the line, and in a list the number of the item, when the text is no JSON, an item is neither an
/// object nor a list, or `take` refuses it; [`Error::Io`] when the text cannot be read.
pub(super) fn for_each_item(
    path: &Path,
    mut reader: impl BufRead,
    mut take: impl FnMut(JsonItem) -> Result<(), String>,
) -> Result<()> {
    skip_byte_order_mark(path, &mut reader)?;
    let place = ReadingPlace::new(MAX_ITEM_BYTES);
    for_each_value(path, reader, &place, |deserializer| {
        let seed = TopLevel {
            place: &place,
            take: &mut take,
        };
        seed.deserialize(deserializer)
    })
}

/// Passes a byte-order mark at the beginning of a text in UTF-8.
///
/// # Errors
///
/// [`Error::Io`] when the text cannot be read.
pub(in crate::profile::import) fn skip_byte_order_mark(
    path: &Path,
    reader: &mut impl BufRead,
) -> Result<()> {
    let beginning = reader.fill_buf().map_err(Error::io("read", path))?;
    if beginning.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    Ok(())
}

/// Reads the values that follow each other in a text, each by a call of `read`. `place` is kept at the place of the parser,
/// and `path` is for messages only.
///
/// # Errors
///
/// [`Error::Input`] with the place when the text is no JSON or `read` refuses a value; [`Error::Io`] when the text cannot be
/// read.
pub(in crate::profile::import) fn for_each_value<R: BufRead>(
    path: &Path,
    reader: R,
    place: &ReadingPlace,
    mut read: impl FnMut(&mut CountedDeserializer<R>) -> serde_json::Result<()>,
) -> Result<()> {
    let mut deserializer = serde_json::Deserializer::from_reader(CountedBytes { reader, place });
    // `end` is an error while there is something left.
    while deserializer.end().is_err() {
        place.begin(None);
        read(&mut deserializer).map_err(|error| explained(path, place, error))?;
    }
    Ok(())
}

/// A parser whose place is known.
type CountedDeserializer<'a, R> = serde_json::Deserializer<IoRead<CountedBytes<'a, R>>>;

/// How far a text has been read.
pub(in crate::profile::import) struct ReadingPlace {
    /// The line of the last byte that was read.
    line: Cell<usize>,
    /// Where the item begins.
    item_line: Cell<usize>,
    item_number: Cell<Option<usize>>,
    item_bytes: Cell<u64>,
    max_item_bytes: u64,
}

impl ReadingPlace {
    /// The beginning of a text whose items have at most this many bytes.
    pub fn new(max_item_bytes: u64) -> Self {
        Self {
            line: Cell::new(1),
            item_line: Cell::new(1),
            item_number: Cell::new(None),
            item_bytes: Cell::new(0),
            max_item_bytes,
        }
    }

    /// Notes that an item begins: the one with this number in a list, or one on its own.
    pub fn begin(&self, number: Option<usize>) {
        self.item_line.set(self.line.get());
        self.item_number.set(number);
        self.item_bytes.set(0);
    }
}

/// The place of the item: `line 3, item 2`.
impl Display for ReadingPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.item_line.get())?;
        match self.item_number.get() {
            Some(number) => write!(f, ", item {number}"),
            None => Ok(()),
        }
    }
}

/// A reader that counts lines and bytes. It reads one byte at a time, as `serde_json` does, so that the counts are those of
/// the place where the parser is.
pub(in crate::profile::import) struct CountedBytes<'a, R> {
    reader: R,
    place: &'a ReadingPlace,
}

impl<R: BufRead> Read for CountedBytes<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (Some(&byte), Some(first)) = (self.reader.fill_buf()?.first(), buffer.first_mut())
        else {
            return Ok(0);
        };
        let place = self.place;
        if place.item_bytes.get() == place.max_item_bytes {
            return Err(ErrorKind::FileTooLarge.into());
        }
        place.item_bytes.update(|n| n + 1);
        place.line.update(|n| n + usize::from(byte == b'\n'));
        *first = byte;
        self.reader.consume(1);
        Ok(1)
    }
}

/// The error of a value that cannot be read or was refused.
fn explained(path: &Path, place: &ReadingPlace, error: serde_json::Error) -> Error {
    let text = error.to_string();
    let text = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(text, _)| text);
    match error.classify() {
        Category::Io => match io::Error::from(error) {
            error if error.kind() == ErrorKind::FileTooLarge => malformed(
                path,
                format_args!(
                    "{place}: an item of more than {} MiB",
                    place.max_item_bytes >> 20
                ),
            ),
            error => Error::io("read", path)(error),
        },
        Category::Data if text.starts_with("invalid type") => malformed(
            path,
            format_args!(
                "{place}: an item is a JSON object or a list of messages, and this is neither"
            ),
        ),
        Category::Data => malformed(path, format_args!("{place}: {text}")),
        Category::Syntax | Category::Eof => {
            // serde_json's words for bytes that are no UTF-8.
            let text = text.replace("invalid unicode code point", "no UTF-8");
            let (line, column) = (error.line(), error.column());
            malformed(
                path,
                format_args!("{place}: no valid JSON ({text}, line {line}, column {column})"),
            )
        }
    }
}

/// A value that stands on its own: an item, or a list of items.
struct TopLevel<'a, F> {
    place: &'a ReadingPlace,
    take: &'a mut F,
}

impl<'de, F: FnMut(JsonItem) -> Result<(), String>> DeserializeSeed<'de> for TopLevel<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(JsonItem) -> Result<(), String>> Visitor<'de> for TopLevel<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let object = JsonObject::read(map)?;
        (self.take)(JsonItem::Object(object)).map_err(A::Error::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut turns = Vec::new();
        for number in 1.. {
            let element = Element {
                place: self.place,
                number,
            };
            let item = match list.next_element_seed(element)? {
                None => break,
                // A list of messages is one chat.
                Some(JsonItem::Object(object)) if Turn::is_in(&object) => {
                    let turn = Turn::read(&object, "the message").map_err(A::Error::custom)?;
                    turns.push(turn);
                    continue;
                }
                Some(item) => item,
            };
            if !turns.is_empty() {
                return Err(A::Error::custom(
                    "no message, and those before it are messages",
                ));
            }
            (self.take)(item).map_err(A::Error::custom)?;
        }
        if turns.is_empty() {
            return Ok(());
        }
        (self.take)(JsonItem::Chat(turns)).map_err(A::Error::custom)
    }
}

/// An element of a list: an object, or the list of a chat's messages.
struct Element<'a> {
    place: &'a ReadingPlace,
    number: usize,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = JsonItem;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<JsonItem, D::Error> {
        self.place.begin(Some(self.number));
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = JsonItem;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<JsonItem, A::Error> {
        JsonObject::read(map).map(JsonItem::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<JsonItem, A::Error> {
        let mut values: Vec<Value> = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        let turns = Turn::read_all(&values, "the list").map_err(A::Error::custom)?;
        Ok(JsonItem::Chat(turns))
    }
}
