//! The endpoints of OpenAI's API, and those of llama-server that clients use beside it.

mod answer_stream;
pub mod generate;
pub mod models;
mod options;
mod request;
mod response;
pub mod tokenize;
