//! Parses the lines typed in a chat: messages and commands.

/// A message, or a command that begins with `/`.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// A message; empty for an empty line.
    Say(String),
    Exit,
    Clear,
    Regenerate,
    Compare,
    Good,
    Bad,
    /// The corrected text of the last answer.
    Edit(String),
    Help,
    User(String),
    Contrast(f32),
}

impl Command {
    /// Parses a line.
    ///
    /// # Errors
    ///
    /// The line begins with `/` and is no valid command; the message says why.
    pub fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim();
        if !line.starts_with('/') {
            return Ok(Self::Say(line.to_owned()));
        }
        let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match (name, argument.trim()) {
            ("/exit", "") => Ok(Self::Exit),
            ("/clear", "") => Ok(Self::Clear),
            ("/regen", "") => Ok(Self::Regenerate),
            ("/compare", "") => Ok(Self::Compare),
            ("/good", "") => Ok(Self::Good),
            ("/bad", "") => Ok(Self::Bad),
            ("/edit", "") => Err("/edit needs the corrected text, for example /edit Hello!".into()),
            ("/edit", text) => Ok(Self::Edit(text.to_owned())),
            ("/help", "") => Ok(Self::Help),
            ("/user", "") => Err("/user needs a name, for example /user alice".into()),
            ("/user", name) => Ok(Self::User(name.to_owned())),
            ("/contrast", number) => number
                .parse()
                .map(Self::Contrast)
                .map_err(|_| "/contrast needs a number, for example /contrast 0.3".into()),
            ("/exit" | "/clear" | "/regen" | "/compare" | "/good" | "/bad" | "/help", _) => {
                Err(format!("{name} takes no argument"))
            }
            _ => Err(format!(
                "unknown command {name:?}; /help shows the commands"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_or_a_command() {
        let parsed = |line| Command::parse(line).unwrap();
        assert_eq!(
            parsed("  hello / there "),
            Command::Say("hello / there".into())
        );
        assert_eq!(parsed(""), Command::Say(String::new()));
        assert_eq!(parsed("/exit "), Command::Exit);
        assert_eq!(parsed("/user  bob"), Command::User("bob".into()));
        assert_eq!(parsed("/contrast 0.5"), Command::Contrast(0.5));
        assert_eq!(parsed("/good"), Command::Good);
        assert_eq!(parsed("/edit  so be it"), Command::Edit("so be it".into()));
        for (wrong, why) in [
            ("/", "unknown command \"/\""),
            ("/nothing", "unknown command \"/nothing\""),
            ("/user", "/user needs a name"),
            ("/contrast", "/contrast needs a number"),
            ("/contrast much", "/contrast needs a number"),
            ("/clear all", "/clear takes no argument"),
            ("/edit", "/edit needs the corrected text"),
            ("/bad one", "/bad takes no argument"),
        ] {
            let message = Command::parse(wrong).unwrap_err();
            assert!(message.starts_with(why), "{wrong}: {message}");
        }
    }
}
