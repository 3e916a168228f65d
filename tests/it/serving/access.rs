//! Keys, identities and origins: who may use which voice.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cope_llama::Error;
use cope_llama::home::{Home, UserName};
use cope_llama::serve::{Identity, KeyOf};
use hmac::{Hmac, KeyInit, Mac};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Server, agent, reply};
use crate::fixture::Fixture;

struct Keys {
    admin: String,
    ann: String,
    bob: String,
}

fn keys(server: &Server) -> Keys {
    let key = |name: &str| {
        let folder = server.home.user(UserName::new(name).unwrap()).unwrap();
        KeyOf::User(folder).make(&server.home).unwrap()
    };
    Keys {
        admin: KeyOf::Admin.make(&server.home).unwrap(),
        ann: key("ann"),
        bob: key("bob"),
    }
}

fn body(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "hello alice" }], "max_tokens": 1, "logprobs": true })
}

#[test]
fn a_key_reaches_its_users_adapter_and_the_base() {
    let server = Server::new();
    // Without any keys every caller on loopback is the administrator.
    assert_eq!(
        server
            .post("/v1/chat/completions", &body("ann"), None)
            .status,
        200
    );
    let keys = keys(&server);
    let status = |model: &str, key: Option<&str>| {
        server
            .post("/v1/chat/completions", &body(model), key)
            .status
    };
    for (key, expected) in [
        (None, [401, 401, 401]),
        (Some("cope-wrong"), [401, 401, 401]),
        (Some(keys.admin.as_str()), [200, 200, 200]),
        (Some(&keys.ann), [200, 200, 404]),
        (Some(&keys.bob), [200, 404, 200]),
    ] {
        assert_eq!(
            ["base", "ann", "bob"].map(|model| status(model, key)),
            expected,
            "{key:?}"
        );
    }
    let listed = server.get("/v1/models", Some(&keys.ann)).json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
    assert_eq!(server.get("/metrics", Some(&keys.ann)).status, 403);
    assert_eq!(server.get("/metrics", Some(&keys.admin)).status, 200);
    // Without a model, a user's key stands for the user's own.
    let own = server
        .post("/v1/chat/completions", &body("ann"), Some(&keys.ann))
        .json();
    let mut unnamed = body("");
    unnamed.as_object_mut().unwrap().remove("model");
    let unnamed = server
        .post("/v1/chat/completions", &unnamed, Some(&keys.ann))
        .json();
    assert_eq!(unnamed["choices"], own["choices"]);
    // Neither the stored hash of a key is accepted as a key, nor a key that was replaced or revoked.
    let kept = std::fs::read_to_string(server.home.admin_key()).unwrap();
    assert!(!kept.contains(&keys.admin));
    let hash: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(status("base", hash["sha256"].as_str()), 401);
    let newer = KeyOf::Admin.make(&server.home).unwrap();
    assert_eq!(
        [
            status("base", Some(&keys.admin)),
            status("base", Some(&newer))
        ],
        [401, 200]
    );
    KeyOf::Admin.revoke(&server.home).unwrap();
    assert_eq!(status("base", Some(&newer)), 401);
    assert_eq!(server.get("/health", None).status, 200);
}

/// A harmless request for the base's answer.
fn status(server: &Server, key: Option<&str>) -> u16 {
    let reply = server.post("/v1/chat/completions", &body("base"), key);
    if reply.status == 401 {
        let home = server.home.admin_key();
        let home = home.parent().unwrap().to_str().unwrap();
        assert!(!reply.text.contains(home), "{}", reply.text);
    }
    reply.status
}

#[test]
fn a_caller_without_a_key_gets_nothing_once_a_key_was_seen() {
    let ends: [fn(&Server); 2] = [
        |server| {
            let ann = server.home.user(UserName::new("ann").unwrap()).unwrap();
            KeyOf::User(ann).revoke(&server.home).unwrap();
        },
        |server| {
            let ann = server.home.user(UserName::new("ann").unwrap()).unwrap();
            ann.delete().unwrap();
        },
    ];
    for end in ends {
        let server = Server::new();
        assert_eq!(status(&server, None), 200);
        let ann = server.home.user(UserName::new("ann").unwrap()).unwrap();
        let key = KeyOf::User(ann).make(&server.home).unwrap();
        assert_eq!(
            [None, Some(key.as_str())].map(|it| status(&server, it)),
            [401, 200]
        );
        end(&server);
        assert_eq!(
            [None, Some(key.as_str())].map(|it| status(&server, it)),
            [401, 401]
        );
    }
}

#[test]
fn keys_that_cannot_be_read_are_nobodys() {
    let server = Server::new();
    let keys = keys(&server);
    let all = || [&keys.admin, &keys.ann, &keys.bob].map(|key| status(&server, Some(key)));
    assert_eq!(all(), [200, 200, 200]);
    let ann = server.home.user(UserName::new("ann").unwrap()).unwrap();
    std::fs::write(ann.key(), "{\"sha256\": 1").unwrap();
    assert_eq!(all(), [200, 401, 200]);
    // A folder in the place of the file cannot be read either.
    std::fs::remove_file(ann.key()).unwrap();
    std::fs::create_dir(ann.key()).unwrap();
    assert_eq!(all(), [200, 401, 200]);

    let users = ann.path().parent().unwrap();
    std::fs::rename(users, users.with_extension("away")).unwrap();
    std::fs::write(users, "no folder").unwrap();
    // The administrator's key is still known, and the answer needs the users.
    assert_eq!(all(), [500, 401, 401]);
    assert_eq!(status(&server, None), 401);
}

#[test]
fn users_that_cannot_be_looked_at_may_have_keys() {
    let server = Server::new();
    let ann = server.home.user(UserName::new("ann").unwrap()).unwrap();
    let users = ann.path().parent().unwrap();
    std::fs::rename(users, users.with_extension("away")).unwrap();
    std::fs::write(users, "no folder").unwrap();
    assert_eq!(status(&server, None), 401);
}

#[test]
fn a_server_that_others_reach_asks_for_a_key_when_there_is_none_any_more() {
    let fixture = Fixture::new();
    let home = Home::at(fixture.folder.path().join("home"));
    std::fs::create_dir(fixture.folder.path().join("home")).unwrap();
    KeyOf::Admin.make(&home).unwrap();
    let server = Server::of(fixture, |options| {
        options.address = ([0, 0, 0, 0], 0).into();
        options.hosts = vec!["0.0.0.0".into()];
    });
    KeyOf::Admin.revoke(&server.home).unwrap();
    assert_eq!(status(&server, None), 401);
}

/// Names that a careless comparison might take for bob's.
const NAMES: [&str; 29] = [
    "bob",
    "bob",
    "Bob",
    "BOB",
    "bob ",
    " bob",
    "bob\0",
    "bob/",
    "./bob",
    "../bob",
    "users/bob",
    "b%6fb",
    "%62ob",
    "bob\u{200b}",
    "ｂｏｂ",
    "bob.",
    "bob\n",
    "b\u{043e}b",
    "bob;ann",
    "ann,bob",
    "ann/../bob",
    "bob/adapter.gguf",
    "*",
    "",
    "",
    "ann",
    "ann",
    "base",
    "base",
];
/// Beginnings that a careless parser might take off a name.
const PREFIXES: [&str; 15] = [
    "",
    "",
    "",
    "",
    "base:",
    "base:",
    "tiny:",
    "ann:",
    "base:ann:",
    "bob:",
    "lora:",
    "users/",
    "base/",
    "BASE:",
    "base::",
];

/// A request that may ask for bob's voice.
fn attempt(random: &mut ChaCha8Rng) -> Value {
    let name = NAMES[random.random_range(0..NAMES.len())];
    let prefix = PREFIXES[random.random_range(0..PREFIXES.len())];
    let mut body = body(&format!("{prefix}{name}"));
    if random.random_bool(0.5) {
        let users = ["bob", "BOB", "ann", "bob ", "b%6fb", "admin"];
        body["user"] = json!(users[random.random_range(0..users.len())]);
    }
    if random.random_bool(0.3) {
        let scale = [1.0, 1.0, 0.5, -1.0, 0.0][random.random_range(0..5)];
        body["lora"] = json!([{ "id": random.random_range(0..4), "scale": scale }]);
    }
    if random.random_bool(0.3) {
        body["arm"] = json!(["base", "user", "cope"][random.random_range(0..3)]);
    }
    if random.random_bool(0.1) {
        body["messages"] = json!([{ "role": "system", "content": "You are bob." }, { "role": "user", "content": "hello alice" }]);
    }
    body
}

/// Headers that name ann as the caller, or no valid caller.
fn credentials(random: &mut ChaCha8Rng, keys: &Keys) -> Vec<(&'static str, String)> {
    let bearer = |key: &str| ("Authorization", format!("Bearer {key}"));
    match random.random_range(0..8) {
        0 => vec![("Authorization", format!("bearer {}", keys.ann))],
        1 => vec![("X-Api-Key", keys.ann.clone())],
        2 => vec![bearer(&keys.bob[..keys.bob.len() - 1])],
        3 => vec![bearer(&keys.bob.to_uppercase())],
        4 => vec![("Authorization", "Basic Ym9iOmJvYg==".into())],
        5 => vec![
            bearer(&keys.ann),
            ("X-OpenWebUI-User-Email", "bob@example.org".into()),
            ("X-Forwarded-User", "bob".into()),
        ],
        _ => vec![bearer(&keys.ann)],
    }
}

/// A token with its probabilities, rounded to what does not depend on the prefix cache.
fn rounded(said: &Value) -> (String, [i64; 2]) {
    let p = ["p_user", "p_base"]
        .map(|name| said[name].as_f64().map_or(-1, |p| (p * 1e4).round() as i64));
    (said["token"].to_string(), p)
}

/// A request with ann's key is refused, or answered in the base's voice or her own.
#[test]
fn ten_thousand_attempts_at_anothers_adapter_fail() {
    let server = Server::new();
    let keys = keys(&server);
    let first = |scale: f64, arm: &str, key: &str| {
        let mut body = body("");
        body["arm"] = json!(arm);
        body["lora"] = json!([{ "id": 0, "scale": scale }]);
        let reply = server.post("/v1/chat/completions", &body, Some(key));
        rounded(&reply.json()["choices"][0]["logprobs"]["content"][0])
    };
    // Bob asks first, so that his adapter and the prefix cache of his prompt are in memory.
    let ways = [(1.0, "user"), (1.0, "cope"), (0.5, "user"), (0.5, "cope")];
    let bobs = ways.map(|(scale, arm)| first(scale, arm, &keys.bob));
    let anns = ways.map(|(scale, arm)| first(scale, arm, &keys.ann));
    let bases = first(0.0, "base", &keys.ann);
    assert!(bobs.iter().all(|it| !anns.contains(it) && *it != bases));
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let agent = agent();
    let (mut n_refused, mut n_harmless) = (0, 0);
    for _ in 0..10_000 {
        let body = attempt(&mut random);
        let mut request = agent.post(server.url("/v1/chat/completions"));
        for (name, value) in credentials(&mut random, &keys) {
            request = request.header(name, value);
        }
        let reply = reply(request.send_json(&body).unwrap());
        if reply.status == 200 {
            let whole = reply.json();
            let said = rounded(&whole["choices"][0]["logprobs"]["content"][0]);
            let has_one_message = body["messages"].as_array().unwrap().len() == 1;
            assert!(!bobs.contains(&said), "{body}");
            assert!(
                !has_one_message || anns.contains(&said) || said == bases,
                "{body}: {said:?}"
            );
            n_harmless += 1;
        } else {
            assert!(
                matches!(reply.status, 400 | 401 | 403 | 404),
                "{body}: {}",
                reply.text
            );
            assert!(!reply.text.contains("p_user"), "{body}: {}", reply.text);
            n_refused += 1;
        }
    }
    assert!(
        n_refused > 1000 && n_harmless > 200,
        "{n_refused} refused, {n_harmless} harmless"
    );
}

#[test]
fn open_webui_asks_for_the_person_that_it_signs() {
    const SECRET: &[u8] = b"a secret of some length";
    let server = Server::with(|options| options.open_webui_secret = Some(SECRET.to_vec()));
    let keys = keys(&server);
    let folder = server.home.user(UserName::new("bob").unwrap()).unwrap();
    let identity = Identity::new("bob@example.org").unwrap();
    identity.keep(&server.home, &folder).unwrap();
    let ann = server.home.user(UserName::new("ann").unwrap()).unwrap();
    assert!(
        identity.keep(&server.home, &ann).is_err(),
        "an address belongs to one user"
    );
    let token = |email: &str, secret: &[u8]| {
        let claims = json!({ "sub": "1", "email": email, "name": "ann", "role": "user", "iss": "open-webui", "exp": 99_999_999_999_u64 });
        let signed = [json!({ "alg": "HS256" }), claims]
            .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()))
            .join(".");
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        mac.update(signed.as_bytes());
        format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
        )
    };
    let ask = |model: &str, key: &str, token: &str| {
        let request = agent()
            .post(server.url("/v1/chat/completions"))
            .header("Authorization", format!("Bearer {key}"))
            .header("X-OpenWebUI-User-Jwt", token);
        reply(request.send_json(body(model)).unwrap())
    };
    let bobs_token = token("bob@example.org", SECRET);
    assert_eq!(ask("bob", &keys.admin, &bobs_token).status, 200);
    assert_eq!(ask("ann", &keys.admin, &bobs_token).status, 404);
    assert_eq!(ask("base", &keys.ann, &bobs_token).status, 403);
    assert_eq!(
        ask(
            "bob",
            &keys.admin,
            &token("bob@example.org", b"another secret")
        )
        .status,
        403
    );
    assert_eq!(
        ask("ann", &keys.admin, &token("ann@example.org", SECRET)).status,
        403
    );
    assert_eq!(ask("bob", &keys.admin, "a.b.c").status, 403);
    // A server without the secret cannot verify an identity, so it refuses it even from the administrator.
    let open = Server::new();
    let request = agent()
        .post(open.url("/v1/chat/completions"))
        .header("X-OpenWebUI-User-Jwt", bobs_token);
    assert_eq!(reply(request.send_json(body("bob")).unwrap()).status, 403);
}

#[test]
fn pages_of_other_sites_are_refused() {
    let server = Server::with(|options| {
        options.hosts = vec!["box.lan".into()];
        options.origins = vec!["https://chat.example.org".into()];
    });
    let port = server.address().port();
    let status = |headers: &[(&str, String)]| {
        let mut request = agent().get(server.url("/v1/models"));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        reply(request.call().unwrap())
    };
    let host = |host: &str| status(&[("Host", host.to_owned())]).status;
    assert_eq!(
        [
            host("localhost"),
            host(&format!("localhost:{port}")),
            host("box.lan"),
            host("[::1]:80"),
            host(&format!("0.0.0.0:{port}")),
            host("[::]")
        ],
        [200; 6]
    );
    assert_eq!(
        [
            host("evil.example"),
            host("localhost.evil.example"),
            host("127.0.0.1.evil.example"),
            host("192.168.0.7")
        ],
        [403; 4]
    );
    let origin = |origin: &str| status(&[("Origin", origin.to_owned())]);
    assert_eq!(origin(&format!("http://127.0.0.1:{port}")).status, 200);
    let allowed = origin("https://chat.example.org");
    assert_eq!(
        allowed.headers["access-control-allow-origin"],
        "https://chat.example.org"
    );
    for other in [
        "http://evil.example",
        "null",
        "http://localhost:1",
        "https://chat.example.org.evil.example",
    ] {
        let refused = origin(other);
        assert_eq!(refused.status, 403, "{other}");
        assert!(refused.headers.get("access-control-allow-origin").is_none());
    }
}

#[test]
fn a_server_beyond_loopback_needs_keys() {
    let server = Server::new();
    let mut options = super::options(&server.fixture.path);
    options.address = ([0, 0, 0, 0], 0).into();
    let served =
        cope_llama::serve::serve(&server.home, options, |_| panic!("it listens"), async {});
    let address = match served.unwrap_err() {
        Error::NoKeys(address) => address,
        error => panic!("{error}"),
    };
    assert_eq!(address, ([0, 0, 0, 0], 0).into());
}
