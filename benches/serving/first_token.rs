//! The time to the first token of a stream: our server in one user's voice, without contrast, beside llama-server with the
//! same base, adapter and messages, and beside the same prompts read without a server.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use cope_convert::gguf::Gguf;
use cope_llama::decode::{AnswerOptions, Decoder, Piece, Policy};
use cope_llama::llama::{Context, ContextOptions, LoraAdapter, Model, cpu_features};
use cope_llama::message::Message;
use cope_llama::prompt::ChatTemplate;
use serde_json::{Value, json};

use super::Options;
use super::prompt_texts;
use super::requests::{agent, events};
use super::server::{Server, Users};

const USER: &str = "ann";

/// The most tokens of an answer that a chat goes on from, and of the answer after it.
const N_ANSWER: usize = 24;
const N_LAST: usize = 4;

/// The words of a chat's second message.
const N_MESSAGE: usize = 12;

/// The beginning of an answer.
struct FirstToken {
    ms: f64,
    n_prompt: u64,
    /// The tokens of the prompt that came from the cache.
    n_cached: u64,
    /// The whole answer.
    text: String,
}

/// A program that answers chats in the user's voice.
enum Program {
    /// The server at this URL.
    Server(String),
    /// This process.
    InProcess(Box<Reader>),
}

/// The user's model in this process.
struct Reader {
    model: Arc<Model>,
    template: ChatTemplate,
    context: Context,
}

pub fn run(options: &Options) -> Result<()> {
    let users = Users::with_random_adapter(options.model.as_ref(), USER)?;
    let threads = options.threads.to_string();
    let ours = Server::start(&users, &["--parallel", "1", "--threads", &threads])?;
    let theirs = LlamaServer::start(options, &users)?;
    let model = Model::load_vocabulary(users.base())?;
    let template = ChatTemplate::of_model(&model)?;
    let words = prompt_texts::words(&options.data)?;
    let built = cpu_features().into_iter().filter(|it| it.built);
    let built: Vec<_> = built.map(|it| it.name).collect();
    println!(
        "Kernels of ours: {}. Of llama-server: {}.\n",
        built.join(", "),
        theirs.system
    );

    let in_process = Reader::open(&users, options.threads)?;
    let mut programs = [
        Program::Server(ours.url.clone()),
        Program::Server(theirs.url.clone()),
        Program::InProcess(Box::new(in_process)),
    ];
    println!(
        "| prompt, tokens | from the cache: ours, llama-server's | ours, ms | llama-server, ms | without a server, ms | ours ÷ llama-server: median (least to most) | ours ÷ without a server |"
    );
    println!("|---|---|---|---|---|---|---|");
    for &n in &options.prompt_tokens {
        let len = |text: &str| Ok(template.prompt_tokens(&model, &chat(0, text))?.len());
        let question = prompt_texts::text(&words, n, len)?;
        let message = words[..N_MESSAGE].join(" ");
        let mut turns = [Vec::new(), Vec::new()];
        // The first repetition warms all programs up.
        for repeat in 0..=options.repeats {
            let mut firsts = [Vec::new(), Vec::new()];
            let mut order: Vec<_> = programs.iter_mut().enumerate().collect();
            order.rotate_left(repeat % 3);
            for (number, program) in order {
                let [one, two] = ask_twice(program, chat(repeat, &question), &message)?;
                firsts[0].push((number, one));
                firsts[1].push((number, two));
            }
            for (turn, mut firsts) in turns.iter_mut().zip(firsts) {
                firsts.sort_by_key(|it| it.0);
                turn.push(firsts.into_iter().map(|it| it.1).collect());
            }
        }
        turns.iter().try_for_each(|turn| row(&turn[1..]))?;
    }
    Ok(())
}

/// A chat that no other number's has a prefix in common with, apart from what every chat begins with.
fn chat(number: usize, question: &str) -> Vec<Message> {
    let system = format!("{number} times {number} friends write to you.");
    vec![Message::system(system), Message::user(question)]
}

/// Asks `program` for an answer, and for the next after `message`.
fn ask_twice(
    program: &mut Program,
    mut chat: Vec<Message>,
    message: &str,
) -> Result<[FirstToken; 2]> {
    let first = program.ask(&chat, N_ANSWER)?;
    chat.push(Message::assistant(&*first.text));
    chat.push(Message::user(message));
    let second = program.ask(&chat, N_LAST)?;
    Ok([first, second])
}

/// Prints the row of repetitions, each of which has a first token of every program.
fn row(repeats: &[Vec<FirstToken>]) -> Result<()> {
    let sorted = |of: &dyn Fn(&[FirstToken]) -> f64| {
        let mut values: Vec<_> = repeats.iter().map(|it| of(it)).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let median = |of: &dyn Fn(&[FirstToken]) -> f64| sorted(of)[repeats.len() / 2];
    let ratios = sorted(&|it| it[0].ms / it[1].ms);
    let last = repeats.last().context("a repetition")?;
    println!(
        "| {} | {}, {} | {:.0} | {:.0} | {:.0} | {:.2} ({:.2} to {:.2}) | {:.2} |",
        last[0].n_prompt,
        last[0].n_cached,
        last[1].n_cached,
        median(&|it| it[0].ms),
        median(&|it| it[1].ms),
        median(&|it| it[2].ms),
        ratios[ratios.len() / 2],
        ratios[0],
        ratios[ratios.len() - 1],
        median(&|it| it[0].ms / it[2].ms),
    );
    Ok(())
}

impl Program {
    fn ask(&mut self, messages: &[Message], n_predict: usize) -> Result<FirstToken> {
        match self {
            Self::Server(url) => ask_server(url, messages, n_predict),
            Self::InProcess(reader) => reader.ask(messages, n_predict),
        }
    }
}

/// Asks a server for a stream, on a new connection: a kept one may have been closed meanwhile.
fn ask_server(url: &str, messages: &[Message], n_predict: usize) -> Result<FirstToken> {
    let body = json!({
        "model": USER,
        "messages": messages,
        "max_tokens": n_predict,
        "contrast": 0,
        "temperature": 0,
        "ignore_eos": true,
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    let started = Instant::now();
    let mut response = agent()
        .post(format!("{url}/v1/chat/completions"))
        .send_json(body)?;
    let status = response.status().as_u16();
    ensure!(
        status == 200,
        "{url}: {}",
        response.body_mut().read_to_string()?
    );
    let mut first = FirstToken {
        ms: 0.0,
        n_prompt: 0,
        n_cached: 0,
        text: String::new(),
    };
    for event in events(&mut response) {
        let event: Value = event?;
        let text = event["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap_or_default();
        if first.text.is_empty() && !text.is_empty() {
            first.ms = started.elapsed().as_secs_f64() * 1e3;
        }
        first.text.push_str(text);
        let usage = &event["usage"];
        if let Some(n_prompt) = usage["prompt_tokens"].as_u64() {
            first.n_prompt = n_prompt;
            first.n_cached = usage["prompt_tokens_details"]["cached_tokens"]
                .as_u64()
                .unwrap_or_default();
        }
    }
    ensure!(!first.text.is_empty(), "{url}: an answer without text");
    Ok(first)
}

impl Reader {
    fn open(users: &Users, n_threads: usize) -> Result<Self> {
        let model = Model::load(users.base(), Some(0))?;
        let sha256 = cope_convert::sha256(users.base())?;
        let gguf = Gguf::open(users.base())?;
        let adapter = LoraAdapter::load(&model, &users.adapter(USER)?, &gguf, &sha256)?;
        let options = ContextOptions {
            n_threads,
            ..ContextOptions::default()
        };
        Ok(Self {
            template: ChatTemplate::of_model(&model)?,
            context: Context::new(&model, Some((adapter, 1.0)), &options)?,
            model,
        })
    }

    fn ask(&mut self, messages: &[Message], n_predict: usize) -> Result<FirstToken> {
        let started = Instant::now();
        let prompt = self.template.prompt_tokens(&self.model, messages)?;
        let read = std::iter::zip(self.context.tokens(), &prompt);
        let n_cached = read.take_while(|(x, y)| x == y).count();
        let ends = self.model.eog_tokens();
        let options = AnswerOptions {
            n_predict: Some(n_predict),
            logit_bias: ends.map(|it| (it, f32::NEG_INFINITY)).collect(),
            ..AnswerOptions::default()
        };
        let policy = Policy::Plain(&mut self.context);
        let decoder = Decoder::new(policy, &*self.model, &prompt, options.into())?;
        let (mut ms, mut text) = (0.0, String::new());
        for piece in decoder {
            if text.is_empty() {
                ms = started.elapsed().as_secs_f64() * 1e3;
            }
            if let Piece::Text(more) = piece? {
                text.push_str(&more);
            }
        }
        Ok(FirstToken {
            ms,
            n_prompt: prompt.len() as u64,
            n_cached: n_cached as u64,
            text,
        })
    }
}

/// llama-server as a process of its own, which ends when it is dropped.
struct LlamaServer {
    child: Child,
    url: String,
    /// Its instruction sets.
    system: String,
}

impl LlamaServer {
    fn start(options: &Options, users: &Users) -> Result<Self> {
        let python = options.oracle.as_deref();
        let python =
            python.context("`make bench-serving` installs llama-server and names its Python")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/serving/llama_server.py");
        let mut child = Command::new(python)
            .arg(script)
            .args([users.base(), &users.adapter(USER)?])
            .arg(options.threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("a pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let mut server = Self {
            child,
            url: String::new(),
            system: String::new(),
        };
        let listening: Value =
            serde_json::from_str(&line).context("llama-server does not start")?;
        let text = |name: &str| {
            listening[name]
                .as_str()
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        (server.url, server.system) = (text("url"), text("system"));
        Ok(server)
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
