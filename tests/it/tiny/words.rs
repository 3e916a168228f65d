//! The vocabulary of the tiny models.

use cope_convert::gguf::Value;

/// Words that are tokens of the vocabulary, so that texts are encoded as tokens of several lengths.
const WORDS: [&str; 12] = [
    "the", "and", "you", "wine", "note", "dear", "thanks", "fine", "alice", "hello", "th", "an",
];

/// A SentencePiece vocabulary: special tokens, all bytes, printable ASCII, and the words with all their prefixes, so
/// that the tokenizer can merge pair by pair up to them.
pub struct Vocabulary {
    pub tokens: Vec<String>,
    pub scores: Vec<f32>,
    pub types: Vec<i32>,
}

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

impl Vocabulary {
    pub fn new() -> Self {
        let mut vocabulary = Self {
            tokens: Vec::new(),
            scores: Vec::new(),
            types: Vec::new(),
        };
        vocabulary.add("<unk>", 0.0, UNKNOWN);
        for special in [
            "<s>",
            "</s>",
            "<|system|>",
            "<|user|>",
            "<|assistant|>",
            "<|end|>",
        ] {
            vocabulary.add(special, 0.0, CONTROL);
        }
        for byte in 0..=u8::MAX {
            vocabulary.add(&format!("<0x{byte:02X}>"), 0.0, BYTE);
        }
        for letter in std::iter::once('▁').chain('!'..='~') {
            vocabulary.add(&letter.to_string(), -1000.0, NORMAL);
        }
        for word in WORDS {
            let spaced = format!("▁{word}");
            for text in [word, &spaced] {
                for (end, letter) in text.char_indices().skip(1) {
                    vocabulary.add(&text[..end + letter.len_utf8()], -(end as f32), NORMAL);
                }
            }
        }
        vocabulary
    }

    /// Adds a token, unless the vocabulary has it already: llama.cpp aborts on duplicates.
    fn add(&mut self, text: &str, score: f32, kind: i32) {
        if !self.tokens.iter().any(|token| token == text) {
            self.tokens.push(text.into());
            self.scores.push(score);
            self.types.push(kind);
        }
    }

    /// The id of a token.
    pub fn id(&self, text: &str) -> Value {
        let id = self.tokens.iter().position(|token| token == text);
        Value::U32(id.expect("a special token") as u32)
    }
}
