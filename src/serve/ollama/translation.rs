//! The bodies of Ollama's requests for an answer, read as requests of OpenAI's API. Errors name each field by the path that
//! it has in the body.

use serde_json::{Value, json};

use crate::serve::api_error::ApiError;
use crate::serve::fields::{Field, Fields, FromFields};
use crate::serve::harmless::Harmless;
use crate::serve::openai::request::{ChatRequest, CompletionRequest};
use crate::serve::voice_request::VoiceFields;

/// The tag that Ollama's clients add to a name without one.
const DEFAULT_TAG: &str = ":latest";

/// The fields of `options` that have the same name and meaning in a request of OpenAI's API, this server's own included.
const OPTIONS: [&str; 21] = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "arm",
    "contrast",
    "plausibility",
    "scale",
    "retrieve",
    "regenerate",
    "no_repeat_ngram",
    "loop_guard",
    "grammar",
    "ignore_eos",
];

/// A request for an answer.
pub struct OllamaRequest {
    /// The name of the model, as the client gave it.
    pub model: Option<String>,
    /// Whether the answer is sent part by part.
    pub stream: bool,
    /// Whether the model is to think before it answers.
    pub thinks: bool,
    /// The most tokens of the prompt and the answer together, if the request limits them.
    pub n_ctx: Option<usize>,
    /// The answer that is asked for.
    pub asked: WantedAnswer,
}

/// The answer that a request asks for.
pub enum WantedAnswer {
    /// None: the model is only to be loaded.
    Load(VoiceFields),
    /// The next message of a chat.
    Message(Box<ChatRequest>),
    /// The continuation of a text.
    Continuation(Box<CompletionRequest>),
}

/// The body of `/api/chat`.
pub struct ChatBody(pub OllamaRequest);

impl FromFields for ChatBody {
    fn from_fields(mut body: Fields) -> Result<Self, ApiError> {
        let mut asked = Fields::none();
        let messages = body.take("messages");
        let has_messages = match &messages {
            Some(messages) => !messages.items()?.is_empty(),
            None => false,
        };
        asked.put("messages", messages);
        for name in ["logprobs", "top_logprobs", "tools"] {
            asked.put(name, body.take(name));
        }
        let common = CommonFields::read(&mut body, &mut asked)?;
        body.finish(&Harmless::OLLAMA)?;
        let what = if has_messages {
            WantedAnswer::Message(Box::new(ChatRequest::from_fields(asked)?))
        } else {
            WantedAnswer::Load(VoiceFields::read(&mut asked)?)
        };
        Ok(Self(common.request(what)))
    }
}

/// The body of `/api/generate`.
pub struct GenerateBody(pub OllamaRequest);

impl FromFields for GenerateBody {
    fn from_fields(mut body: Fields) -> Result<Self, ApiError> {
        let mut asked = Fields::none();
        let prompt = body.read::<String>("prompt")?.unwrap_or_default();
        let is_raw = body.read::<bool>("raw")?.unwrap_or_default();
        // A raw prompt has no system message.
        let system = if is_raw {
            None
        } else {
            body.read::<String>("system")?
        };
        let logprobs = body.take("logprobs");
        let top_logprobs = body.take("top_logprobs");
        let common = CommonFields::read(&mut body, &mut asked)?;
        body.finish(&Harmless::OLLAMA)?;
        let what = if prompt.is_empty() {
            WantedAnswer::Load(VoiceFields::read(&mut asked)?)
        } else if is_raw {
            asked.put("prompt", Some(Field::new("prompt", &json!(prompt))));
            asked.put("logprobs", n_explained(logprobs, top_logprobs)?);
            common.refuse_thought("a raw prompt has no thought before its answer")?;
            WantedAnswer::Continuation(Box::new(CompletionRequest::from_fields(asked)?))
        } else {
            let messages = json!([{ "role": "user", "content": prompt }]);
            asked.put("messages", Some(Field::new("prompt", &messages)));
            asked.put("logprobs", logprobs);
            asked.put("top_logprobs", top_logprobs);
            let request = ChatRequest::from_fields(asked)?;
            WantedAnswer::Message(Box::new(request.with_system(system.unwrap_or_default())))
        };
        Ok(Self(common.request(what)))
    }
}

/// The number of candidates that a completion explains beside each token, if the request wants tokens explained.
fn n_explained(logprobs: Option<Field>, top: Option<Field>) -> Result<Option<Field>, ApiError> {
    let is_wanted = logprobs.map(|it| it.read::<bool>()).transpose()?;
    match (is_wanted, top) {
        (Some(true), Some(top)) => Ok(Some(top)),
        (Some(true), None) => Ok(Some(Field::new("logprobs", &json!(0)))),
        (_, Some(top)) if top.read::<usize>()? > 0 => Err(top.wrong("needs `logprobs`")),
        _ => Ok(None),
    }
}

/// The fields that chats and prompts share, but for those that OpenAI's API has too.
struct CommonFields {
    model: Option<String>,
    stream: bool,
    think: Option<Field>,
    thinks: bool,
    n_ctx: Option<usize>,
}

impl CommonFields {
    /// Reads the fields of `body`, and puts those that OpenAI's API has into `asked`.
    fn read(body: &mut Fields, asked: &mut Fields) -> Result<Self, ApiError> {
        let model = body.read::<String>("model")?;
        let name = model.as_deref().map(untagged);
        asked.put("model", name.map(|name| Field::new("model", &json!(name))));
        let mut options = match body.take("options") {
            Some(options) => options.fields()?,
            None => Fields::none(),
        };
        for name in OPTIONS {
            asked.put(name, options.take(name));
        }
        // Open WebUI sends one beside the options and one among them: both limit the answer. A negative one limits nothing.
        let limits = [
            body.read::<i64>("num_predict")?,
            options.read("num_predict")?,
        ];
        let limit = limits.into_iter().flatten().filter(|n| *n >= 0).min();
        let limit = limit.map(|n| Field::new("options.num_predict", &json!(n)));
        asked.put("n_predict", limit);
        let n_ctx = options.read("num_ctx")?;
        options.finish(&Harmless::OLLAMA_OPTIONS)?;
        asked.put("json_schema", body.take("format").map_or(Ok(None), schema)?);
        let think = body.take("think");
        let thinks = think.as_ref().map_or(Ok(false), thinks)?;
        if thinks {
            let kwargs = json!({ "enable_thinking": true });
            asked.put("chat_template_kwargs", Some(Field::new("think", &kwargs)));
        }
        Ok(Self {
            model,
            stream: body.read("stream")?.unwrap_or(true),
            think,
            thinks,
            n_ctx,
        })
    }

    /// Refuses a request for a thought.
    fn refuse_thought(&self, why: &str) -> Result<(), ApiError> {
        match &self.think {
            Some(think) if self.thinks => Err(think.wrong(format!("cannot be true: {why}"))),
            _ => Ok(()),
        }
    }

    fn request(self, asked: WantedAnswer) -> OllamaRequest {
        OllamaRequest {
            model: self.model,
            stream: self.stream,
            thinks: self.thinks,
            n_ctx: self.n_ctx,
            asked,
        }
    }
}

/// The name of a model without the tag that stands for none.
pub fn untagged(model: &str) -> &str {
    model.strip_suffix(DEFAULT_TAG).unwrap_or(model)
}

/// The name of a model with a tag, as Ollama lists it.
pub fn tagged(name: &str) -> String {
    format!("{name}{DEFAULT_TAG}")
}

/// The JSON schema of `format`: `json` for any object, or a schema; an empty text is none.
fn schema(format: Field) -> Result<Option<Field>, ApiError> {
    match format.value()? {
        Value::String(name) if name.is_empty() => Ok(None),
        Value::String(name) if name == "json" => {
            Ok(Some(Field::new("format", &json!({ "type": "object" }))))
        }
        Value::Object(_) => Ok(Some(format)),
        Value::String(name) => {
            Err(format.wrong(format!("is `json` or a JSON schema, not {name:?}")))
        }
        other => Err(format.not_a("`json` or a JSON schema", &other)),
    }
}

fn thinks(think: &Field) -> Result<bool, ApiError> {
    match think.value()? {
        Value::Bool(thinks) => Ok(thinks),
        Value::String(_) => {
            Err(think.wrong("has to be true or false: this server has no levels of thought"))
        }
        other => Err(think.not_a("true or false", &other)),
    }
}
