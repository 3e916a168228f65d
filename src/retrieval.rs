//! Retrieval: finds the items of a history that are most similar to a question, by BM25, and puts them before it.

use std::borrow::Cow;
use std::collections::HashSet;

use bm25::{SearchEngine, SearchEngineBuilder, Tokenizer};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_script::{Script, UnicodeScript};

use crate::message::{Message, Role};
use crate::profile::Example;

/// A search index over a history, which it owns or borrows. As in LaMP, an item is found by the words of its question and of
/// its response.
pub struct Retriever<'a> {
    history: Cow<'a, [Example]>,
    engine: SearchEngine<usize, u64, Words>,
}

impl<'a> Retriever<'a> {
    /// Builds an index over `history`, whose newest item is the last.
    #[must_use]
    pub fn new(history: impl Into<Cow<'a, [Example]>>) -> Self {
        let history = history.into();
        let documents = history.iter().enumerate().map(|(index, example)| {
            let text = format!("{} {}", last(&example.prompt), example.response);
            bm25::Document::new(index, text)
        });
        let documents: Vec<_> = documents.collect();
        let engine = SearchEngineBuilder::with_tokenizer_and_documents(Words, documents).build();
        Self { history, engine }
    }

    /// The `n` items with the highest scores for the last message, the best first, and newer items first where scores
    /// are equal. There are fewer if fewer items share a word with it. An item that answers this very message is left
    /// out, since its answer would only be copied.
    #[must_use]
    pub fn retrieve(&self, messages: &[Message], n: usize) -> Vec<&Example> {
        let found = self.indices(last(messages)).into_iter();
        found.take(n).map(|index| &self.history[index]).collect()
    }

    /// A chat with retrieved items before each of the user's messages, as turns of the chat, the best next to the message.
    /// Each message has at most `n_items` items, none of which came before, as long as all items together take at most
    /// `budget` by `cost`, for instance tokens. What is before a message does not depend on later messages, so that a
    /// longer chat begins like a shorter one.
    #[must_use]
    pub fn with_items(
        &self,
        messages: &[Message],
        n_items: usize,
        mut budget: usize,
        cost: impl Fn(&Example) -> usize,
    ) -> Vec<Message> {
        let mut told = HashSet::new();
        let mut chat = Vec::new();
        for message in messages {
            if message.role == Role::User {
                let mut items = Vec::new();
                for index in self.indices(&message.content) {
                    if items.len() == n_items {
                        break;
                    }
                    let item = &self.history[index];
                    let cost = cost(item);
                    if cost <= budget && told.insert(index) {
                        budget -= cost;
                        items.push(item);
                    }
                }
                chat.extend(turns(&items));
            }
            chat.push(message.clone());
        }
        chat
    }

    /// The items that share a word with `question` and do not answer this very question, the best first.
    fn indices(&self, question: &str) -> Vec<usize> {
        let mut found = self.engine.search(question, None);
        // The engine orders items of equal scores by a hash table, which would not be reproducible.
        found.sort_by(|x, y| {
            let by_score = y.score.total_cmp(&x.score);
            by_score.then(y.document.id.cmp(&x.document.id))
        });
        let is_other = |index: &usize| last(&self.history[*index].prompt).trim() != question.trim();
        let indices = found.into_iter().map(|it| it.document.id);
        indices.filter(is_other).collect()
    }
}

/// The turns of `items`, the best of which is the first here and the last there. System messages are left out.
pub fn turns(items: &[&Example]) -> impl Iterator<Item = Message> {
    items.iter().rev().flat_map(|item| {
        let asked = item.prompt.iter().filter(|it| it.role != Role::System);
        let answer = Message::assistant(&item.response);
        asked.cloned().chain([answer]).collect::<Vec<_>>()
    })
}

/// The content of the last message.
fn last(messages: &[Message]) -> &str {
    messages.last().map_or("", |message| &message.content)
}

/// A tokenizer into words of any script, which keeps stop words and does not stem. A word is a run of letters, digits and
/// marks, in Unicode's form NFC, with folded case. Scripts that do not put spaces between words are cut into pairs of
/// characters that follow each other.
struct Words;

impl Tokenizer for Words {
    fn tokenize(&self, text: &str) -> Vec<String> {
        let composed: String = text.nfc().collect();
        let folded: String = caseless::default_case_fold_str(&composed).nfc().collect();
        let mut words = Vec::new();
        for run in folded.split(|c: char| !c.is_alphanumeric() && !is_combining_mark(c)) {
            let mut chars = Vec::new();
            let mut is_spaced = true;
            for c in run.chars() {
                let of_spaced = match c.script() {
                    // Marks, digits and signs belong to the letters before them.
                    Script::Common | Script::Inherited => is_spaced,
                    script => !UNSPACED.contains(&script),
                };
                if of_spaced != is_spaced {
                    push_words(&mut words, &chars, is_spaced);
                    chars.clear();
                    is_spaced = of_spaced;
                }
                chars.push(c);
            }
            push_words(&mut words, &chars, is_spaced);
        }
        words
    }
}

/// Scripts whose words have no spaces between them.
const UNSPACED: [Script; 7] = [
    Script::Han,
    Script::Hiragana,
    Script::Katakana,
    Script::Thai,
    Script::Lao,
    Script::Khmer,
    Script::Myanmar,
];

/// Adds a word, or the pairs of characters of a script without spaces.
fn push_words(words: &mut Vec<String>, chars: &[char], is_spaced: bool) {
    if is_spaced || chars.len() < 2 {
        words.extend((!chars.is_empty()).then(|| chars.iter().collect()));
    } else {
        words.extend(chars.windows(2).map(|pair| pair.iter().collect()));
    }
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

    #[test]
    fn the_question_itself_is_not_found() {
        let history = [
            Example::new("When is the ferry?", "At six."),
            Example::new("When is the next ferry?", "At nine."),
        ];
        assert_eq!(found(&history, " When is the ferry? ", 2), ["At nine."]);
    }

    #[test]
    fn words_of_every_script_are_found() {
        let pairs = [
            // Composed and decomposed letters, and folded case.
            ("Caf\u{e9} STRASSE", "cafe\u{301} straße"),
            ("Ὀδυσσεύς", "ὀδυσσεύσ"),
            ("東京タワーの高さ", "東京に行く"),
            ("ขอบคุณมาก", "ขอบคุณ"),
            ("안녕 하세요", "안녕"),
            ("किताब पढ़ना", "किताब"),
            ("شكرا جزيلا", "شكرا"),
        ];
        for (written, question) in pairs {
            let history = [
                Example::new("other", "text"),
                Example::new("about", written),
            ];
            assert_eq!(found(&history, question, 2), [written], "{question}");
        }
    }

    #[test]
    fn text_without_spaces_is_cut_into_pairs_of_characters() {
        let words = |text: &str| Words.tokenize(text);
        assert_eq!(
            words("東京タワー、3階 a1"),
            ["東京", "京タ", "タワ", "ワー", "3", "階", "a1"]
        );
        assert_eq!(words("iPhone用 木"), ["iphone", "用", "木"]);
        assert_eq!(words(" ,. "), [""; 0]);
    }

    fn contents(messages: &[Message]) -> Vec<&str> {
        messages.iter().map(|it| it.content.as_str()).collect()
    }

    #[test]
    fn a_chat_has_items_before_each_question_and_begins_like_a_shorter_one() {
        let history = vec![
            Example::new("the sea", "S1"),
            Example::new("a sea and a ship", "S2"),
            Example::new("wine", "W"),
        ];
        let retriever = Retriever::new(history);
        let mut chat = vec![Message::system("You write."), Message::user("sea")];
        let short = retriever.with_items(&chat, 2, 100, |_| 1);
        assert_eq!(
            contents(&short),
            [
                "You write.",
                "a sea and a ship",
                "S2",
                "the sea",
                "S1",
                "sea"
            ]
        );
        chat.extend([Message::assistant("A."), Message::user("wine by the sea")]);
        let long = retriever.with_items(&chat, 2, 100, |_| 1);
        assert_eq!(long[..short.len()], short);
        assert_eq!(
            contents(&long[short.len()..]),
            ["A.", "wine", "W", "wine by the sea"]
        );
    }

    #[test]
    fn items_beyond_the_budget_are_left_out() {
        let history = vec![
            Example::new("sea", "long"),
            Example::new("the sea", "short"),
        ];
        let retriever = Retriever::new(history);
        let cost = |item: &Example| if item.response == "long" { 10 } else { 4 };
        let chat = [Message::user("of the sea")];
        let within = |budget| {
            let chat = retriever.with_items(&chat, 2, budget, cost);
            chat.len() / 2
        };
        assert_eq!([3, 4, 13, 14].map(within), [0, 1, 1, 2]);
        assert_eq!(retriever.with_items(&chat, 0, 100, cost), chat);
    }
}
