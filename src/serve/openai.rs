//! The endpoints that OpenAI's clients know.

mod answer_stream;
pub mod generate;
pub mod models;
pub mod options;
pub mod request;
pub mod response;
pub mod tokenize;
