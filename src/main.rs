//! The program `cope-llama`.
fn main() {}
