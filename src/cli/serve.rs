//! `serve`: a server for other programs.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;
use cope_llama::home::Home;
use cope_llama::serve::{EngineSettings, RequestLimits, ServeOptions, serve};

use super::options::{ModelArgs, count};

#[derive(ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The address to listen at; other machines can reach one that is not loopback, and then keys are needed
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port to listen at; 0 is one that is free
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// A name by which it is called beside its address; may be given again
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Another site whose pages may use it, with its scheme; may be given again
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// A file with the secret that Open WebUI signs its users' identities with
    #[arg(long, value_name = "FILE")]
    openwebui_secret: Option<PathBuf>,
    /// Texts at once, also spelled -np
    #[arg(long, value_name = "N", default_value = "4", value_parser = count)]
    parallel: usize,
    /// Texts at once in one user's voice [default: the same]
    #[arg(long, value_name = "N", value_parser = count)]
    parallel_user: Option<usize>,
    /// The most memory of all contexts and adapters, in MiB; those that nobody has asked for for the longest time make room
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u64,
    /// The most tokens of an answer
    #[arg(short = 'n', long, value_name = "N", default_value = "1024", value_parser = count)]
    predict: usize,
    /// Requests that may wait for one of the texts at once to end
    #[arg(long, value_name = "N", default_value_t = 64)]
    queue: usize,
    /// Seconds from a request to the end of its answer
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    time_limit: u64,
    #[command(flatten)]
    model: ModelArgs,
}

const EXAMPLES: &str = "\
OpenAI's API at /v1: the model is `base` or a user's name. Without keys whoever
reaches this machine's loopback may use it.

Examples:
  cope-llama serve
  cope-llama user key --admin
  cope-llama user key alice
  cope-llama serve --host 0.0.0.0 --allow-host box.lan";

/// A body is no longer: a context's text, many times over.
const MAX_BODY_BYTES: usize = 4 << 20;

pub fn run(home: &Home, args: &Args) -> Result<()> {
    let secret = args.openwebui_secret.as_ref().map(|path| {
        let secret =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let secret = secret.trim_ascii().to_vec();
        ensure!(
            secret.len() >= 16,
            "{}: a secret has at least 16 bytes",
            path.display()
        );
        Ok(secret)
    });
    let options = ServeOptions {
        address: SocketAddr::new(args.host, args.port),
        base: args.model.base.path(home, None)?,
        gpu_layers: args.model.gpu_layers,
        settings: EngineSettings {
            context: args.model.context(),
            parallel: args.parallel,
            parallel_user: args.parallel_user.unwrap_or(args.parallel),
            memory: args.memory << 20,
        },
        limits: RequestLimits {
            body: MAX_BODY_BYTES,
            n_predict: args.predict,
            queue: args.queue,
            time: Duration::from_secs(args.time_limit),
        },
        hosts: args.allow_host.clone(),
        origins: args.allow_origin.clone(),
        open_webui_secret: secret.transpose()?,
    };
    let stop = async {
        // Without a signal to wait for, it serves until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    serve(
        home,
        options,
        |address| eprintln!("listening on http://{address}"),
        stop,
    )?;
    Ok(())
}
