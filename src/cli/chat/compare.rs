//! `/compare` and `--demo`: the answers of base, user model and CoPe side by side.

use std::io::{self, Stdout, Write};

use anyhow::{Context, Result, bail};
use cope_convert::say;
use cope_llama::decode::{ArmKind, Finish, Sampling};
use cope_llama::message::{Message, Role};

use super::columns;
use super::lines::Screen;
use super::live_columns::LiveTexts;
use super::{Answering, Chat};
use crate::cli::session::ReplyEvent;
use crate::cli::terminal;

/// Number of prompts that `--demo` answers.
const N_DEMO: usize = 3;

/// The answers so far, and how they are shown.
enum CompareOutput {
    /// Shown when all are complete.
    AtEnd(Vec<(&'static str, String)>),
    /// Shown as they come, with the notes below, which would otherwise stand between the columns.
    Live(LiveTexts<Stdout>, Vec<String>),
}

impl Chat<'_> {
    /// Answers the last message by each arm; the answer that was given already, with the settings that are still in force, is
    /// its arm's, and the other arms draw as it was drawn. The answers are columns that fit into the width of `screen`, or stand one below
    /// the other where columns would be too narrow; a terminal shows them as they come.
    pub(super) fn compare(&mut self, screen: Screen) -> Result<()> {
        let mut messages = self.prompt();
        let last = messages.pop_if(|message| message.role == Role::Assistant);
        let in_force = self
            .given
            .as_ref()
            .filter(|it| it.settings == self.settings);
        let given = last.zip(in_force.map(|it| it.sampling));
        let given = given.map(|(last, sampling)| (last.content, sampling));
        if messages
            .last()
            .is_none_or(|message| message.role != Role::User)
        {
            bail!("say something first: there is no message to compare answers to");
        }
        self.session.require_adapter()?;
        let mut comparison = CompareOutput::begin(screen)?;
        let result = self.answer_by_each_arm(&messages, given, &mut comparison);
        // The cursor leaves the columns before an error is shown.
        comparison.finish(screen.width, matches!(result, Ok(true)))?;
        result?;
        Ok(())
    }

    /// Answers with each arm, but for the one in force if it has `given` its answer. Returns whether no answer was
    /// interrupted.
    fn answer_by_each_arm(
        &mut self,
        messages: &[Message],
        given: Option<(String, Sampling)>,
        comparison: &mut CompareOutput,
    ) -> Result<bool> {
        let mut options = self.options(Answering::First)?;
        let given = given.map(|(text, sampling)| {
            options.answer.sampling = sampling;
            text
        });
        for kind in ArmKind::ALL {
            let arm = kind.with(self.session.contrast);
            let given = given.as_deref();
            if let Some(given) = given.filter(|_| arm == self.session.default_arm()) {
                comparison.push(given)?;
                comparison.end(kind, given.to_owned())?;
                continue;
            }
            let options = options.clone();
            let answer = self
                .session
                .answer(messages, arm, options, |event| match event {
                    ReplyEvent::Text(text) => comparison.push(text),
                    ReplyEvent::Thought(_) => Ok(()),
                    ReplyEvent::Note(note) => {
                        comparison.note(format!("[{}: {note}]", kind.title()));
                        Ok(())
                    }
                })?;
            if let Some(note) = answer.note() {
                comparison.note(format!("[{}: {note}]", kind.title()));
            }
            if self.args.decode.timings {
                comparison.note(format!("[{}: {}]", kind.title(), answer.statistics));
            }
            if answer.finish == Finish::Interrupted {
                return Ok(false);
            }
            comparison.end(kind, answer.text)?;
        }
        Ok(true)
    }

    /// Compares the arms on the first of the user's held-out prompts and prints the user's own text below.
    pub(super) fn demo(&mut self) -> Result<()> {
        let user = self.source.user().context("--demo needs --user")?;
        let held_out = user.profile()?.held_out;
        if held_out.is_empty() {
            bail!(
                "{0} has no held-out texts; `cope-llama user import {0} FILE --held-out` adds some",
                user.name()
            );
        }
        let name = self.name();
        let screen = Screen {
            width: 0,
            height: terminal::is_screen().then_some(usize::MAX),
        };
        for example in held_out.into_iter().take(N_DEMO) {
            if let Some(message) = example.prompt.last() {
                writeln!(io::stdout(), "> {}\n", message.content)?;
            }
            self.messages = example.prompt;
            self.compare(screen)?;
            writeln!(
                io::stdout(),
                "{}",
                columns::beside(&[(&format!("{name}'s own"), example.response)], 0)
            )?;
        }
        Ok(())
    }
}

impl CompareOutput {
    fn begin(screen: Screen) -> io::Result<Self> {
        if screen.height.is_none() {
            return Ok(Self::AtEnd(Vec::new()));
        }
        let titles = ArmKind::ALL.map(ArmKind::title);
        let texts = LiveTexts::begin(io::stdout(), &titles, screen)?;
        Ok(Self::Live(texts, Vec::new()))
    }

    fn push(&mut self, text: &str) -> Result<()> {
        if let Self::Live(texts, _) = self {
            texts.push(text)?;
        }
        Ok(())
    }

    fn note(&mut self, note: String) {
        match self {
            Self::AtEnd(_) => say!("{note}"),
            Self::Live(_, notes) => notes.push(note),
        }
    }

    fn end(&mut self, kind: ArmKind, text: String) -> io::Result<()> {
        match self {
            Self::AtEnd(answers) => {
                answers.push((kind.title(), text));
                Ok(())
            }
            Self::Live(texts, _) => texts.end_text(),
        }
    }

    /// Shows what is not shown yet; answers that were to be shown together, only if all of them are complete.
    fn finish(self, width: usize, is_complete: bool) -> io::Result<()> {
        match self {
            Self::AtEnd(answers) if is_complete => {
                writeln!(io::stdout(), "{}", columns::beside(&answers, width))
            }
            Self::AtEnd(_) => Ok(()),
            Self::Live(mut texts, notes) => {
                texts.close()?;
                notes.iter().for_each(|note| say!("{note}"));
                Ok(())
            }
        }
    }
}
