//! Ollama's API: its answers say what those of OpenAI's API say, in its own form.

use cope_llama::home::UserName;
use cope_llama::serve::KeyOf;
use serde_json::{Value, json};

use super::{Server, agent, merge, reply};
use crate::fixture::Fixture;

/// A request to `/api/chat` for the chat of [`Running::chat`](super::Running::chat).
fn chat_body(more: &Value) -> Value {
    let mut body = json!({
        "model": "ann", "stream": false, "options": { "num_predict": 12 },
        "messages": [{ "role": "user", "content": "hello alice" }],
    });
    merge(&mut body, more);
    body
}

fn ok(server: &Server, path: &str, body: &Value) -> Value {
    let reply = server.post(path, body, None);
    assert_eq!(reply.status, 200, "{path} {body}: {}", reply.text);
    reply.json()
}

fn said(server: &Server, more: &Value) -> String {
    let whole = ok(server, "/api/chat", &chat_body(more));
    whole["message"]["content"].as_str().unwrap().to_owned()
}

/// The message of an error, which is the one field of its body.
fn refused(server: &Server, path: &str, body: &Value, status: u16) -> String {
    let reply = server.post(path, body, None);
    assert_eq!(reply.status, status, "{path} {body}: {}", reply.text);
    let error = reply.json();
    assert_eq!(error.as_object().unwrap().len(), 1, "{error}");
    error["error"].as_str().unwrap().to_owned()
}

/// The objects of a stream, each of which is a line.
fn lines(text: &str) -> Vec<Value> {
    assert!(text.ends_with('\n') && !text.contains("\n\n"), "{text:?}");
    let line = |line| serde_json::from_str(line).unwrap();
    text.lines().map(line).collect()
}

#[test]
fn a_chat_is_answered_whole_or_line_by_line() {
    let server = Server::new();
    let expected = server.chat("ann", &json!({})).json();
    let text = &expected["choices"][0]["message"]["content"];
    let whole = ok(&server, "/api/chat", &chat_body(&json!({})));
    let message = json!({ "role": "assistant", "content": text });
    assert_eq!(whole["message"], message);
    assert_eq!(
        (&whole["model"], &whole["done"]),
        (&json!("ann"), &json!(true))
    );
    assert_eq!(whole["done_reason"], "length");
    let usage = &expected["usage"];
    assert_eq!(whole["prompt_eval_count"], usage["prompt_tokens"]);
    assert_eq!(whole["eval_count"], 12);
    let times = ["total", "load", "prompt_eval", "eval"].map(|it| &whole[format!("{it}_duration")]);
    let times = times.map(|time| time.as_u64().expect("nanoseconds"));
    assert_eq!(times[0], times[2] + times[3]);
    assert!(times[2] > 0 && times[3] > 0, "{times:?}");
    let created = whole["created_at"].as_str().unwrap();
    assert!(
        created.starts_with("20") && created.ends_with('Z'),
        "{created}"
    );

    // Without `stream` the answer is a stream.
    let mut body = chat_body(&json!({}));
    body.as_object_mut().unwrap().remove("stream");
    let reply = server.post("/api/chat", &body, None);
    assert_eq!(reply.headers["content-type"], "application/x-ndjson");
    let lines = lines(&reply.text);
    let (last, parts) = lines.split_last().unwrap();
    let content = |line: &Value| {
        assert_eq!(line["message"]["role"], "assistant", "{line}");
        line["message"]["content"].as_str().unwrap().to_owned()
    };
    assert!(
        parts
            .iter()
            .all(|line| line["done"] == false && !content(line).is_empty())
    );
    assert_eq!(parts.iter().map(content).collect::<String>(), *text);
    assert_eq!(content(last), "");
    assert_eq!(
        (&last["done"], &last["eval_count"]),
        (&json!(true), &json!(12))
    );
    assert_eq!(last["done_reason"], "length");
}

#[test]
fn a_prompt_is_answered_as_a_chat_or_as_it_is() {
    let server = Server::new();
    let generate = |more: Value| {
        let mut body = json!({
            "model": "ann", "prompt": "hello alice", "stream": false, "options": { "num_predict": 12 },
        });
        merge(&mut body, &more);
        let whole = ok(&server, "/api/generate", &body);
        assert!(whole.get("message").is_none(), "{whole}");
        whole["response"].as_str().unwrap().to_owned()
    };
    assert_eq!(generate(json!({})), said(&server, &json!({})));
    let messages = json!([
        { "role": "system", "content": "the wine" },
        { "role": "user", "content": "hello alice" },
    ]);
    let with_system = said(&server, &json!({ "messages": messages }));
    assert_eq!(generate(json!({ "system": "the wine" })), with_system);
    assert_ne!(with_system, said(&server, &json!({})));
    let body = json!({ "model": "ann", "prompt": "hello alice", "max_tokens": 12 });
    let raw = ok(&server, "/v1/completions", &body);
    assert_eq!(generate(json!({ "raw": true })), raw["choices"][0]["text"]);
    let body =
        json!({ "model": "ann", "prompt": "hello alice", "raw": true, "system": "the wine" });
    assert!(refused(&server, "/api/generate", &body, 400).starts_with("`system` is not supported"));
}

#[test]
fn a_request_without_a_prompt_loads_the_model() {
    let server = Server::new();
    let loaded = ok(
        &server,
        "/api/generate",
        &json!({ "model": "ann:latest", "keep_alive": 0, "prompt": "" }),
    );
    assert_eq!(
        (&loaded["response"], &loaded["done_reason"]),
        (&json!(""), &json!("load"))
    );
    assert_eq!(
        (&loaded["model"], &loaded["done"]),
        (&json!("ann:latest"), &json!(true))
    );
    let loaded = ok(
        &server,
        "/api/chat",
        &json!({ "model": "base", "messages": [] }),
    );
    assert_eq!(
        loaded["message"],
        json!({ "role": "assistant", "content": "" })
    );
    assert_eq!(loaded["done_reason"], "load");
    let message = refused(&server, "/api/chat", &json!({ "model": "eve" }), 404);
    assert_eq!(message, "there is no model \"eve\" for this key");
}

#[test]
fn options_are_obeyed_ignored_or_refused() {
    let server = Server::new();
    let with = |options: Value| {
        let mut all =
            json!({ "num_predict": 12, "temperature": 1.0, "seed": 5, "no_repeat_ngram": 0 });
        merge(&mut all, &options);
        json!({ "options": all })
    };
    let plain = said(&server, &with(json!({})));
    for options in [
        json!({ "temperature": 0 }),
        json!({ "seed": 6 }),
        json!({ "num_predict": 5 }),
        json!({ "num_ctx": server.chat_prompt().len() + 5 }),
        json!({ "top_k": 1 }),
        json!({ "top_p": 0.01 }),
        json!({ "min_p": 1 }),
        json!({ "repeat_penalty": 0.001, "repeat_last_n": -1 }),
        json!({ "stop": [plain.chars().next().unwrap().to_string()] }),
        json!({ "arm": "base" }),
        json!({ "contrast": 2.0 }),
    ] {
        assert_ne!(said(&server, &with(options.clone())), plain, "{options}");
    }
    // No context is larger than the server's, and a prompt that fits into that one is read whole.
    for options in [
        json!({ "num_ctx": 1 << 20, "num_keep": 4, "num_batch": 8, "num_gpu": 1, "num_thread": 2, "use_mmap": true }),
        json!({ "mirostat": 0, "mirostat_eta": 0.1, "mirostat_tau": 5.0, "tfs_z": 1.0 }),
        json!({ "numa": null, "penalize_newline": true }),
    ] {
        assert_eq!(said(&server, &with(options.clone())), plain, "{options}");
    }
    for (options, message) in [
        (
            json!({ "mirostat": 2 }),
            "`options.mirostat` is not supported by this server unless it is 0",
        ),
        (
            json!({ "temprature": 1 }),
            "`options.temprature` is not a field",
        ),
        (
            json!({ "top_p": "much" }),
            "`options.top_p` has to be a number, not a text",
        ),
        (json!({ "temperature": -1 }), "temperature"),
        (
            json!({ "num_ctx": 2 }),
            "exceeds the available context size of 2 tokens",
        ),
    ] {
        let told = refused(&server, "/api/chat", &chat_body(&with(options)), 400);
        assert!(told.contains(message), "{told}");
    }
    // A limit beside the options holds too, as Open WebUI sends it.
    let body = chat_body(&json!({ "num_predict": 3 }));
    assert_eq!(ok(&server, "/api/chat", &body)["eval_count"], 3);
    let body = chat_body(&json!({ "num_predict": 30, "options": { "num_predict": -1 } }));
    assert_eq!(ok(&server, "/api/chat", &body)["eval_count"], 30);
}

#[test]
fn fields_beside_the_options_are_obeyed_ignored_or_refused() {
    let server = Server::new();
    let plain = said(&server, &json!({}));
    for more in [
        json!({ "keep_alive": "5m", "think": false, "format": "", "tools": [], "metadata": { "chat_id": "1" } }),
        json!({ "template": "", "truncate": true, "shift": false }),
        json!({ "messages": [{ "role": "user", "content": "hello alice", "images": [], "thinking": "" }] }),
        json!({ "model": "ann:latest" }),
        json!({ "model": "base:ann" }),
    ] {
        assert_eq!(said(&server, &more), plain, "{more}");
    }
    for (more, message) in [
        (
            json!({ "template": "{{ .Prompt }}" }),
            "`template` is not supported",
        ),
        (
            json!({ "think": true }),
            "this model cannot be asked to think",
        ),
        (
            json!({ "think": "high" }),
            "`think` has to be true or false",
        ),
        (
            json!({ "format": "xml" }),
            "`format` is `json` or a JSON schema, not \"xml\"",
        ),
        (
            json!({ "tools": [{ "type": "function" }] }),
            "this server does not call tools",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": "?", "images": ["aGk="] }] }),
            "`messages[0].images` is not supported",
        ),
        (
            json!({ "temperature": 0.5 }),
            "`temperature` is not a field",
        ),
        (
            json!({ "top_logprobs": 2 }),
            "`top_logprobs` needs `logprobs`",
        ),
    ] {
        let told = refused(&server, "/api/chat", &chat_body(&more), 400);
        assert!(told.contains(message), "{told}");
    }
    for more in [
        json!({ "suffix": "end" }),
        json!({ "context": [1, 2] }),
        json!({ "images": ["aGk="] }),
    ] {
        let mut body = json!({ "model": "ann", "prompt": "hello alice" });
        merge(&mut body, &more);
        let name = more.as_object().unwrap().keys().next().unwrap();
        let told = refused(&server, "/api/generate", &body, 400);
        assert!(
            told.starts_with(&format!("`{name}` is not supported")),
            "{told}"
        );
    }
}

#[test]
fn an_answer_has_the_form_and_the_probabilities_that_are_asked_for() {
    let server = Server::new();
    let schema = json!({ "type": "object", "properties": { "a": { "enum": [1, 2] } }, "required": ["a"], "additionalProperties": false });
    let more = json!({ "format": schema, "options": { "num_predict": 200 } });
    let answer: Value = serde_json::from_str(&said(&server, &more)).unwrap();
    assert!(
        answer == json!({ "a": 1 }) || answer == json!({ "a": 2 }),
        "{answer}"
    );
    let more = json!({ "logprobs": true, "top_logprobs": 2 });
    let expected = server.chat("ann", &more).json();
    let whole = ok(&server, "/api/chat", &chat_body(&more));
    assert_eq!(
        whole["logprobs"],
        expected["choices"][0]["logprobs"]["content"]
    );
    assert_eq!(whole["logprobs"].as_array().unwrap().len(), 12);
    let body = json!({
        "model": "ann", "prompt": "hello alice", "raw": true, "stream": false, "logprobs": true,
        "options": { "num_predict": 3 },
    });
    let raw = ok(&server, "/api/generate", &body);
    assert_eq!(raw["logprobs"].as_array().unwrap().len(), 3);
    assert_eq!(raw["logprobs"][0]["top_logprobs"], json!([]));
}

#[test]
fn a_thought_is_beside_the_content() {
    const OPENS: &str = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}\
        <|assistant|><think>{% if enable_thinking is false %}</think>{% endif %}";
    let server = Server::of(Fixture::with_template(OPENS), |_| {});
    let grammar = "root ::= \"hm, so\\n</think>\\n\\nfine\"";
    let more = json!({ "think": true, "options": { "grammar": grammar, "num_predict": 200 } });
    let whole = ok(&server, "/api/chat", &chat_body(&more));
    let expected = json!({ "role": "assistant", "content": "fine", "thinking": "hm, so" });
    assert_eq!(whole["message"], expected);
    let shown = ok(&server, "/api/show", &json!({ "model": "ann" }));
    assert_eq!(shown["capabilities"], json!(["completion", "thinking"]));
}

#[test]
fn an_error_is_a_text_before_a_stream_and_a_line_within_it() {
    let server = Server::new();
    let cannot_end = |stream: bool| {
        let options = json!({ "grammar": "root ::= \"fine\"", "ignore_eos": true });
        chat_body(&json!({ "stream": stream, "options": options }))
    };
    let message = "the answer cannot go on";
    let told = refused(&server, "/api/chat", &cannot_end(false), 400);
    assert!(told.starts_with(message), "{told}");
    let reply = server.post("/api/chat", &cannot_end(true), None);
    assert_eq!(reply.status, 200, "{}", reply.text);
    let lines = lines(&reply.text);
    let (last, parts) = lines.split_last().unwrap();
    assert_eq!(last.as_object().unwrap().len(), 1, "{last}");
    assert!(
        last["error"].as_str().unwrap().starts_with(message),
        "{last}"
    );
    let text = parts
        .iter()
        .map(|line| line["message"]["content"].as_str().unwrap());
    assert_eq!(text.collect::<String>(), "fine");

    let of = |reply: super::Reply, status: u16| {
        assert_eq!(reply.status, status, "{}", reply.text);
        reply.json()["error"].as_str().expect("a text").to_owned()
    };
    let nothing = of(
        server.post("/api/pull", &json!({ "model": "llama3" }), None),
        404,
    );
    assert_eq!(nothing, "there is nothing at /api/pull");
    let embeddings = of(
        server.post(
            "/api/embed",
            &json!({ "model": "base", "input": "a" }),
            None,
        ),
        404,
    );
    assert!(embeddings.contains("makes no embeddings"), "{embeddings}");
    assert!(of(server.get("/api/chat", None), 405).contains("takes no requests of the method GET"));
    let long = "x".repeat(1 << 17);
    let long = of(
        server.post(
            "/api/generate",
            &json!({ "model": "base", "prompt": long }),
            None,
        ),
        413,
    );
    assert!(long.contains("the body is longer than"), "{long}");
    let elsewhere = agent()
        .get(server.url("/api/tags"))
        .header("Host", "evil.example");
    let elsewhere = of(reply_of(elsewhere), 403);
    assert!(
        elsewhere.contains("does not answer to the name"),
        "{elsewhere}"
    );
    // The page's own interface keeps the envelope of OpenAI's API.
    assert!(server.get("/api/nothing", None).json()["error"]["message"].is_string());
}

fn reply_of(request: ureq::RequestBuilder<ureq::typestate::WithoutBody>) -> super::Reply {
    reply(request.call().unwrap())
}

/// The names of the models that a key reaches.
fn names(server: &Server, key: Option<&str>) -> Vec<String> {
    let listed = server.get("/api/tags", key).json();
    let models = listed["models"].as_array().unwrap().iter();
    let name = |model: &Value| {
        assert_eq!(model["name"], model["model"]);
        model["name"].as_str().unwrap().to_owned()
    };
    models.map(name).collect()
}

#[test]
fn models_are_listed_and_described() {
    let server = Server::new();
    assert_eq!(
        names(&server, None),
        ["base:latest", "ann:latest", "bob:latest"]
    );
    let listed = server.get("/api/tags", None).json();
    let base = &listed["models"][0];
    assert_eq!(base["digest"], server.fixture.base_sha256);
    let file = std::fs::metadata(&server.fixture.path).unwrap();
    assert_eq!(base["size"], file.len());
    let details = &base["details"];
    assert_eq!(details["format"], "gguf");
    assert_eq!(details["family"], "llama");
    assert_eq!(details["quantization_level"], "F32");

    let shown = ok(
        &server,
        "/api/show",
        &json!({ "model": "ann:latest", "verbose": false }),
    );
    assert_eq!(shown["details"]["parent_model"], "base");
    assert_eq!(shown["capabilities"], json!(["completion"]));
    let info = &shown["model_info"];
    assert_eq!(info["general.architecture"], "llama");
    assert_eq!(info["llama.context_length"], 512);
    let tensors = server.fixture.base.tensors.iter();
    let n_weights: u64 = tensors.map(|it| it.shape.iter().product::<u64>()).sum();
    assert_eq!(info["general.parameter_count"], n_weights);

    let running = server.get("/api/ps", None).json();
    assert_eq!(running["models"][0]["name"], "base:latest");
    assert_eq!(running["models"][0]["context_length"], 256);
}

#[test]
fn a_key_reaches_its_users_model_and_the_base() {
    let server = Server::new();
    let ann = server.home.user(UserName::new("ann").unwrap()).unwrap();
    let key = KeyOf::User(ann).make(&server.home).unwrap();
    assert_eq!(names(&server, Some(&key)), ["base:latest", "ann:latest"]);
    let messages = json!([{ "role": "user", "content": "?" }]);
    for (path, mut body) in [
        ("/api/show", json!({ "name": "bob" })),
        ("/api/chat", json!({ "messages": messages })),
        ("/api/generate", json!({ "prompt": "?" })),
    ] {
        let status = |body: &Value, key: Option<&str>, status: u16, message: &str| {
            let reply = server.post(path, body, key);
            assert_eq!(reply.status, status, "{path}: {}", reply.text);
            let told = reply.json()["error"].as_str().unwrap().to_owned();
            assert!(told.contains(message), "{told}");
        };
        body["model"] = json!("bob:latest");
        status(
            &body,
            Some(&key),
            404,
            "there is no model \"bob\" for this key",
        );
        status(&body, None, 401, "a key is needed");
        body["model"] = json!("ann:latest");
        assert_eq!(server.post(path, &body, Some(&key)).status, 200, "{path}");
    }
    assert_eq!(server.get("/api/tags", None).status, 401);
    assert_eq!(server.get("/api/ps", None).status, 401);
    // Clients ask for the version, and whether there is a server, without a key.
    let version = server.get("/api/version", None).json();
    let numbers = version["version"].as_str().unwrap().split('.');
    let numbers: Vec<u32> = numbers.map(|it| it.parse().unwrap()).collect();
    assert_eq!(numbers.len(), 3);
    let head = reply(agent().head(server.url("/")).call().unwrap());
    assert_eq!(head.status, 200);
}

/// A request as Open WebUI makes it of a chat with a model of an Ollama connection.
#[test]
fn open_webui_chats_over_an_ollama_connection() {
    let server = Server::new();
    let same = json!({ "temperature": 0.7, "seed": 3, "top_k": 40, "top_p": 1.0 });
    let expected = server.chat("ann", &same).json();
    let expected = &expected["choices"][0]["message"]["content"];
    let body = json!({
        "model": "ann:latest",
        "messages": [{ "role": "user", "content": "hello alice" }],
        "stream": true,
        "keep_alive": "5m",
        "think": false,
        "options": {
            "temperature": 0.7, "seed": 3, "num_predict": 12, "num_ctx": 4096, "stop": [], "top_k": 40,
            "top_p": 1.0, "repeat_last_n": 0, "mirostat": 0, "num_keep": 24, "num_batch": 512, "num_gpu": 0,
            "use_mmap": true, "use_mlock": false, "num_thread": 2,
        },
    });
    let reply = server.post("/api/chat", &body, None);
    assert_eq!(reply.status, 200, "{}", reply.text);
    let lines = lines(&reply.text);
    let text = lines
        .iter()
        .map(|line| line["message"]["content"].as_str().unwrap());
    assert_eq!(text.collect::<String>(), *expected);
    assert_eq!(lines.last().unwrap()["model"], "ann:latest");
}
