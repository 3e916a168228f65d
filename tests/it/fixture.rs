//! The tiny model, loaded, and what most tests do with it.

use std::path::PathBuf;
use std::sync::Arc;

use cope_convert::gguf::{Gguf, Value};
use cope_convert::{Adapter, sha256};
use cope_llama::decode::{AnswerOptions, Arm, Decoder, DecoderOptions, Finish};
use cope_llama::llama::{
    Boundary, Context, ContextOptions, FlashAttention, KvType, LoraAdapter, Model, Rows, Special,
    Token, Twin,
};

use crate::tiny::{TinyModel, set_template, tiny_adapter};

/// A temporary folder, in memory where the system has a place for that: thousands of files are then written without waiting
/// for a disk.
pub fn folder_in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A tiny model in its folder.
pub struct Fixture {
    pub folder: tempfile::TempDir,
    pub path: PathBuf,
    pub model: Arc<Model>,
    pub base: Gguf,
    pub base_sha256: String,
}

impl Fixture {
    pub fn new() -> Self {
        Self::of(TinyModel::default())
    }

    pub fn of(tiny: TinyModel) -> Self {
        Self::edited(tiny, |_| ())
    }

    /// A model with this chat template.
    pub fn with_template(template: &str) -> Self {
        Self::edited(TinyModel::default(), |metadata| {
            set_template(metadata, template);
        })
    }

    /// A model whose metadata `edit` has changed.
    pub fn edited(tiny: TinyModel, edit: impl FnOnce(&mut Vec<(String, Value)>)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        tiny.write_edited(&path, edit);
        Self {
            model: Model::load(&path, None).unwrap(),
            base: Gguf::open(&path).unwrap(),
            base_sha256: sha256(&path).unwrap(),
            path,
            folder,
        }
    }

    pub fn load(&self, adapter: &Adapter) -> cope_llama::Result<Arc<LoraAdapter>> {
        let path = self.folder.path().join("adapter.gguf");
        adapter.write_gguf(&path).unwrap();
        LoraAdapter::load(&self.model, &path, &self.base, &self.base_sha256)
    }

    pub fn twin(&self, adapter: &Adapter, scale: f32) -> Twin {
        let adapter = self.load(adapter).unwrap();
        Twin::new(&self.model, None, adapter, scale, &exact()).unwrap()
    }

    pub fn prompt(&self) -> Vec<Token> {
        self.model
            .tokenize("hello alice, the wine", Boundary::Add, Special::ByName)
            .unwrap()
    }
}

/// Options of an answer of at most `n_predict` tokens.
pub fn limit(n_predict: usize) -> AnswerOptions {
    AnswerOptions {
        n_predict: Some(n_predict),
        ..AnswerOptions::default()
    }
}

/// A decoded text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// Its tokens, without the one that ended the turn.
    pub tokens: Vec<Token>,
    /// Why it ended.
    pub finish: Option<Finish>,
    /// The number of choices that are not the user model's likeliest token.
    pub n_changed: usize,
}

/// Decodes a text by the library's decoder.
pub fn decode(
    twin: &mut Twin,
    arm: Arm,
    prompt: &[Token],
    options: impl Into<DecoderOptions>,
) -> Decoded {
    let model = Arc::clone(twin.base.model());
    let mut decoder = Decoder::new(twin.policy(arm), &*model, prompt, options.into()).unwrap();
    decoder.by_ref().for_each(|piece| drop(piece.unwrap()));
    Decoded {
        tokens: decoder.response().to_vec(),
        finish: decoder.finish(),
        n_changed: decoder.statistics().n_changed,
    }
}

/// Options of contexts whose results depend on how tokens are batched only by the rounding of f32.
pub fn exact() -> ContextOptions {
    ContextOptions {
        n_ctx: 256,
        n_outputs: 16,
        n_threads: 1,
        kv_type: KvType::F32,
        flash_attention: FlashAttention::Off,
        ..ContextOptions::default()
    }
}

/// A random adapter on Q and V.
pub fn adapter() -> Adapter {
    tiny_adapter(7, 4, &["attn_q", "attn_v"])
}

/// An adapter that changes nothing, as before the first step of training: its B matrices are zero.
pub fn zero_adapter() -> Adapter {
    let mut adapter = adapter();
    adapter
        .tensors
        .iter_mut()
        .for_each(|tensor| tensor.b.data.fill(0.0));
    adapter
}

/// Greedy decoding by a context's logits alone, without the library's decoder.
pub fn greedy(context: &mut Context, prompt: &[Token], n_predict: usize) -> Vec<Token> {
    context.truncate(0);
    context.extend(prompt, 1, Rows::Full).unwrap();
    let mut response = Vec::new();
    while response.len() < n_predict {
        let token = best(context.logits());
        if context.model().is_eog(token) {
            break;
        }
        response.push(token);
        context.extend(&[token], 1, Rows::Full).unwrap();
    }
    response
}

/// The lowest token of the highest logit.
pub fn best(logits: &[f32]) -> Token {
    let best = (0..)
        .zip(logits)
        .reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.unwrap().0
}
