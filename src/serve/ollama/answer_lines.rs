//! The objects of Ollama's answers, each of which is one line of a stream.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::llama::Model;
use crate::serve::openai::response::{AnswerPart, chat_logprobs, finish_reason};
use crate::serve::usage::Usage;

/// The endpoint that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/api/chat`, whose objects have a message.
    Chat,
    /// `/api/generate`, whose objects have a text.
    Generate,
}

/// The fields that all objects of an answer share.
#[derive(Clone, Debug)]
pub struct AnswerLines {
    /// The endpoint that is answered.
    pub endpoint: Endpoint,
    /// The name of the model, as the client gave it.
    pub model: String,
}

impl AnswerLines {
    /// The object of some text, which does not end the answer.
    pub fn part(&self, part: &AnswerPart, model: &Model) -> Value {
        let mut line = self.object(&part.text, &part.thought);
        if let Some(explained) = &part.explained {
            line["logprobs"] = chat_logprobs(explained, model)["content"].take();
        }
        line
    }

    /// The object that ends a stream, after all text.
    pub fn end(&self, part: &AnswerPart, usage: Usage) -> Value {
        ended(self.object("", ""), part, usage)
    }

    /// The one object of an answer that is not streamed.
    pub fn whole(&self, part: &AnswerPart, usage: Usage, model: &Model) -> Value {
        ended(self.part(part, model), part, usage)
    }

    /// The answer to a request that only loads the model.
    pub fn loaded(&self) -> Value {
        let mut line = self.object("", "");
        line["done"] = json!(true);
        line["done_reason"] = json!("load");
        line
    }

    fn object(&self, text: &str, thought: &str) -> Value {
        let mut line = json!({
            "model": self.model,
            "created_at": time(SystemTime::now()),
            "done": false,
        });
        let told = match self.endpoint {
            Endpoint::Chat => {
                line["message"] = json!({ "role": "assistant", "content": text });
                &mut line["message"]
            }
            Endpoint::Generate => {
                line["response"] = json!(text);
                &mut line
            }
        };
        if !thought.is_empty() {
            told["thinking"] = json!(thought);
        }
        line
    }
}

/// The object of the end of an answer, with its counts, and its times in nanoseconds.
fn ended(mut line: Value, part: &AnswerPart, usage: Usage) -> Value {
    let ns = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    line["done"] = json!(true);
    line["done_reason"] = json!(part.finish.map(finish_reason));
    line["total_duration"] = json!(ns(usage.prompt_time + usage.completion_time));
    // The base is loaded before any request is answered.
    line["load_duration"] = json!(0);
    line["prompt_eval_count"] = json!(usage.n_prompt);
    line["prompt_eval_duration"] = json!(ns(usage.prompt_time));
    line["eval_count"] = json!(usage.n_completion);
    line["eval_duration"] = json!(ns(usage.completion_time));
    line
}

/// A time in the form of RFC 3339.
pub fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}
