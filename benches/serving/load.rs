//! Many clients at once, of several users: whether anything fails, whether each gets the answer that it would get alone, how
//! near the throughput comes to that of the same batches without a server, and whether memory grows.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::Options;
use super::bound::Bound;
use super::requests::{Answer, Explained, KINDS, Kind, Reply, USERS, agent, ask};
use super::server::{Server, Users};

const N_CTX: u32 = 512;

/// The number of short requests before memory is measured for the first time.
const FIRST: usize = 100;
/// One in so many of the short requests is abandoned by its client.
const ONE_LEAVES_OF: usize = 10;
/// The tokens of each short answer.
const SHORT: usize = 3;

/// The least throughput, as a share of the bound.
const LEAST_SHARE: f64 = 0.8;
/// The most memory, as a multiple of that at first.
const MOST_GROWTH: f64 = 1.05;

pub fn run(options: &Options) -> Result<()> {
    let users = Users::train(options.model.as_ref(), &USERS)?;
    let parallel_user = options.clients.div_ceil(USERS.len());
    let arguments = [
        ("--parallel", options.clients),
        ("--parallel-user", parallel_user),
        ("--ctx-size", N_CTX as usize),
        ("--memory", 8192),
    ];
    let arguments = arguments.map(|(name, value)| [name.to_owned(), value.to_string()]);
    let arguments: Vec<&str> = arguments.iter().flatten().map(String::as_str).collect();
    let server = Server::start(&users, &arguments)?;
    let clients = Clients {
        server: &server,
        n: options.clients,
    };

    let alone = clients.alone()?;
    println!("| | |\n|---|---|");
    println!(
        "| clients, users, requests | {}, {}, {} |",
        options.clients,
        USERS.len(),
        options.requests
    );
    let started = Instant::now();
    let loaded = clients.all(options.requests, |number| Ask::whole(Kind::of(number)))?;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "| refused with 429 and sent again; any other error ends the bench | {} |",
        loaded.n_busy
    );
    let n_tokens: usize = loaded.answers.iter().map(|(_, it)| it.n_tokens).sum();
    let throughput = n_tokens as f64 / seconds;
    println!("| tokens a second | {throughput:.0} |");
    let mut firsts: Vec<Duration> = loaded.answers.iter().map(|(_, it)| it.first).collect();
    firsts.sort();
    let p95 = firsts[firsts.len() * 95 / 100].as_secs_f64();
    println!("| first token, p95 | {p95:.2} s |");

    let explained = clients.all(options.requests, |number| Ask {
        explained: true,
        ..Ask::whole(Kind::of(number))
    })?;
    let ties = Ties::of(&alone, &explained.answers)?;
    println!(
        "| the same number with each token explained: answers equal to those alone | {} |",
        explained.answers.len() - ties.n
    );
    println!(
        "| other answers, and the largest gap between the two tokens | {}, {:.3} |",
        ties.n, ties.widest
    );
    println!(
        "| ε: the most that a score moves when other texts are decoded too | {:.3} |",
        ties.epsilon
    );

    let short = |number: usize| Ask {
        leaves: number.is_multiple_of(ONE_LEAVES_OF),
        ..Ask::whole(Kind::of(number).short(SHORT))
    };
    clients.all(FIRST, short)?;
    let memory_before = server.resident_mb()?;
    clients.all(options.memory_requests, short)?;
    let memory = server.resident_mb()?;
    drop(server);
    println!(
        "| memory after {FIRST} and after {} more requests, one in {ONE_LEAVES_OF} abandoned | {memory_before:.0}, {memory:.0} MB |",
        options.memory_requests
    );

    let bound = Bound {
        base: users.base().to_owned(),
        adapters: USERS
            .iter()
            .map(|name| users.adapter(name))
            .collect::<Result<_>>()?,
        n_ctx: N_CTX,
        parallel: options.clients,
        parallel_user,
    };
    let bound = bound.tokens_per_second(options.requests)?;
    println!(
        "| tokens a second of the same texts without a server | {bound:.0}, of which the server reaches {:.0} % |",
        100.0 * throughput / bound
    );
    // Two tokens can change places when the score of each moves by ε.
    ensure!(
        ties.widest <= 2.0 * ties.epsilon,
        "an answer differs by more than rounding"
    );
    ensure!(
        throughput >= LEAST_SHARE * bound,
        "the server is slower than its batches allow"
    );
    ensure!(memory <= MOST_GROWTH * memory_before, "memory grows");
    Ok(())
}

/// A request, and how the client sends it.
struct Ask {
    kind: Kind,
    explained: bool,
    leaves: bool,
}

impl Ask {
    fn whole(kind: Kind) -> Self {
        Self {
            kind,
            explained: false,
            leaves: false,
        }
    }
}

/// The clients of a server.
struct Clients<'a> {
    server: &'a Server,
    n: usize,
}

/// The responses that all clients got together.
#[derive(Default)]
struct Outcome {
    answers: Vec<(Kind, Answer)>,
    n_busy: usize,
}

impl Clients<'_> {
    /// The answer to each kind of request, explained, while no other text is decoded.
    fn alone(&self) -> Result<Vec<Answer>> {
        let agent = agent();
        let answer = |number| match ask(&agent, self.server, Kind::of(number), true, false)? {
            Reply::Whole(answer) => Ok(answer),
            Reply::Busy | Reply::Left => bail!("the server is busy with one client"),
        };
        (0..KINDS).map(answer).collect()
    }

    /// Sends `n_requests` from all clients at once. A client that gets a 429 tries again.
    fn all(&self, n_requests: usize, way: impl Fn(usize) -> Ask + Sync) -> Result<Outcome> {
        let next = AtomicUsize::new(0);
        let heard = Mutex::new(Outcome::default());
        let client = || -> Result<()> {
            let agent = agent();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= n_requests {
                    return Ok(());
                }
                let Ask {
                    kind,
                    explained,
                    leaves,
                } = way(number);
                loop {
                    let reply = ask(&agent, self.server, kind, explained, leaves)?;
                    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                    match reply {
                        Reply::Whole(answer) => heard.answers.push((kind, answer)),
                        Reply::Left => {}
                        Reply::Busy => {
                            heard.n_busy += 1;
                            drop(heard);
                            std::thread::sleep(Duration::from_millis(200));
                            continue;
                        }
                    }
                    break;
                }
            }
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.n).map(|_| scope.spawn(client)).collect();
            threads
                .into_iter()
                .try_for_each(|thread| match thread.join() {
                    Ok(result) => result,
                    Err(_) => bail!("a client panicked"),
                })
        })?;
        Ok(heard.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The comparison of answers with those that were given alone.
#[derive(Default)]
struct Ties {
    /// The number of answers that differ.
    n: usize,
    /// The largest [`gap`] at the first token that differs.
    widest: f64,
    /// The most by which the score of a token differs from its score alone, over all positions after the same text.
    epsilon: f64,
}

impl Ties {
    fn of(alone: &[Answer], answers: &[(Kind, Answer)]) -> Result<Self> {
        let mut ties = Self::default();
        for (kind, answer) in answers {
            let alone = &alone[kind.number()].explained;
            ensure!(alone.len() == answer.explained.len(), "a shorter answer");
            for (one, other) in alone.iter().zip(&answer.explained) {
                ties.epsilon = one.moved(other).fold(ties.epsilon, f64::max);
                if one.chosen.token != other.chosen.token {
                    ties.n += 1;
                    ties.widest = ties.widest.max(gap(one, other));
                    break;
                }
            }
        }
        Ok(ties)
    }
}

/// How near two choices after the same text came to being the same: the smaller difference between the scores of the two
/// tokens, or, if neither lists the other's token, the smaller distance of a chosen token from the bound of plausibility.
fn gap(one: &Explained, other: &Explained) -> f64 {
    let sides = [(one, other), (other, one)];
    let by_scores = sides.map(|(one, other)| {
        let rejected = one.score_of(&other.chosen.token)?;
        Some(one.chosen.score - rejected)
    });
    let scores = by_scores.into_iter().flatten();
    scores.reduce(f64::min).unwrap_or_else(|| {
        let by_border = sides.map(|(one, _)| (one.chosen.logprob - one.border()).abs());
        by_border[0].min(by_border[1])
    })
}
