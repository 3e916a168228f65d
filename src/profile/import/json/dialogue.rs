//! Makes examples of the messages of a chat.

use std::borrow::Cow;

use super::super::{ImportOption, Imported, MAX_BYTES, THOUGHTS};
use super::turn::{Learning, Party, Speaker, THOUGHT, TOOL, Turn};
use crate::message::{Message, Role};
use crate::profile::Example;
use crate::thought::without_thoughts;

/// The most messages before an answer. Each answer is stored with all of them, so that what a chat takes grows with the
/// square of its length.
const MAX_BEFORE: usize = 200;

/// How many unknown speakers are named among the reasons.
const MAX_UNKNOWN: usize = 8;

/// The beginning of the reason for messages of an unknown speaker.
const UNKNOWN: &str = "a message of an unknown speaker";

/// A chat of which each text of one speaker becomes an example, with what was said before as its prompt.
///
/// Where a message is left, what was said before it is forgotten, so that no text becomes the answer to a question that
/// it does not answer. Two kinds of messages have no such effect: an answer of weight 0, which stays in the prompts of
/// those that follow, and the tools that the speaker calls in order to answer, with their results.
pub(super) struct Dialogue<'a> {
    speaker: Speaker,
    /// How many bytes of what was said before are kept for each example; everything if `None`.
    window: Option<usize>,
    imported: &'a mut Imported,
    system: String,
    /// The messages since the last one that was left.
    before: Vec<Message>,
    /// The number of bytes in `before`.
    n_bytes: usize,
    /// The text beside a call of a tool.
    remark: Option<String>,
    standing: Standing,
    has_spoken: bool,
}

/// How the speaker stands to the other side's last message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nothing was said that the speaker has not answered.
    Idle,
    /// The other side has said something.
    Asked,
    /// The speaker has called a tool in order to answer.
    Calling,
}

impl<'a> Dialogue<'a> {
    /// Adds the examples of a chat to `imported`.
    pub fn add(turns: Vec<Turn>, speaker: Speaker, imported: &'a mut Imported) {
        Self::read(turns, speaker, None, imported);
    }

    /// Adds the examples of a chat, with the last messages before each alone: those that have `window` bytes together, and at
    /// least the one that is answered. Of a longer answer of the assistant its end is kept.
    pub fn add_windowed(
        turns: Vec<Turn>,
        speaker: Speaker,
        window: usize,
        imported: &'a mut Imported,
    ) {
        Self::read(turns, speaker, Some(window), imported);
    }

    fn read(turns: Vec<Turn>, speaker: Speaker, window: Option<usize>, imported: &'a mut Imported) {
        imported.applied.insert(ImportOption::Speaker);
        let mut dialogue = Self {
            speaker,
            window,
            imported,
            system: String::new(),
            before: Vec::new(),
            n_bytes: 0,
            remark: None,
            standing: Standing::Idle,
            has_spoken: false,
        };
        for turn in turns {
            dialogue.add_turn(turn);
        }
        if !dialogue.has_spoken {
            dialogue.imported.skip(match speaker {
                Speaker::Assistant => "a chat without an answer",
                Speaker::Human => "a chat without a question",
            });
        }
    }

    fn add_turn(&mut self, turn: Turn) {
        for why in &turn.left {
            self.imported.skip(why);
        }
        match &turn.party {
            Party::System if self.system.is_empty() => self.system = turn.text,
            Party::System if turn.text.trim().is_empty() => {}
            Party::System => {
                self.system.push_str("\n\n");
                self.system.push_str(&turn.text);
            }
            Party::Speaker(speaker) if *speaker == self.speaker => self.add_own(turn),
            Party::Speaker(_) => self.add_other(&turn),
            Party::Tool => {
                self.imported.skip(TOOL);
                if self.standing != Standing::Calling {
                    self.forget();
                }
            }
            Party::Thought => self.imported.skip(THOUGHT),
            Party::Unknown(name) => {
                self.skip_unknown(name);
                self.forget();
            }
        }
    }

    fn add_own(&mut self, turn: Turn) {
        self.has_spoken = true;
        if turn.calls_tool {
            self.imported.skip(TOOL);
            if !turn.text.trim().is_empty() && self.standing == Standing::Asked {
                self.learn(&turn);
                self.remark = Some(turn.text);
            }
            match self.standing {
                Standing::Idle => self.forget(),
                _ => self.standing = Standing::Calling,
            }
        } else if self.standing == Standing::Idle {
            self.skip_unless_empty(&turn, "an answer without a question before it");
            self.forget();
        } else if let Some(why) = emptiness(&turn.text) {
            self.imported
                .count_cut(THOUGHTS, usize::from(why == MERE_THOUGHT));
            self.skip_empty(&turn, why);
            self.forget();
        } else {
            self.learn(&turn);
            self.push(Role::Assistant, turn.text);
            self.remark = None;
            self.standing = Standing::Idle;
        }
    }

    fn add_other(&mut self, turn: &Turn) {
        if turn.calls_tool {
            self.imported.skip(TOOL);
        }
        if let Some(why) = emptiness(&turn.text) {
            if !turn.calls_tool {
                self.skip_empty(turn, why);
            }
            self.forget();
            return;
        }
        match (self.standing, self.remark.take()) {
            (Standing::Calling, Some(remark)) => self.push(Role::Assistant, remark),
            (Standing::Calling, None) => self.forget(),
            _ => {}
        }
        self.push(Role::User, turn.text.clone());
        self.standing = Standing::Asked;
    }

    /// Adds a message to what was said; one that follows another of the same side continues it, since many chat templates
    /// accept alternating speakers alone.
    fn push(&mut self, role: Role, text: String) {
        self.n_bytes += text.len();
        match self.before.last_mut() {
            Some(last) if last.role == role => {
                last.content.push_str("\n\n");
                last.content.push_str(&text);
            }
            _ => self.before.push(Message {
                role,
                content: text,
            }),
        }
    }

    /// Adds the example whose response is this message, if it is to be learnt.
    fn learn(&mut self, turn: &Turn) {
        match turn.learning {
            Learning::Learnt => {}
            Learning::WeightZero => return self.imported.skip("an answer of weight 0"),
            Learning::InPart => {
                let why = "an answer of which only a part is to be learnt";
                return self.imported.skip(why);
            }
            Learning::Context => return,
        }
        let before = self.kept_before();
        let n_bytes: usize = before.iter().map(|message| message.content.len()).sum();
        // Both lengths are checked before the messages are copied: a chat may have many thousands.
        if before.len() > MAX_BEFORE {
            let why = format!("an answer after more than {MAX_BEFORE} messages of a chat");
            return self.imported.skip(why);
        }
        let n_system = self.system.len();
        if n_system + n_bytes + turn.text.len() > MAX_BYTES {
            return self.imported.skip_long();
        }
        let system = Some(&self.system).filter(|text| !text.trim().is_empty());
        let mut prompt: Vec<_> = system.map(Message::system).into_iter().collect();
        prompt.extend(before.into_owned());
        self.imported.add_example(Example {
            prompt,
            response: turn.text.clone(),
        });
    }

    /// The messages before an answer that are kept with it. They begin with one of the other side.
    fn kept_before(&self) -> Cow<'_, [Message]> {
        let (Some(window), Some(last)) = (self.window, self.before.last()) else {
            return Cow::Borrowed(&self.before);
        };
        if self.speaker == Speaker::Human && last.content.len() > window {
            return Cow::Owned(vec![Message::user(end_of(&last.content, window))]);
        }
        let mut n_bytes = 0;
        let mut start = self.before.len() - 1;
        for (place, message) in self.before.iter().enumerate().rev() {
            n_bytes += message.content.len();
            if n_bytes > window {
                break;
            }
            if message.role == Role::User {
                start = place;
            }
        }
        Cow::Borrowed(&self.before[start..])
    }

    /// Forgets what was said, except the system message.
    fn forget(&mut self) {
        self.before.clear();
        self.n_bytes = 0;
        self.remark = None;
        self.standing = Standing::Idle;
    }

    fn skip_unless_empty(&mut self, turn: &Turn, why: &str) {
        self.skip_empty(turn, emptiness(&turn.text).unwrap_or(why));
    }

    /// Counts a message that is left, unless its parts have been counted already.
    fn skip_empty(&mut self, turn: &Turn, why: &str) {
        if turn.left.is_empty() || why != EMPTY {
            self.imported.skip(why);
        }
    }

    fn skip_unknown(&mut self, name: &str) {
        let why = format!("{UNKNOWN}, {name:?}");
        let known = self.imported.skipped.keys();
        let n_known = known.filter(|why| why.starts_with(UNKNOWN)).count();
        if n_known < MAX_UNKNOWN || self.imported.skipped.contains_key(&why) {
            self.imported.skip(why);
        } else {
            self.imported.skip(UNKNOWN);
        }
    }
}

/// The last `n_bytes` bytes of a longer text, from a word on.
fn end_of(text: &str, n_bytes: usize) -> String {
    let mut places = text.len() - n_bytes..text.len();
    let start = places.find(|&place| text.is_char_boundary(place));
    let end = &text[start.unwrap_or(text.len())..];
    let words = end.split_once(char::is_whitespace);
    format!("… {}", words.map_or(end, |(_, words)| words).trim_start())
}

const EMPTY: &str = "an empty message";
const MERE_THOUGHT: &str = "a thought without an answer";

/// The reason to leave a message that says nothing; `None` if it says something.
fn emptiness(text: &str) -> Option<&'static str> {
    if text.trim().is_empty() {
        return Some(EMPTY);
    }
    let rest = without_thoughts(text)?;
    rest.trim().is_empty().then_some(MERE_THOUGHT)
}
