//! The names of users, tasks and saved chats.

use std::fmt;

use crate::{Error, Result};

/// A name of a user, task or saved chat that is safe as the name of a folder or file: 1 to 64 characters of `[A-Za-z0-9._-]`, the first of
/// which is neither `.` nor `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(String);

impl UserName {
    /// The name that stands for the base model where a user can be named, as in the server's requests. No new user can have
    /// it, in any case of its letters.
    pub const BASE: &str = "base";

    const MAX_LEN: usize = 64;

    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when `name` breaks the rule; the message says how.
    pub fn new(name: &str) -> Result<Self> {
        let wrong = if name.is_empty() {
            "it is empty".to_owned()
        } else if name.chars().count() > Self::MAX_LEN {
            format!("it has {} characters", name.chars().count())
        } else if name.starts_with(['.', '-']) {
            format!("{name:?} begins with '.' or '-'")
        } else if let Some(c) = name
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && !"._-".contains(*c))
        {
            format!("{name:?} contains {c:?}")
        } else {
            return Ok(Self(name.to_owned()));
        };
        let rule = format!(
            "a name is 1 to {} ASCII letters, digits, '.', '_' or '-'",
            Self::MAX_LEN
        );
        Err(Error::Input(format!("not a valid name: {wrong}; {rule}")))
    }

    /// The name as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
