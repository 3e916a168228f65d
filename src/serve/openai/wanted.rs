//! The texts that a request asks for: in which voice, from which prompts, with which options. Every API's requests become
//! these by the same rules.

use std::sync::Arc;

use super::answer_stream::{AnswerStream, WantedText};
use super::common_request::CommonRequest;
use super::request::{ChatRequest, ChatTurns, CompletionPrompt, CompletionRequest};
use super::response::Kind;
use crate::decode::AnswerOptions;
use crate::home::UserName;
use crate::serve::api_error::ApiError;
use crate::serve::app::App;
use crate::serve::aside::aside;
use crate::serve::auth::Caller;
use crate::serve::loaded_base::LoadedBase;
use crate::serve::voice_request::ResolvedVoice;
use crate::thought::ThoughtSplitter;

/// The answers that a request wants: `n` to each of the prompts.
pub struct Wanted {
    /// The kind of request.
    pub kind: Kind,
    /// The voice of all answers.
    pub voice: ResolvedVoice,
    /// The number of answers to each prompt.
    pub n: usize,
    /// How the first answer is decoded.
    pub options: AnswerOptions,
    prompts: Vec<CompletionPrompt>,
    /// The number of candidates that are explained beside each token, if tokens are explained.
    explained: Option<usize>,
    /// Whether each answer begins with its prompt.
    is_echoed: bool,
    /// Divides an answer into a thought and the rest, in a chat.
    splitter: Option<ThoughtSplitter>,
}

impl Wanted {
    /// The next message of a chat.
    ///
    /// # Errors
    ///
    /// The voice is not the caller's to use, or a field is out of its range.
    pub async fn message(
        app: &Arc<App>,
        base: &LoadedBase,
        caller: &Caller,
        request: ChatRequest,
    ) -> Result<Self, ApiError> {
        let request = Arc::new(request);
        let (shared, asked) = (Arc::clone(app), Arc::clone(&request));
        let options = move || asked.options(&shared.base()?.model, shared.limits.n_predict);
        let (options, explained) = aside(options).await?;
        let (voice, turns) = voice_and_turns(app, base, caller, &request).await?;
        let prompt = CompletionPrompt {
            tokens: turns.tokens(&base.template, &base.model)?,
            text: String::new(),
        };
        Ok(Self {
            kind: Kind::Chat,
            voice,
            splitter: Some(turns.splitter(&base.template)?),
            prompts: vec![prompt],
            n: request.common.n(1)?,
            options,
            explained,
            is_echoed: false,
        })
    }

    /// The continuation of each of a request's texts.
    ///
    /// # Errors
    ///
    /// See [`message`](Self::message).
    pub async fn continuation(
        app: &Arc<App>,
        base: &LoadedBase,
        caller: &Caller,
        request: CompletionRequest,
    ) -> Result<Self, ApiError> {
        let request = Arc::new(request);
        let (shared, asked) = (Arc::clone(app), Arc::clone(&request));
        let (prompts, (options, explained)) = aside(move || {
            let model = &shared.base()?.model;
            let options = asked.options(model, shared.limits.n_predict)?;
            Ok((asked.prompts(model)?, options))
        })
        .await?;
        Ok(Self {
            kind: Kind::Completion,
            voice: voice(app, base, caller, &request.common)?,
            splitter: None,
            n: request.common.n(prompts.len())?,
            prompts,
            options,
            explained,
            is_echoed: request.echo,
        })
    }

    /// The same answers, each with its prompt within a context of `n_ctx` tokens.
    ///
    /// # Errors
    ///
    /// [`ApiError::too_long`] when a prompt leaves no room for an answer in it.
    pub fn within(mut self, n_ctx: usize) -> Result<Self, ApiError> {
        let n_prompt = self.prompts.iter().map(|prompt| prompt.tokens.len()).max();
        let n_prompt = n_prompt.unwrap_or_default();
        if n_prompt >= n_ctx {
            let field = self.kind.prompt_field();
            return Err(ApiError::too_long(field, n_prompt, n_ctx));
        }
        let room = n_ctx - n_prompt;
        self.options.n_predict = Some(self.options.n_predict.map_or(room, |n| n.min(room)));
        Ok(self)
    }

    /// Hands all texts to the engine.
    ///
    /// # Errors
    ///
    /// A prompt leaves no room for an answer, or those of [`AnswerStream::begin`].
    pub fn begin(
        &self,
        app: &Arc<App>,
        base: &LoadedBase,
        caller: &Caller,
    ) -> Result<Vec<AnswerStream>, ApiError> {
        for prompt in &self.prompts {
            base.check_length(self.kind.prompt_field(), prompt.tokens.len())?;
        }
        let begin = |(index, text)| {
            let voice = self.voice.request.clone();
            AnswerStream::begin(app, base, caller, voice, index, text)
        };
        self.each().enumerate().map(begin).collect()
    }

    /// Hands the text of a request that has only one to the engine.
    ///
    /// # Errors
    ///
    /// See [`begin`](Self::begin).
    pub fn begin_one(
        &self,
        app: &Arc<App>,
        base: &LoadedBase,
        caller: &Caller,
    ) -> Result<AnswerStream, ApiError> {
        let mut texts = self.begin(app, base, caller)?;
        match (texts.pop(), texts.pop()) {
            (Some(text), None) => Ok(text),
            _ => Err(ApiError::internal(
                "a request has another number of answers than one",
            )),
        }
    }

    /// A prompt and options for each answer. The answers to one prompt follow each other and have consecutive seeds.
    fn each(&self) -> impl Iterator<Item = WantedText> {
        self.prompts.iter().flat_map(|prompt| {
            (0..).take(self.n).map(|number: u32| {
                let mut options = self.options.clone();
                options.sampling.seed = options.sampling.nth_seed(number);
                WantedText {
                    prompt: prompt.tokens.clone(),
                    echo: self.is_echoed.then(|| prompt.text.clone()),
                    options,
                    explained: self.explained,
                    splitter: self.splitter.clone(),
                }
            })
        })
    }
}

/// The voice of a request by `caller`.
fn voice(
    app: &App,
    base: &LoadedBase,
    caller: &Caller,
    request: &CommonRequest,
) -> Result<ResolvedVoice, ApiError> {
    request.voice.resolve(&app.home, caller, &base.name)
}

/// The voice of a chat, and its turns with as many items of the user's history as are wanted.
///
/// # Errors
///
/// The voice is not the caller's to use, or the turns cannot be used.
pub async fn voice_and_turns(
    app: &Arc<App>,
    base: &LoadedBase,
    caller: &Caller,
    request: &ChatRequest,
) -> Result<(ResolvedVoice, ChatTurns), ApiError> {
    let mut voice = voice(app, base, caller, &request.common)?;
    let task_arm = app.options.task_arm.filter(|_| request.is_task());
    if let (Some(arm), Some(_)) = (task_arm, &voice.request.user)
        && request.common.voice.leaves_the_arm_open()
    {
        voice.request.arm = arm;
    }
    // A title does not get better by other texts of the user's.
    let n_items = task_arm.map_or(app.options.retrieve, |_| 0);
    let turns = turns_with_items(app, request, voice.request.user.as_ref(), n_items).await?;
    Ok((voice, turns))
}

/// The turns of a chat in the voice of `user`, or of the base, with as many items of the user's history as the request wants,
/// else `n_items`. A history that was not indexed yet takes a while to read, during which other requests go on.
async fn turns_with_items(
    app: &Arc<App>,
    request: &ChatRequest,
    user: Option<&UserName>,
    n_items: usize,
) -> Result<ChatTurns, ApiError> {
    let turns = request.turns(&app.base()?.template)?;
    let n_items = request.n_retrieved(n_items, user)?;
    let Some(user) = user.filter(|_| n_items > 0) else {
        return Ok(turns);
    };
    let (app, user) = (Arc::clone(app), user.clone());
    aside(move || {
        let base = app.base()?;
        let retriever = app.retrievers.get(&app.home.user(user)?)?;
        Ok(turns.with_items(&retriever, n_items, &base.model, base.n_ctx))
    })
    .await
}
