//! Parses what is entered in a chat: messages and commands.

use super::chat_settings::Setting;

/// A message, or a command that begins with `/`.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// A message; empty for an empty line.
    Say(String),
    Exit,
    Clear,
    Regenerate,
    Compare,
    Why,
    Good,
    Bad,
    /// The corrected text of the last answer.
    Edit(String),
    Help,
    User(String),
    Set(Setting),
    Show,
    /// The name to save the chat under; `None` for the one that it has.
    Save(Option<String>),
    /// The name of a saved chat.
    Load(String),
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
        let argument = argument.trim();
        if let Some(plain) = Self::without_argument(name) {
            return if argument.is_empty() {
                Ok(plain)
            } else {
                Err(format!("{name} takes no argument"))
            };
        }
        match (name, argument) {
            ("/edit", "") => Err("/edit needs the corrected text, for example /edit Hello!".into()),
            ("/edit", text) => Ok(Self::Edit(text.to_owned())),
            ("/user", "") => Err("/user needs a name, for example /user alice".into()),
            ("/user", name) => Ok(Self::User(name.to_owned())),
            ("/contrast", number) => number
                .parse()
                .map(|contrast| Self::Set(Setting::Contrast(contrast)))
                .map_err(|_| "/contrast needs a number, for example /contrast 0.3".into()),
            ("/set", setting) => Setting::parse(setting).map(Self::Set),
            ("/save", "") => Ok(Self::Save(None)),
            ("/save", name) => Ok(Self::Save(Some(name.to_owned()))),
            ("/load", "") => Err("/load needs a name, for example /load letters".into()),
            ("/load", name) => Ok(Self::Load(name.to_owned())),
            _ => Err(format!(
                "unknown command {name:?}; /help shows the commands"
            )),
        }
    }

    /// The command before a block of lines with the block as its text; the command is empty for a message.
    ///
    /// # Errors
    ///
    /// The errors of [`parse`](Self::parse).
    pub fn with_text(command: &str, text: String) -> Result<Self, String> {
        match command {
            "" if text.trim().is_empty() => Ok(Self::Say(String::new())),
            // The text may begin with a slash without being a command.
            "" => Ok(Self::Say(text)),
            _ => Self::parse(&format!("{command} {text}")),
        }
    }

    /// The command of this name that takes no argument.
    fn without_argument(name: &str) -> Option<Self> {
        Some(match name {
            "/exit" | "/quit" | "/bye" => Self::Exit,
            "/clear" => Self::Clear,
            "/regen" => Self::Regenerate,
            "/compare" => Self::Compare,
            "/why" => Self::Why,
            "/good" => Self::Good,
            "/bad" => Self::Bad,
            "/help" | "/?" => Self::Help,
            "/show" => Self::Show,
            _ => return None,
        })
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
        for exit in ["/exit ", "/quit", "/bye"] {
            assert_eq!(parsed(exit), Command::Exit);
        }
        assert_eq!(parsed("/user  bob"), Command::User("bob".into()));
        let contrast = Command::Set(Setting::Contrast(0.5));
        assert_eq!(parsed("/contrast 0.5"), contrast);
        assert_eq!(parsed("/set contrast 0.5"), contrast);
        assert_eq!(parsed("/good"), Command::Good);
        assert_eq!(parsed("/why"), Command::Why);
        assert_eq!(parsed("/show"), Command::Show);
        assert_eq!(parsed("/edit  so be it"), Command::Edit("so be it".into()));
        assert_eq!(parsed("/save"), Command::Save(None));
        assert_eq!(parsed("/save a b"), Command::Save(Some("a b".into())));
        assert_eq!(parsed("/load trip"), Command::Load("trip".into()));
        for (wrong, why) in [
            ("/", "unknown command \"/\""),
            ("/nothing", "unknown command \"/nothing\""),
            ("/user", "/user needs a name"),
            ("/contrast", "/contrast needs a number"),
            ("/contrast much", "/contrast needs a number"),
            ("/clear all", "/clear takes no argument"),
            ("/quit now", "/quit takes no argument"),
            ("/edit", "/edit needs the corrected text"),
            ("/bad one", "/bad takes no argument"),
            ("/load", "/load needs a name"),
            ("/set", "/set needs a setting and a value"),
            ("/set warmth 2", "unknown setting \"warmth\""),
        ] {
            let message = Command::parse(wrong).unwrap_err();
            assert!(message.starts_with(why), "{wrong}: {message}");
        }
    }

    #[test]
    fn a_block_of_lines_is_a_message_or_the_text_of_a_command() {
        let of = |command, text: &str| Command::with_text(command, text.to_owned());
        assert_eq!(of("", "/a\n b"), Ok(Command::Say("/a\n b".into())));
        assert_eq!(of("", " \n"), Ok(Command::Say(String::new())));
        assert_eq!(of("/edit", "a\nb"), Ok(Command::Edit("a\nb".into())));
        let system = Setting::System(Some("a\nb".into()));
        assert_eq!(of("/set system", "a\nb"), Ok(Command::Set(system)));
    }
}
