//! Answers that a user's models write to the prompts of the user's own texts, and how much they are like those texts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cope_convert::gguf::Gguf;
use cope_llama::decode::{
    AnswerOptions, Batch, BatchEvent, Contrast, ModelId, PassSchedule, Policy, Processor,
    TextRequest,
};
use cope_llama::llama::{Boundary, ContextOptions, LoraAdapter, Model, Sequences, Special, Token};
use cope_llama::profile::Example;
use cope_llama::prompt::ChatTemplate;
use cope_llama::rouge::Rouge;

/// Answers that are decoded at a time.
const SEQUENCES: usize = 8;

/// The most tokens of an answer: of the tasks of short texts more than any text has, of the others their beginning.
const TOKENS: usize = 96;

/// The answers that are decoded together, with the policy by which they are.
type Decoding = (Batch<Sequences, Arc<Model>>, Policy<ModelId>);

/// A base that writes.
pub struct Writer<'a> {
    path: &'a Path,
    sha256: &'a str,
    model: Arc<Model>,
    template: ChatTemplate,
}

impl<'a> Writer<'a> {
    /// Loads the base at `path`, whose hash is `sha256`.
    pub fn load(path: &'a Path, sha256: &'a str) -> Result<Self> {
        let model = Model::load(path, None)?;
        Ok(Self {
            path,
            sha256,
            template: ChatTemplate::of_model(&model)?,
            model,
        })
    }

    /// ROUGE-L of an answer to the prompt of each of `items` with the item's text, `[items]`. The answers are decoded with
    /// the program's defaults, by the user model of `adapter` alone if the contrast is 0. A text that is longer than an
    /// answer may be is cut to as many tokens.
    pub fn rouge_l(
        &self,
        adapter: &Path,
        contrast: Contrast,
        items: &[Example],
    ) -> Result<Vec<f64>> {
        let prompts = items
            .iter()
            .map(|item| self.template.prompt_tokens(&self.model, &item.prompt));
        let prompts: Vec<Vec<Token>> = prompts.collect::<Result<_, _>>()?;
        let (mut batch, policy) = self.batch(adapter, contrast, &prompts)?;
        let mut answers = BTreeMap::new();
        for prompt in prompts {
            let id = batch.push(TextRequest {
                prompt,
                base_prompt: None,
                policy,
                options: AnswerOptions {
                    n_predict: Some(TOKENS),
                    ..AnswerOptions::recommended()
                },
                explained: None,
                explains_prompt: false,
                owner: None,
            })?;
            answers.insert(id, String::new());
        }
        for event in batch {
            let (id, event) = event?;
            match event {
                BatchEvent::Text(text) => answers
                    .get_mut(&id)
                    .context("an event of no text")?
                    .push_str(&text),
                BatchEvent::Failed(error) => return Err(error.into()),
                _ => {}
            }
        }
        // The ids rise in the order in which the texts were pushed.
        let pairs = answers.values().zip(items);
        pairs
            .map(|(answer, item)| Ok(Rouge::new(answer, &self.beginning(&item.response)?).rouge_l))
            .collect()
    }

    fn batch(
        &self,
        adapter: &Path,
        contrast: Contrast,
        prompts: &[Vec<Token>],
    ) -> Result<Decoding> {
        let gguf = Gguf::open(self.path)?;
        let adapter = LoraAdapter::load(&self.model, adapter, &gguf, self.sha256)?;
        let longest = prompts.iter().map(Vec::len).max().unwrap_or_default();
        let options = ContextOptions {
            n_ctx: (longest + TOKENS) as u32,
            ..ContextOptions::default()
        };
        let sequences =
            |adapter| Sequences::new(&self.model, adapter, &options, SEQUENCES.min(prompts.len()));
        let n_threads = options.n_threads;
        let schedule = PassSchedule::fastest(Processor::Cpu { n_threads });
        let mut batch = Batch::new(Arc::clone(&self.model), schedule, usize::MAX);
        let user = batch.add(sequences(Some((adapter, 1.0)))?);
        let policy = if contrast.contrast() == 0.0 {
            Policy::Plain(user)
        } else {
            let base = batch.add(sequences(None)?);
            Policy::Cope {
                user,
                base,
                contrast,
            }
        };
        Ok((batch, policy))
    }

    /// The beginning of a text that an answer can be as long as.
    fn beginning(&self, text: &str) -> Result<String> {
        let tokens = self
            .model
            .tokenize(text, Boundary::Omit, Special::Ignored)?;
        let tokens = tokens.iter().take(TOKENS);
        let bytes: Vec<u8> = tokens
            .flat_map(|&token| self.model.token_bytes(token, Special::Ignored))
            .collect();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
