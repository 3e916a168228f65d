//! Decides whose texts are the user's: by the names that the user gave, or by what the file tells of its owner.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::formats::ChatFormat;
use super::talk::{Said, Sender, TalkEvent};
use crate::Result;
use crate::error::{Unspecified, shown};
use crate::profile::import::authors::{Authors, People, words};
use crate::profile::import::source::malformed;

/// The most people who are told apart.
const MAX_SENDERS: usize = 100_000;

/// The facts that are learnt of the chats before the user's texts are taken.
pub(super) struct Survey {
    authors: Authors,
    people: People,
    senders: HashMap<String, Sender>,
    /// How many files hold texts and do not tell whose they are.
    n_untold: usize,
    /// How many texts of this file are there, and how many of them are its owner's.
    n_texts: usize,
    n_own: usize,
    /// The time of the message before, and how often a message of this file was later and earlier than it.
    before: Option<i64>,
    n_later: usize,
    n_earlier: usize,
}

/// The senders who are the user.
pub(super) struct Whose(HashSet<String>);

impl Survey {
    pub fn new(authors: Authors) -> Self {
        Self {
            authors,
            people: People::default(),
            senders: HashMap::new(),
            n_untold: 0,
            n_texts: 0,
            n_own: 0,
            before: None,
            n_later: 0,
            n_earlier: 0,
        }
    }

    pub fn note(&mut self, event: &TalkEvent) {
        let TalkEvent::Talk(talk) = event else {
            self.before = None;
            return;
        };
        if let Some(time) = talk.time {
            let before = self.before.replace(time).unwrap_or(time);
            self.n_later += usize::from(time > before);
            self.n_earlier += usize::from(time < before);
        }
        if !matches!(talk.said, Said::Text(_)) {
            return;
        }
        let sender = &talk.sender;
        self.n_texts += 1;
        self.n_own += usize::from(sender.is_owner);
        if !sender.names.is_empty() {
            self.people.count(sender.name());
        }
        if !self.senders.contains_key(sender.key()) && self.senders.len() < MAX_SENDERS {
            self.senders.insert(sender.key().to_owned(), sender.clone());
        }
    }

    /// Ends a file of a format. Returns whether its newest message comes first.
    pub fn ends_file(&mut self, format: ChatFormat) -> bool {
        let is_told = format.tells_owner() || self.n_own > 0 || self.n_texts == 0;
        self.n_untold += usize::from(!is_told);
        (self.n_own, self.n_texts) = (0, 0);
        let is_newest_first = match self.n_earlier.cmp(&self.n_later) {
            Ordering::Greater => format.is_of_any_order(),
            Ordering::Equal => format.is_newest_first(),
            Ordering::Less => false,
        };
        (self.before, self.n_later, self.n_earlier) = (None, 0, 0);
        is_newest_first
    }

    /// The senders who are the user. `root` is for messages only.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Unspecified`] when no author is named and the files do not tell it, or several people have the name;
    /// [`crate::Error::Input`] when nobody has the name.
    pub fn decide(&self, root: &Path) -> Result<Whose> {
        let owners = self.senders.values().filter(|it| it.is_owner);
        let owners: HashSet<_> = owners.map(|it| it.key().to_owned()).collect();
        if self.authors.is_empty() {
            if self.n_untold > 0 {
                return Err(self.unspecified(root));
            }
            return Ok(Whose(owners));
        }
        let mut whose = Whose(HashSet::new());
        for author in self.authors.iter() {
            whose.0.extend(self.of_name(author, root)?);
        }
        // The file tells who its owner is, but not the owner's name.
        let is_nameless = |it: &Sender| it.is_owner && it.names.is_empty();
        if whose.0.is_empty() && self.senders.values().any(is_nameless) {
            return Ok(Whose(owners));
        }
        if whose.0.is_empty() && !self.senders.is_empty() {
            let listed = self.people.counts();
            return Err(malformed(
                root,
                format_args!("has no messages by that author; it has some by {listed}"),
            ));
        }
        Ok(whose)
    }

    /// The senders with this name or id.
    fn of_name(&self, author: &[String], root: &Path) -> Result<Vec<String>> {
        let is = |name: &str| words(name) == author;
        let by_id = self.senders.values();
        let mut by_id = by_id.filter(|it| it.id.as_deref().is_some_and(is));
        if let Some(sender) = by_id.next() {
            return Ok(vec![sender.key().to_owned()]);
        }
        let senders = self.senders.values();
        let found: Vec<_> = senders
            .filter(|it| it.names.iter().any(|name| is(name)))
            .collect();
        let ids: BTreeMap<_, _> = found
            .iter()
            .filter_map(|it| Some((it.id.as_deref()?, it.name())))
            .collect();
        if ids.len() > 1 {
            let listed = ids.iter().take(8);
            let listed: Vec<_> = listed
                .map(|(id, name)| format!("{} ({})", shown(id), shown(name)))
                .collect();
            let what = format!(
                "several people have that name; give the id of the user's own account instead: {}",
                listed.join(", ")
            );
            return Err(malformed(root, what));
        }
        Ok(found.iter().map(|it| it.key().to_owned()).collect())
    }

    fn unspecified(&self, root: &Path) -> crate::Error {
        Unspecified::Author {
            path: root.to_owned(),
            texts: "messages".to_owned(),
            people: self.people.counts(),
        }
        .into()
    }
}

impl Whose {
    /// Whether a sender is the user.
    pub fn is_own(&self, sender: &Sender) -> bool {
        sender.is_sole() || self.0.contains(sender.key())
    }
}
