//! `chat`: the conversation and its commands.

mod chat_settings;
mod columns;
mod command;
mod compare;
mod entry;
mod lines;
mod live_columns;
mod saving;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use cope_convert::cli::signals;
use cope_convert::say;
use cope_llama::decode::{DecoderOptions, Sampling, Steered};
use cope_llama::home::{Home, UserName};
use cope_llama::message::{Message, Role};
use cope_llama::profile::feedback::{Feedback, Verdict};
use cope_llama::voice::AdapterSource;

use self::chat_settings::{ChatSettings, Setting};
use self::command::Command;
use self::lines::{Lines, Screen};
use super::decode_options::DecodeArgs;
use super::explain;
use super::hint::with_hint;
use super::options::{ModelArgs, VoiceArgs, user_source};
use super::session::{ReplyEvent, Session, show_thought};
use super::terminal::{self, Quiet};

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
  /why          show where the contrast changed the last answer
  /regen        draw another answer to the last message, with the next seed; at a temperature of 0,
                where that would change nothing, draw at 0.7 (/set regen_temperature X)
  /edit TEXT    correct the last answer; the next `train` prefers TEXT to it
  /good, /bad   rate the last answer; the next `train` learns from the rating
  /set NAME X   change a setting: temperature, regen_temperature, top_k, top_p, min_p, seed, predict
                (the most tokens), contrast (α), plausibility (τ), scale (of the adapter),
                system (the system prompt)
  /show         show the settings in force
  /contrast X   set the contrast
  /user NAME    switch to another user and start a new chat
  /save NAME    save the chat with its settings; without NAME, under the name that it has
  /load NAME    go on with a saved chat
  /clear        start a new chat
  /help         show these commands
  /exit         leave the chat (so do /quit, /bye and Ctrl-D); Ctrl-C ends an answer

A message of several lines stands between \"\"\" and \"\"\"; so may the text of /edit and /set system.
When stdin is not a terminal, each of its lines is a message or a command.

Examples:
  cope-llama chat --user alice
  cope-llama chat --user alice --contrast 0.5 --temp 0.8
  cope-llama chat -m base.gguf --lora-scaled adapter.gguf 0.5
  echo 'Thank Ines for the ladder.' | cope-llama chat --user alice";

pub fn run(home: &Home, args: Args) -> Result<()> {
    let mut chat = Chat::open(home, args)?;
    if chat.args.demo {
        return chat.demo();
    }
    let mut lines = Lines::open(home, chat.source.user())?;
    let is_terminal = lines.is_terminal();
    if is_terminal {
        terminal::remember();
        signals::interrupt_sets(&chat.stop);
        say!("chatting with {}; /help shows the commands", chat.name());
    }
    while let Some(command) = entry::next_command(&mut lines)? {
        if matches!(command, Ok(Command::Exit)) {
            break;
        }
        let screen = lines.screen();
        let quiet = is_terminal.then(Quiet::begin);
        let result = command
            .map_err(anyhow::Error::msg)
            .and_then(|command| chat.execute(command, screen));
        drop(quiet);
        match result {
            // At a terminal the chat goes on after an error, unless stdout is closed.
            Err(error) if is_terminal && !error.is::<io::Error>() => {
                say!("error: {}", with_hint(&error));
            }
            result => result?,
        }
        lines.set_user(home, chat.source.user())?;
    }
    chat.session.save_prompt_cache()
}

struct Chat<'a> {
    home: &'a Home,
    args: Args,
    /// Set by Ctrl-C, to end an answer.
    stop: Arc<AtomicBool>,
    source: AdapterSource,
    session: Session,
    settings: ChatSettings,
    /// The chat so far, without the system prompt.
    messages: Vec<Message>,
    /// Number of answers so far to the last message; added to the seed, so that each is drawn anew.
    n_answers: u32,
    /// The last answer's choices and settings; `None` if there is none, or if it is not as the model gave it in this chat.
    given: Option<Given>,
    /// The name that the chat was saved or loaded under.
    saved_as: Option<UserName>,
}

/// How the model gave an answer.
struct Given {
    /// Its tokens, with what each would have been without the contrast.
    steered: Vec<Steered>,
    settings: ChatSettings,
    /// How it was drawn, with the seed.
    sampling: Sampling,
}

/// Which answer to a message is generated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answering {
    First,
    /// Another one than before, for `/regen`.
    Again,
}

impl<'a> Chat<'a> {
    fn open(home: &'a Home, args: Args) -> Result<Self> {
        let stop = Arc::default();
        let source = args.voice.source(home)?;
        let session = Session::open(home, &args.model, &args.voice, &source, &stop, None)?;
        let options = args.decode.options(&args.model, session.model())?;
        let settings = ChatSettings::new(
            &options.answer,
            session.contrast,
            session.adapter().map(|(_, scale)| scale),
            args.system_prompt.clone(),
        );
        Ok(Self {
            home,
            args,
            stop,
            source,
            session,
            settings,
            messages: Vec::new(),
            n_answers: 0,
            given: None,
            saved_as: None,
        })
    }

    fn name(&self) -> String {
        match &self.source {
            AdapterSource::Base => "the base model".into(),
            AdapterSource::User(user) => user.name().to_string(),
            AdapterSource::File(path) => path.display().to_string(),
        }
    }

    fn execute(&mut self, command: Command, screen: Screen) -> Result<()> {
        match command {
            Command::Say(text) if text.is_empty() => {}
            Command::Say(text) => self.say(text)?,
            Command::Good => self.rate(Verdict::Good)?,
            Command::Bad => self.rate(Verdict::Bad)?,
            Command::Edit(text) => self.edit(text)?,
            Command::Regenerate => self.regenerate()?,
            Command::Clear => self.clear(),
            Command::Compare => self.compare(screen)?,
            Command::Why => self.explain()?,
            Command::Set(setting) => {
                if matches!(setting, Setting::Contrast(_) | Setting::Plausibility(_)) {
                    self.session.require_adapter()?;
                }
                let note = setting.note();
                self.adopt(self.settings.with(setting))?;
                say!("[{note}]");
            }
            Command::Show => self.show()?,
            Command::User(name) => self.change_user(&name)?,
            Command::Save(name) => self.save(name.as_deref())?,
            Command::Load(name) => self.load(&name)?,
            Command::Help => say!("{HELP}"),
            Command::Exit => {}
        }
        Ok(())
    }

    /// Answers a new message.
    fn say(&mut self, text: String) -> Result<()> {
        let n_before = self.n_answers;
        self.messages.push(Message::user(text));
        self.n_answers = 0;
        self.answer(Answering::First).inspect_err(|_| {
            self.messages.pop();
            self.n_answers = n_before;
        })
    }

    /// Answers the last message, streams the answer to stdout and adds it to the chat.
    fn answer(&mut self, answering: Answering) -> Result<()> {
        let options = self.options(answering)?;
        let sampling = options.answer.sampling;
        let arm = self.session.default_arm();
        let messages = self.prompt();
        let mut out = io::stdout().lock();
        let answer = self.session.answer(&messages, arm, options, |event| {
            match event {
                ReplyEvent::Text(text) => {
                    out.write_all(text.as_bytes())?;
                    out.flush()?;
                }
                ReplyEvent::Thought(text) => show_thought(text),
                ReplyEvent::Note(note) => say!("[{note}]"),
            }
            Ok(())
        })?;
        writeln!(out)?;
        if let Some(note) = answer.note() {
            say!("[{note}]");
        }
        if self.args.decode.timings {
            say!("[{}]", answer.statistics);
        }
        self.n_answers += 1;
        self.messages.push(Message::assistant(answer.text));
        self.given = Some(Given {
            steered: answer.steered,
            settings: self.settings.clone(),
            sampling,
        });
        Ok(())
    }

    fn regenerate(&mut self) -> Result<()> {
        let Some(last) = self
            .messages
            .pop_if(|message| message.role == Role::Assistant)
        else {
            bail!("nothing was answered yet");
        };
        let result = self.answer(Answering::Again);
        if result.is_err() {
            self.messages.push(last);
        }
        result
    }

    fn clear(&mut self) {
        self.messages.clear();
        self.n_answers = 0;
        self.given = None;
        self.saved_as = None;
    }

    /// Prints the last answer with marks where the contrast changed it. Decoding knows for each token what the user model
    /// alone would have chosen, so nothing is computed again, and no answer is slower because it might be asked about.
    fn explain(&self) -> Result<()> {
        self.session.require_adapter()?;
        self.last_answer()?;
        let given = self.given.as_ref().context(
            "the last answer is not as the model gave it in this chat; /regen draws one that /why explains",
        )?;
        let steered = &given.steered;
        let mut out = io::stdout();
        let text = explain::text(self.session.model(), steered, &out);
        writeln!(out, "{text}")?;
        say!("[{}]", explain::legend(steered));
        Ok(())
    }

    /// Prints the settings in force.
    fn show(&self) -> Result<()> {
        let base = self.session.base().display().to_string();
        let user = (self.source.user()).map_or("none".into(), |user| user.name().to_string());
        let adapter = self.session.adapter();
        let adapter = adapter.map_or("none".into(), |(path, _)| path.display().to_string());
        let mut lines = vec![("model", base), ("user", user), ("adapter", adapter)];
        lines.extend(self.settings.lines());
        lines.push(("messages", self.messages.len().to_string()));
        let mut out = io::stdout();
        for (name, value) in lines {
            // Further lines of a system prompt stand below its first one.
            let value = value.replace('\n', &format!("\n{:19}", ""));
            writeln!(out, "{name:<19}{value}")?;
        }
        Ok(())
    }

    /// Puts `settings` into force. On an error the old ones stay.
    fn adopt(&mut self, settings: ChatSettings) -> Result<()> {
        let contrast = settings.check()?;
        if let Some(scale) = settings.scale
            && settings.scale != self.settings.scale
        {
            self.session.set_scale(scale)?;
        }
        self.session.contrast = contrast;
        self.settings = settings;
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
            Verdict::Good => say!("[saved as a good answer]"),
            Verdict::Bad => say!(
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
        self.given = None;
        say!("[saved as the better answer]");
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
        let contrast = self.session.contrast;
        self.settings.contrast = contrast.contrast();
        self.settings.plausibility = contrast.plausibility();
        self.settings.scale = self.session.adapter().map(|(_, scale)| scale);
        self.clear();
        say!("[now chatting with {} in a new chat]", self.name());
        Ok(())
    }

    fn options(&self, answering: Answering) -> Result<DecoderOptions> {
        let args = &self.args;
        let mut options = args.decode.options(&args.model, self.session.model())?;
        self.settings.apply(&mut options.answer);
        let sampling = &mut options.answer.sampling;
        if sampling.seed == u32::MAX {
            sampling.seed = Sampling::new_seed();
        }
        if answering == Answering::Again {
            *sampling = sampling.again(self.n_answers, self.settings.regen_temperature);
            let (temperature, seed) = (sampling.temperature, sampling.seed);
            say!("[drawn at temperature {temperature} with seed {seed}]");
        }
        Ok(options)
    }

    fn prompt(&self) -> Vec<Message> {
        let system = self.settings.system.iter().map(Message::system);
        system.chain(self.messages.iter().cloned()).collect()
    }
}
