//! Recognises the prompts by which Open WebUI has a model do tasks around a chat: titles, tags, follow-up questions, search
//! queries, and completions of what is being typed. Nothing else in such a request says that it is one.

use crate::message::{Message, Role};

/// The opening of Open WebUI's prompts for tasks.
const OPENING: &str = "### Task:";

/// The tag within which they have the chat. The prompt by which Open WebUI asks for an answer from documents opens in the
/// same way, and has no such tag.
const CHAT: &str = "<chat_history>";

/// Whether the messages are such a prompt: it is the one message besides the system's.
pub fn is_task(messages: &[Message]) -> bool {
    let mut others = messages.iter().filter(|it| it.role != Role::System);
    match (others.next(), others.next()) {
        (Some(prompt), None) => {
            prompt.role == Role::User
                && prompt.content.trim_start().starts_with(OPENING)
                && prompt.content.contains(CHAT)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_for_a_task_is_told_from_a_message_of_a_chat() {
        let title = "### Task:\nSuggest a title.\n### Chat History:\n<chat_history>\nUSER: hi\n</chat_history>";
        let prompt = [Message::user(title)];
        assert!(is_task(&prompt));
        assert!(is_task(&[Message::system("Be brief."), prompt[0].clone()]));
        // From documents, in a chat that goes on, within a text, and as another role.
        let from_documents = "### Task:\nRespond to the query.\n<context>\nA text.\n</context>\nhi";
        assert!(!is_task(&[Message::user(from_documents)]));
        let chat = [
            Message::user("hi"),
            Message::assistant("ho"),
            prompt[0].clone(),
        ];
        assert!(!is_task(&chat));
        assert!(!is_task(&[Message::user(format!(
            "What is this?\n{title}"
        ))]));
        assert!(!is_task(&[Message::assistant(title)]));
        assert!(!is_task(&[]));
    }
}
