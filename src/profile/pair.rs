//! Pairs of responses to one prompt, of which one is preferred. DPO learns from them.

use serde::{Deserialize, Serialize};

use crate::message::Message;

/// A line of `pairs.jsonl`, in TRL's conversational format for preferences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The messages before the response.
    pub prompt: Vec<Message>,
    /// The preferred response, one message: the user's own text, or a sample that is like it.
    pub chosen: Vec<Message>,
    /// The rejected response (the negative), one message.
    pub rejected: Vec<Message>,
    /// Whether the rejected response ended by itself; otherwise the sampling limit cut it off.
    #[serde(default = "ended")]
    pub rejected_ended: bool,
    /// The base's log-probabilities of both responses, when mining has computed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_logps: Option<BaseLogps>,
}

/// The base's log-probabilities of a pair's responses, in nats, summed over their tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaseLogps {
    /// The log-probability of the chosen response.
    pub chosen: f32,
    /// The log-probability of the rejected response.
    pub rejected: f32,
    /// A hash of the base and the tokens that they belong to; for others they are not used.
    pub of: String,
}

/// The value of `rejected_ended` in pairs of other programs, whose responses are whole.
fn ended() -> bool {
    true
}

impl Pair {
    /// A pair of `chosen` and `rejected`; `None` when `rejected` is empty and was cut off, since it is no response then.
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
    fn an_empty_text_that_was_cut_off_is_not_a_negative() {
        let prompt = [Message::user("Say hello.")];
        let pair = |rejected: &str, ended| {
            Pair::new(&prompt, "Hello!".to_owned(), rejected.to_owned(), ended)
        };
        assert!(pair("", false).is_none());
        assert_eq!(pair("Hi", false).unwrap().rejected[0].content, "Hi");
        // A response that ends at once is one that a model can give.
        assert!(pair("", true).is_some());
    }
}
