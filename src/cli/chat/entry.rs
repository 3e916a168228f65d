//! Reads what a person enters, a line or a block of lines between `"""`, as a command.

use anyhow::Result;
use cope_convert::say;

use super::command::Command;
use super::lines::{Lines, Typed};

/// The quotes that open and close a block.
const QUOTES: &str = "\"\"\"";

/// The commands whose text may be a block; the first stands for a message.
const BEFORE_BLOCKS: [&str; 3] = ["", "/edit", "/set system"];

/// The next command, or a message that says why the entry is none; `None` at the end of the input.
pub fn next_command(lines: &mut Lines) -> Result<Option<Result<Command, String>>> {
    loop {
        let line = match lines.next("> ")? {
            Typed::Line(line) => line,
            Typed::Interrupted => {
                say!("(/exit or Ctrl-D leaves the chat)");
                continue;
            }
            Typed::End => return Ok(None),
        };
        let Some((command, opening)) = block(&line) else {
            return Ok(Some(Command::parse(&line)));
        };
        let mut text = QuotedText::open(opening);
        while !text.is_closed {
            match lines.next(". ")? {
                Typed::Line(line) => text.push(&line),
                Typed::Interrupted => break,
                Typed::End => {
                    return Ok(Some(Err(format!(
                        "the text after {QUOTES} has no end: {QUOTES} at the end of a line ends it"
                    ))));
                }
            }
        }
        if text.is_closed {
            return Ok(Some(Command::with_text(command, text.finish())));
        }
        say!("(the text was discarded)");
    }
}

/// The command before a block that this line opens, and the rest of the line after the quotes; `None` if it opens none.
fn block(line: &str) -> Option<(&'static str, &str)> {
    let line = line.trim_start();
    BEFORE_BLOCKS.into_iter().find_map(|command| {
        let argument = line.strip_prefix(command)?.trim_start();
        Some((command, argument.strip_prefix(QUOTES)?))
    })
}

/// The text of a block, line by line.
struct QuotedText {
    text: String,
    is_closed: bool,
}

impl QuotedText {
    /// A block with the rest of its first line.
    fn open(rest: &str) -> Self {
        let mut block = Self {
            text: String::new(),
            is_closed: false,
        };
        block.push(rest);
        block
    }

    fn push(&mut self, line: &str) {
        let end = line.trim_end().strip_suffix(QUOTES);
        self.is_closed = end.is_some();
        self.text.push_str(end.unwrap_or(line));
        if !self.is_closed {
            self.text.push('\n');
        }
    }

    /// The text, without the line breaks next to the quotes.
    fn finish(self) -> String {
        let text = self.text.strip_prefix('\n').unwrap_or(&self.text);
        text.strip_suffix('\n').unwrap_or(text).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command and the text of a block of these lines, and whether it is closed.
    fn read(lines: &[&str]) -> Option<(&'static str, String, bool)> {
        let (command, rest) = block(lines[0])?;
        let mut block = QuotedText::open(rest);
        let mut others = lines[1..].iter();
        while !block.is_closed {
            match others.next() {
                Some(line) => block.push(line),
                None => break,
            }
        }
        let is_closed = block.is_closed;
        Some((command, block.finish(), is_closed))
    }

    #[test]
    fn a_block_keeps_its_lines_and_ends_at_quotes_at_the_end_of_a_line() {
        let closed = |command, text: &str| Some((command, text.to_owned(), true));
        for (lines, expected) in [
            (&["\"\"\"one\"\"\" "][..], closed("", "one")),
            (
                &["\"\"\"", "  one", "", "two", "\"\"\""],
                closed("", "  one\n\ntwo"),
            ),
            (&["\"\"\"one", "two\"\"\""], closed("", "one\ntwo")),
            (
                &["/edit \"\"\"/one", "two\"\"\""],
                closed("/edit", "/one\ntwo"),
            ),
            (
                &["/set system \"\"\"", "x", "\"\"\""],
                closed("/set system", "x"),
            ),
            (
                &["\"\"\"a \"\"\" b", "c\"\"\""],
                closed("", "a \"\"\" b\nc"),
            ),
            (&["\"\"\"\"\"\""], closed("", "")),
            (
                &["\"\"\"one", "two"],
                Some(("", "one\ntwo".to_owned(), false)),
            ),
            (&["/save \"\"\"", "x"], None),
            (&["he said \"\"\"x\"\"\""], None),
            (&["/exit"], None),
        ] {
            assert_eq!(read(lines), expected, "{lines:?}");
        }
    }
}
