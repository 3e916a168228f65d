//! Puts texts of a method before a prompt: items of the user's history as turns of the chat, and a description of the
//! user in the system message.

use crate::message::{Message, Role};
use crate::profile::Example;
use crate::retrieval::turns;

/// Adds `items`, the best first, to `prompt` as turns before the question, with the best item next to the question. A
/// description goes into the system message.
pub(super) fn messages(
    prompt: &[Message],
    items: &[&Example],
    description: Option<&str>,
) -> Vec<Message> {
    let n_system = prompt
        .iter()
        .take_while(|message| message.role == Role::System)
        .count();
    let (system, question) = prompt.split_at(n_system);
    let mut messages = system.to_vec();
    if let Some(description) = description {
        let about = format!("About the author for whom you write: {description}");
        match messages.last_mut() {
            Some(system) => system.content = format!("{}\n\n{about}", system.content),
            None => messages.push(Message::system(about)),
        }
    }
    messages.extend(turns(items));
    messages.extend_from_slice(question);
    messages
}

/// The prompt that asks the base to describe the author of `items`.
pub(super) fn question_for_description(items: &[Example]) -> Vec<Message> {
    let texts: Vec<_> = items.iter().map(|item| item.response.trim()).collect();
    vec![Message::user(format!(
        "These texts are by one author.\n\n{}\n\nDescribe in a few sentences what this author writes about, and in \
         which style.",
        texts.join("\n\n")
    ))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_item_stands_next_to_the_question() {
        let system = Message::system("You write.");
        let example = |prompt: &str, response: &str| Example {
            prompt: vec![system.clone(), Message::user(prompt)],
            response: response.into(),
        };
        let (best, other) = (example("b", "B"), example("o", "O"));
        let prompt = [system.clone(), Message::user("q")];
        let contents = |messages: &[Message]| {
            let contents = messages.iter().map(|message| message.content.clone());
            contents.collect::<Vec<_>>()
        };
        let with_items = messages(&prompt, &[&best, &other], None);
        assert_eq!(
            contents(&with_items),
            ["You write.", "o", "O", "b", "B", "q"]
        );
        assert_eq!(messages(&prompt, &[], None), prompt);
        let described = messages(&prompt, &[], Some("Terse."));
        assert_eq!(
            contents(&described),
            [
                "You write.\n\nAbout the author for whom you write: Terse.",
                "q"
            ]
        );
    }
}
