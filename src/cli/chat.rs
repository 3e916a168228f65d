//! `chat`: the conversation, its commands, and the comparison of the three arms.

mod columns;
mod command;
mod lines;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use cope_llama::decode::{ArmKind, Contrast, DecoderOptions, Finish};
use cope_llama::home::Home;
use cope_llama::message::{Message, Role};
use cope_llama::profile::feedback::{Feedback, Verdict};
use cope_llama::voice::AdapterSource;

use self::command::Command;
use self::lines::Lines;
use super::decode_options::DecodeArgs;
use super::hint::with_hint;
use super::interrupt;
use super::options::{ModelArgs, VoiceArgs, user_source};
use super::session::{ReplyEvent, Session};

/// Number of prompts that `--demo` answers.
const N_DEMO: usize = 3;

#[derive(ClapArgs)]
#[command(after_help = HELP, allow_negative_numbers = true)]
pub struct Args {
    /// System prompt: instructions that hold for the whole chat
    #[arg(long, value_name = "TEXT")]
    system_prompt: Option<String>,
    /// Instead of chatting, answer three of the user's held-out prompts with base, user model and CoPe each
    #[arg(long, requires = "user")]
    demo: bool,
    #[command(flatten)]
    voice: VoiceArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    decode: DecodeArgs,
}

const HELP: &str = "\
In the chat:
  /compare      answer the last message with base, user model and CoPe side by side
  /contrast X   set the contrast (α of CoPe)
  /user NAME    switch to another user and start a new chat
  /good, /bad   rate the last answer; the next `train` learns from the rating
  /edit TEXT    correct the last answer; the next `train` prefers TEXT to it
  /regen        answer the last message again
  /clear        start a new chat
  /help         show these commands
  /exit         leave the chat (so does Ctrl-D); Ctrl-C ends an answer

When stdin is not a terminal, each of its lines is a message or a command.

Examples:
  cope-llama chat --user alice
  cope-llama chat --user alice --contrast 0.5 --temp 0.8
  echo 'Thank Ines for the ladder.' | cope-llama chat --user alice";

pub fn run(home: &Home, args: Args) -> Result<()> {
    let mut chat = Chat::open(home, args)?;
    if chat.args.demo {
        return chat.demo();
    }
    let mut lines = Lines::open(home, chat.source.user())?;
    if lines.is_terminal() {
        eprintln!("chatting with {}; /help shows the commands", chat.name());
    }
    while let Some(line) = lines.next()? {
        let command = Command::parse(&line);
        if matches!(command, Ok(Command::Exit)) {
            break;
        }
        let result = command
            .map_err(anyhow::Error::msg)
            .and_then(|command| chat.execute(command, lines.width()));
        match result {
            // At a terminal the chat goes on after an error, unless stdout is closed.
            Err(error) if lines.is_terminal() && !error.is::<io::Error>() => {
                eprintln!("error: {}", with_hint(&error));
            }
            result => result?,
        }
    }
    chat.session.save_prompt_cache()
}

struct Chat<'a> {
    home: &'a Home,
    args: Args,
    stop: Arc<AtomicBool>,
    source: AdapterSource,
    session: Session,
    /// The chat so far, without the system prompt.
    messages: Vec<Message>,
    /// Number of answers so far to the last message; added to the seed, so that each is drawn anew.
    n_answers: u32,
}

impl<'a> Chat<'a> {
    fn open(home: &'a Home, args: Args) -> Result<Self> {
        let stop = interrupt::flag()?;
        let source = args.voice.source(home)?;
        let session = Session::open(home, &args.model, &args.voice, &source, &stop, None)?;
        Ok(Self {
            home,
            args,
            stop,
            source,
            session,
            messages: Vec::new(),
            n_answers: 0,
        })
    }

    fn name(&self) -> String {
        match &self.source {
            AdapterSource::Base => "the base model".into(),
            AdapterSource::User(user) => user.name().to_string(),
            AdapterSource::File(path) => path.display().to_string(),
        }
    }

    fn execute(&mut self, command: Command, width: usize) -> Result<()> {
        match command {
            Command::Say(text) if text.is_empty() => {}
            Command::Say(text) => {
                self.messages.push(Message::user(text));
                self.n_answers = 0;
                if let Err(error) = self.answer() {
                    self.messages.pop();
                    return Err(error);
                }
            }
            Command::Good => self.rate(Verdict::Good)?,
            Command::Bad => self.rate(Verdict::Bad)?,
            Command::Edit(text) => self.edit(text)?,
            Command::Regenerate => self.regenerate()?,
            Command::Clear => self.messages.clear(),
            Command::Compare => self.compare(width)?,
            Command::Contrast(contrast) => {
                self.session.contrast =
                    Contrast::new(contrast, self.session.contrast.plausibility())?;
                eprintln!("[contrast {contrast}]");
            }
            Command::User(name) => self.change_user(&name)?,
            Command::Help => eprintln!("{HELP}"),
            Command::Exit => {}
        }
        Ok(())
    }

    /// Answers the last message, streams the answer to stdout and adds it to the chat.
    fn answer(&mut self) -> Result<()> {
        let mut options = self.options()?;
        options.answer.sampling.seed = options.answer.sampling.seed.wrapping_add(self.n_answers);
        let arm = self.session.default_arm();
        let messages = self.prompt();
        let mut out = io::stdout().lock();
        let answer = self.session.answer(&messages, arm, options, |event| {
            match event {
                ReplyEvent::Text(text) => {
                    out.write_all(text.as_bytes())?;
                    out.flush()?;
                }
                ReplyEvent::Note(note) => eprintln!("[{note}]"),
            }
            Ok(())
        })?;
        writeln!(out)?;
        if let Some(note) = answer.note() {
            eprintln!("[{note}]");
        }
        if self.args.decode.timings {
            eprintln!("[{}]", answer.statistics);
        }
        self.n_answers += 1;
        self.messages.push(Message::assistant(answer.text));
        Ok(())
    }

    fn regenerate(&mut self) -> Result<()> {
        let Some(last) = self
            .messages
            .pop_if(|message| message.role == Role::Assistant)
        else {
            bail!("nothing was answered yet");
        };
        if self.args.decode.temp <= 0.0 {
            eprintln!(
                "[at --temp 0 the answer is always the same; start the chat with --temp 0.8 for other answers]"
            );
        }
        if let Err(error) = self.answer() {
            self.messages.push(last);
            return Err(error);
        }
        Ok(())
    }

    /// Saves the user's verdict on the last answer.
    fn rate(&mut self, verdict: Verdict) -> Result<()> {
        let (prompt, response) = self.last_answer()?;
        let feedback = Feedback {
            prompt,
            response,
            verdict,
        };
        self.save_feedback(&[feedback])?;
        match verdict {
            Verdict::Good => eprintln!("[saved as a good answer]"),
            Verdict::Bad => eprintln!(
                "[saved as a bad answer; training needs a better one too: /edit TEXT, or /regen and /good]"
            ),
        }
        Ok(())
    }

    /// Saves a corrected version of the last answer; the chat goes on with it.
    fn edit(&mut self, text: String) -> Result<()> {
        let (prompt, response) = self.last_answer()?;
        if response == text {
            bail!("the answer already is this text");
        }
        self.save_feedback(&Feedback::edit(&prompt, &response, &text))?;
        if let Some(last) = self.messages.last_mut() {
            last.content = text;
        }
        eprintln!("[saved as the better answer]");
        Ok(())
    }

    fn last_answer(&self) -> Result<(Vec<Message>, String)> {
        let mut prompt = self.prompt();
        match prompt.pop() {
            Some(last) if last.role == Role::Assistant => Ok((prompt, last.content)),
            _ => bail!("nothing was answered yet"),
        }
    }

    fn save_feedback(&self, feedback: &[Feedback]) -> Result<()> {
        let user = self.source.user();
        let user =
            user.context("feedback is stored with a user; start the chat with --user NAME")?;
        Ok(user.add_feedback(feedback)?)
    }

    fn change_user(&mut self, name: &str) -> Result<()> {
        let source = user_source(self.home, name)?;
        self.session.save_prompt_cache()?;
        let args = &self.args;
        self.session = Session::open(
            self.home,
            &args.model,
            &args.voice,
            &source,
            &self.stop,
            Some(&self.session),
        )?;
        self.source = source;
        self.messages.clear();
        eprintln!("[now chatting with {} in a new chat]", self.name());
        Ok(())
    }

    /// Answers the last message by each arm and prints the answers as columns that fit into `width`, or one below the
    /// other where columns would be too narrow.
    fn compare(&mut self, width: usize) -> Result<()> {
        let mut messages = self.prompt();
        messages.pop_if(|message| message.role == Role::Assistant);
        if messages
            .last()
            .is_none_or(|message| message.role != Role::User)
        {
            bail!("say something first: there is no message to compare answers to");
        }
        let mut answers = Vec::new();
        for kind in ArmKind::ALL {
            let arm = kind.with(self.session.contrast);
            let options = self.options()?;
            let answer = self.session.answer(&messages, arm, options, |event| {
                if let ReplyEvent::Note(note) = event {
                    eprintln!("[{}: {note}]", kind.title());
                }
                Ok(())
            })?;
            if let Some(note) = answer.note() {
                eprintln!("[{}: {note}]", kind.title());
            }
            if self.args.decode.timings {
                eprintln!("[{}: {}]", kind.title(), answer.statistics);
            }
            if answer.finish == Finish::Interrupted {
                return Ok(());
            }
            answers.push((kind.title(), answer.text));
        }
        writeln!(io::stdout(), "{}", columns::beside(&answers, width))?;
        Ok(())
    }

    /// Compares the arms on the first of the user's held-out prompts and prints the user's own text below.
    fn demo(&mut self) -> Result<()> {
        let user = self.source.user().context("--demo needs --user")?;
        let held_out = user.profile()?.held_out;
        if held_out.is_empty() {
            bail!(
                "{0} has no held-out texts; `cope-llama user import {0} FILE --held-out` adds some",
                user.name()
            );
        }
        let name = self.name();
        for example in held_out.into_iter().take(N_DEMO) {
            if let Some(message) = example.prompt.last() {
                writeln!(io::stdout(), "> {}\n", message.content)?;
            }
            self.messages = example.prompt;
            self.compare(0)?;
            writeln!(
                io::stdout(),
                "{}",
                columns::beside(&[(&format!("{name}'s own"), example.response)], 0)
            )?;
        }
        Ok(())
    }

    fn options(&self) -> Result<DecoderOptions> {
        let args = &self.args;
        args.decode.options(&args.model, self.session.model())
    }

    fn prompt(&self) -> Vec<Message> {
        let system = self.args.system_prompt.iter().map(Message::system);
        system.chain(self.messages.iter().cloned()).collect()
    }
}
