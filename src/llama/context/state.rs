//! A context's cache as bytes, to be kept in a file.
//!
//! ```text
//! SHA-256 of all that follows | key length u32 | key | n_tokens u32 | tokens i32… | llama.cpp's state of the sequence
//! ```

use sha2::{Digest, Sha256};

use super::{Context, SEQUENCE, Token, log, sys};
use crate::Result;

impl Context {
    /// What the cache holds. `key` names what it is good for, beside the kind of cache: base, adapter and scale.
    ///
    /// # Errors
    ///
    /// [`Error::Llama`](crate::Error::Llama) if llama.cpp cannot save this kind of cache.
    pub fn save(&mut self, key: &str) -> Result<Vec<u8>> {
        log::forget();
        // SAFETY: the context is live; the buffer has as many bytes as llama.cpp asks for.
        let (state, n_written) = unsafe {
            let n_bytes = sys::llama_state_seq_get_size(self.raw(), SEQUENCE);
            let mut state = vec![0; n_bytes];
            let pointer = state.as_mut_ptr();
            let n_written = sys::llama_state_seq_get_data(self.raw(), pointer, n_bytes, SEQUENCE);
            (state, n_written)
        };
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

    /// Brings back what [`save`](Self::save) gave for the same `key` and kind of context. `false`, and an empty cache,
    /// if the bytes are of another, are damaged, or are more than the context has room for: llama.cpp is given none whose
    /// hash is not theirs.
    pub fn restore(&mut self, key: &str, bytes: &[u8]) -> bool {
        self.truncate(0);
        let Some((tokens, state)) = parts(bytes, &self.full_key(key)) else {
            return false;
        };
        if tokens.len() > self.n_ctx() {
            return false;
        }
        log::forget();
        // SAFETY: the context is live, and the bytes are those that llama.cpp gave for a context of the same kind.
        let n_read = unsafe {
            sys::llama_state_seq_set_data(self.raw(), state.as_ptr(), state.len(), SEQUENCE)
        };
        if n_read != state.len() {
            self.clear();
            return false;
        }
        self.set_tokens(tokens);
        true
    }

    /// `key` with all that makes a cache another: its layout and llama.cpp's.
    fn full_key(&self, key: &str) -> String {
        let layout = self.layout();
        format!("{key}; {layout}; llama-cpp-sys-2 {BINDINGS}")
    }
}

/// The version of the bindings, and so of llama.cpp, which may lay out a state anew.
const BINDINGS: &str = "0.1.161";

/// Bytes of a SHA-256.
const HASH: usize = 32;

/// Tokens and state, if the bytes are whole and of `key`.
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

/// What a u32 counts, in units of `size` bytes, and what follows.
fn sized(bytes: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
    let (&count, rest) = bytes.split_first_chunk()?;
    let n_bytes = (u32::from_le_bytes(count) as usize).checked_mul(size)?;
    rest.split_at_checked(n_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_bindings() {
        let pinned = format!("llama-cpp-sys-2 = {{ version = \"={BINDINGS}\"");
        assert!(include_str!("../../../Cargo.toml").contains(&pinned));
    }
}
