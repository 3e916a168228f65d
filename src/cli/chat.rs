//! `chat`: the conversation, its commands, and the comparison of the three voices.

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
use super::options::{ModelArgs, VoiceArgs, of_user};
use super::session::{ReplyEvent, Session};

/// How many prompts `--demo` answers.
const N_DEMO: usize = 3;

#[derive(ClapArgs)]
#[command(after_help = HELP, allow_negative_numbers = true)]
pub struct Args {
    /// Instructions before the chat
    #[arg(long, value_name = "TEXT")]
    system_prompt: Option<String>,
    /// No chat: answer three of the user's held-out prompts, each with base, user model and CoPe
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
  /user NAME    go on with another user; the chat begins anew
  /good, /bad   say what the last answer is worth; `train` learns from it
  /edit TEXT    say what it should have been
  /regen        answer the last message again
  /clear        forget the chat
  /help         show these commands
  /exit         leave (so does Ctrl-D); Ctrl-C ends an answer

Without a terminal each line of stdin is a message or a command.

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
            .and_then(|command| chat.obey(command, lines.width()));
        match result {
            // At a terminal the person can do better with the next line; a closed pipe has no reader for it.
            Err(error) if lines.is_terminal() && !error.is::<io::Error>() => {
                eprintln!("error: {}", with_hint(&error));
            }
            result => result?,
        }
    }
    chat.session.keep()
}

struct Chat<'a> {
    home: &'a Home,
    args: Args,
    stop: Arc<AtomicBool>,
    source: AdapterSource,
    session: Session,
    /// What was said so far, after the system prompt.
    messages: Vec<Message>,
    /// Answers given so far to the last message: each is drawn with a seed of its own.
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

    fn obey(&mut self, command: Command, width: usize) -> Result<()> {
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
            Command::Good => self.judge(Verdict::Good)?,
            Command::Bad => self.judge(Verdict::Bad)?,
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

    /// Answers the last message, streaming, and keeps the answer.
    fn answer(&mut self) -> Result<()> {
        let mut options = self.options()?;
        options.answer.sampling.seed = options.answer.sampling.seed.wrapping_add(self.n_answers);
        let arm = self.session.best_arm();
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
                "[at --temp 0 an answer is always the same; start with --temp 0.8 for others]"
            );
        }
        if let Err(error) = self.answer() {
            self.messages.push(last);
            return Err(error);
        }
        Ok(())
    }

    /// Keeps what the user says of the last answer.
    fn judge(&mut self, verdict: Verdict) -> Result<()> {
        let (prompt, response) = self.last_answer()?;
        let feedback = Feedback {
            prompt,
            response,
            verdict,
        };
        self.keep(&[feedback])?;
        match verdict {
            Verdict::Good => eprintln!("[kept as good]"),
            Verdict::Bad => eprintln!(
                "[kept as bad; /edit TEXT or a good answer after /regen says what is better]"
            ),
        }
        Ok(())
    }

    /// Keeps what the last answer should have been; the chat goes on from there.
    fn edit(&mut self, text: String) -> Result<()> {
        let (prompt, response) = self.last_answer()?;
        if response == text {
            bail!("the answer is just that");
        }
        self.keep(&Feedback::edit(&prompt, &response, &text))?;
        if let Some(last) = self.messages.last_mut() {
            last.content = text;
        }
        eprintln!("[kept as what it should have been]");
        Ok(())
    }

    fn last_answer(&self) -> Result<(Vec<Message>, String)> {
        let mut prompt = self.prompt();
        match prompt.pop() {
            Some(last) if last.role == Role::Assistant => Ok((prompt, last.content)),
            _ => bail!("nothing was answered yet"),
        }
    }

    fn keep(&self, feedback: &[Feedback]) -> Result<()> {
        let user = self.source.user();
        let user =
            user.context("what is said of an answer is kept with a user: start with --user NAME")?;
        Ok(user.add_feedback(feedback)?)
    }

    fn change_user(&mut self, name: &str) -> Result<()> {
        let source = of_user(self.home, name)?;
        self.session.keep()?;
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
        eprintln!("[chatting with {}; the chat begins anew]", self.name());
        Ok(())
    }

    /// The last message answered by each arm, as columns that fit into `width`, or one below the other.
    fn compare(&mut self, width: usize) -> Result<()> {
        let mut messages = self.prompt();
        messages.pop_if(|message| message.role == Role::Assistant);
        if messages
            .last()
            .is_none_or(|message| message.role != Role::User)
        {
            bail!("say something first, then compare");
        }
        let mut answers = Vec::new();
        for name in ArmKind::ALL {
            let arm = name.with(self.session.contrast);
            let options = self.options()?;
            let answer = self.session.answer(&messages, arm, options, |event| {
                if let ReplyEvent::Note(note) = event {
                    eprintln!("[{}: {note}]", name.title());
                }
                Ok(())
            })?;
            if let Some(note) = answer.note() {
                eprintln!("[{}: {note}]", name.title());
            }
            if self.args.decode.timings {
                eprintln!("[{}: {}]", name.title(), answer.statistics);
            }
            if answer.finish == Finish::Interrupted {
                return Ok(());
            }
            answers.push((name.title(), answer.text));
        }
        writeln!(io::stdout(), "{}", columns::beside(&answers, width))?;
        Ok(())
    }

    /// The first of the user's held-out prompts, each compared, with what the user wrote.
    fn demo(&mut self) -> Result<()> {
        let user = self.source.user().context("--demo needs --user")?;
        let held_out = user.profile()?.held_out;
        if held_out.is_empty() {
            bail!(
                "{0} has nothing held out: `cope-llama user import {0} FILE --held-out`",
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
