//! The endpoints that OpenAI's clients know.

pub mod generate;
pub mod models;
pub mod options;
pub mod request;
pub mod response;
mod text;
pub mod tokenize;
