//! A loaded base with the contexts of a voice: what `chat` and `generate` ask for answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use cope_convert::gguf::Gguf;
use cope_llama::decode::{
    Arm, Choice, Contrast, Decoder, DecoderOptions, Drafter, Finish, Piece, Policy, Statistics,
};
use cope_llama::home::{Home, UserFolder, write_atomic};
use cope_llama::llama::{Context, LoraAdapter, Model, Token, Twin};
use cope_llama::message::{Message, Role};
use cope_llama::prompt::{ChatTemplate, response_tokens};

use cope_llama::voice::{AdapterSource, Voice};

use super::options::{ModelArgs, VoiceArgs};

pub struct Session {
    base: PathBuf,
    model: Arc<Model>,
    template: ChatTemplate,
    contexts: Contexts,
    /// Where what the contexts have read is kept, and what each is good for; base, then user.
    prompt_cache: Option<[(PathBuf, String); 2]>,
    /// Knows what the user has written.
    drafter: Drafter,
    /// The contrast of the voice.
    pub contrast: Contrast,
    stop: Arc<AtomicBool>,
}

enum Contexts {
    Base(Box<Context>),
    Twin(Box<Twin>),
}

/// An answer as a whole.
pub struct Reply {
    pub text: String,
    pub n_tokens: usize,
    pub finish: Finish,
    pub statistics: Statistics,
    /// If they were to be explained.
    pub choices: Vec<Choice>,
}

/// What happens while an answer comes about.
pub enum ReplyEvent<'a> {
    /// More text.
    Text(&'a str),
    /// Something to know: what was forgotten, why the answer ends.
    Note(String),
}

impl Session {
    /// Loads the base of a voice (not again if `before` has it) and makes its contexts. `stop` ends an answer.
    pub fn open(
        home: &Home,
        model_args: &ModelArgs,
        voice_args: &VoiceArgs,
        source: &AdapterSource,
        stop: &Arc<AtomicBool>,
        before: Option<&Self>,
    ) -> Result<Self> {
        let base = model_args.base.path(home, source.user())?;
        let model = match before {
            Some(session) if session.base == base => Arc::clone(&session.model),
            _ => Model::load(&base, model_args.gpu_layers)?,
        };
        let template = ChatTemplate::of_model(&model)?;
        let options = model_args.context();
        let mut prompt_cache = None;
        let voice = Voice::open(source)?;
        let contrast = voice_args.contrast(voice.as_ref())?;
        let mut contexts = match &voice {
            None => Contexts::Base(Box::new(Context::new(&model, None, &options)?)),
            Some(voice) => {
                let (sha256, gguf) = (home.base_ref(&base)?.sha256, Gguf::open(&base)?);
                let load = |path: PathBuf| LoraAdapter::load(&model, &path, &gguf, &sha256);
                let task = voice.base_adapter()?.map(load).transpose()?;
                let adapter = load(voice.user_adapter()?)?;
                let mut twin = Twin::new(&model, task, adapter, 1.0, &options)?;
                if let Some(user) = source.user().filter(|_| voice_args.prompt_cache) {
                    let caches = prompt_caches(user, voice, &sha256)?;
                    restore(&mut twin, &caches)?;
                    prompt_cache = Some(caches);
                }
                Contexts::Twin(Box::new(twin))
            }
        };
        match &mut contexts {
            Contexts::Base(context) => context.set_interrupt(Arc::clone(stop)),
            Contexts::Twin(twin) => twin.set_interrupt(stop),
        }
        Ok(Self {
            base,
            prompt_cache,
            drafter: drafter(&model, source)?,
            model,
            template,
            contexts,
            contrast,
            stop: Arc::clone(stop),
        })
    }

    /// Keeps what the contexts have read for the next session, if that is wanted.
    pub fn keep(&mut self) -> Result<()> {
        if let (Some(caches), Contexts::Twin(twin)) = (&self.prompt_cache, &mut self.contexts) {
            for ((path, key), context) in caches.iter().zip([&mut twin.base, &mut twin.user]) {
                let bytes = context.save(key)?;
                write_atomic(path, |file| file.write_all(&bytes))?;
            }
        }
        Ok(())
    }

    /// The base.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The arm that answers: CoPe where there is an adapter.
    pub fn best_arm(&self) -> Arm {
        match self.contexts {
            Contexts::Base(_) => Arm::Base,
            Contexts::Twin(_) => Arm::Cope(self.contrast),
        }
    }

    /// Answers `messages`, of which the oldest turns are left out when the context has no room for all. An interrupt
    /// ends the answer; what there is of it is given.
    pub fn answer(
        &mut self,
        messages: &[Message],
        arm: Arm,
        options: DecoderOptions,
        mut tell: impl FnMut(ReplyEvent) -> Result<()>,
    ) -> Result<Reply> {
        self.stop.store(false, Ordering::Relaxed);
        let n_ctx = self.n_ctx();
        let (prompt, n_left_out) = self.fitting_prompt(messages, n_ctx)?;
        if n_left_out > 0 {
            tell(ReplyEvent::Note(format!(
                "the context is full: the oldest {n_left_out} messages are left out"
            )))?;
        }
        let options = DecoderOptions {
            n_keep: self.n_keep(messages, &prompt)?,
            drafter: self.drafter.clone(),
            ..options
        };
        let policy = match &mut self.contexts {
            Contexts::Twin(twin) => twin.policy(arm),
            Contexts::Base(context) if arm == Arm::Base => Policy::Plain(&mut **context),
            Contexts::Base(_) => bail!("without a user there is only the base: add --user NAME"),
        };
        let mut decoder =
            Decoder::new(policy, &*self.model, &prompt, options)?.interruptible(&self.stop);
        let mut text = String::new();
        for piece in &mut decoder {
            match piece? {
                Piece::Text(more) => {
                    tell(ReplyEvent::Text(&more))?;
                    text.push_str(&more);
                }
                Piece::Shifted(n) => {
                    tell(ReplyEvent::Note(format!(
                        "the context is full: its oldest {n} tokens are forgotten"
                    )))?;
                }
            }
        }
        let finish = decoder.finish().unwrap_or(Finish::EndOfTurn);
        Ok(Reply {
            text,
            n_tokens: decoder.response().len(),
            finish,
            statistics: *decoder.statistics(),
            choices: decoder.choices().to_vec(),
        })
    }

    fn n_ctx(&self) -> usize {
        match &self.contexts {
            Contexts::Base(context) => context.n_ctx(),
            Contexts::Twin(twin) => twin.user.n_ctx(),
        }
    }

    /// The tokens of the newest turns (and the system's message) that leave a quarter of the context to the answer,
    /// and how many messages are left out. The last turn stays, however long it is.
    fn fitting_prompt(&self, messages: &[Message], n_ctx: usize) -> Result<(Vec<Token>, usize)> {
        let n_system = messages
            .iter()
            .take_while(|message| message.role == Role::System)
            .count();
        let (system, turns) = messages.split_at(n_system);
        let starts = (0..turns.len()).filter(|&turn| turns[turn].role == Role::User);
        let mut shortest = (self.template.prompt_tokens(&self.model, messages)?, 0);
        for start in starts {
            if shortest.0.len() <= n_ctx - n_ctx / 4 {
                break;
            }
            let kept = [system, &turns[start..]].concat();
            shortest = (self.template.prompt_tokens(&self.model, &kept)?, start);
        }
        Ok(shortest)
    }

    /// How many tokens at the beginning of `prompt` do not depend on what anybody has said: those up to the first
    /// message of the user.
    fn n_keep(&self, messages: &[Message], prompt: &[Token]) -> Result<usize> {
        let mut opening: Vec<Message> = messages
            .iter()
            .take_while(|message| message.role == Role::System)
            .cloned()
            .collect();
        opening.push(Message::user("\u{fffd}"));
        let opening = self.template.prompt_tokens(&self.model, &opening)?;
        let n_shared = opening
            .iter()
            .zip(prompt)
            .take_while(|(x, y)| x == y)
            .count();
        Ok(n_shared.max(DecoderOptions::default().n_keep))
    }
}

impl Reply {
    /// Why the answer ends, where the model did not end it.
    pub fn note(&self) -> Option<String> {
        match self.finish {
            Finish::EndOfTurn | Finish::Stop => None,
            Finish::Length => Some(format!(
                "ended after {} tokens; -n sets the limit",
                self.n_tokens
            )),
            Finish::Loop => Some("ended: the answer repeats itself".into()),
            Finish::ContextFull => {
                Some("ended: the context is full, and this model cannot forget".into())
            }
            Finish::Interrupted => Some("stopped".into()),
        }
    }
}

/// Where the caches of a user's contexts lie, and the keys that they are good for; base, then user.
fn prompt_caches(user: &UserFolder, voice: &Voice, base: &str) -> Result<[(PathBuf, String); 2]> {
    let task = voice.task_sha256().unwrap_or("none");
    let of_base = format!("base {base}, task {task}");
    let of_user = format!("{of_base}, adapter {}", cope_convert::sha256(voice.path())?);
    Ok([
        (user.prompt_cache("base"), of_base),
        (user.prompt_cache("user"), of_user),
    ])
}

/// Brings back what an earlier session of the same models has kept.
fn restore(twin: &mut Twin, caches: &[(PathBuf, String)]) -> Result<()> {
    for ((path, key), context) in caches.iter().zip([&mut twin.base, &mut twin.user]) {
        if path.exists() {
            let bytes =
                std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            context.restore(key, &bytes);
        }
    }
    Ok(())
}

fn drafter(model: &Model, source: &AdapterSource) -> Result<Drafter> {
    let history = match source.user() {
        Some(user) => user.profile()?.history,
        None => Vec::new(),
    };
    let texts = history
        .iter()
        .map(|example| response_tokens(model, &example.response));
    Ok(Drafter::new(&texts.collect::<Result<Vec<_>, _>>()?))
}
