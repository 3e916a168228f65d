//! The search indexes of users' histories, which are kept while the histories do not change.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Result;
use crate::home::{FileStamp, UserFolder, UserName};
use crate::retrieval::Retriever;

/// The most users whose indexes are kept.
const MAX_USERS: usize = 16;

/// The indexes of the users who were asked for last.
#[derive(Default)]
pub struct RetrieverCache {
    /// The least recently used is the first.
    entries: Mutex<Vec<Entry>>,
}

/// A user's index, valid while the file of the history does not change.
struct Entry {
    user: UserName,
    history: PathBuf,
    stamp: FileStamp,
    retriever: Arc<Retriever<'static>>,
}

impl Entry {
    fn is_valid(&self) -> bool {
        FileStamp::of(&self.history).is_ok_and(|stamp| stamp == self.stamp)
    }
}

impl RetrieverCache {
    /// The index of a user's history. It is built, which takes a while, if the history has changed since it was last asked
    /// for, or if other users were asked for since.
    ///
    /// # Errors
    ///
    /// The history cannot be read.
    pub fn get(&self, user: &UserFolder) -> Result<Arc<Retriever<'static>>> {
        if let Some(retriever) = self.kept(user.name()) {
            return Ok(retriever);
        }
        // The stamp is older than what is read, so that a change meanwhile makes it invalid.
        let history = user.history();
        let stamp = FileStamp::of(&history);
        let retriever = Arc::new(Retriever::new(user.profile()?.history));
        // A user without a history has no file, and an index over nothing costs nothing.
        if let Ok(stamp) = stamp {
            self.keep(Entry {
                user: user.name().clone(),
                history,
                stamp,
                retriever: Arc::clone(&retriever),
            });
        }
        Ok(retriever)
    }

    /// Drops the indexes of histories that have changed, and of users who were deleted.
    pub fn sweep(&self) {
        self.entries().retain(Entry::is_valid);
    }

    fn kept(&self, user: &UserName) -> Option<Arc<Retriever<'static>>> {
        let mut entries = self.entries();
        let index = entries.iter().position(|it| it.user == *user)?;
        let entry = entries.remove(index);
        let retriever = entry.is_valid().then(|| Arc::clone(&entry.retriever))?;
        entries.push(entry);
        Some(retriever)
    }

    fn keep(&self, entry: Entry) {
        let mut entries = self.entries();
        entries.retain(|it| it.user != entry.user);
        if entries.len() == MAX_USERS {
            entries.remove(0);
        }
        entries.push(entry);
    }

    /// The entries, which no panic leaves half changed.
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RetrieverCache {
    /// Writes no text of a user.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetrieverCache").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use crate::message::Message;
    use crate::profile::{Example, Profile};

    fn user(home: &Home, name: &str, response: &str) -> UserFolder {
        let user = home.create_user(UserName::new(name).unwrap()).unwrap();
        let profile = Profile {
            history: vec![Example::new("the sea", response)],
            held_out: Vec::new(),
        };
        user.save_profile(&profile).unwrap();
        user
    }

    fn found(retriever: &Retriever<'_>) -> Vec<String> {
        let items = retriever.retrieve(&[Message::user("sea")], 9);
        items.iter().map(|item| item.response.clone()).collect()
    }

    fn names(cache: &RetrieverCache) -> Vec<String> {
        let entries = cache.entries();
        entries.iter().map(|it| it.user.to_string()).collect()
    }

    #[test]
    fn an_index_is_kept_for_its_user_until_the_history_changes() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let (ann, bob) = (user(&home, "ann", "Ann's"), user(&home, "bob", "Bob's"));
        let cache = RetrieverCache::default();
        let first = cache.get(&ann).unwrap();
        assert_eq!(found(&first), ["Ann's"]);
        assert_eq!(found(&cache.get(&bob).unwrap()), ["Bob's"]);
        assert!(Arc::ptr_eq(&first, &cache.get(&ann).unwrap()));

        user(&home, "ann", "Ann's other");
        let second = cache.get(&ann).unwrap();
        assert_eq!(found(&second), ["Ann's other"]);
        assert!(Arc::ptr_eq(&second, &cache.get(&ann).unwrap()));
        assert_eq!(names(&cache), ["bob", "ann"]);
    }

    #[test]
    fn the_index_of_a_deleted_user_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let (ann, bob) = (user(&home, "ann", "Ann's"), user(&home, "bob", "Bob's"));
        let cache = RetrieverCache::default();
        for user in [&ann, &bob] {
            cache.get(user).unwrap();
        }
        ann.delete().unwrap();
        cache.sweep();
        assert_eq!(names(&cache), ["bob"]);
        // A user who comes back without a history has nothing of before.
        let ann = home.create_user(UserName::new("ann").unwrap()).unwrap();
        assert_eq!(found(&cache.get(&ann).unwrap()), [""; 0]);
        assert_eq!(names(&cache), ["bob"]);
    }

    #[test]
    fn the_index_that_was_not_used_for_longest_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let cache = RetrieverCache::default();
        let users = (0..=MAX_USERS).map(|n| user(&home, &format!("user{n}"), "sea"));
        let users: Vec<_> = users.collect();
        for user in &users[..MAX_USERS] {
            cache.get(user).unwrap();
        }
        cache.get(&users[0]).unwrap();
        cache.get(&users[MAX_USERS]).unwrap();
        let names = names(&cache);
        assert_eq!(names.len(), MAX_USERS);
        assert!(names.contains(&"user0".to_owned()), "{names:?}");
        assert!(!names.contains(&"user1".to_owned()), "{names:?}");
    }
}
