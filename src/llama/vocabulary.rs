//! The vocabulary of a model: text to tokens and back, special tokens, the chat template.

use std::ffi::{CStr, c_char};

use super::{Model, Token, sys};
use crate::{Error, Result};

/// The special tokens that a vocabulary puts around a text, such as BOS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// They are added: the text begins a sequence.
    Add,
    /// They are left out: the text continues a sequence, or contains them already.
    Omit,
}

/// The special tokens of a text, such as `<|im_end|>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// They are written by their names: the text of a chat template.
    ByName,
    /// They are not written, and their names are ordinary text: what a person wrote.
    Ignored,
}

impl Model {
    /// The number of tokens in the vocabulary.
    #[must_use]
    pub fn n_vocab(&self) -> usize {
        // SAFETY: `vocab` is live as long as the model.
        unsafe { sys::llama_vocab_n_tokens(self.vocab()) }.max(0) as usize
    }

    /// The tokens of `text`.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the text is longer than llama.cpp can take (2 GiB).
    pub fn tokenize(&self, text: &str, boundary: Boundary, special: Special) -> Result<Vec<Token>> {
        let too_long = || {
            Error::input(format!(
                "a text of {} bytes is too long to tokenize",
                text.len()
            ))
        };
        let length = i32::try_from(text.len()).map_err(|_| too_long())?;
        let fill = |tokens: &mut Vec<Token>| {
            let room = i32::try_from(tokens.capacity()).map_err(|_| too_long())?;
            // SAFETY: `text` has `length` bytes and `tokens` room for `room` tokens, which are plain integers.
            let n = unsafe {
                sys::llama_tokenize(
                    self.vocab(),
                    text.as_ptr().cast::<c_char>(),
                    length,
                    tokens.as_mut_ptr(),
                    room,
                    boundary == Boundary::Add,
                    special == Special::ByName,
                )
            };
            if n == i32::MIN {
                return Err(too_long());
            }
            if let Ok(n) = usize::try_from(n) {
                // SAFETY: llama.cpp has written `n` tokens, within the capacity.
                unsafe { tokens.set_len(n) };
            }
            Ok(n)
        };
        // Few texts have more tokens than a third of their bytes. For those, llama.cpp returns the number of tokens, negated.
        let mut tokens = Vec::with_capacity(text.len() / 3 + 8);
        let n = fill(&mut tokens)?;
        if n < 0 {
            tokens.reserve_exact(n.unsigned_abs() as usize);
            fill(&mut tokens)?;
        }
        Ok(tokens)
    }

    /// The bytes that `token` stands for: part of a text, and perhaps of a character. Numbers outside the vocabulary have
    /// none, and special tokens have none unless they are written [by name](Special::ByName).
    #[must_use]
    pub fn token_bytes(&self, token: Token, special: Special) -> Vec<u8> {
        if !self.contains(token) {
            return Vec::new();
        }
        let mut bytes = vec![0_u8; 32];
        loop {
            // SAFETY: `token` is in the vocabulary, and `bytes` has the length that is passed.
            let n = unsafe {
                let buffer = bytes.as_mut_ptr().cast::<c_char>();
                sys::llama_token_to_piece(
                    self.vocab(),
                    token,
                    buffer,
                    bytes.len() as i32,
                    0,
                    special == Special::ByName,
                )
            };
            // A negative result is the length that is needed.
            bytes.resize(n.unsigned_abs() as usize, 0);
            if n >= 0 {
                return bytes;
            }
        }
    }

    /// The vocabulary's own spelling of `token`, for people and templates; [`token_bytes`](Self::token_bytes) gives the text.
    #[must_use]
    pub fn token_text(&self, token: Token) -> String {
        if !self.contains(token) {
            return String::new();
        }
        // SAFETY: `token` is in the vocabulary.
        let text = unsafe { sys::llama_vocab_get_text(self.vocab(), token) };
        // SAFETY: llama.cpp gives null or a string that lives as long as the model.
        unsafe { string(text) }.unwrap_or_default()
    }

    /// Whether `token` ends a generation: end of turn, of text, or of message.
    #[must_use]
    pub fn is_eog(&self, token: Token) -> bool {
        // SAFETY: `vocab` is live; the answer for unknown tokens is no.
        unsafe { sys::llama_vocab_is_eog(self.vocab(), token) }
    }

    /// All tokens that end a generation ([`is_eog`](Self::is_eog)).
    pub fn eog_tokens(&self) -> impl Iterator<Item = Token> {
        let tokens = (0..self.n_vocab()).filter_map(|it| Token::try_from(it).ok());
        tokens.filter(|token| self.is_eog(*token))
    }

    /// The token that begins a text, if the vocabulary has one.
    #[must_use]
    pub fn bos(&self) -> Option<Token> {
        // SAFETY: `vocab` is live as long as the model.
        self.known(unsafe { sys::llama_vocab_bos(self.vocab()) })
    }

    /// The token that ends a text, if the vocabulary has one.
    #[must_use]
    pub fn eos(&self) -> Option<Token> {
        // SAFETY: `vocab` is live as long as the model.
        self.known(unsafe { sys::llama_vocab_eos(self.vocab()) })
    }

    /// Whether tokenizing with [`Boundary::Add`] puts [`bos`](Self::bos) in front.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        // SAFETY: `vocab` is live as long as the model.
        unsafe { sys::llama_vocab_get_add_bos(self.vocab()) }
    }

    /// Whether the file has a vocabulary. llama.cpp's other functions need one.
    pub(super) fn has_vocabulary(&self) -> bool {
        // SAFETY: `vocab` is live as long as the model.
        unsafe { sys::llama_vocab_type(self.vocab()) != sys::LLAMA_VOCAB_TYPE_NONE }
    }

    /// Whether tokenizing with [`Boundary::Add`] puts [`eos`](Self::eos) at the end.
    pub(super) fn adds_eos(&self) -> bool {
        // SAFETY: `vocab` is live as long as the model.
        unsafe { sys::llama_vocab_get_add_eos(self.vocab()) }
    }

    /// The chat template in the model's file, in Jinja, if it has one.
    #[must_use]
    pub fn chat_template(&self) -> Option<String> {
        // SAFETY: a null name asks for the default template; the model is live.
        let template = unsafe { sys::llama_model_chat_template(self.raw(), std::ptr::null()) };
        // SAFETY: llama.cpp gives null or a string that lives as long as the model.
        unsafe { string(template) }
    }

    /// Whether `token` is a token of the vocabulary. llama.cpp throws on others.
    #[must_use]
    pub fn contains(&self, token: Token) -> bool {
        usize::try_from(token).is_ok_and(|token| token < self.n_vocab())
    }

    fn known(&self, token: Token) -> Option<Token> {
        self.contains(token).then_some(token)
    }

    pub(super) fn vocab(&self) -> *const sys::llama_vocab {
        // SAFETY: the model is live, and its vocabulary is part of it.
        unsafe { sys::llama_model_get_vocab(self.raw()) }
    }
}

/// A copy of a C string, `None` for null.
///
/// # Safety
///
/// `text` must be null or NUL-terminated.
unsafe fn string(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, and NUL-terminated (this function's contract).
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}
