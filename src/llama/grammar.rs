//! llama.cpp's grammars, which restrict a text: in GBNF, or from a JSON schema.

mod gbnf;

use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::sync::Arc;

use cope_contrast::Candidate;

use super::raw_sampler::RawSampler;
use super::{Boundary, Model, Special, Token, json_schema, start, sys};
use crate::{Error, Result};

/// The longest grammar or schema. llama.cpp recurses over chains of rules, and a thread's stack has to hold that.
const MAX_BYTES: usize = 128 << 10;

/// The deepest nesting of brackets. llama.cpp's parser recurses at each of them, and a thread's stack has to hold that.
const MAX_DEPTH: usize = 200;

/// A grammar with its state, which determines the tokens that may follow those accepted so far.
#[derive(Debug, Clone)]
pub struct Grammar {
    sampler: RawSampler,
    /// Kept alive, since the grammar reads its vocabulary.
    _model: Arc<Model>,
}

impl Grammar {
    /// The grammar that is written in GBNF, with the start rule `root`.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if it is not sound, with the line, or beyond the limits of llama.cpp.
    pub fn new(model: &Arc<Model>, gbnf: &str) -> Result<Self> {
        Self::parse(model, gbnf).map_err(|reason| Error::input(format!("the grammar {reason}")))
    }

    /// The grammar `gbnf`, or the reason why it cannot be used, which follows the grammar's name.
    fn parse(model: &Arc<Model>, gbnf: &str) -> Result<Self, String> {
        let text = checked(gbnf)?;
        gbnf::check(gbnf, &|name| is_token(model, name))?;
        // SAFETY: the vocabulary lives as long as the model; both texts are NUL-terminated; the wrapper catches what
        // llama.cpp throws, and gives null for what it refuses.
        let raw = unsafe {
            sys::llama_rs_sampler_init_grammar(model.vocab(), text.as_ptr(), c"root".as_ptr())
        };
        let raw = NonNull::new(raw).ok_or("is refused by llama.cpp, which does not say why")?;
        Ok(Self {
            // SAFETY: just made; grammars can be cloned.
            sampler: unsafe { RawSampler::new(raw) },
            _model: Arc::clone(model),
        })
    }

    /// The grammar of the JSON texts that satisfy `schema`. The properties that an object must have come first, then those
    /// that it may have, both in the order of the schema.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if `schema` is no JSON, or llama.cpp cannot express all of it as a grammar; it names the keyword.
    pub fn from_json_schema(model: &Arc<Model>, schema: &str) -> Result<Self> {
        let refuse = |reason: &dyn std::fmt::Display| {
            Error::input(format!("the JSON schema cannot be used: {reason}"))
        };
        // serde_json says where a text is no JSON, and llama.cpp does not.
        let value = serde_json::from_str(schema).map_err(|error| refuse(&error))?;
        let text = checked(&json_schema::counts::as_integers(schema))
            .map_err(|reason| Error::input(format!("the JSON schema {reason}")))?;
        json_schema::check(&value).map_err(|reason| refuse(&reason))?;
        let mut gbnf = std::ptr::null_mut();
        start();
        // SAFETY: the text is NUL-terminated; the wrapper catches what llama.cpp throws.
        let status =
            unsafe { sys::llama_rs_json_schema_to_grammar(text.as_ptr(), false, &raw mut gbnf) };
        if status != sys::LLAMA_RS_STATUS_OK || gbnf.is_null() {
            return Err(refuse(&"llama.cpp knows no grammar for it"));
        }
        // SAFETY: a NUL-terminated text of ours, freed once.
        let grammar = unsafe {
            let grammar = CStr::from_ptr(gbnf).to_string_lossy().into_owned();
            sys::llama_rs_string_free(gbnf);
            grammar
        };
        json_schema::check_built_in(&grammar).map_err(|reason| refuse(&reason))?;
        Self::parse(model, &grammar).map_err(|reason| {
            refuse(&format!(
                "its grammar {reason}; use fewer properties or smaller counts"
            ))
        })
    }

    /// Removes from `candidates` the tokens that may not come next; the others keep their order.
    pub fn filter(&mut self, candidates: &mut Vec<Candidate>) {
        self.sampler.apply(candidates);
        candidates.retain(|candidate| candidate.score > f32::NEG_INFINITY);
    }

    /// Feeds the accepted `token`, which [`filter`](Self::filter) keeps, to the grammar.
    ///
    /// # Errors
    ///
    /// [`Error::Llama`] if the token may not come next.
    pub fn accept(&mut self, token: Token) -> Result<()> {
        // SAFETY: the sampler is live; the wrapper catches what llama.cpp throws.
        let status = unsafe { sys::llama_rs_sampler_accept(self.sampler.raw(), token) };
        if status == sys::LLAMA_RS_STATUS_OK {
            Ok(())
        } else {
            Err(Error::Llama {
                operation: format!("continue with token {token}"),
                reason: "the grammar does not allow it".to_owned(),
            })
        }
    }
}

/// Whether `name`, such as `<[7]>` or `<|end|>`, names one token of `model`.
fn is_token(model: &Model, name: &str) -> bool {
    if let Some(digits) = gbnf::token_digits(name) {
        return digits.parse().is_ok_and(|token| model.contains(token));
    }
    let tokens = model.tokenize(name, Boundary::Omit, Special::ByName);
    tokens.is_ok_and(|tokens| tokens.len() == 1)
}

/// `text` as a C string for llama.cpp, if it is within the limits of its parser, or the reason why not.
fn checked(text: &str) -> Result<CString, String> {
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    if text.len() > MAX_BYTES {
        return Err(format!("has more than {} KiB", MAX_BYTES >> 10));
    }
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("is nested more than {MAX_DEPTH} deep"));
        }
    }
    CString::new(text).map_err(|_| "holds a NUL byte".to_owned())
}
