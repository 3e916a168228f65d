//! The endpoints of OpenAI's API, and those of llama-server that clients use beside it.

mod answer_stream;
mod common_request;
pub mod completions;
pub mod models;
mod prompt_settings;
mod request;
mod response;
pub mod tokenize;
