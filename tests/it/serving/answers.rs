//! Answers in the form of OpenAI's API: voices, texts, sampling, and requests that are refused.

use cope_llama::decode::{AnswerOptions, Arm, Contrast, Decoder, Piece};
use cope_llama::home::UserName;
use cope_llama::llama::{Boundary, Special};
use serde_json::{Value, json};

use super::{Server, ann, events, train};

/// The answer of the decoder alone, in ann's voice.
fn alone(server: &Server, options: AnswerOptions) -> String {
    let mut twin = server.fixture.twin(&ann(), 1.0);
    let contrast = Contrast::new(0.5, 0.1).unwrap();
    let prompt = server.chat_prompt();
    let model = &*server.fixture.model;
    let policy = twin.policy(Arm::Cope(contrast));
    let pieces = Decoder::new(policy, model, &prompt, options.into()).unwrap();
    let text = |piece| match piece {
        Piece::Text(text) => text,
        Piece::Shifted(_) => unreachable!("there is room"),
    };
    pieces.map(|piece| text(piece.unwrap())).collect()
}

fn limit(n: usize) -> AnswerOptions {
    AnswerOptions {
        n_predict: Some(n),
        ..AnswerOptions::recommended()
    }
}

#[test]
fn a_chat_is_answered_in_the_users_voice_whole_or_as_a_stream() {
    let server = Server::new();
    let expected = alone(&server, limit(12));
    let whole = server.chat("ann", &json!({}));
    assert_eq!(whole.status, 200, "{}", whole.text);
    let whole = whole.json();
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["model"], "ann");
    let choice = &whole["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["message"]["content"], expected);
    assert_eq!(choice["finish_reason"], "length");
    let usage = &whole["usage"];
    assert_eq!(usage["prompt_tokens"], server.chat_prompt().len());
    assert_eq!(usage["completion_tokens"], 12);
    assert_eq!(usage["total_tokens"], server.chat_prompt().len() + 12);

    let stream = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let reply = server.chat("ann", &stream);
    assert!(
        reply.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/event-stream")
    );
    let mut events = events(&reply.text);
    let last = events.pop().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], *usage);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let text = |event: &Value| {
        assert_eq!(event["object"], "chat.completion.chunk");
        assert_eq!(event["id"], events[0]["id"]);
        let content = &event["choices"][0]["delta"]["content"];
        content.as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(events.iter().map(text).collect::<String>(), expected);
    let finishes = events
        .iter()
        .map(|event| &event["choices"][0]["finish_reason"]);
    assert_eq!(finishes.filter(|it| **it == "length").count(), 1);

    // Other voices give other texts.
    let said = |model: &str| {
        server.chat(model, &json!({})).json()["choices"][0]["message"]["content"].clone()
    };
    assert_ne!(said("bob"), expected);
    assert_ne!(said("base"), expected);
    assert_eq!(said("base:ann"), expected);
    assert_eq!(said("tiny:ann"), expected);
    assert_eq!(said("tiny"), said("base"));
}

#[test]
fn the_rules_against_loops_hold_unless_the_request_says_otherwise() {
    let server = Server::new();
    // One token is so likely that the text is nothing else, as far as it may.
    let token = server.chat_prompt()[0];
    let said = |more: Value| {
        let mut body = json!({ "max_tokens": 64, "logit_bias": [[token, 100.0]] });
        super::merge(&mut body, &more);
        let reply = server.chat("ann", &body).json();
        let choice = &reply["choices"][0];
        let n_tokens = reply["usage"]["completion_tokens"].as_u64().unwrap();
        let text = choice["message"]["content"].as_str().unwrap().to_owned();
        (text, n_tokens, choice["finish_reason"].clone())
    };
    let options = |no_repeat_ngram, loop_guard| AnswerOptions {
        no_repeat_ngram,
        loop_guard,
        logit_bias: vec![(token, 100.0)],
        n_predict: Some(64),
        ..AnswerOptions::default()
    };
    let (text, n_tokens, _) = said(json!({}));
    assert_eq!((&text, n_tokens), (&alone(&server, options(8, true)), 64));
    let off = json!({ "no_repeat_ngram": 0, "loop_guard": false });
    let (looping, n_tokens, _) = said(off);
    assert_eq!(
        (&looping, n_tokens),
        (&alone(&server, options(0, false)), 64)
    );
    assert_ne!(text, looping);
    let (ended, n_tokens, finish) = said(json!({ "no_repeat_ngram": 0 }));
    assert_eq!((n_tokens, finish), (25, json!("stop")));
    assert_eq!(ended, alone(&server, options(0, true)));
    // A form has to repeat itself, and may.
    let all = ["fine"; 10].join(" ");
    let grammar = json!({ "grammar": format!("root ::= \"{all}\""), "logit_bias": [] });
    let (form, ..) = said(grammar);
    assert_eq!(form, all);
}

#[test]
fn an_answer_has_a_new_seed_which_is_told_and_repeats_it() {
    let server = Server::new();
    let drawn = |more: Value| {
        let mut body = json!({ "temperature": 1.5 });
        super::merge(&mut body, &more);
        let reply = server.chat("ann", &body).json();
        let text = reply["choices"][0]["message"]["content"].clone();
        (reply["seed"].as_u64().unwrap(), text)
    };
    let answers: Vec<_> = (0..6).map(|_| drawn(json!({}))).collect();
    assert!(answers.iter().any(|(_, text)| *text != answers[0].1));
    for (seed, text) in &answers[..2] {
        assert_eq!(drawn(json!({ "seed": seed })), (*seed, text.clone()));
    }
}

#[test]
fn an_answer_that_is_regenerated_is_another_one_and_can_be_had_again() {
    let server = Server::new();
    let answer = |more: Value| {
        let reply = server.chat("ann", &more);
        assert_eq!(reply.status, 200, "{}", reply.text);
        let reply = reply.json();
        let text = reply["choices"][0]["message"]["content"].clone();
        (text, reply["temperature"].clone(), reply["seed"].clone())
    };
    // Answers are greedy, so that another seed alone gives the same one.
    let (first, temperature, _) = answer(json!({}));
    assert_eq!(temperature, 0.0);
    assert_eq!(answer(json!({ "seed": 5, "regenerate": 0 })).0, first);
    let (other, ..) = answer(json!({ "seed": 5, "regenerate": 1 }));
    assert_ne!(other, first);
    let (other, temperature, seed) = answer(json!({ "regenerate": 1 }));
    assert_eq!(temperature, 0.7);
    let same = json!({ "temperature": temperature, "seed": seed });
    assert_eq!(answer(same), (other, temperature, seed));
    // With a seed, each answer has the next one, and a temperature stays.
    let settings = |more: Value| {
        let (_, temperature, seed) = answer(more);
        (temperature, seed)
    };
    let third = json!({ "seed": 5, "regenerate": 2, "temperature": 0.3 });
    assert_eq!(settings(third), (json!(0.3), json!(7)));
    let last = i64::from(u32::MAX) - 1;
    let wrapped = json!({ "seed": last, "regenerate": 1 });
    assert_eq!(settings(wrapped), (json!(0.7), json!(0)));
    assert_invalid(
        &server,
        &json!({ "regenerate": -1 }),
        "regenerate",
        "`regenerate` has to be a whole number from 0 on",
    );
}

#[test]
fn a_request_names_its_voice_in_several_ways() {
    let server = Server::new();
    let of = |more: Value| {
        let reply = server.chat("base", &more);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["choices"][0]["message"]["content"].clone()
    };
    let (base, ann, bob) = (
        of(json!({})),
        of(json!({"model": "ann"})),
        of(json!({"model": "bob"})),
    );
    assert_eq!(of(json!({"user": "ann"})), ann);
    assert_eq!(of(json!({"user": "somebody-else"})), base);
    assert_eq!(of(json!({"lora": [{"id": 1, "scale": 1.0}]})), bob);
    assert_eq!(of(json!({"lora": [{"id": 1, "scale": 0.0}]})), base);
    let half = of(json!({"lora": [{"id": 1, "scale": 0.5}]}));
    assert!(half != base && half != bob, "{half}");
    assert_eq!(of(json!({"model": "bob", "scale": 0.5})), half);
    assert_eq!(of(json!({"model": "bob", "scale": 0})), base);
    assert_eq!(of(json!({"model": null, "lora": [{"id": 0}]})), ann);
    assert_eq!(of(json!({"model": "ann", "arm": "base"})), base);
    // With a contrast of 0, CoPe chooses like the user model alone.
    assert_eq!(
        of(json!({"model": "ann", "arm": "user"})),
        of(json!({"model": "ann", "contrast": 0.0}))
    );
    assert_ne!(of(json!({"model": "ann", "arm": "user"})), base);

    let adapters = server.get("/lora-adapters", None).json();
    let names: Vec<_> = adapters
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["path"].clone())
        .collect();
    assert_eq!(names, ["ann", "bob"]);
    let models = server.get("/v1/models", None).json();
    let ids: Vec<_> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].clone())
        .collect();
    assert_eq!(ids, ["base", "ann", "bob"]);
}

#[test]
fn a_text_is_continued_from_strings_and_from_tokens() {
    let server = Server::new();
    let model = &server.fixture.model;
    let tokens = model
        .tokenize("dear alice", Boundary::Add, Special::ByName)
        .unwrap();
    let complete = |prompt: Value, more: Value| {
        let mut body = json!({ "prompt": prompt, "max_tokens": 8 });
        super::merge(&mut body, &more);
        let reply = server.post("/v1/completions", &body, None);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()
    };
    let whole = complete(json!("dear alice"), json!({}));
    assert_eq!(whole["object"], "text_completion");
    let text = &whole["choices"][0]["text"];
    assert_eq!(
        complete(json!(["dear alice"]), json!({}))["choices"][0]["text"],
        *text
    );
    assert_eq!(
        complete(json!(tokens), json!({}))["choices"][0]["text"],
        *text
    );
    let echoed = complete(json!("dear alice"), json!({"echo": true}));
    let echoed = echoed["choices"][0]["text"].as_str().unwrap();
    assert_eq!(echoed, format!("dear alice{}", text.as_str().unwrap()));
    let explained = complete(json!("dear alice"), json!({"logprobs": 3}));
    let logprobs = &explained["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().unwrap().len(), 8);
    assert_eq!(logprobs["top_logprobs"][0].as_object().unwrap().len(), 3);

    let body = json!({ "prompt": "dear alice", "max_tokens": 8, "stream": true });
    let reply = server.post("/v1/completions", &body, None);
    let events = events(&reply.text);
    let streamed = events
        .iter()
        .map(|event| event["choices"][0]["text"].as_str().unwrap());
    assert_eq!(streamed.collect::<String>(), *text);
}

#[test]
fn a_request_says_how_tokens_are_chosen() {
    let server = Server::new();
    let content = |more: Value| {
        let reply = server.chat("ann", &more);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["choices"][0].clone()
    };
    let drawn = |seed: i64| {
        content(json!({"temperature": 1.5, "seed": seed}))["message"]["content"].clone()
    };
    assert_eq!(drawn(3), drawn(3));
    assert!((4..9).any(|seed| drawn(seed) != drawn(3)));

    let plain = content(json!({}));
    let text = plain["message"]["content"].as_str().unwrap();
    let stop: String = text.chars().skip(3).take(2).collect();
    let stopped = content(json!({"stop": [stop]}));
    assert_eq!(stopped["finish_reason"], "stop");
    assert_eq!(
        stopped["message"]["content"],
        text.split(&stop).next().unwrap()
    );

    let first = server
        .fixture
        .model
        .tokenize(text, Boundary::Omit, Special::Ignored)
        .unwrap()[0];
    let explained = |more: Value| content(more)["logprobs"]["content"][0].clone();
    let chosen = explained(json!({"logprobs": true, "top_logprobs": 4}));
    let (p_user, p_base) = (
        chosen["p_user"].as_f64().unwrap(),
        chosen["p_base"].as_f64().unwrap(),
    );
    assert!((chosen["logprob"].as_f64().unwrap() - p_user.ln()).abs() < 1e-5);
    assert!(p_user > 0.0 && p_base > 0.0 && p_user < 1.0);
    assert!(!chosen["top_logprobs"].as_array().unwrap().is_empty());
    assert_eq!(chosen["top_logprobs"][0]["token"], chosen["token"]);
    let mut bias = json!({});
    bias[first.to_string()] = json!(-100);
    let biased = explained(json!({"logprobs": true, "logit_bias": bias}));
    let listed = explained(json!({"logprobs": true, "logit_bias": [[first, false]]}));
    assert_ne!(biased["token"], chosen["token"]);
    assert_eq!(biased["token"], listed["token"]);

    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false});
    let forms = [
        json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}),
        json!({"type": "json_object", "schema": schema}),
    ];
    for form in forms {
        // The number may be longer than the answer, so only its beginning is certain. Without a seed it could be -0, which
        // serde_json reads as a float.
        let answer = content(
            json!({"response_format": form, "max_tokens": 60, "temperature": 1.0, "seed": 1}),
        );
        let text = answer["message"]["content"].as_str().unwrap();
        assert!(text.starts_with('{') && text.contains("\"n\""), "{text}");
        if answer["finish_reason"] == "stop" {
            let value: Value = serde_json::from_str(text).unwrap();
            assert!(value["n"].is_i64(), "{text}");
        }
    }
    let grammar = content(json!({"grammar": "root ::= \"fine\" | \"note\""}));
    assert!(matches!(
        grammar["message"]["content"].as_str(),
        Some("fine" | "note")
    ));
    assert_eq!(grammar["finish_reason"], "stop");
}

/// Checks that the base refuses the fields `more` with 400, naming the field at fault.
fn assert_invalid(server: &Server, more: &Value, param: &str, message: &str) {
    let reply = server.chat("base", more);
    assert_eq!(reply.status, 400, "{more}: {}", reply.text);
    let told = reply.error();
    assert!(told.contains(message), "{more}: {told}");
    assert!(!told.contains('\n'), "{told}");
    assert_eq!(reply.json()["error"]["param"], param, "{more}");
}

#[test]
fn a_chat_or_a_voice_that_cannot_be_used_is_refused() {
    let server = Server::new();
    let image = json!([{"role": "user", "content": [{"type": "image_url"}]}]);
    let long = json!([{"role": "user", "content": "alice ".repeat(300)}]);
    let messages = [
        (json!([]), "messages", "no messages"),
        (
            json!([{"role": "tool", "content": "a"}]),
            "messages[0].role",
            "\"tool\" is not known",
        ),
        (image, "messages[0].content[0].type", "image_url"),
        (long, "messages", "exceeds the available context size"),
    ];
    for (messages, param, message) in messages {
        let more = json!({ "messages": messages });
        assert_invalid(&server, &more, param, message);
    }
    let fields = [
        (
            json!({"continue_final_message": true}),
            "continue_final_message",
            "a last message of the assistant's",
        ),
        (json!({"arm": "cope"}), "arm", "name a user"),
        (
            json!({"lora": [{"id": 9}]}),
            "lora",
            "no adapter of that number",
        ),
        (
            json!({"lora": [{"id": 0, "scale": 5}]}),
            "lora",
            "scale is 0 to 4",
        ),
        (
            json!({"model": "ann", "scale": 4.5}),
            "scale",
            "scale is 0 to 4",
        ),
        (json!({"scale": 0.5}), "scale", "name a user"),
        (
            json!({"lora": [{"id": 0}], "scale": 0.5}),
            "scale",
            "leave out one of both",
        ),
    ];
    for (more, param, message) in fields {
        assert_invalid(&server, &more, param, message);
    }
    for model in ["carol", "base:carol", "../ann"] {
        let reply = server.chat(model, &json!({}));
        assert_eq!(reply.status, 404, "{}", reply.text);
        assert!(reply.error().contains(&format!("no model {model:?}")));
    }
}

#[test]
fn a_field_that_cannot_be_obeyed_is_refused() {
    let server = Server::new();
    let format = |format: Value| json!({ "response_format": format });
    let cases = [
        (json!({"n": 9}), "n", "1 to 8 answers"),
        (json!({"best_of": 2}), "best_of", "equal to `n`"),
        (
            json!({"logit_bias": {"99999": 1}}),
            "logit_bias",
            "maps tokens of the model",
        ),
        (
            json!({"logit_bias": 3}),
            "logit_bias",
            "maps tokens of the model",
        ),
        (
            json!({"top_logprobs": 3}),
            "top_logprobs",
            "needs `logprobs`",
        ),
        (
            json!({"logprobs": true, "top_logprobs": 30}),
            "top_logprobs",
            "at most 20",
        ),
        (json!({"stop": vec!["a"; 17]}), "stop", "at most 16"),
        (
            format(json!({"type": "xml"})),
            "response_format.type",
            "\"xml\" is not known",
        ),
        (
            format(json!({"type": "json_schema"})),
            "response_format",
            "json_schema.schema",
        ),
        (
            format(json!({"type": "json_object", "schema": {"type": "nothing"}})),
            "response_format",
            "the JSON schema cannot be used",
        ),
        (json!({"tools": [{}]}), "tools", "tools"),
        (json!({"suffix": "a"}), "suffix", "the middle of a text"),
    ];
    for (more, param, message) in cases {
        assert_invalid(&server, &more, param, message);
    }
    assert_eq!(server.get("/v1/chat/completions", None).status, 405);
    // The server goes on.
    assert_eq!(server.chat("base", &json!({"max_tokens": 0})).status, 200);
}

#[test]
fn an_adapter_that_is_trained_anew_is_used_at_once() {
    let server = Server::new();
    let content = |model: &str| {
        server.chat(model, &json!({})).json()["choices"][0]["message"]["content"].clone()
    };
    let (before, of_bob) = (content("ann"), content("bob"));
    assert_ne!(before, of_bob);
    train(&server.home, &server.fixture, "ann", &super::bob());
    assert_eq!(content("ann"), of_bob);
    // A deleted user is no longer found.
    server
        .home
        .user(UserName::new("ann").unwrap())
        .unwrap()
        .delete()
        .unwrap();
    assert_eq!(server.chat("ann", &json!({})).status, 404);
}

#[test]
fn a_text_becomes_tokens_and_tokens_a_text() {
    let server = Server::new();
    let tokens = server
        .post("/tokenize", &json!({"content": "hello alice"}), None)
        .json();
    let expected = server
        .fixture
        .model
        .tokenize("hello alice", Boundary::Omit, Special::ByName)
        .unwrap();
    assert_eq!(tokens["tokens"], json!(expected));
    let text = server.post("/detokenize", &tokens, None).json();
    assert_eq!(
        text["content"].as_str().unwrap().trim_start(),
        "hello alice"
    );
    let pieces = server
        .post(
            "/tokenize",
            &json!({"content": "hello", "with_pieces": true}),
            None,
        )
        .json();
    assert!(pieces["tokens"][0]["id"].is_i64() && pieces["tokens"][0]["piece"].is_string());
    let wrong = server.post("/detokenize", &json!({"tokens": [99999]}), None);
    assert_eq!(wrong.status, 400);
    let metrics = server.get("/metrics", None).text;
    assert!(
        metrics.contains("cope_llama_requests_total{route=\"/tokenize\",status=\"200\"} 2"),
        "{metrics}"
    );
    assert!(metrics.ends_with("# EOF\n"));
}
