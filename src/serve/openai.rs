//! The endpoints that OpenAI's clients know.

pub mod generate;
pub mod models;
pub mod request;
pub mod response;
pub mod tokenize;
