//! Examples and pairs as token ids, made once by the one renderer and the one tokenizer.

use crate::llama::Token;

/// A prompt with the user's response to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The rendered prompt, up to where the answer begins.
    pub prompt: Vec<Token>,
    /// The response with its end-of-turn token.
    pub response: Vec<Token>,
}

/// A prompt with a preferred and a rejected response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedPair {
    /// The rendered prompt, up to where the answer begins.
    pub prompt: Vec<Token>,
    /// The user's own response with its end-of-turn token.
    pub chosen: Vec<Token>,
    /// The negative; without an end-of-turn token where it was cut off.
    pub rejected: Vec<Token>,
}
