//! Reads the lines of a chat: from a terminal, with editing and history, or from plain stdin.

use std::io::{self, IsTerminal, StdinLock};
use std::path::PathBuf;

use anyhow::{Context, Result};
use cope_llama::home::{Home, UserFolder};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::cli::terminal;

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

/// An event of the source.
pub enum Typed {
    Line(String),
    /// Ctrl-C at the prompt, which discards the line.
    Interrupted,
    /// The end of the input; at a terminal Ctrl-D.
    End,
}

/// The screen for which output is laid out.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// The width in terminal cells.
    pub width: usize,
    /// The number of rows; `None` where the output is no terminal with a cursor that can be moved.
    pub height: Option<usize>,
}

impl Lines {
    /// Opens the terminal if stdin is one. Typed lines are saved in the folder of `user`, else in the home's.
    pub fn open(home: &Home, user: Option<&UserFolder>) -> Result<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Plain(io::stdin().lines()));
        }
        let editor = DefaultEditor::new().context("cannot use the terminal")?;
        let mut lines = Self::Terminal {
            editor: Box::new(editor),
            history: PathBuf::new(),
        };
        lines.set_user(home, user)?;
        Ok(lines)
    }

    /// Saves typed lines in the folder of `user`, else in the home's, from now on, and offers those that are there.
    pub fn set_user(&mut self, home: &Home, user: Option<&UserFolder>) -> Result<()> {
        let Self::Terminal { editor, history } = self else {
            return Ok(());
        };
        let file = match user {
            Some(user) => user.typed_lines(),
            None => home.typed_lines()?,
        };
        if file == *history {
            return Ok(());
        }
        editor.clear_history()?;
        match editor.load_history(&file) {
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.with_context(|| format!("cannot read {}", file.display()))?,
        }
        *history = file;
        Ok(())
    }

    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// The screen that the answers are shown on.
    pub fn screen(&mut self) -> Screen {
        let size = match self {
            Self::Terminal { editor, .. } => editor.dimensions(),
            Self::Plain(_) => None,
        };
        let live_size = size.filter(|_| terminal::is_screen());
        Screen {
            width: size.map_or(DEFAULT_WIDTH, |(columns, _)| columns.into()),
            height: live_size.map(|(_, rows)| rows.into()),
        }
    }

    /// The next line, for which a terminal shows `prompt`.
    pub fn next(&mut self, prompt: &str) -> Result<Typed> {
        let (editor, history) = match self {
            Self::Plain(lines) => {
                let line = lines.next().transpose().context("cannot read stdin")?;
                return Ok(line.map_or(Typed::End, Typed::Line));
            }
            Self::Terminal { editor, history } => (editor, history),
        };
        match editor.readline(prompt) {
            Ok(line) => {
                if !line.trim().is_empty() {
                    editor.add_history_entry(&line)?;
                    editor
                        .append_history(history)
                        .with_context(|| format!("cannot write {}", history.display()))?;
                }
                Ok(Typed::Line(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Typed::Interrupted),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(error).context("cannot read the terminal"),
        }
    }
}
