//! A context's cache as bytes, for a file.
//!
//! ```text
//! SHA-256 of the rest | key length u32 | key | n_tokens u32 | tokens i32… | llama.cpp's state of the context
//! ```
//!
//! llama.cpp's state of a sequence would lack what sliding attention does not see from the last token: a restored cache could
//! not be cut.

use sha2::{Digest, Sha256};

use super::{Context, Token, log, sys};
use crate::error::MemoryUser;
use crate::llama::system::free_memory;
use crate::{Error, Result};

impl Context {
    /// The cache as bytes. `key` identifies the base, the adapter and the scale; the kind of cache is added to it.
    ///
    /// # Errors
    ///
    /// [`Error::Llama`] if llama.cpp cannot save this kind of cache, [`Error::NoRoom`] if the copy takes more memory than is
    /// free.
    pub fn save(&mut self, key: &str) -> Result<Vec<u8>> {
        log::forget();
        // SAFETY: the context is live.
        let n_bytes = unsafe { sys::llama_state_get_size(self.raw()) };
        // llama.cpp's bytes, and all bytes together.
        let needed = 2 * n_bytes as u64;
        if let Some(free) = free_memory().filter(|&free| needed > free) {
            let n_tokens = self.len();
            let user = MemoryUser::SavedCache { n_tokens };
            return Err(Error::NoRoom { user, needed, free });
        }
        let mut state = vec![0; n_bytes];
        let pointer = state.as_mut_ptr();
        // SAFETY: the context is live; the buffer has as many bytes as llama.cpp asked for.
        let n_written = unsafe { sys::llama_state_get_data(self.raw(), pointer, n_bytes) };
        if n_written != state.len() || state.is_empty() {
            return Err(log::error("save the context's cache"));
        }
        let key = self.full_key(key);
        let tokens = self.tokens();
        let mut bytes = vec![0; HASH];
        bytes.extend((key.len() as u32).to_le_bytes());
        bytes.extend(key.bytes());
        bytes.extend((tokens.len() as u32).to_le_bytes());
        bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
        bytes.extend(state);
        let hash = Sha256::digest(&bytes[HASH..]);
        bytes[..HASH].copy_from_slice(&hash);
        Ok(bytes)
    }

    /// Restores a cache from the bytes of [`save`](Self::save). Returns whether that was possible. If the bytes are of
    /// another `key` or kind of context, are damaged, or hold more tokens than there is room for, the cache is empty
    /// afterwards. llama.cpp gets no bytes whose hash is wrong.
    pub fn restore(&mut self, key: &str, bytes: &[u8]) -> bool {
        self.truncate(0);
        let Some((tokens, state)) = parts(bytes, &self.full_key(key)) else {
            return false;
        };
        if tokens.len() > self.n_ctx() {
            return false;
        }
        log::forget();
        // SAFETY: the context is live, and llama.cpp wrote these bytes for a context of the same kind.
        let n_read = unsafe { sys::llama_state_set_data(self.raw(), state.as_ptr(), state.len()) };
        if n_read != state.len() {
            self.clear();
            return false;
        }
        self.set_tokens(tokens);
        true
    }

    /// `key` with everything else that a cache depends on: its layout, and the version of llama.cpp.
    fn full_key(&self, key: &str) -> String {
        let layout = self.layout();
        format!("{key}; {layout}; whole state; llama-cpp-sys-2 {BINDINGS}")
    }
}

/// The version of the bindings, and so of llama.cpp, which may change the layout of a state.
const BINDINGS: &str = "0.1.161";

/// The length of a SHA-256 in bytes.
const HASH: usize = 32;

/// Splits a saved cache into its tokens and llama.cpp's state, if the bytes are intact and of `key`.
fn parts<'a>(bytes: &'a [u8], key: &str) -> Option<(Vec<Token>, &'a [u8])> {
    let (hash, rest) = bytes.split_at_checked(HASH)?;
    if Sha256::digest(rest)[..] != *hash {
        return None;
    }
    let (saved_key, rest) = sized(rest, 1)?;
    let (tokens, state) = sized(rest, size_of::<Token>())?;
    let tokens = tokens
        .as_chunks()
        .0
        .iter()
        .map(|&it| Token::from_le_bytes(it));
    (saved_key == key.as_bytes()).then(|| (tokens.collect(), state))
}

/// Splits off a field that begins with its length, a u32 in units of `size` bytes. Returns the field and the rest.
fn sized(bytes: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
    let (&count, rest) = bytes.split_first_chunk()?;
    let n_bytes = (u32::from_le_bytes(count) as usize).checked_mul(size)?;
    rest.split_at_checked(n_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_matches_the_bindings_in_cargo_toml() {
        let pinned = format!("llama-cpp-sys-2 = {{ version = \"={BINDINGS}\"");
        assert!(include_str!("../../../Cargo.toml").contains(&pinned));
    }
}
