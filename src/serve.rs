//! A server on this machine, for the programs that people have: OpenAI's API, by users.
//!
//! ```text
//! client ─→ routes ─→ access, limits ─→ Job ─→ engine (one thread, all contexts) ─→ events ─→ client
//! ```

mod access;
mod app;
mod engine;
mod error;
mod guard;
mod metrics;
mod openai;
mod page;
mod routes;
mod signed;
#[cfg(feature = "train")]
mod trainer;
mod users;
mod voices;

use std::sync::Arc;

pub use access::{Caller, KeyOf};
pub use app::{Limits, ServeOptions};
pub use engine::{N_PROMPT, Settings};
pub use signed::Identity;
use tokio::net::TcpListener;

use crate::home::Home;
use crate::{Error, Result};

/// Serves until `stop` is ready. `listening` hears of the address, before the base is loaded.
///
/// # Errors
///
/// The address cannot be listened on, or is not loopback while there are no keys; the base cannot be loaded.
pub fn serve(
    home: &Home,
    options: ServeOptions,
    listening: impl FnOnce(std::net::SocketAddr),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let address = options.address;
    let app = Arc::new(app::App::new(home, options));
    if !address.ip().is_loopback() && !app.access.has_keys()? {
        return Err(Error::input(format!(
            "{address} can be reached by others, and there are no keys: make one with `cope-llama user key --admin`"
        )));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Error::input(format!("cannot start the server: {error}")))?;
    runtime.block_on(async {
        let failed = |error| Error::input(format!("cannot listen on {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        listening(listener.local_addr().map_err(failed)?);
        let loading = Arc::clone(&app);
        let loading = tokio::task::spawn_blocking(move || loading.load());
        let routes = routes::routes(&app);
        let server = axum::serve(listener, routes).with_graceful_shutdown(stop);
        let loaded = async {
            match loading.await {
                Ok(Err(error)) => Err(error),
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            served = server => served.map_err(failed),
            failed = loaded => failed,
        }
    })
}
