//! Texts that grammars restrict, on the tiny model.

use std::sync::Arc;

use cope_llama::Error;
use cope_llama::decode::{
    AnswerOptions, Arm, Candidate, Contrast, Decoder, DecoderOptions, Finish, PassSchedule,
    Processor, Sampling, contrast,
};
use cope_llama::llama::{Boundary, Grammar, Rows, Special, Token};

use crate::fixture::{Decoded, Fixture, adapter, decode};

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": { "ok": { "type": "boolean" }, "kind": { "enum": ["wine", "letter"] } },
    "required": ["ok", "kind"],
    "additionalProperties": false
}"#;

fn arm() -> Arm {
    Arm::Cope(Contrast::new(0.5, 0.1).unwrap())
}

fn text(tiny: &Fixture, tokens: &[Token]) -> String {
    let bytes = tokens
        .iter()
        .flat_map(|&token| tiny.model.token_bytes(token, Special::Ignored));
    String::from_utf8(bytes.collect()).unwrap()
}

/// The answer to the fixture's prompt by `grammar`, of at most 60 tokens.
fn answer(tiny: &Fixture, arm: Arm, grammar: &Grammar, options: DecoderOptions) -> Decoded {
    let answer = AnswerOptions {
        n_predict: Some(60),
        grammar: Some(grammar.clone()),
        ..options.answer
    };
    let options = DecoderOptions { answer, ..options };
    decode(
        &mut tiny.twin(&adapter(), 1.0),
        arm,
        &tiny.prompt(),
        options,
    )
}

fn schedules() -> [PassSchedule; 3] {
    [
        PassSchedule::NAIVE,
        PassSchedule::default(),
        PassSchedule::fastest(Processor::Gpu),
    ]
}

#[test]
fn answers_satisfy_the_grammar_under_every_schedule_and_arm() {
    let tiny = Fixture::new();
    let grammar = Grammar::new(&tiny.model, r#"root ::= "yes, " ("red" | "white") "!""#).unwrap();
    for arm in [Arm::Base, Arm::User, arm()] {
        for schedule in schedules() {
            let options = DecoderOptions {
                schedule,
                ..DecoderOptions::default()
            };
            let answer = answer(&tiny, arm, &grammar, options);
            let text = text(&tiny, &answer.tokens);
            assert!(
                ["yes, red!", "yes, white!"].contains(&text.as_str()),
                "{text}"
            );
            assert_eq!(answer.finish, Some(Finish::EndOfTurn));
        }
    }
}

#[test]
fn a_grammar_that_allows_only_banned_tokens_is_an_error() {
    let tiny = Fixture::new();
    let options = AnswerOptions {
        grammar: Some(Grammar::new(&tiny.model, r#"root ::= "a"{60}"#).unwrap()),
        no_repeat_ngram: 1,
        ..AnswerOptions::default()
    };
    let mut twin = tiny.twin(&adapter(), 1.0);
    let model = Arc::clone(&tiny.model);
    let policy = twin.policy(arm());
    let mut decoder = Decoder::new(policy, &*model, &tiny.prompt(), options.into()).unwrap();
    let error = decoder.find_map(Result::err).unwrap();
    assert!(
        error.to_string().contains("all that the grammar allows"),
        "{error}"
    );
}

#[test]
fn answers_are_json_that_satisfies_the_schema() {
    let tiny = Fixture::new();
    let grammar = Grammar::from_json_schema(&tiny.model, SCHEMA).unwrap();
    for seed in 0..4 {
        let options = AnswerOptions {
            sampling: Sampling {
                temperature: 1.0,
                seed,
                ..Sampling::default()
            },
            ..AnswerOptions::default()
        };
        let answer = answer(&tiny, arm(), &grammar, options.into());
        let text = text(&tiny, &answer.tokens);
        let value: serde_json::Value = serde_json::from_str(&text).expect(&text);
        assert!(value["ok"].is_boolean() && (value["kind"] == "wine" || value["kind"] == "letter"));
    }
}

#[test]
fn properties_come_in_the_order_of_the_schema() {
    let tiny = Fixture::new();
    let yes = r#"{ "const": "yes" }"#;
    let schema = format!(
        r#"{{ "type": "object", "properties": {{ "z": {yes}, "a": {yes}, "m": {{ "type": "object",
            "properties": {{ "y": {yes}, "b": {yes} }}, "required": ["b", "y"] }} }}, "required": ["a", "m", "z"] }}"#
    );
    let grammar = Grammar::from_json_schema(&tiny.model, &schema).unwrap();
    let options = AnswerOptions {
        n_predict: Some(200),
        ..AnswerOptions::default()
    };
    let options = DecoderOptions::from(AnswerOptions {
        grammar: Some(grammar),
        ..options
    });
    let mut twin = tiny.twin(&adapter(), 1.0);
    let answer = decode(&mut twin, arm(), &tiny.prompt(), options);
    let text: String = text(&tiny, &answer.tokens).split_whitespace().collect();
    assert_eq!(text, r#"{"z":"yes","a":"yes","m":{"y":"yes","b":"yes"}}"#);
}

#[test]
fn answers_match_the_pattern_of_their_schema() {
    let tiny = Fixture::new();
    let is_code = |text: &str| {
        let parts = text.split_once('-');
        parts.is_some_and(|(head, tail)| {
            let is_head =
                (2..=3).contains(&head.len()) && head.bytes().all(|it| it.is_ascii_uppercase());
            let xs_end = tail.trim_start_matches('x');
            is_head && tail.starts_with('x') && ["", "."].contains(&xs_end)
        })
    };
    let schema = r#"{ "type": "string", "pattern": "^[A-Z]{2,3}-x{1,4}[.]?$" }"#;
    let grammar = Grammar::from_json_schema(&tiny.model, schema).unwrap();
    for seed in 0..6 {
        let options = AnswerOptions {
            sampling: Sampling {
                temperature: 1.5,
                seed,
                ..Sampling::default()
            },
            ..AnswerOptions::default()
        };
        let answer = answer(&tiny, arm(), &grammar, options.into());
        let text = text(&tiny, &answer.tokens);
        let value: String = serde_json::from_str(&text).expect(&text);
        assert!(is_code(&value), "{value}");
    }
    let held_by_no_grammar = r#"{ "type": "string", "pattern": "^(?!a).*$" }"#;
    let error = Grammar::from_json_schema(&tiny.model, held_by_no_grammar).unwrap_err();
    let expected =
        "the JSON schema cannot be used: the keyword `pattern` at \"#\" is not supported";
    assert!(error.to_string().starts_with(expected), "{error}");
}

/// Compares with `V_head` by its definition, in which the grammar filters the whole vocabulary first.
#[test]
fn plausibility_is_relative_to_the_likeliest_token_that_the_grammar_allows() {
    let tiny = Fixture::new();
    let grammar = Grammar::new(&tiny.model, "root ::= [a-z ]+").unwrap();
    let mut twin = tiny.twin(&adapter(), 1.0);
    twin.user.extend(&tiny.prompt(), 1, Rows::Full).unwrap();
    let mut state = grammar.clone();
    let mut sampler = Sampling::default()
        .sampler(tiny.model.n_vocab(), 256)
        .unwrap()
        .with_grammar(Some(grammar));
    let mut n_barred = 0;
    for position in 0..40 {
        let logits = twin.user.logits().to_vec();
        let mut allowed: Vec<Candidate> = Vec::new();
        contrast::head(&logits, 0.0, &mut allowed).unwrap();
        state.filter(&mut allowed);
        let max = allowed.iter().map(|it| it.score).fold(f32::MIN, f32::max);
        n_barred += usize::from(logits.iter().any(|&logit| logit > max));
        allowed.retain(|it| it.score >= max + 0.2_f32.ln());
        let mut candidates = Vec::new();
        sampler.head(&logits, 0.2, &mut candidates).unwrap();
        assert_eq!(candidates, allowed);
        let token = sampler.choose(&candidates, position);
        sampler.accept(token).unwrap();
        state.accept(token).unwrap();
        twin.user.extend(&[token], 1, Rows::Full).unwrap();
    }
    assert!(
        n_barred > 5,
        "the grammar sometimes bars the likeliest token"
    );
}

#[test]
fn a_token_that_the_grammar_does_not_allow_is_refused() {
    let tiny = Fixture::new();
    let mut grammar = Grammar::new(&tiny.model, r#"root ::= "a""#).unwrap();
    let token = tiny
        .model
        .tokenize("b", Boundary::Omit, Special::Ignored)
        .unwrap()[0];
    assert!(matches!(grammar.accept(token), Err(Error::Llama { .. })));
}

#[test]
fn malformed_grammars_and_schemas_are_refused() {
    let tiny = Fixture::new();
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(5000), ")".repeat(5000));
    for gbnf in [
        "",
        "root",
        "root ::= (",
        "other ::= \"a\"",
        "root ::= missing",
        "root ::= root \"a\"",
        "root ::= \"a\0b\"",
        "root ::= \"a\"{0,2001}",
        &deep,
    ] {
        let error = Grammar::new(&tiny.model, gbnf).err();
        assert!(
            matches!(error, Some(Error::Input(_))),
            "{gbnf:.40}: {error:?}"
        );
    }
    let deep = "[".repeat(100_000);
    for schema in ["", "{", "\"type\"", r##"{"$ref": "#/nowhere"}"##, &deep] {
        let error = Grammar::from_json_schema(&tiny.model, schema).err();
        assert!(
            matches!(error, Some(Error::Input(_))),
            "{schema:.40}: {error:?}"
        );
    }
}

#[test]
fn a_schema_whose_grammar_is_too_large_is_told_as_a_schema() {
    let tiny = Fixture::new();
    let names: Vec<String> = (0..600).map(|it| format!("{it:0>100}")).collect();
    let properties: Vec<String> = names.iter().map(|it| format!("{it:?}: {{}}")).collect();
    let schema = format!(
        r#"{{ "type": "object", "properties": {{ {} }}, "required": {names:?} }}"#,
        properties.join(", ")
    );
    let error = Grammar::from_json_schema(&tiny.model, &schema).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the JSON schema cannot be used: its grammar has more than 128 KiB; use fewer properties or smaller counts"
    );
}

#[test]
fn counts_of_a_schema_may_be_written_with_a_fraction_of_0() {
    let tiny = Fixture::new();
    let schema =
        r#"{ "type": "array", "items": { "const": 1 }, "minItems": 2.0, "maxItems": 2e0 }"#;
    let grammar = Grammar::from_json_schema(&tiny.model, schema).unwrap();
    let answer = answer(&tiny, arm(), &grammar, DecoderOptions::default());
    let text: String = text(&tiny, &answer.tokens).split_whitespace().collect();
    assert_eq!(text, "[1,1]");
}

#[test]
fn a_property_that_takes_the_name_of_a_rule_of_llama_cpp_is_refused() {
    let tiny = Fixture::new();
    let of = |property: &str| {
        let schema = format!(
            r#"{{ "properties": {{ "date_time": {property}, "when": {{ "type": "string", "format": "date-time" }} }},
                "required": ["date_time", "when"] }}"#
        );
        Grammar::from_json_schema(&tiny.model, &schema)
    };
    let error = of(r#"{ "enum": ["x", "y"] }"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the JSON schema cannot be used: llama.cpp cannot tell a property's name from its own rule `date-time`: rename the property"
    );
    // Here, llama.cpp makes its own rule first, or no other of this name.
    for property in [
        r#"{ "type": "string", "format": "date-time" }"#,
        r#"{ "anyOf": [{ "type": "string", "format": "date-time" }, { "type": "null" }] }"#,
        r#"{ "type": "string" }"#,
    ] {
        assert!(of(property).is_ok(), "{property}");
    }
}
