//! Ollama's API: its requests are read as the requests of OpenAI's API that ask for the same, and answered in its own form,
//! one JSON object a line.
//!
//! Its paths lie below `/api`, as the page's interface does; no path is both.

mod answer_lines;
pub mod answers;
pub mod model_list;
pub mod own_errors;
mod translation;
