//! Retrieves the items of a history that are most similar to a question, by BM25.

use bm25::{SearchEngine, SearchEngineBuilder, Tokenizer};

use crate::message::Message;
use crate::profile::Example;

/// A search index over a history. As in LaMP, an item is found by the words of its question and of its response.
pub struct Retriever<'a> {
    history: &'a [Example],
    engine: SearchEngine<usize, u64, Words>,
}

/// A tokenizer into lower-case runs of letters and digits, which keeps stop words and does not stem.
struct Words;

impl Tokenizer for Words {
    fn tokenize(&self, text: &str) -> Vec<String> {
        text.to_lowercase()
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

impl<'a> Retriever<'a> {
    /// Builds an index over `history`.
    #[must_use]
    pub fn new(history: &'a [Example]) -> Self {
        let documents = history.iter().enumerate().map(|(index, example)| {
            let text = format!("{} {}", last(&example.prompt), example.response);
            bm25::Document::new(index, text)
        });
        let documents: Vec<_> = documents.collect();
        Self {
            history,
            engine: SearchEngineBuilder::with_tokenizer_and_documents(Words, documents).build(),
        }
    }

    /// The `n` items with the highest scores for the last message, the best first, and newer items first where scores
    /// are equal. There are fewer if fewer items share a word with it.
    #[must_use]
    pub fn retrieve(&self, messages: &[Message], n: usize) -> Vec<&'a Example> {
        let mut found = self.engine.search(last(messages), None);
        // The engine orders items of equal scores by a hash table, which would not be reproducible.
        found.sort_by(|x, y| {
            let by_score = y.score.total_cmp(&x.score);
            by_score.then(y.document.id.cmp(&x.document.id))
        });
        let found = found.into_iter().take(n);
        found.map(|it| &self.history[it.document.id]).collect()
    }
}

/// The content of the last message.
fn last(messages: &[Message]) -> &str {
    messages.last().map_or("", |message| &message.content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(history: &[Example], question: &str, n: usize) -> Vec<String> {
        let retriever = Retriever::new(history);
        let items = retriever.retrieve(&[Message::user(question)], n);
        items.iter().map(|item| item.response.clone()).collect()
    }

    #[test]
    fn rare_words_count_for_more_than_common_ones() {
        let history = [
            Example::new("Write about the sea and the wind", "sea"),
            Example::new("Write about the garden", "garden"),
            Example::new("Write about the wine of the north", "wine"),
        ];
        assert_eq!(found(&history, "Write about wine", 1), ["wine"]);
        assert_eq!(found(&history, "the Garden!", 1), ["garden"]);
        assert_eq!(found(&history, "nothing alike", 3), [""; 0]);
    }

    #[test]
    fn the_newest_of_items_with_equal_scores_come_first() {
        let history: Vec<_> = (0..50)
            .map(|index| Example::new("the same", format!("{index:02}")))
            .collect();
        assert_eq!(found(&history, "same", 2), ["49", "48"]);
    }
}
