//! Examples and pairs as token ids, made with the chat template and the tokenizer that decoding uses too.

use std::path::Path;

use crate::llama::{self, Special, Token};
use crate::message::Message;
use crate::profile::{Example, Pair};
use crate::prompt::{ChatTemplate, response_tokens};
use crate::{Error, Result};

/// A prompt with the user's response to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The rendered prompt, up to the beginning of the response.
    pub prompt: Vec<Token>,
    /// The response, with its end-of-turn token.
    pub response: Vec<Token>,
}

impl Encoded {
    /// Number of tokens of prompt and response.
    pub fn n_tokens(&self) -> usize {
        self.prompt.len() + self.response.len()
    }
}

/// A prompt with a preferred and a rejected response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedPair {
    /// The rendered prompt, up to the beginning of the response.
    pub prompt: Vec<Token>,
    /// The preferred response, with its end-of-turn token.
    pub chosen: Vec<Token>,
    /// The rejected response, without an end-of-turn token if it was cut off.
    pub rejected: Vec<Token>,
}

/// An encoder of texts as token ids of one model.
pub struct Encoder<'a> {
    vocabulary: &'a llama::Model,
    template: ChatTemplate,
    n_ctx: usize,
}

impl<'a> Encoder<'a> {
    /// An encoder for the model of `vocabulary`. It refuses texts of more than `n_ctx` tokens.
    ///
    /// # Errors
    /// The model's chat template is invalid.
    pub fn new(vocabulary: &'a llama::Model, n_ctx: usize) -> Result<Self> {
        let template = ChatTemplate::of_model(vocabulary)?;
        Ok(Self {
            vocabulary,
            template,
            n_ctx,
        })
    }

    /// Encodes examples. `file` is where they are from, one a line, for error messages.
    ///
    /// # Errors
    /// An example has more than `n_ctx` tokens (its line is named), or the chat template cannot be rendered.
    pub fn examples(&self, examples: &[Example], file: &Path) -> Result<Vec<Encoded>> {
        let encode = |(line, example): (usize, &Example)| {
            let encoded = self.example(example)?;
            self.check_length(encoded.n_tokens(), file, line + 1)?;
            Ok(encoded)
        };
        examples.iter().enumerate().map(encode).collect()
    }

    /// Encodes the examples of at most `n_ctx` tokens, and removes the others from `examples`. Returns the encoded ones, and
    /// the places of the removed ones, from 1.
    ///
    /// # Errors
    /// The chat template cannot be rendered, or a text is too long to tokenize.
    pub fn fitting(&self, examples: &mut Vec<Example>) -> Result<(Vec<Encoded>, Vec<usize>)> {
        let (mut encoded, mut fitting, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for (place, example) in (1..).zip(std::mem::take(examples)) {
            let one = self.example(&example)?;
            if one.n_tokens() <= self.n_ctx {
                encoded.push(one);
                fitting.push(example);
            } else {
                left_out.push(place);
            }
        }
        *examples = fitting;
        Ok((encoded, left_out))
    }

    fn example(&self, example: &Example) -> Result<Encoded> {
        let prompt = self
            .template
            .prompt_tokens(self.vocabulary, &example.prompt)?;
        let response = response_tokens(self.vocabulary, &example.response)?;
        Ok(Encoded { prompt, response })
    }

    /// Encodes pairs. `file` is where they are from, one a line, for error messages.
    ///
    /// # Errors
    /// A pair has more than `n_ctx` tokens, its chosen or rejected response is not exactly one message, or its rejected
    /// response has no tokens; the line is named. Or the chat template cannot be rendered.
    pub fn pairs(&self, pairs: &[Pair], file: &Path) -> Result<Vec<EncodedPair>> {
        let encode = |(line, pair): (usize, &Pair)| {
            let malformed =
                |what: &str| Error::Input(format!("{}: line {}: {what}", file.display(), line + 1));
            let ([chosen], [rejected]) = (pair.chosen.as_slice(), pair.rejected.as_slice()) else {
                return Err(malformed("chosen and rejected must be one message each"));
            };
            let prompt = self.template.prompt_tokens(self.vocabulary, &pair.prompt)?;
            let chosen = response_tokens(self.vocabulary, &chosen.content)?;
            let mut rejected = response_tokens(self.vocabulary, &rejected.content)?;
            if !pair.rejected_ended {
                rejected.pop();
            }
            if rejected.is_empty() {
                return Err(malformed(
                    "the rejected response is cut off before its first text",
                ));
            }
            self.check_length(
                prompt.len() + chosen.len().max(rejected.len()),
                file,
                line + 1,
            )?;
            Ok(EncodedPair {
                prompt,
                chosen,
                rejected,
            })
        };
        pairs.iter().enumerate().map(encode).collect()
    }

    /// Encodes a user's message as a prompt.
    ///
    /// # Errors
    /// The chat template cannot be rendered, or the text is too long to tokenize.
    pub fn prompt(&self, message: &str) -> Result<Vec<Token>> {
        let prompt = [Message::user(message)];
        self.template.prompt_tokens(self.vocabulary, &prompt)
    }

    /// Encodes a question whose answer begins with `begin`: the response is the rest of the answer, without an
    /// end-of-turn token.
    ///
    /// # Errors
    /// The chat template cannot be rendered, or a text is too long to tokenize.
    pub fn question(&self, prompt: &str, begin: &str, rest: &str) -> Result<Encoded> {
        let tokens = |text: &str| {
            let mut tokens = response_tokens(self.vocabulary, text)?;
            tokens.pop();
            Ok::<_, Error>(tokens)
        };
        let whole = tokens(&format!("{begin}{rest}"))?;
        let begun = match begin {
            "" => Vec::new(),
            begin => tokens(begin)?,
        };
        // The rest may change the last token of the beginning, which then belongs to the response.
        let same = begun.iter().zip(&whole).take_while(|(x, y)| x == y);
        let (begun, response) = whole.split_at(same.count());
        let mut prompt = self.prompt(prompt)?;
        prompt.extend(begun);
        Ok(Encoded {
            prompt,
            response: response.to_vec(),
        })
    }

    /// The text of a sampled response, without its special tokens.
    pub fn text(&self, tokens: &[Token]) -> String {
        let bytes: Vec<u8> = tokens
            .iter()
            .flat_map(|&token| self.vocabulary.token_bytes(token, Special::Ignored))
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn check_length(&self, n_tokens: usize, file: &Path, line: usize) -> Result<()> {
        if n_tokens <= self.n_ctx {
            return Ok(());
        }
        Err(Error::Input(format!(
            "{}: line {line}: {n_tokens} tokens, and the model's context has {}; shorten the item or take it out",
            file.display(),
            self.n_ctx
        )))
    }
}
