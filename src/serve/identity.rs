//! The e-mail address by which Open WebUI knows a user.

use serde::{Deserialize, Serialize};

use crate::home::{Home, UserFolder, read_json_if_there, remove_if_there, write_json};
use crate::{Error, Result};

/// The e-mail address of an Open WebUI account. Open WebUI lets people change their display name themselves, but not their
/// address, so the address decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The e-mail address.
    pub email: String,
}

impl Identity {
    /// The identity of an e-mail address.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when `email` is not of the form `name@host`.
    pub fn new(email: &str) -> Result<Self> {
        let email = email.trim();
        match email.split_once('@') {
            Some((name, host)) if !name.is_empty() && !host.is_empty() => Ok(Self {
                email: email.to_owned(),
            }),
            _ => Err(Error::input(format!("{email:?} is not an e-mail address"))),
        }
    }

    /// Stores it as the identity of `user`.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when it is another user's; [`Error::Io`] when it cannot be written.
    pub fn keep(&self, home: &Home, user: &UserFolder) -> Result<()> {
        match Self::user(home, &self.email)? {
            Some(other) if other.name() != user.name() => Err(Error::input(format!(
                "{} is the address of {}",
                self.email,
                other.name()
            ))),
            _ => write_json(&user.identity(), self),
        }
    }

    /// Deletes the identity of `user`, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when its file cannot be removed.
    pub fn forget(user: &UserFolder) -> Result<()> {
        remove_if_there(&user.identity())
    }

    /// The user whose e-mail address this is, in upper or lower case.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Damaged`] when the identities cannot be read.
    pub(super) fn user(home: &Home, email: &str) -> Result<Option<UserFolder>> {
        for folder in home.users()? {
            let identity: Option<Self> = read_json_if_there(&folder.identity())?;
            if identity.is_some_and(|it| it.email.eq_ignore_ascii_case(email)) {
                return Ok(Some(folder));
            }
        }
        Ok(None)
    }
}
