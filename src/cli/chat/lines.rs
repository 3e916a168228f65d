//! Reads the lines of a chat: from a terminal, with editing and history, or from plain stdin.

use std::io::{self, IsTerminal, StdinLock};
use std::path::PathBuf;

use anyhow::{Context, Result};
use cope_llama::home::{Home, UserFolder};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

/// The width that is assumed when the terminal's is unknown.
const DEFAULT_WIDTH: usize = 80;

/// The source of a chat's lines.
pub enum Lines {
    Terminal {
        editor: Box<DefaultEditor>,
        /// The file of the lines typed in this chat and earlier ones; only its owner can read it.
        history: PathBuf,
    },
    Plain(io::Lines<StdinLock<'static>>),
}

impl Lines {
    /// Opens the terminal if stdin is one. Typed lines are saved in the folder of `user`, else in the home's.
    pub fn open(home: &Home, user: Option<&UserFolder>) -> Result<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Plain(io::stdin().lines()));
        }
        let history = match user {
            Some(user) => user.typed_lines(),
            None => home.typed_lines()?,
        };
        let mut editor = Box::new(DefaultEditor::new().context("cannot use the terminal")?);
        match editor.load_history(&history) {
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.with_context(|| format!("cannot read {}", history.display()))?,
        }
        Ok(Self::Terminal { editor, history })
    }

    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// The width of the output, in terminal cells.
    pub fn width(&mut self) -> usize {
        match self {
            Self::Terminal { editor, .. } => editor
                .dimensions()
                .map_or(DEFAULT_WIDTH, |(columns, _)| columns.into()),
            Self::Plain(_) => DEFAULT_WIDTH,
        }
    }

    /// The next line; `None` at the end of the input. At a terminal Ctrl-C discards the line and Ctrl-D ends the input.
    pub fn next(&mut self) -> Result<Option<String>> {
        let (editor, history) = match self {
            Self::Plain(lines) => return lines.next().transpose().context("cannot read stdin"),
            Self::Terminal { editor, history } => (editor, history),
        };
        loop {
            match editor.readline("> ") {
                Ok(line) => {
                    if !line.trim().is_empty() {
                        editor.add_history_entry(&line)?;
                        editor
                            .append_history(history)
                            .with_context(|| format!("cannot write {}", history.display()))?;
                    }
                    return Ok(Some(line));
                }
                Err(ReadlineError::Interrupted) => eprintln!("(/exit or Ctrl-D leaves the chat)"),
                Err(ReadlineError::Eof) => return Ok(None),
                Err(error) => return Err(error).context("cannot read the terminal"),
            }
        }
    }
}
