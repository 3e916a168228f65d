//! What a line typed in a chat means.

/// A line of the chat.
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
    /// What the last answer should have been.
    Edit(String),
    Help,
    User(String),
    Contrast(f32),
}

impl Command {
    /// # Errors
    ///
    /// What is wrong with a line that begins with `/`.
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
            ("/edit", "") => Err("/edit needs the text as it should be: /edit Hello!".into()),
            ("/edit", text) => Ok(Self::Edit(text.to_owned())),
            ("/help", "") => Ok(Self::Help),
            ("/user", "") => Err("/user needs a name: /user alice".into()),
            ("/user", name) => Ok(Self::User(name.to_owned())),
            ("/contrast", number) => number
                .parse()
                .map(Self::Contrast)
                .map_err(|_| "/contrast needs a number: /contrast 0.3".into()),
            ("/exit" | "/clear" | "/regen" | "/compare" | "/good" | "/bad" | "/help", _) => {
                Err(format!("{name} takes nothing after it"))
            }
            _ => Err(format!("no command {name:?}; /help shows them")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_mean_messages_or_commands() {
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
        for wrong in [
            "/",
            "/nothing",
            "/user",
            "/contrast",
            "/contrast much",
            "/clear all",
            "/edit",
            "/bad one",
        ] {
            assert!(Command::parse(wrong).is_err(), "{wrong}");
        }
    }
}
