//! Pairs of responses, of which one is preferred.

use serde::{Deserialize, Serialize};

use crate::message::Message;

/// A line of `pairs.jsonl`, in TRL's conversational form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The messages before the response.
    pub prompt: Vec<Message>,
    /// What is preferred, one message: the user's own response, or a sample like it.
    pub chosen: Vec<Message>,
    /// The negative, one message.
    pub rejected: Vec<Message>,
    /// Whether the negative ended by itself, and was not cut off.
    #[serde(default = "ended")]
    pub rejected_ended: bool,
    /// The base's log-probabilities of both, where mining came upon them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_logps: Option<BaseLogps>,
}

/// The base's log-probabilities of a pair's responses, nats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaseLogps {
    /// Of the chosen response.
    pub chosen: f32,
    /// Of the rejected response.
    pub rejected: f32,
    /// Says of which base and which tokens; they are of no use for others.
    pub of: String,
}

/// Pairs of other programs end as a chat turn does.
fn ended() -> bool {
    true
}

impl Pair {
    /// A pair of `chosen` and `rejected`; none where that is nothing, cut off before its first text.
    pub fn new(
        prompt: &[Message],
        chosen: String,
        rejected: String,
        rejected_ended: bool,
    ) -> Option<Self> {
        (rejected_ended || !rejected.is_empty()).then(|| Self {
            prompt: prompt.to_vec(),
            chosen: vec![Message::assistant(chosen)],
            rejected: vec![Message::assistant(rejected)],
            rejected_ended,
            base_logps: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_no_negative() {
        let prompt = [Message::user("Say hello.")];
        let pair = |rejected: &str, ended| {
            Pair::new(&prompt, "Hello!".to_owned(), rejected.to_owned(), ended)
        };
        assert!(pair("", false).is_none());
        assert_eq!(pair("Hi", false).unwrap().rejected[0].content, "Hi");
        // A response that ends at once is one that the model can give.
        assert!(pair("", true).is_some());
    }
}
