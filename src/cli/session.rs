//! A loaded base with the contexts of one voice, which answers the prompts of `chat` and `generate`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use cope_convert::gguf::Gguf;
use cope_llama::decode::{
    Arm, Choice, Contrast, Decoder, DecoderOptions, Drafter, Finish, Piece, Policy, Statistics,
    Steered,
};
use cope_llama::home::Home;
use cope_llama::llama::{Context, ContextOptions, LoraAdapter, Model, Token, Twin};
use cope_llama::message::{Message, Role};
use cope_llama::prompt::{ChatTemplate, response_tokens, with_retrieved_items};
use cope_llama::retrieval::Retriever;
use cope_llama::voice::{AdapterSource, Voice};

use super::options::{ModelArgs, VoiceArgs};
use super::prompt_cache::PromptCache;

/// Answers prompts in one voice.
pub struct Session {
    base: PathBuf,
    model: Arc<Model>,
    template: ChatTemplate,
    contexts: Contexts,
    /// Where the KV caches are saved when the session ends, if `--prompt-cache` asks for it.
    prompt_cache: Option<PromptCache>,
    /// Drafts tokens from the user's history.
    drafter: Drafter,
    /// Finds items of the user's history for a prompt, and how many at most; `None` without `--retrieve`.
    retriever: Option<(Retriever, usize)>,
    /// The contrast of CoPe, which `/contrast` changes.
    pub contrast: Contrast,
    stop: Arc<AtomicBool>,
}

enum Contexts {
    Base(Box<Context>),
    Twin(Box<Twin>),
}

/// A finished answer.
pub struct Reply {
    pub text: String,
    pub n_tokens: usize,
    pub finish: Finish,
    pub statistics: Statistics,
    /// Every choice with its figures; empty unless the options ask for explanations.
    pub choices: Vec<Choice>,
    /// Every choice beside the one without contrast.
    pub steered: Vec<Steered>,
}

/// An event while an answer is being generated.
pub enum ReplyEvent<'a> {
    /// The next piece of the answer's text.
    Text(&'a str),
    /// A note for the person, such as that older messages were left out.
    Note(String),
}

impl Session {
    /// Loads the base of a voice and makes its contexts; the model is shared with `before` if that has the same base.
    /// Setting `stop` ends an answer.
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
        let voice = Voice::open(source)?;
        let contrast = voice_args.contrast(voice.as_ref())?;
        let (mut contexts, prompt_cache) = match &voice {
            None => {
                let context = Context::new(&model, None, &options)?;
                (Contexts::Base(Box::new(context)), None)
            }
            Some(voice) => {
                let base_sha256 = home.base_ref(&base)?.sha256;
                let mut twin = open_twin(&model, &base, &base_sha256, voice, &options)?;
                let user = source.user().filter(|_| voice_args.prompt_cache);
                let cache = user.map(|user| PromptCache::new(user, voice, &base_sha256));
                let cache = cache.transpose()?;
                if let Some(cache) = &cache {
                    cache.restore(&mut twin)?;
                }
                (Contexts::Twin(Box::new(twin)), cache)
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
            retriever: voice_args.retriever(source)?,
            model,
            template,
            contexts,
            contrast,
            stop: Arc::clone(stop),
        })
    }

    /// Saves the KV caches for the next command if `--prompt-cache` asks for it.
    pub fn save_prompt_cache(&mut self) -> Result<()> {
        if let (Some(cache), Contexts::Twin(twin)) = (&self.prompt_cache, &mut self.contexts) {
            cache.save(twin)?;
        }
        Ok(())
    }

    /// The base model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The arm that answers unless another is asked for: CoPe where there is an adapter, else the base.
    pub fn default_arm(&self) -> Arm {
        match self.contexts {
            Contexts::Base(_) => Arm::Base,
            Contexts::Twin(_) => Arm::Cope(self.contrast),
        }
    }

    /// Answers `messages`. The oldest turns are left out when the context has no room for all. An interrupt ends the
    /// answer early; the reply then holds the text so far.
    pub fn answer(
        &mut self,
        messages: &[Message],
        arm: Arm,
        options: DecoderOptions,
        mut tell: impl FnMut(ReplyEvent) -> Result<()>,
    ) -> Result<Reply> {
        self.stop.store(false, Ordering::Relaxed);
        let n_ctx = self.n_ctx();
        let with_items = self.retriever.as_ref().map(|(retriever, n_items)| {
            with_retrieved_items(messages, retriever, *n_items, &self.model, n_ctx)
        });
        let messages = with_items.as_deref().unwrap_or(messages);
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
            Contexts::Base(_) => {
                bail!("without a user or an adapter file only the base can answer; add --user NAME")
            }
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
                        "the context is full: its oldest {n} tokens were dropped"
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
            steered: decoder.steered().to_vec(),
        })
    }

    fn n_ctx(&self) -> usize {
        match &self.contexts {
            Contexts::Base(context) => context.n_ctx(),
            Contexts::Twin(twin) => twin.user.n_ctx(),
        }
    }

    /// The prompt's tokens, and how many messages were left out so that a quarter of the context stays free for the
    /// answer. System messages and the last turn always stay.
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

    /// The number of tokens at the beginning of `prompt` that a context shift must keep: those of the system messages
    /// and of the template before the first user message.
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
    /// The reason why the answer ended, unless the model or a stop string ended it.
    pub fn note(&self) -> Option<String> {
        match self.finish {
            Finish::EndOfTurn | Finish::Stop => None,
            Finish::Length => Some(format!(
                "ended after {} tokens; -n sets the limit",
                self.n_tokens
            )),
            Finish::Loop => Some("ended: the answer repeats itself".into()),
            Finish::ContextFull => Some(
                "ended: the context is full, and this model cannot drop its oldest tokens".into(),
            ),
            Finish::Interrupted => Some("interrupted".into()),
        }
    }
}

/// The contexts of base and user model, with the adapters of `voice` on the base of this file and SHA-256.
fn open_twin(
    model: &Arc<Model>,
    base: &Path,
    base_sha256: &str,
    voice: &Voice,
    options: &ContextOptions,
) -> Result<Twin> {
    let gguf = Gguf::open(base)?;
    let load = |path: PathBuf| LoraAdapter::load(model, &path, &gguf, base_sha256);
    let task = voice.base_adapter()?.map(load).transpose()?;
    let adapter = load(voice.user_adapter()?)?;
    Ok(Twin::new(model, task, adapter, 1.0, options)?)
}

/// A drafter that copies from the user's history, if the voice is a user's.
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
