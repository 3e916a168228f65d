//! Who asks, and what they may.
//!
//! There is one key for the administrator and one for each user, kept as SHA-256 hashes. A user's key reaches that user's
//! adapter and the base, and nothing else; who may not use a thing is told that it is not there. Without any key the
//! server listens on loopback alone, and whoever reaches it is the administrator.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use subtle::ConstantTimeEq;

use super::error::ApiError;
use super::jwt::{self, Identity};
use crate::hash::digest;
use crate::home::{Home, UserFolder, UserName, read_json_if_there, remove_if_there, write_json};
use crate::{Error, Result};

/// In which Open WebUI says, signed, for whom it asks.
const OPEN_WEBUI: &str = "x-openwebui-user-jwt";

/// What keys begin with, so that one is known where it does not belong.
const PREFIX: &str = "cope-";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Who may use all users' adapters.
    Admin,
    /// Who may use their own.
    User(UserName),
}

impl Caller {
    /// Whether the adapter and the history of `user` are theirs to use.
    pub fn may_use(&self, user: &UserName) -> bool {
        match self {
            Self::Admin => true,
            Self::User(name) => name == user,
        }
    }

    /// Their name among those for whom models keep what they have read.
    pub fn owner(&self) -> u64 {
        let name = match self {
            Self::Admin => json!(["admin"]),
            Self::User(name) => json!(["user", name.as_str()]),
        };
        let hash = digest(&name);
        u64::from_str_radix(&hash[..16], 16).unwrap_or_default()
    }

    /// The users whose adapters they may use, by name.
    ///
    /// # Errors
    ///
    /// The folder of the users cannot be read.
    pub fn users(&self, home: &Home) -> Result<Vec<UserFolder>> {
        let mut users = home.users()?;
        users.retain(|user| self.may_use(user.name()) && user.adapter().is_file());
        Ok(users)
    }
}

/// A key as it is kept.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    sha256: String,
}

/// Whose key it is to be.
#[derive(Clone, Debug)]
pub enum KeyOf {
    /// The administrator's.
    Admin,
    /// A user's.
    User(UserFolder),
}

impl KeyOf {
    fn path(&self, home: &Home) -> std::path::PathBuf {
        match self {
            Self::Admin => home.admin_key(),
            Self::User(folder) => folder.key(),
        }
    }

    /// Makes a key, which replaces the one before. It is shown this once; only its hash is kept.
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

    /// Forgets the key.
    ///
    /// # Errors
    ///
    /// Its file cannot be removed.
    pub fn revoke(&self, home: &Home) -> Result<()> {
        remove_if_there(&self.path(home))
    }

    /// Whether `key` is the one; in the same time, whichever it is.
    fn is(&self, home: &Home, key: &str) -> Result<bool> {
        let stored: Option<StoredKey> = read_json_if_there(&self.path(home))?;
        let stored = stored.map(|stored| stored.sha256);
        Ok(stored.is_some_and(|stored| stored.as_bytes().ct_eq(hash(key).as_bytes()).into()))
    }

    fn is_there(&self, home: &Home) -> bool {
        self.path(home).is_file()
    }
}

fn hash(key: &str) -> String {
    digest(&json!(key))
}

impl Identity {
    /// That of an address.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn new(email: &str) -> Result<Self> {
        let email = email.trim();
        match email.split_once('@') {
            Some((name, host)) if !name.is_empty() && !host.is_empty() => Ok(Self {
                email: email.to_owned(),
            }),
            _ => Err(Error::input(format!("{email:?} is no address of mail"))),
        }
    }

    /// Keeps it as that of `user`.
    ///
    /// # Errors
    ///
    /// It is another user's, or cannot be written.
    pub fn keep(&self, home: &Home, user: &UserFolder) -> Result<()> {
        for other in home.users()? {
            let known: Option<Self> = read_json_if_there(&other.identity())?;
            let is_theirs = known.is_some_and(|it| it.email.eq_ignore_ascii_case(&self.email));
            if is_theirs && other.name() != user.name() {
                let name = other.name();
                return Err(Error::input(format!(
                    "{} is the address of {name}",
                    self.email
                )));
            }
        }
        write_json(&user.identity(), self)
    }

    /// Forgets that of `user`.
    ///
    /// # Errors
    ///
    /// Its file cannot be removed.
    pub fn forget(user: &UserFolder) -> Result<()> {
        remove_if_there(&user.identity())
    }
}

/// Tells callers apart.
#[derive(Debug)]
pub struct Access {
    home: Home,
    /// What Open WebUI signs with.
    secret: Option<Vec<u8>>,
}

impl Access {
    /// By the keys in `home`, and by what Open WebUI signs with `secret`.
    pub fn new(home: &Home, secret: Option<Vec<u8>>) -> Self {
        Self {
            home: home.clone(),
            secret,
        }
    }

    /// Whether there is any key. Once there is, nobody gets in without one.
    ///
    /// # Errors
    ///
    /// The folder of the users cannot be read.
    pub fn has_keys(&self) -> Result<bool> {
        let users = self.home.users()?.into_iter().map(KeyOf::User);
        let mut all = std::iter::once(KeyOf::Admin).chain(users);
        Ok(all.any(|of| of.is_there(&self.home)))
    }

    /// Who asks, by the headers of a request.
    ///
    /// # Errors
    ///
    /// [`ApiError::unauthorized`] without a key that is somebody's; [`ApiError::forbidden`] where Open WebUI asks for
    /// somebody who is not known here, or whose identity cannot be checked.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let caller = if self.has_keys()? {
            let owner = key(headers)?.map(|key| self.owner(key)).transpose()?;
            owner.flatten().ok_or_else(ApiError::unauthorized)?
        } else {
            // Clients that must send a key send any.
            Caller::Admin
        };
        let Some(token) = headers.get(OPEN_WEBUI) else {
            return Ok(caller);
        };
        let Some(secret) = &self.secret else {
            return Err(ApiError::forbidden(
                "Open WebUI says for whom it asks, and it cannot be checked: start the server with --openwebui-secret",
            ));
        };
        let token = token.to_str().unwrap_or_default();
        let Identity { email } = jwt::verify(token, secret).map_err(ApiError::forbidden)?;
        let user = self.user_of(&email)?;
        if caller.may_use(&user) {
            Ok(Caller::User(user))
        } else {
            Err(ApiError::forbidden("the key is another user's"))
        }
    }

    /// Whose key it is. All are compared, so that how long it takes says nothing.
    fn owner(&self, key: &str) -> Result<Option<Caller>, ApiError> {
        let mut owner = KeyOf::Admin.is(&self.home, key)?.then_some(Caller::Admin);
        for folder in self.home.users()? {
            let name = folder.name().clone();
            if KeyOf::User(folder).is(&self.home, key)? {
                owner = owner.or(Some(Caller::User(name)));
            }
        }
        Ok(owner)
    }

    /// The user of an address.
    fn user_of(&self, email: &str) -> Result<UserName, ApiError> {
        for folder in self.home.users()? {
            let identity: Option<Identity> = read_json_if_there(&folder.identity())?;
            if identity.is_some_and(|it| it.email.eq_ignore_ascii_case(email)) {
                return Ok(folder.name().clone());
            }
        }
        Err(ApiError::forbidden(
            "nobody here has that address: `cope-llama user identity NAME --email ADDRESS` says whose it is",
        ))
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
