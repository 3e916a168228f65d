//! The fields that clients send and that change no answer of this server: the one list of what is ignored. Any other field
//! that is not obeyed is refused by name, so that nobody gets another answer than the one that was asked for.

use serde_json::Value;

/// Fields of one object that are ignored.
pub struct Harmless {
    /// Fields that change nothing, whatever their value.
    always: &'static [&'static str],
    /// Fields that change nothing with one of these values, which are a JSON list.
    only: &'static [(&'static str, &'static str)],
}

impl Harmless {
    /// No field is ignored.
    pub const NONE: Self = Self {
        always: &[],
        only: &[],
    };

    /// Fields of a request for an answer.
    pub const REQUEST: Self = Self {
        always: &[
            // OpenAI: what it stores, bills, caches and watches for abuse.
            "metadata",
            "parallel_tool_calls",
            "prediction",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "store",
            // llama-server: how fast it answers and what it tells meanwhile.
            "backend_sampling",
            "cache_prompt",
            "id_slot",
            "n_discard",
            "n_keep",
            "parse_tool_calls",
            "reasoning_control",
            "reasoning_format",
            "return_progress",
            "sse_ping_interval",
            "timings_per_token",
            // llama-server: details of samplers that `ONLY` keeps switched off.
            "adaptive_decay",
            "dry_allowed_length",
            "dry_base",
            "dry_penalty_last_n",
            "dry_sequence_breakers",
            "dynatemp_exponent",
            "mirostat_eta",
            "mirostat_tau",
            "xtc_threshold",
            // LiteLLM, Open WebUI, LibreChat and Ollama: names of chats, and how long a model stays loaded.
            "chat_id",
            "keep_alive",
            "request_id",
            "session_id",
        ],
        only: &[
            // OpenAI.
            ("audio", "[]"),
            ("function_call", r#"["none", "auto"]"#),
            ("functions", "[[]]"),
            ("modalities", r#"[["text"]]"#),
            ("reasoning_effort", r#"["none"]"#),
            ("verbosity", r#"["medium"]"#),
            // llama-server.
            ("adaptive_target", "[-1]"),
            ("chat_template_kwargs", "[{}]"),
            ("dry_multiplier", "[0]"),
            ("dynatemp_range", "[0]"),
            ("grammar_lazy", "[false]"),
            ("grammar_triggers", "[[]]"),
            ("image_data", "[[]]"),
            ("min_keep", "[0, 1]"),
            ("mirostat", "[0]"),
            ("n_cmpl", "[1]"),
            ("n_indent", "[0]"),
            ("n_probs", "[0]"),
            ("post_sampling_probs", "[false]"),
            ("preserved_tokens", "[[]]"),
            ("reasoning_budget", "[-1, 0]"),
            ("reasoning_budget_tokens", "[-1, 0]"),
            ("reasoning_in_content", "[false]"),
            ("response_fields", "[[]]"),
            ("return_tokens", "[false]"),
            ("samplers", SAMPLERS),
            ("t_max_predict_ms", "[-1, 0]"),
            ("thinking_budget_tokens", "[-1, 0]"),
            ("thinking_forced_open", "[false]"),
            ("top_n_sigma", "[-1, 0]"),
            ("xtc_probability", "[0]"),
            // vLLM and text-generation-inference.
            ("echo", "[false]"),
            ("include_reasoning", "[true, false]"),
            ("include_stop_str_in_output", "[false]"),
            ("length_penalty", "[1]"),
            ("min_tokens", "[0]"),
            ("repetition_penalty", "[1]"),
            ("return_token_ids", "[false]"),
            ("skip_special_tokens", "[true]"),
            ("spaces_between_special_tokens", "[true, false]"),
            ("stop_token_ids", "[[]]"),
            ("use_beam_search", "[false]"),
        ],
    };

    /// Fields of a message. Clients send an answer back with all the fields that it had. Thoughts of earlier turns are not
    /// part of a prompt.
    pub const MESSAGE: Self = Self {
        always: &[
            "cache_control",
            "id",
            "name",
            "prefix",
            "reasoning",
            "reasoning_content",
            "reasoning_details",
            "thinking",
        ],
        only: &[
            ("annotations", "[[]]"),
            ("audio", "[]"),
            ("images", "[[]]"),
            ("refusal", r#"[""]"#),
            ("tool_calls", "[[]]"),
            // lm-evaluation-harness and LlamaIndex.
            ("type", r#"["text", "message"]"#),
            ("status", r#"["completed", "incomplete"]"#),
        ],
    };

    /// Fields of a part of a message.
    pub const PART: Self = Self {
        always: &["cache_control", "prompt_cache_breakpoint"],
        only: &[("annotations", "[[]]"), ("logprobs", "[[]]")],
    };

    /// Fields of `stream_options`.
    pub const STREAM_OPTIONS: Self = Self {
        always: &["include_obfuscation"],
        only: &[("continuous_usage_stats", "[false]")],
    };

    /// Fields beside the schema in `response_format.json_schema`. Every schema is obeyed strictly.
    pub const JSON_SCHEMA: Self = Self {
        always: &["description", "name", "strict"],
        only: &[],
    };

    /// Fields of a request for a response.
    pub const RESPONSES: Self = Self {
        always: &[
            "max_tool_calls",
            "metadata",
            "parallel_tool_calls",
            "prompt_cache_key",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "stream_options",
        ],
        only: &[
            ("background", "[false]"),
            ("include", "[[]]"),
            ("reasoning", r#"[{}, {"effort": "none"}]"#),
            ("top_logprobs", "[0]"),
            ("truncation", r#"["disabled"]"#),
        ],
    };

    /// Fields of `text` in such a request.
    pub const RESPONSES_TEXT: Self = Self {
        always: &[],
        only: &[("verbosity", r#"["medium"]"#)],
    };

    /// Fields of Ollama's requests for an answer. Prompts that are too long are refused, so that nothing is cut.
    pub const OLLAMA: Self = Self {
        always: &["keep_alive", "metadata", "shift", "truncate"],
        only: &[
            ("context", "[[]]"),
            ("images", "[[]]"),
            ("suffix", r#"[""]"#),
            ("system", r#"[""]"#),
            ("template", r#"[""]"#),
        ],
    };

    /// Fields of Ollama's `options`: how a model is loaded and computed, and samplers that are switched off.
    pub const OLLAMA_OPTIONS: Self = Self {
        always: &[
            "f16_kv",
            "logits_all",
            "low_vram",
            "main_gpu",
            "mirostat_eta",
            "mirostat_tau",
            "num_batch",
            "num_gpu",
            "num_keep",
            "num_thread",
            "numa",
            "use_mlock",
            "use_mmap",
        ],
        only: &[
            ("mirostat", "[0]"),
            ("penalize_newline", "[true]"),
            ("tfs_z", "[0, 1]"),
            ("vocab_only", "[false]"),
        ],
    };

    /// Fields of the body of `/api/show`.
    pub const OLLAMA_SHOW: Self = Self {
        always: &["verbose"],
        only: &[],
    };

    /// Fields of the bodies of `/tokenize` and `/detokenize`.
    pub const TOKENS: Self = Self {
        always: &["model"],
        only: &[],
    };

    /// Whether the field `name` with this value changes nothing.
    ///
    /// # Errors
    ///
    /// The reason why it is refused, which follows the field's name.
    pub fn allows(&self, name: &str, value: &Value) -> Result<(), String> {
        if self.always.contains(&name) {
            return Ok(());
        }
        let Some((_, values)) = self.only.iter().find(|(known, _)| *known == name) else {
            return Err(
                "is not a field that this server obeys here; leave it out (docs/server.md lists the fields)"
                    .to_owned(),
            );
        };
        let values: Vec<Value> = serde_json::from_str(values).expect("a JSON list");
        if values.iter().any(|it| is_same(it, value)) {
            return Ok(());
        }
        let values: Vec<_> = values.iter().map(Value::to_string).collect();
        Err(match values.as_slice() {
            [] => "is not supported by this server; leave it out".to_owned(),
            values => format!(
                "is not supported by this server unless it is {}; leave it out",
                values.join(" or ")
            ),
        })
    }
}

/// The orders of samplers that this server's own order is, with and without those that are switched off.
const SAMPLERS: &str = r#"[
    ["top_k", "typ_p", "top_p", "min_p", "temperature"],
    ["top_k", "typical_p", "top_p", "min_p", "temperature"],
    ["penalties", "top_k", "typ_p", "top_p", "min_p", "temperature"],
    ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"]
]"#;

/// Whether two values are the same, where 1 and 1.0 are.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_harmless_always_or_with_some_values_or_never() {
        let request = &Harmless::REQUEST;
        request.allows("metadata", &json!({ "a": 1 })).unwrap();
        request.allows("mirostat", &json!(0.0)).unwrap();
        assert_eq!(
            request.allows("mirostat", &json!(2)).unwrap_err(),
            "is not supported by this server unless it is 0; leave it out"
        );
        assert_eq!(
            request.allows("audio", &json!({})).unwrap_err(),
            "is not supported by this server; leave it out"
        );
        let unknown = request.allows("tempreature", &json!(1)).unwrap_err();
        assert!(
            unknown.starts_with("is not a field that this server obeys"),
            "{unknown}"
        );
    }

    #[test]
    fn the_values_of_every_list_are_json() {
        let lists = [
            Harmless::REQUEST,
            Harmless::MESSAGE,
            Harmless::PART,
            Harmless::STREAM_OPTIONS,
            Harmless::JSON_SCHEMA,
            Harmless::RESPONSES,
            Harmless::RESPONSES_TEXT,
            Harmless::OLLAMA,
            Harmless::OLLAMA_OPTIONS,
            Harmless::OLLAMA_SHOW,
            Harmless::TOKENS,
        ];
        for list in lists {
            for (name, values) in list.only {
                let values: Vec<Value> = serde_json::from_str(values).expect(name);
                for value in values {
                    list.allows(name, &value).expect(name);
                }
                assert!(!list.always.contains(name), "{name} is in both lists");
            }
        }
    }
}
