//! Walks through the JSON of a messenger's export, one message after the other, so that no more than one is in memory.

use std::fmt;
use std::io::BufRead;
use std::path::Path;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};

use crate::error::shown;
use crate::profile::import::export_files::ExportFile;
use crate::profile::import::json::stream::{ReadingPlace, for_each_value, skip_byte_order_mark};
use crate::{Error, Result};

/// The largest message, in bytes of the file.
const MAX_MESSAGE: u64 = 16 << 20;

/// The beginning of a file of an X archive, before the JSON: `window.YTD.tweets.part0 = `.
const SCRIPT: &[u8] = b"window.";

/// The field that holds a list of messages.
const MESSAGES: &str = "messages";

/// Fields around those: of a whole account of Telegram, and of X's conversations.
const AROUND: [&str; 4] = ["chats", "left_chats", "list", "dmConversation"];

/// Fields beside them that readers use.
const BESIDE: [&str; 3] = ["personal_information", "type", "conversationId"];

/// How the messages lie in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonLayout {
    /// Each object is a message, or each element of a list.
    Flat,
    /// They are in lists within objects.
    Nested,
    /// It is not known yet.
    Unknown,
}

/// Something that is met on the way.
pub(super) enum JsonEvent {
    /// A list of messages begins.
    Begins,
    /// A field beside the messages.
    Field(String, Value),
    Message(Map<String, Value>),
}

/// Walks through a file.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be read; [`Error::Input`], with the place, when it is no JSON of this layout.
pub(super) fn walk(
    file: &ExportFile,
    layout: JsonLayout,
    take: &mut dyn FnMut(JsonEvent),
) -> Result<()> {
    file.read(|reader| walk_through(file.path(), reader, layout, take))
}

/// The events in the beginning of a file, as far as it goes.
pub(super) fn glance(beginning: &[u8]) -> Vec<JsonEvent> {
    let mut events = Vec::new();
    let mut take = |event| events.push(event);
    // The beginning ends somewhere within the text.
    let _ended = walk_through(Path::new(""), beginning, JsonLayout::Unknown, &mut take);
    events
}

fn walk_through(
    path: &Path,
    mut reader: impl BufRead,
    layout: JsonLayout,
    take: &mut dyn FnMut(JsonEvent),
) -> Result<()> {
    skip_byte_order_mark(path, &mut reader)?;
    if reader
        .fill_buf()
        .map_err(Error::io("read", path))?
        .starts_with(SCRIPT)
    {
        reader.skip_until(b'=').map_err(Error::io("read", path))?;
    }
    let place = ReadingPlace::new(MAX_MESSAGE);
    for_each_value(path, reader, &place, |deserializer| {
        let node = JsonNode {
            place: &place,
            layout,
            take: &mut *take,
        };
        node.deserialize(deserializer)
    })
}

/// A value that holds messages, or is one.
struct JsonNode<'a> {
    place: &'a ReadingPlace,
    layout: JsonLayout,
    take: &'a mut dyn FnMut(JsonEvent),
}

impl<'de> DeserializeSeed<'de> for JsonNode<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for JsonNode<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        if self.layout == JsonLayout::Flat {
            let mut message = Map::new();
            while let Some((name, value)) = map.next_entry::<String, Value>()? {
                if message.insert(name.clone(), value).is_some() {
                    let name = shown(&name);
                    return Err(A::Error::custom(format_args!(
                        "a message has the field {name:?} twice"
                    )));
                }
            }
            (self.take)(JsonEvent::Message(message));
            return Ok(());
        }
        let mut others = Map::new();
        let mut holds_messages = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == MESSAGES {
                holds_messages = true;
                (self.take)(JsonEvent::Begins);
                map.next_value_seed(self.within(JsonLayout::Flat))?;
            } else if AROUND.contains(&name.as_str()) {
                holds_messages = true;
                map.next_value_seed(self.within(JsonLayout::Nested))?;
            } else if BESIDE.contains(&name.as_str()) || self.layout == JsonLayout::Unknown {
                let value: Value = map.next_value()?;
                others.insert(name.clone(), value.clone());
                (self.take)(JsonEvent::Field(name, value));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if !holds_messages && self.layout == JsonLayout::Unknown {
            (self.take)(JsonEvent::Message(others));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let layout = self.layout;
        for number in 1.. {
            self.place.begin(Some(number));
            if list.next_element_seed(self.within(layout))?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

impl JsonNode<'_> {
    /// A value within this one.
    fn within(&mut self, layout: JsonLayout) -> JsonNode<'_> {
        JsonNode {
            place: self.place,
            layout,
            take: &mut *self.take,
        }
    }
}
