//! A loaded base with the contexts of one voice, which answers the prompts of `chat` and `generate`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail, ensure};
use cope_convert::gguf::Gguf;
use cope_convert::say;
use cope_llama::decode::{
    Arm, Choice, Contrast, Decoder, DecoderOptions, Drafter, Finish, Piece, Policy, Statistics,
    Steered,
};
use cope_llama::home::{Home, UserFolder};
use cope_llama::llama::{Context, ContextOptions, LoraAdapter, Model, Token, Twin};
use cope_llama::message::{Message, Role};
use cope_llama::prompt::{ChatTemplate, Thinking, response_tokens, with_retrieved_items};
use cope_llama::retrieval::Retriever;
use cope_llama::thought::{SplitText, ThoughtSplitter};
use cope_llama::voice::{AdapterSource, Voice};

use super::options::{ModelArgs, VoiceArgs, checked_scale};
use super::prompt_cache::PromptCache;

/// Why the user model and CoPe cannot answer.
const NO_ADAPTER: &str =
    "without a user or an adapter file only the base can answer; add --user NAME";

/// Answers prompts in one voice.
pub struct Session {
    base: PathBuf,
    model: Arc<Model>,
    template: ChatTemplate,
    contexts: Contexts,
    context_options: ContextOptions,
    /// The adapter of the user's context; `None` where the base answers alone.
    adapter: Option<AppliedAdapter>,
    /// Where the KV caches are saved when the session ends, if `--prompt-cache` asks for it.
    prompt_cache: Option<PromptCache>,
    /// Drafts tokens from the user's history.
    drafter: Drafter,
    /// Finds items of the user's history for a prompt, and how many at most; `None` without `--retrieve`.
    retriever: Option<(Retriever<'static>, usize)>,
    /// The contrast of CoPe.
    pub contrast: Contrast,
    stop: Arc<AtomicBool>,
}

enum Contexts {
    Base(Box<Context>),
    Twin(Box<Twin>),
}

/// The adapter that the user's context applies.
struct AppliedAdapter {
    voice: Voice,
    /// SHA-256 of the base, which the adapter's file must name.
    base_sha256: String,
    scale: f32,
}

/// A finished answer.
pub struct Reply {
    pub text: String,
    /// The thought before the text; empty unless the model had one.
    pub thought: String,
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
    /// The next piece of the thought before it, for the person alone.
    Thought(&'a str),
    /// A note for the person, such as that older messages were left out.
    Note(String),
}

/// Writes a piece of a thought to stderr. As with [`say!`], one that cannot be written is dropped.
pub fn show_thought(piece: &str) {
    let _ = write!(io::stderr(), "{piece}");
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
        let template = chat_template(&model, voice_args.thinking())?;
        let options = model_args.context();
        let voice = Voice::open(source)?;
        let contrast = voice_args.contrast(voice.as_ref())?;
        let adapter = match voice {
            None => None,
            Some(voice) => Some(AppliedAdapter {
                voice,
                base_sha256: home.base_ref(&base)?.sha256,
                scale: voice_args.scale(source)?,
            }),
        };
        let (mut contexts, prompt_cache) = match &adapter {
            None => {
                let context = Context::new(&model, None, &options)?;
                (Contexts::Base(Box::new(context)), None)
            }
            Some(adapter) => {
                let mut twin = adapter.open_twin(&model, &base, &options)?;
                let user = source.user().filter(|_| voice_args.prompt_cache);
                let cache = user.map(|user| adapter.prompt_cache(user)).transpose()?;
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
            context_options: options,
            adapter,
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

    /// The file of the base model.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The file of the adapter and its scale; `None` where the base answers alone.
    pub fn adapter(&self) -> Option<(&Path, f32)> {
        let adapter = self.adapter.as_ref()?;
        Some((adapter.voice.path(), adapter.scale))
    }

    /// Fails where there is no adapter, so that only the base can answer.
    pub fn require_adapter(&self) -> Result<()> {
        ensure!(self.adapter.is_some(), NO_ADAPTER);
        Ok(())
    }

    /// Applies the adapter at another scale. The user's context is made anew, since what it has read was computed with the
    /// old scale; the base's context stays. On an error nothing has changed.
    pub fn set_scale(&mut self, scale: f32) -> Result<()> {
        let scale = checked_scale(scale)?;
        let (Contexts::Twin(twin), Some(adapter)) = (&mut self.contexts, &mut self.adapter) else {
            bail!(NO_ADAPTER)
        };
        let (lora, factor) = adapter.load(&self.model, &Gguf::open(&self.base)?, scale)?;
        let mut user = Context::new(&self.model, Some((lora, factor)), &self.context_options)?;
        user.set_interrupt(Arc::clone(&self.stop));
        twin.user = user;
        adapter.scale = scale;
        if let Some(cache) = &mut self.prompt_cache {
            cache.set_scale(scale);
        }
        Ok(())
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
            Contexts::Base(_) => bail!(NO_ADAPTER),
        };
        let mut decoder =
            Decoder::new(policy, &*self.model, &prompt, options)?.interruptible(&self.stop);
        let mut written = Written::new(self.template.splitter(messages)?);
        for piece in &mut decoder {
            match piece? {
                Piece::Text(more) => {
                    let split = written.splitter.push(&more);
                    written.add(split, &mut tell)?;
                }
                Piece::Shifted(n) => {
                    tell(ReplyEvent::Note(format!(
                        "the context is full: its oldest {n} tokens were dropped"
                    )))?;
                }
            }
        }
        let rest = written.splitter.finish();
        written.add(rest, &mut tell)?;
        written.end_thought(&mut tell)?;
        let finish = decoder.finish().unwrap_or(Finish::EndOfTurn);
        Ok(Reply {
            text: written.text,
            thought: written.thought,
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

/// The text of an answer so far, divided into its thought and the rest.
struct Written {
    splitter: ThoughtSplitter,
    thought: String,
    text: String,
    /// Whether the mark that begins a thought was told, and not yet the one that ends it.
    in_thought: bool,
}

impl Written {
    fn new(splitter: ThoughtSplitter) -> Self {
        Self {
            splitter,
            thought: String::new(),
            text: String::new(),
            in_thought: false,
        }
    }

    fn add(
        &mut self,
        split: SplitText,
        tell: &mut impl FnMut(ReplyEvent) -> Result<()>,
    ) -> Result<()> {
        let SplitText { thought, answer } = split;
        if !thought.is_empty() {
            if !self.in_thought {
                tell(ReplyEvent::Thought("[thought: "))?;
                self.in_thought = true;
            }
            tell(ReplyEvent::Thought(&thought))?;
            self.thought.push_str(&thought);
        }
        if !answer.is_empty() {
            self.end_thought(tell)?;
            tell(ReplyEvent::Text(&answer))?;
            self.text.push_str(&answer);
        }
        Ok(())
    }

    fn end_thought(&mut self, tell: &mut impl FnMut(ReplyEvent) -> Result<()>) -> Result<()> {
        if std::mem::take(&mut self.in_thought) {
            tell(ReplyEvent::Thought("]\n"))?;
        }
        Ok(())
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

impl AppliedAdapter {
    /// The contexts of base and user model, whose file is `base`.
    fn open_twin(&self, model: &Arc<Model>, base: &Path, options: &ContextOptions) -> Result<Twin> {
        let gguf = Gguf::open(base)?;
        let task = self.voice.base_adapter()?;
        let task = task.map(|path| LoraAdapter::load(model, &path, &gguf, &self.base_sha256));
        let (adapter, scale) = self.load(model, &gguf, self.scale)?;
        Ok(Twin::new(
            model,
            task.transpose()?,
            adapter,
            scale,
            options,
        )?)
    }

    /// Loads the adapter for a base with this header. Returns it with the scale at which a context has to apply it, so that
    /// the user's part has `scale`.
    fn load(&self, model: &Arc<Model>, gguf: &Gguf, scale: f32) -> Result<(Arc<LoraAdapter>, f32)> {
        let file = self.voice.scaled_adapter(scale)?;
        let adapter = LoraAdapter::load(model, file.path(), gguf, &self.base_sha256)?;
        Ok((adapter, file.scale))
    }

    fn prompt_cache(&self, user: &UserFolder) -> Result<PromptCache> {
        PromptCache::new(user, &self.voice, &self.base_sha256, self.scale)
    }
}

/// The chat template of `model`. Tells the person if it cannot ask the model to think.
fn chat_template(model: &Model, thinking: Thinking) -> Result<ChatTemplate> {
    let template = ChatTemplate::of_model(model)?.with_settings(thinking);
    if thinking == Thinking::On && !template.offers_thinking()? {
        say!("[the model's chat template has no setting for thinking; it may not think]");
    }
    Ok(template)
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
