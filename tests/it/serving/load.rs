//! Many clients at once, clients that go away, and models that share the memory.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Refusal, Server};

fn gauge(server: &Server, name: &str) -> f64 {
    let text = server.get("/metrics", None).text;
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("cope_llama_{name} ")));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "the server did not get there in time"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn many_clients_get_the_answers_that_they_would_get_alone() {
    let server = Server::with(|options| options.limits.queue = 64);
    let voices = ["ann", "bob", "base"];
    let ask = |number: usize| {
        let more = json!({ "temperature": if number.is_multiple_of(2) { 0.0 } else { 1.0 }, "seed": number / 6, "max_tokens": 5 + number % 20 });
        let reply = server.chat(voices[number % 3], &more);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["choices"][0].clone()
    };
    let alone: Vec<Value> = (0..60).map(ask).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= 300 {
                        return;
                    }
                    assert_eq!(ask(number % 60), alone[number % 60], "request {number}");
                }
            });
        }
    });
    assert!(gauge(&server, "texts_running").abs() < f64::EPSILON);
}

/// Sends a request for a long answer, without reading the response.
fn begin(server: &Server, more: &Value) -> TcpStream {
    let mut body = json!({ "model": "ann", "messages": [{ "role": "user", "content": "hello alice" }], "max_tokens": 64,
        "stream": true, "logit_bias": { "2": -100 }, "temperature": 1.0 });
    super::merge(&mut body, more);
    let body = body.to_string();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    stream
}

#[test]
fn a_client_that_goes_away_frees_its_place() {
    let server = Server::with(|options| options.limits.queue = 0);
    for round in 0..50 {
        let more = json!({ "stream": round % 2 == 0 });
        let mut stream = begin(&server, &more);
        if round % 2 == 0 {
            let mut some = [0; 64];
            assert!(stream.read(&mut some).unwrap() > 0);
        }
        drop(stream);
    }
    wait_until(|| gauge(&server, "texts_running") + gauge(&server, "texts_waiting") < 1.0);
    assert_eq!(server.chat("ann", &json!({})).status, 200);
}

#[test]
fn a_full_queue_is_429_with_a_time_to_retry() {
    let server = Server::with(|options| {
        options.settings.parallel = 1;
        options.settings.parallel_user = 1;
        options.limits.queue = 1;
    });
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let ask = || {
            let reply = server.chat("ann", &json!({ "max_tokens": 64 }));
            if reply.status == 429 {
                reply.assert_refused(&Refusal {
                    code: Some("queue_full"),
                    retry_after: Some("1"),
                    ..Refusal::new(
                        429,
                        "rate_limit_error",
                        "too many requests are waiting; try again in a moment",
                    )
                });
            }
            reply.status
        };
        let threads: Vec<_> = (0..24).map(|_| scope.spawn(ask)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(
        statuses.iter().all(|status| matches!(status, 200 | 429)),
        "{statuses:?}"
    );
    assert!(
        statuses.contains(&200) && statuses.contains(&429),
        "{statuses:?}"
    );
}

#[test]
fn models_are_evicted_for_others_and_not_for_their_own_text() {
    let one = Server::new();
    one.chat("base", &json!({}));
    let base_bytes = gauge(&one, "models_bytes") as u64;
    // Room for the base and one user.
    let server = Server::with(|options| options.settings.memory = base_bytes + base_bytes * 3 / 4);
    for round in 0..6 {
        let voice = ["ann", "bob"][round % 2];
        assert_eq!(server.chat(voice, &json!({})).status, 200);
        assert!(gauge(&server, "models_loaded") <= 2.0);
    }
    // A text needs both models of CoPe at once, so neither is evicted for the other.
    let server = Server::with(|options| options.settings.memory = base_bytes + base_bytes / 4);
    assert_eq!(server.chat("base", &json!({})).status, 200);
    assert!(server.chat("ann", &json!({})).error().contains("--memory"));
    assert_eq!(server.chat("ann", &json!({ "arm": "user" })).status, 200);
    let server = Server::with(|options| options.settings.memory = base_bytes);
    let refused = server.chat("ann", &json!({}));
    assert_eq!(refused.status, 503);
    assert!(refused.error().contains("--memory"));
}
