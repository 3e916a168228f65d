//! The endpoints of OpenAI's API, and those of llama-server that clients use beside it.

pub mod answer_stream;
mod common_request;
pub mod completions;
pub mod models;
mod prompt_settings;
pub mod request;
pub mod response;
mod response_events;
pub mod responses;
mod task_prompt;
pub mod tokenize;
pub mod wanted;
