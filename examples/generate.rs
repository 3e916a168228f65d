//! Prints the base model's answer to one prompt.
//!
//! ```text
//! cope-llama model pull
//! cargo run --release --example generate -- "Name three colours."
//! ```

use std::io::Write;

use anyhow::Result;
use cope_llama::bases::default_base;
use cope_llama::decode::{AnswerOptions, Decoder, Piece, Policy};
use cope_llama::home::Home;
use cope_llama::llama::{Context, ContextOptions, Model};
use cope_llama::message::Message;
use cope_llama::prompt::ChatTemplate;

fn main() -> Result<()> {
    let question = std::env::args().nth(1);
    let question = question.unwrap_or_else(|| "Name three colours.".to_owned());

    let base = Home::open()?.base(&default_base().file);
    let model = Model::load(&base, None)?;
    let template = ChatTemplate::of_model(&model)?;
    let prompt = template.prompt_tokens(&model, &[Message::user(question)])?;

    // Greedy decoding by one model; the context holds its KV cache.
    let mut context = Context::new(&model, None, &ContextOptions::default())?;
    let options = AnswerOptions {
        n_predict: Some(64),
        ..AnswerOptions::default()
    };
    let policy = Policy::Plain(&mut context);
    let mut decoder = Decoder::new(policy, &model, &prompt, options.into())?;
    for piece in &mut decoder {
        if let Piece::Text(text) = piece? {
            print!("{text}");
            std::io::stdout().flush()?;
        }
    }
    let n_tokens = decoder.response().len();
    println!("\n[{n_tokens} tokens, end: {:?}]", decoder.finish());
    Ok(())
}
