//! The guesses of a person who was shown a text of their own beside an adapter's, and was to find out theirs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{UserFolder, append_jsonl, read_jsonl};
use crate::Result;

/// One guess.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guess {
    /// The SHA-256 of the adapter that wrote the other text, in hexadecimal.
    pub adapter: String,
    /// The id of the held-out example that is the person's own.
    pub item: String,
    /// Whether the person found their own text.
    pub is_right: bool,
    /// When, in seconds since 1970.
    pub time: u64,
}

/// The guesses about one adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuessScore {
    /// The SHA-256 of the adapter, in hexadecimal.
    pub adapter: String,
    /// When the first guess was made, in seconds since 1970.
    pub time: u64,
    /// The number of guesses.
    pub n: usize,
    /// How many of them were right. A person who cannot tell the texts apart is right half of the time.
    pub n_right: usize,
}

impl GuessScore {
    /// The scores of all adapters in the order of their first guesses.
    #[must_use]
    pub fn of(guesses: &[Guess]) -> Vec<Self> {
        let mut scores: Vec<Self> = Vec::new();
        for guess in guesses {
            let known = scores.iter_mut().find(|it| it.adapter == guess.adapter);
            let n_right = usize::from(guess.is_right);
            if let Some(score) = known {
                score.n += 1;
                score.n_right += n_right;
            } else {
                scores.push(Self {
                    adapter: guess.adapter.clone(),
                    time: guess.time,
                    n: 1,
                    n_right,
                });
            }
        }
        scores
    }
}

impl UserFolder {
    /// Reads the user's guesses, oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) when the file cannot be read; [`Error::Damaged`](crate::Error::Damaged) when a line is
    /// malformed.
    pub fn guesses(&self) -> Result<Vec<Guess>> {
        read_jsonl(&self.guesses_path())
    }

    /// Appends a guess of the user.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) when the file cannot be written.
    pub fn add_guess(&self, guess: &Guess) -> Result<()> {
        append_jsonl(&self.guesses_path(), guess)
    }

    fn guesses_path(&self) -> PathBuf {
        self.path().join("guesses.jsonl")
    }
}
