//! Many clients at once, of several users: whether anything fails, whether each gets the answer that it would get alone, how
//! far the throughput is from what the machine's batches allow, and whether memory stays what it is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::Options;
use super::server::{Server, Users};

const USERS: [&str; 4] = ["ann", "bob", "cid", "dan"];

/// Tokens of an answer at most.
const N_PREDICT: usize = 48;

/// Requests that are alike are answered alike.
const KINDS: usize = 40;

pub fn run(options: &Options) -> Result<()> {
    let n_clients = options.clients;
    let parallel = n_clients.to_string();
    let parallel_user = n_clients.div_ceil(USERS.len()).to_string();
    let arguments = [
        "--parallel",
        &parallel,
        "--parallel-user",
        &parallel_user,
        "--ctx-size",
        "512",
        "--memory",
        "8192",
    ];
    let users = Users::train(options.model.as_ref(), &USERS)?;
    let server = Server::start(&users, &arguments)?;
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let alone: Vec<Answer> = (0..KINDS)
        .map(|kind| ask(&agent, &server, kind))
        .collect::<Result<_>>()?;
    let memory_before = server.resident_mb()?;

    let next = AtomicUsize::new(0);
    let firsts = Mutex::new(Vec::new());
    let (n_same, n_tokens, n_busy) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let started = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let client = || -> Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= options.requests {
                    return Ok(());
                }
                let kind = number % KINDS;
                let answer = loop {
                    let answer = ask(&agent, &server, kind)?;
                    if answer.status != 429 {
                        break answer;
                    }
                    n_busy.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(200));
                };
                n_same.fetch_add(
                    usize::from(answer.text == alone[kind].text),
                    Ordering::Relaxed,
                );
                n_tokens.fetch_add(answer.n_tokens, Ordering::Relaxed);
                firsts
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(answer.first);
            }
        };
        let threads: Vec<_> = (0..n_clients).map(|_| scope.spawn(client)).collect();
        for thread in threads {
            match thread.join() {
                Ok(result) => result?,
                Err(_) => bail!("a client panicked"),
            }
        }
        Ok(())
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let mut firsts = firsts.into_inner().unwrap_or_else(PoisonError::into_inner);
    firsts.sort();
    let p95 = firsts[firsts.len() * 95 / 100];
    let memory = server.resident_mb()?;
    println!(
        "| clients | requests | told to wait | as alone | tokens/s | first token, p95, s | memory before, after, MB |"
    );
    println!("|---|---|---|---|---|---|---|");
    println!(
        "| {n_clients} | {} | {} | {} | {:.0} | {:.2} | {memory_before:.0}, {memory:.0} |",
        options.requests,
        n_busy.into_inner(),
        n_same.into_inner(),
        n_tokens.into_inner() as f64 / seconds,
        p95.as_secs_f64(),
    );
    Ok(())
}

struct Answer {
    status: u16,
    text: String,
    n_tokens: usize,
    first: Duration,
}

/// Asks for a text token by token.
fn ask(agent: &ureq::Agent, server: &Server, kind: usize) -> Result<Answer> {
    use std::io::BufRead;
    let question = [
        "Reply to: Are you free on Friday?",
        "Thank Ines for the ladder.",
        "What did the rain do?",
    ][kind % 3];
    let body = json!({
        "model": USERS[kind % USERS.len()],
        "messages": [{ "role": "user", "content": format!("{question} ({kind})") }],
        "max_tokens": N_PREDICT - kind % 24,
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    let started = Instant::now();
    let mut response = agent
        .post(format!("{}/v1/chat/completions", server.url))
        .send_json(&body)?;
    let status = response.status().as_u16();
    let mut answer = Answer {
        status,
        text: String::new(),
        n_tokens: 0,
        first: Duration::ZERO,
    };
    if status == 429 {
        return Ok(answer);
    }
    ensure!(status == 200, "{}", response.body_mut().read_to_string()?);
    for line in std::io::BufReader::new(response.body_mut().as_reader()).lines() {
        let line = line?;
        let Some(data) = line.strip_prefix("data: ").filter(|data| *data != "[DONE]") else {
            continue;
        };
        let event: Value = serde_json::from_str(data)?;
        ensure!(event.get("error").is_none(), "{event}");
        if let Some(text) = event["choices"][0]["delta"]["content"]
            .as_str()
            .filter(|text| !text.is_empty())
        {
            if answer.text.is_empty() {
                answer.first = started.elapsed();
            }
            answer.text.push_str(text);
        }
        if event["usage"].is_object() {
            answer.n_tokens = event["usage"]["completion_tokens"]
                .as_u64()
                .context("usage")? as usize;
        }
    }
    Ok(answer)
}
