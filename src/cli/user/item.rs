//! One example of a user's history, as the commands show it.

use std::io::{self, Write};

use cope_llama::message::Role;
use cope_llama::profile::Example;

/// How much of a text is shown.
#[derive(Clone, Copy)]
pub enum Length {
    /// The beginning.
    Short,
    /// All of it.
    Whole,
}

/// The most characters of a text that is shown in short.
const SHORT: usize = 300;

/// Prints an example: its id, the messages before the response, and the response. Control characters are left out, since a
/// terminal would obey them.
pub fn write(out: &mut impl Write, example: &Example, length: Length) -> io::Result<()> {
    writeln!(out, "\n[{}]", example.id())?;
    let messages = example.prompt.iter();
    let messages = messages.map(|message| (message.role, &message.content));
    for (role, text) in messages.chain([(Role::Assistant, &example.response)]) {
        let speaker = match role {
            Role::System => "system",
            Role::User => "prompt",
            Role::Assistant => "text",
        };
        let mut shown: String = match length {
            Length::Short => text.chars().take(SHORT).collect(),
            Length::Whole => text.clone(),
        };
        if shown.len() < text.len() {
            shown.push('…');
        }
        shown.retain(|c| !c.is_control() || c == '\n' || c == '\t');
        for (number, line) in shown.lines().enumerate() {
            let speaker = if number == 0 { speaker } else { "" };
            writeln!(out, "{speaker:<8}{line}")?;
        }
    }
    Ok(())
}
