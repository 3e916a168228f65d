//! The output of `generate --explain` and `/why`: which tokens the contrast changed, and how probable the models found them.

use std::io::IsTerminal;

use cope_llama::decode::{Choice, Steered};
use cope_llama::llama::{Model, Special};
use serde_json::{Value, json};

/// The strings before and after a token that the contrast changed.
struct Marks(&'static str, &'static str);

impl Marks {
    /// Yellow at a terminal with colours, else brackets.
    fn for_output(out: &impl IsTerminal) -> Self {
        let is_colourless = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if out.is_terminal() && !is_colourless {
            Self("\x1b[1;33m", "\x1b[0m")
        } else {
            Self("[", "]")
        }
    }
}

/// The text of `steered` tokens, with marks around those whose choice the contrast changed.
pub fn text(model: &Model, steered: &[Steered], out: &impl IsTerminal) -> String {
    let marks = Marks::for_output(out);
    let mut text = Vec::new();
    // A run of marked tokens gets one pair of marks, so that no mark splits a character whose bytes they share.
    for run in steered.chunk_by(|x, y| x.is_changed() == y.is_changed()) {
        let bytes = run
            .iter()
            .flat_map(|it| model.token_bytes(it.token, Special::Ignored));
        if run[0].is_changed() {
            text.extend(marks.0.bytes().chain(bytes).chain(marks.1.bytes()));
        } else {
            text.extend(bytes);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A line that explains the marks.
pub fn legend(steered: &[Steered]) -> String {
    let n = steered.iter().filter(|it| it.is_changed()).count();
    format!(
        "marked: the contrast changed the user model's choice, {n} of {} tokens",
        steered.len()
    )
}

/// A JSON array with the figures of each choice.
pub fn json(model: &Model, choices: &[Choice]) -> Value {
    let text =
        |token| String::from_utf8_lossy(&model.token_bytes(token, Special::ByName)).into_owned();
    let object = |choice: &Choice| {
        json!({
            "token": choice.token,
            "text": text(choice.token),
            "score": choice.score,
            "p_user": choice.p_user,
            "p_base": choice.p_base,
            "plausible": choice.n_plausible,
            "first": text(choice.first),
        })
    };
    choices.iter().map(object).collect()
}
