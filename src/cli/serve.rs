//! `serve`: starts the server with OpenAI's API and Ollama's.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;
use cope_convert::cli::signals;
use cope_convert::say;
use cope_llama::bases::Places;
use cope_llama::decode::ArmKind;
use cope_llama::home::Home;
use cope_llama::llama::Sequences;
use cope_llama::serve::{EngineSettings, RequestLimits, ServeOptions, serve};

use super::options::{ModelArgs, count};

#[derive(ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// IP address to listen on; an address that other machines can reach needs keys (see `user key`)
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on; 0 takes any free port
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// Host name to accept in requests besides the address; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Origin (scheme and host) of another site whose pages may use the server (CORS); may be repeated
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// File with the secret with which Open WebUI signs its users' identities (JWT)
    #[arg(long, value_name = "FILE")]
    openwebui_secret: Option<PathBuf>,
    /// Number of texts to generate at the same time, also spelled -np
    #[arg(long, value_name = "N", default_value = "4", value_parser = texts_at_once)]
    parallel: usize,
    /// Number of texts to generate at the same time with one user's adapter [default: that of --parallel]
    #[arg(long, value_name = "N", value_parser = texts_at_once)]
    parallel_user: Option<usize>,
    /// Memory limit of all contexts and adapters together, in MiB; the least recently used are evicted
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u64,
    /// Maximum number of tokens of an answer
    #[arg(short = 'n', long, value_name = "N", default_value = "1024", value_parser = count)]
    predict: usize,
    /// Number of items of a user's history, those most like a message, to put before each message of a chat; a request's
    /// field `retrieve` overrides it
    #[arg(long, value_name = "N", default_value = "0", value_parser = retrieved)]
    retrieve: usize,
    /// Arm (base, user or cope) that answers Open WebUI's requests for titles, tags, follow-up questions and search queries,
    /// unless a request names one [default: as for other requests]
    #[arg(long, value_enum, value_name = "ARM", hide_possible_values = true)]
    task_arm: Option<ArmKind>,
    /// Number of answers that may wait while --parallel texts are being generated
    #[arg(long, value_name = "N", default_value_t = 64)]
    queue: usize,
    /// Time limit of a request, in seconds, from its arrival to the end of its answer
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    time_limit: u64,
    #[command(flatten)]
    model: ModelArgs,
}

const EXAMPLES: &str = "\
OpenAI's API is at /v1, and Ollama's at /api; a request's model is `base` or a
user's name. While there are no keys, every program on this machine may use the
server.

Examples:
  cope-llama serve
  cope-llama user key --admin
  cope-llama user key alice
  cope-llama serve --host 0.0.0.0 --allow-host box.lan";

/// The largest body of a request, in bytes: many times the text of a context.
const MAX_BODY_BYTES: usize = 4 << 20;

/// The most bytes of a user's uploads together: a large export of a messenger with its pictures.
const MAX_UPLOAD_BYTES: u64 = 8 << 30;

/// Parses a number of texts that one context can hold.
fn texts_at_once(number: &str) -> Result<usize, String> {
    let number = count(number)?;
    if number > Sequences::MAX {
        return Err(format!("it must be at most {}", Sequences::MAX));
    }
    Ok(number)
}

/// Parses a number of items of a history.
fn retrieved(number: &str) -> Result<usize, String> {
    let most = ServeOptions::MAX_RETRIEVED;
    let number = number.parse::<usize>().ok();
    let number = number.filter(|number| *number <= most);
    number.ok_or_else(|| format!("it must be a whole number from 0 to {most}"))
}

pub fn run(home: &Home, args: &Args) -> Result<()> {
    let secret = args.openwebui_secret.as_ref().map(|path| {
        let secret =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let secret = secret.trim_ascii().to_vec();
        ensure!(
            secret.len() >= 16,
            "{}: the secret must have at least 16 bytes",
            path.display()
        );
        Ok(secret)
    });
    let options = ServeOptions {
        address: SocketAddr::new(args.host, args.port),
        base: args.model.base.path_if_there(home)?,
        gpu_layers: args.model.gpu_layers,
        settings: EngineSettings {
            context: args.model.context(),
            parallel: args.parallel,
            parallel_user: args.parallel_user.unwrap_or(args.parallel),
            memory: args.memory << 20,
        },
        limits: RequestLimits {
            body: MAX_BODY_BYTES,
            uploads: MAX_UPLOAD_BYTES,
            n_predict: args.predict,
            queue: args.queue,
            time: Duration::from_secs(args.time_limit),
        },
        retrieve: args.retrieve,
        task_arm: args.task_arm,
        hosts: args.allow_host.clone(),
        origins: args.allow_origin.clone(),
        places: Places::of_this_user(),
        open_webui_secret: secret.transpose()?,
    };
    let has_base = options.base.is_some();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut stop = Some(stop);
    // The first signal drops the sender, which the receiver notices.
    signals::stop_calls(move || drop(stop.take()));
    let stopped = async { drop(stopped.await) };
    serve(
        home,
        options,
        |address| {
            say!("listening on http://{address}");
            if !has_base {
                say!("no base model is installed; the page at this address can pull one");
            }
        },
        stopped,
    )?;
    Ok(())
}
