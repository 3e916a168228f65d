//! What `generate --explain` shows: which tokens the contrast has chosen, and how sure the models were.

use std::io::IsTerminal;

use cope_llama::decode::Choice;
use cope_llama::llama::{Model, Special};
use serde_json::{Value, json};

/// What begins and ends a token that the contrast has chosen.
struct Marks(&'static str, &'static str);

impl Marks {
    /// Yellow at a terminal that shows colours, else brackets.
    fn of(out: &impl IsTerminal) -> Self {
        let is_colourless = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if out.is_terminal() && !is_colourless {
            Self("\x1b[1;33m", "\x1b[0m")
        } else {
            Self("[", "]")
        }
    }
}

/// The text of `choices`, with those marked that are not the user model's first.
pub fn text(model: &Model, choices: &[Choice], out: &impl IsTerminal) -> String {
    let marks = Marks::of(out);
    let mut text = Vec::new();
    // Neighbours go together, so that no mark comes between the bytes of a character that they share.
    for run in choices.chunk_by(|x, y| is_contrasts(x) == is_contrasts(y)) {
        let bytes = run
            .iter()
            .flat_map(|it| model.token_bytes(it.token, Special::Ignored));
        if is_contrasts(&run[0]) {
            text.extend(marks.0.bytes().chain(bytes).chain(marks.1.bytes()));
        } else {
            text.extend(bytes);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A line on what the marks mean.
pub fn legend(choices: &[Choice]) -> String {
    let n = choices.iter().filter(|it| is_contrasts(it)).count();
    format!(
        "marked: chosen by the contrast against the user model's first choice, {n} of {} tokens",
        choices.len()
    )
}

/// Each choice with its figures.
pub fn json(model: &Model, choices: &[Choice]) -> Value {
    let text =
        |token| String::from_utf8_lossy(&model.token_bytes(token, Special::ByName)).into_owned();
    let object = |it: &Choice| {
        json!({
            "token": it.token,
            "text": text(it.token),
            "score": it.score,
            "p_user": it.p_user,
            "p_base": it.p_base,
            "plausible": it.n_plausible,
            "first": text(it.first),
        })
    };
    choices.iter().map(object).collect()
}

fn is_contrasts(choice: &Choice) -> bool {
    choice.token != choice.first
}
