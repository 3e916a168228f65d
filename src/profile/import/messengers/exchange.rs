//! Makes the user's texts, each with what it answers, of the messages of a conversation.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use super::talk::{NOTICE, ReplyTo, Said, Talk, beginning_of, own_words};
use crate::error::shown;
use crate::profile::import::Imported;
use crate::profile::import::json::NO_PROMPT;

/// Messages of one person with at most this many seconds between them are one text.
const SAME_TEXT: i64 = 10 * 60;

/// A text more than this many seconds after what was said before answers nothing.
const STILL_ANSWERED: i64 = 12 * 60 * 60;

/// The most messages before an answer, and the most bytes of them. What is older is rarely answered.
const MAX_ASKED: usize = 12;
const MAX_ASKED_BYTES: usize = 6_000;

/// How many messages of a conversation can be answered by their ids.
const MAX_RECENT: usize = 256;

/// How many threads of a conversation are followed at a time.
const MAX_STRANDS: usize = 1_000;

/// The most bytes of the user's texts and their prompts, and what is added for each. Training has no use for more.
const MAX_KEPT: usize = 64 << 20;
const EACH: usize = 256;

/// The reason for texts beyond that.
const OLDER: &str = "older than the newest texts that a training has time for";

/// The reason for texts of other people.
const OTHERS: &str = "from somebody else";

/// The name of what is cut from texts.
const QUOTATIONS: &str = "quoted text";

/// The messages of one conversation after the other.
pub(super) struct Exchange {
    imported: Imported,
    /// The user's texts so far.
    texts: Vec<OwnExample>,
    /// The bytes that they take.
    n_bytes: usize,
    /// The conversation so far, by thread.
    strands: HashMap<Option<String>, Strand>,
    hasher: RandomState,
}

/// A thread so far.
#[derive(Default)]
struct Strand {
    /// The messages of the others since the user's last text.
    asked: VecDeque<Asked>,
    /// The user's text that may go on.
    own: Option<OwnText>,
    /// Messages of others that can be answered, by the hashes of their ids.
    recent: VecDeque<(u64, String)>,
}

#[derive(Clone)]
struct Asked {
    name: String,
    time: Option<i64>,
    text: String,
}

/// The message that a text of the user's answers.
#[derive(PartialEq, Eq)]
enum ToldQuestion {
    /// The one before it.
    Latest,
    /// This text, as the file tells it; `None` if that text is not there.
    Told(Option<String>),
}

struct OwnText {
    prompt: String,
    text: String,
    began: Option<i64>,
    /// The time of its last message.
    time: Option<i64>,
}

impl Exchange {
    pub fn new() -> Self {
        Self {
            imported: Imported::default(),
            texts: Vec::new(),
            n_bytes: 0,
            strands: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// Begins another conversation.
    pub fn begin(&mut self) {
        let mut strands: Vec<_> = self.strands.drain().collect();
        strands.sort_by(|(thread, _), (other, _)| thread.cmp(other));
        for (_, mut strand) in strands {
            self.keep(strand.flush());
        }
    }

    /// Adds a message, which is the user's own or somebody else's.
    pub fn add(&mut self, talk: Talk, is_own: bool) {
        // The message that begins a thread is one of the channel, too.
        let begins_thread = talk.thread.is_some() && talk.thread == talk.id;
        let thread = talk.thread.filter(|_| !begins_thread);
        if !self.strands.contains_key(&thread) && self.strands.len() > MAX_STRANDS {
            self.begin();
        }
        let hash = |id: &String| self.hasher.hash_one(id);
        let id = talk.id.as_ref().map(hash);
        let strand = self.strands.entry(thread).or_default();
        match (talk.said, is_own) {
            (Said::Notice, _) => self.imported.skip(NOTICE),
            (Said::Left(why), is_own) => {
                self.imported.skip(why);
                if !is_own {
                    let text = strand.forget();
                    self.keep(text);
                }
            }
            (Said::Text(text), true) => {
                let (text, quoted) = match own_words(&text) {
                    Ok(words) => words,
                    Err(why) => return self.imported.skip(why),
                };
                self.imported
                    .count_cut(QUOTATIONS, usize::from(quoted.is_some()));
                let question = match (&talk.reply, quoted) {
                    (ReplyTo::Latest, None) => ToldQuestion::Latest,
                    (ReplyTo::Latest, quoted) => ToldQuestion::Told(quoted),
                    (ReplyTo::Text(text), _) => ToldQuestion::Told(Some(text.clone())),
                    (ReplyTo::Id(id), _) => ToldQuestion::Told(strand.said(hash(id))),
                };
                let text = strand.speak(text, talk.time, question);
                self.keep(text);
            }
            (Said::Text(text), false) => {
                self.imported.skip(OTHERS);
                let asked = Asked {
                    name: shown(talk.sender.name()),
                    time: talk.time,
                    text: beginning_of(&text, MAX_ASKED_BYTES).to_owned(),
                };
                let mut ended = [strand.hear(asked.clone(), id), None];
                if begins_thread {
                    let strand = self.strands.entry(talk.id).or_default();
                    ended[1] = strand.hear(asked, None);
                }
                ended.into_iter().for_each(|text| self.keep(text));
            }
        }
    }

    /// Keeps a text. If there are too many, the older half goes.
    fn keep(&mut self, text: Option<OwnExample>) {
        let size = |(_, prompt, text): &OwnExample| prompt.len() + text.len() + EACH;
        let Some(text) = text else {
            return;
        };
        self.n_bytes += size(&text);
        self.texts.push(text);
        if self.n_bytes > MAX_KEPT {
            self.texts.sort_by_key(|(time, ..)| *time);
            let half = self.texts.len().div_ceil(2);
            for text in self.texts.drain(..half) {
                self.n_bytes -= size(&text);
                self.imported.skip(OLDER);
            }
        }
    }

    /// The user's texts, oldest first, and what was left.
    pub fn finish(mut self) -> Imported {
        self.begin();
        self.texts.sort_by_key(|(time, ..)| *time);
        for (_, prompt, text) in self.texts {
            self.imported.add(prompt, text);
        }
        self.imported
    }
}

/// A text of the user's with its time and its prompt.
type OwnExample = (i64, String, String);

impl Strand {
    /// Notes what somebody else has said. Returns the user's text that ends with that.
    fn hear(&mut self, asked: Asked, id: Option<u64>) -> Option<OwnExample> {
        let is_late = |it: &Asked| !is_within(it.time, asked.time, STILL_ANSWERED);
        if self.asked.back().is_some_and(is_late) {
            self.asked.clear();
        }
        if let Some(id) = id {
            self.recent.push_back((id, asked.text.clone()));
            if self.recent.len() > MAX_RECENT {
                self.recent.pop_front();
            }
        }
        self.asked.push_back(asked);
        let n_bytes = |asked: &VecDeque<Asked>| asked.iter().map(|it| it.text.len()).sum::<usize>();
        while self.asked.len() > MAX_ASKED || n_bytes(&self.asked) > MAX_ASKED_BYTES {
            self.asked.pop_front();
        }
        self.flush()
    }

    /// Forgets what was said. Returns the user's text that ends with that.
    fn forget(&mut self) -> Option<OwnExample> {
        self.asked.clear();
        self.flush()
    }

    /// Notes what the user has said, and which text that answers, where the file tells it. Returns the text before it, if it
    /// is another one.
    fn speak(
        &mut self,
        text: String,
        time: Option<i64>,
        question: ToldQuestion,
    ) -> Option<OwnExample> {
        if let Some(own) = &mut self.own
            && question == ToldQuestion::Latest
            && is_within(own.time, time, SAME_TEXT)
        {
            own.text.push('\n');
            own.text.push_str(&text);
            own.time = time;
            return None;
        }
        let before = self.flush();
        let question = match question {
            ToldQuestion::Latest => self.question(time),
            ToldQuestion::Told(question) => question,
        };
        self.asked.clear();
        self.own = Some(OwnText {
            prompt: question.unwrap_or_else(|| NO_PROMPT.to_owned()),
            text,
            began: time,
            time,
        });
        before
    }

    /// Ends the user's text, and returns it.
    fn flush(&mut self) -> Option<OwnExample> {
        let own = self.own.take()?;
        Some((own.began.unwrap_or(i64::MIN), own.prompt, own.text))
    }

    /// The text of the message with this id.
    fn said(&self, id: u64) -> Option<String> {
        let found = self.recent.iter().rev().find(|(other, _)| *other == id);
        found.map(|(_, text)| text.clone())
    }

    /// The messages that a text at this time answers, with names where several people have spoken.
    fn question(&self, time: Option<i64>) -> Option<String> {
        let last = self.asked.back()?;
        if !is_within(last.time, time, STILL_ANSWERED) {
            return None;
        }
        let names: BTreeSet<_> = self.asked.iter().map(|it| it.name.as_str()).collect();
        let said = self.asked.iter().map(|it| match names.len() {
            1 => it.text.clone(),
            _ => format!("{}: {}", it.name, it.text),
        });
        Some(said.collect::<Vec<_>>().join("\n"))
    }
}

/// Whether two times are at most this many seconds apart, or one of them is not known.
fn is_within(time: Option<i64>, other: Option<i64>, seconds: i64) -> bool {
    match (time, other) {
        (Some(time), Some(other)) => time.abs_diff(other) <= seconds.unsigned_abs(),
        _ => true,
    }
}
