//! Answers a prompt in a user's voice (CoPe), and prints for each token what the contrast chose.
//!
//! ```text
//! cope-llama model pull
//! cargo run --release --example train -- adapter.gguf
//! cargo run --release --example contrast -- adapter.gguf "Write a note to Tom."
//! ```

use anyhow::{Context as _, Result};
use cope_convert::gguf::Gguf;
use cope_llama::bases::default_base;
use cope_llama::decode::{AnswerOptions, Arm, Decoder, DecoderOptions};
use cope_llama::home::Home;
use cope_llama::llama::{ContextOptions, LoraAdapter, Model, Special, Twin};
use cope_llama::message::Message;
use cope_llama::prompt::ChatTemplate;
use cope_llama::voice::{self, AdapterSource, Voice};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let adapter = arguments.next().context("name an adapter's GGUF file")?;
    let question = arguments.next().context("give a prompt")?;

    let home = Home::open()?;
    let base = home.base(&default_base().file);
    let voice = Voice::open(&AdapterSource::File(adapter.into()))?.context("an adapter")?;
    let contrast = voice::contrast(Some(&voice), None, None)?;

    // Two contexts over one copy of the weights: the base, and the base with the adapter.
    let model = Model::load(&base, None)?;
    let sha256 = home.base_ref(&base)?.sha256;
    let adapter = LoraAdapter::load(&model, voice.path(), &Gguf::open(&base)?, &sha256)?;
    let mut twin = Twin::new(&model, None, adapter, 1.0, &ContextOptions::default())?;
    let template = ChatTemplate::of_model(&model)?;
    let prompt = template.prompt_tokens(&model, &[Message::user(question)])?;
    let answer = AnswerOptions {
        n_predict: Some(48),
        ..AnswerOptions::default()
    };
    let options = DecoderOptions {
        explain: true,
        ..DecoderOptions::from(answer)
    };
    let policy = twin.policy(Arm::Cope(contrast));
    let mut decoder = Decoder::new(policy, &model, &prompt, options)?;
    decoder.by_ref().try_for_each(|piece| piece.map(drop))?;
    // Where the two tokens differ, the contrast chose against the user model's first choice.
    println!("chosen            p_user  p_base  plausible  the user model's first choice");
    let text = |token| {
        let bytes = model.token_bytes(token, Special::ByName);
        format!("{:?}", String::from_utf8_lossy(&bytes))
    };
    for choice in decoder.choices() {
        let (chosen, p_user, n) = (text(choice.token), choice.p_user, choice.n_plausible);
        let p_base = choice.p_base.unwrap_or(f32::NAN);
        let first = text(choice.first);
        println!("{chosen:<16}  {p_user:.4}  {p_base:.4}  {n:9}  {first}");
    }
    Ok(())
}
