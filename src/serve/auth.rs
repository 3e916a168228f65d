//! Authentication: which caller a request comes from, and which users' adapters that caller may use.
//!
//! There is one key for the administrator and one for each user, stored as SHA-256 hashes. A user's key reaches that user's
//! adapter and the base, and nothing else; a caller who asks for anything else is answered as if it did not exist. Without
//! any key the server listens on loopback alone, and every caller is the administrator. A server on another address, or one that
//! has seen a key, never gives anything to a caller without a key, whatever becomes of the keys.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use subtle::ConstantTimeEq;

use super::api_error::ApiError;
use super::identity::Identity;
use super::jwt;
use crate::Result;
use crate::digest::digest;
use crate::home::{Home, UserFolder, UserName, read_json_if_there, remove_if_there, write_json};

/// The header with the signed identity of the person for whom Open WebUI asks.
const OPEN_WEBUI: &str = "x-openwebui-user-jwt";

/// The beginning of every key, so that tools which look for leaked secrets recognise one.
const PREFIX: &str = "cope-";

/// The caller of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// The administrator, who may use all users' adapters.
    Admin,
    /// A user, who may use their own adapter.
    User(UserName),
}

impl Caller {
    /// Whether the caller may use the adapter and the history of `user`.
    pub fn may_use(&self, user: &UserName) -> bool {
        match self {
            Self::Admin => true,
            Self::User(name) => name == user,
        }
    }

    /// The owner of what the models read for the caller in the voice of `user`, or of the base.
    pub fn prefix_owner(&self, user: Option<&UserName>) -> PrefixOwner {
        match self {
            Self::Admin => PrefixOwner {
                is_admin: true,
                user: user.cloned(),
            },
            // A user has no other voice than their own and the base's.
            Self::User(name) => PrefixOwner {
                is_admin: false,
                user: Some(name.clone()),
            },
        }
    }

    /// The users that the caller may use, trained or not, by name.
    ///
    /// # Errors
    ///
    /// The folder of the users cannot be read.
    pub fn known_users(&self, home: &Home) -> Result<Vec<UserFolder>> {
        let mut users = home.users()?;
        users.retain(|user| self.may_use(user.name()));
        Ok(users)
    }

    /// The users with an adapter that the caller may use, by name.
    ///
    /// # Errors
    ///
    /// The folder of the users cannot be read.
    pub fn users(&self, home: &Home) -> Result<Vec<UserFolder>> {
        let mut users = self.known_users(home)?;
        users.retain(|user| user.adapter().is_file());
        Ok(users)
    }

    /// Checks that the caller is the administrator, as they have to be to do `what`.
    ///
    /// # Errors
    ///
    /// [`ApiError::forbidden`] otherwise.
    pub fn require_admin(&self, what: &str) -> Result<(), ApiError> {
        match self {
            Self::Admin => Ok(()),
            Self::User(_) => Err(ApiError::forbidden(format!(
                "only the administrator's key may {what}"
            ))),
        }
    }

    /// The folder of the user `name`.
    ///
    /// # Errors
    ///
    /// [`ApiError::not_found`] when there is no such user, or the caller may not use their adapter.
    pub fn user_folder(&self, home: &Home, name: &str) -> Result<UserFolder, ApiError> {
        let name = UserName::new(name).ok().filter(|name| self.may_use(name));
        let folder = name.and_then(|name| home.user(name).ok());
        folder.ok_or_else(|| ApiError::not_found("there is no such user for this key"))
    }
}

/// The owner of the prefixes of prompts that models have read and keep. A prompt can hold texts of the caller and, by
/// retrieval, of the user whose voice answers, so that both decide who may go on from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PrefixOwner {
    is_admin: bool,
    user: Option<UserName>,
}

impl PrefixOwner {
    /// The user whose texts the prefixes can hold; `None` for the administrator's texts alone.
    pub fn user(&self) -> Option<&UserName> {
        self.user.as_ref()
    }

    /// The owner's number in a batch.
    pub fn number(&self) -> u64 {
        let user = self.user.as_ref().map(UserName::as_str);
        let hash = digest(&json!([self.is_admin, user]));
        u64::from_str_radix(&hash[..16], 16).unwrap_or_default()
    }
}

/// The stored form of a key.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    sha256: String,
}

/// The holder of a key.
#[derive(Clone, Debug)]
pub enum KeyOf {
    /// The administrator.
    Admin,
    /// A user.
    User(UserFolder),
}

impl KeyOf {
    fn path(&self, home: &Home) -> std::path::PathBuf {
        match self {
            Self::Admin => home.admin_key(),
            Self::User(folder) => folder.key(),
        }
    }

    /// Makes a key, which replaces the one before. Only its hash is stored, so this is the one time that it can be shown.
    ///
    /// # Errors
    ///
    /// The hash cannot be written.
    pub fn make(&self, home: &Home) -> Result<String> {
        let secret: [u8; 32] = rand::random();
        let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
        let stored = StoredKey { sha256: hash(&key) };
        write_json(&self.path(home), &stored)?;
        Ok(key)
    }

    /// Deletes the key, if there is one.
    ///
    /// # Errors
    ///
    /// Its file cannot be removed.
    pub fn revoke(&self, home: &Home) -> Result<()> {
        remove_if_there(&self.path(home))
    }

    /// Whether `key` is the holder's key. The comparison takes the same time for every key. A file that cannot be read or
    /// is damaged is nobody's key.
    fn matches(&self, home: &Home, key: &str) -> bool {
        let stored = read_json_if_there::<StoredKey>(&self.path(home));
        let stored = stored.ok().flatten().map(|stored| stored.sha256);
        stored.is_some_and(|stored| stored.as_bytes().ct_eq(hash(key).as_bytes()).into())
    }

    /// Whether there is a key, or something in its place that cannot be looked at.
    fn may_exist(&self, home: &Home) -> bool {
        let looked_at = std::fs::symlink_metadata(self.path(home));
        !looked_at.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }
}

fn hash(key: &str) -> String {
    digest(&json!(key))
}

/// Finds out who the caller of a request is.
#[derive(Debug)]
pub struct Access {
    home: Home,
    /// The secret with which Open WebUI signs identities.
    secret: Option<Vec<u8>>,
    /// Whether every caller needs a key, even where there is none any more.
    needs_key: AtomicBool,
}

impl Access {
    /// Knows the keys in `home`, and identities that Open WebUI has signed with `secret`. With `is_public`, every caller needs
    /// a key from the beginning.
    pub fn new(home: &Home, secret: Option<Vec<u8>>, is_public: bool) -> Self {
        Self {
            home: home.clone(),
            secret,
            needs_key: AtomicBool::new(is_public),
        }
    }

    /// Whether there is any key.
    ///
    /// # Errors
    ///
    /// The folder of the users cannot be read.
    pub fn has_keys(&self) -> Result<bool> {
        let users = self.home.users()?.into_iter().map(KeyOf::User);
        let mut all = std::iter::once(KeyOf::Admin).chain(users);
        Ok(all.any(|holder| holder.may_exist(&self.home)))
    }

    /// Whether every caller needs a key: from the first one on that was seen, or that could not be looked for.
    fn needs_key(&self) -> bool {
        if !self.needs_key.load(Ordering::Relaxed) && self.has_keys().unwrap_or(true) {
            self.needs_key.store(true, Ordering::Relaxed);
        }
        self.needs_key.load(Ordering::Relaxed)
    }

    /// The caller of a request with these headers.
    ///
    /// # Errors
    ///
    /// [`ApiError::unauthorized`] without a valid key; [`ApiError::forbidden`] when Open WebUI asks for a person who is not
    /// known here, or whose identity cannot be verified.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let caller = if self.needs_key() {
            let caller = key(headers)?.and_then(|key| self.holder(key));
            caller.ok_or_else(ApiError::unauthorized)?
        } else {
            // Some clients always send a key; without any keys here it is not read.
            Caller::Admin
        };
        let Some(token) = headers.get(OPEN_WEBUI) else {
            return Ok(caller);
        };
        let Some(secret) = &self.secret else {
            return Err(ApiError::forbidden(
                "the identity that Open WebUI gives cannot be verified: start the server with --openwebui-secret",
            ));
        };
        let token = token.to_str().unwrap_or_default();
        let Identity { email } = jwt::verify(token, secret).map_err(ApiError::forbidden)?;
        let Some(user) = Identity::user(&self.home, &email)? else {
            return Err(ApiError::forbidden(
                "no user here has that e-mail address: `cope-llama user identity NAME --email ADDRESS` sets it",
            ));
        };
        if caller.may_use(user.name()) {
            Ok(Caller::User(user.name().clone()))
        } else {
            Err(ApiError::forbidden("the key is another user's"))
        }
    }

    /// The holder of a key. It is compared with all stored keys, so that the time taken says nothing about the holder. Keys
    /// that cannot be read are nobody's, and nobody is told of them.
    fn holder(&self, key: &str) -> Option<Caller> {
        let mut holder = KeyOf::Admin
            .matches(&self.home, key)
            .then_some(Caller::Admin);
        for folder in self.home.users().unwrap_or_default() {
            let name = folder.name().clone();
            if KeyOf::User(folder).matches(&self.home, key) {
                holder = holder.or(Some(Caller::User(name)));
            }
        }
        holder
    }
}

/// The key of a request, if it has one.
fn key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let text = |name: header::HeaderName| {
        let value = headers.get(name).map(|value| value.to_str());
        value.transpose().map_err(|_| ApiError::unauthorized())
    };
    if let Some(value) = text(header::AUTHORIZATION)? {
        let (scheme, key) = value.split_once(' ').unwrap_or(("", value));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::unauthorized());
        }
        return Ok(Some(key.trim()));
    }
    text(header::HeaderName::from_static("x-api-key"))
}
