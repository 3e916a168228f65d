//! A server for other programs: OpenAI's API and Ollama's, with each user's voice as a model, and a page for people.
//!
//! ```text
//! client ─→ routes ─→ auth, limits ─→ Job ─→ engine (one thread, all contexts) ─→ events ─→ client
//! ```
//!
//! The modules, each of which uses only those above it:
//!
//! ```text
//! settings, usage, api_error, aside    data and errors; work beside the requests
//! identity, jwt, auth, origin          who asks
//! voice_request, model_cache           in which voice, and its models
//! retriever_cache                      the indexes of users' histories
//! metrics, engine, base_details, loaded_base    the thread that decodes, on the base that is loaded
//! base_choice                          which base that is, and pulling it
//! training_progress, trainer           the thread that trains
//! upload_options, upload_preview, upload_store    files that were uploaded, and what an import of them would give
//! app                                  the state that requests share
//! extract                              the parts of a request
//! openai, ollama, page, bases_api, users_api, uploads_api, history_api, feedback_api, training_api, guesses_api, chats_api,
//!   markdown_api                       handlers
//! routes                               all handlers by their paths
//! ```

mod api_error;
mod app;
mod aside;
mod auth;
mod base_choice;
mod base_details;
mod bases_api;
mod chats_api;
mod engine;
mod extract;
mod feedback_api;
mod fields;
mod guesses_api;
mod harmless;
mod history_api;
mod identity;
mod jwt;
mod loaded_base;
mod markdown_api;
mod metrics;
mod model_cache;
mod ollama;
mod openai;
mod origin;
mod page;
mod retriever_cache;
mod routes;
mod settings;
#[cfg(feature = "train")]
mod trainer;
#[cfg(feature = "train")]
mod training_api;
#[cfg(feature = "train")]
mod training_progress;
mod upload_options;
mod upload_preview;
mod upload_store;
mod uploads_api;
mod usage;
mod users_api;
mod voice_request;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

pub use auth::{Caller, KeyOf};
use axum::serve::ListenerExt;
pub use engine::N_PROMPT;
pub use identity::Identity;
pub use settings::{EngineSettings, RequestLimits, ServeOptions};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::home::Home;
use crate::llama::check_threads;
use crate::{Error, Result};

/// The interval at which indexes of histories that have changed or are gone, and uploads that nobody has taken, are dropped.
const SWEEP: Duration = Duration::from_secs(5);

/// Time for sending the end of the last answer.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// Serves until `stop` is ready, and then until the answers that have begun are complete. A training that the page has
/// started is stopped, and can be resumed. `listening` is called with the address, before the base is loaded. Where the
/// options name no base, the page chooses one.
///
/// # Errors
///
/// [`Error::NoKeys`] when the address is not loopback and there are no keys; [`Error::Lack`] when the address cannot be
/// listened on; the base cannot be loaded.
pub fn serve(
    home: &Home,
    options: ServeOptions,
    listening: impl FnOnce(std::net::SocketAddr),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let address = options.address;
    let app = Arc::new(app::App::new(home, options));
    if !address.ip().is_loopback() && !app.auth.has_keys()? {
        return Err(Error::NoKeys(address));
    }
    for user in home.users()? {
        user.remove_uploads()?;
    }
    runtime()?.block_on(async {
        let failed = |error| Error::lack(format!("cannot listen on {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        listening(listener.local_addr().map_err(failed)?);
        // Otherwise a chunk may wait until the client has acknowledged the chunk before. It is sent late where this fails.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let choice = Arc::clone(&app.base_choice);
        let loading = tokio::task::spawn_blocking(move || choice.load_given());
        let routes = routes::routes(&app);
        #[cfg(feature = "train")]
        let stopping = Arc::clone(&app);
        let draining = Arc::new(Notify::new());
        let begun = Arc::clone(&draining);
        let stop = async move {
            stop.await;
            #[cfg(feature = "train")]
            stopping.trainer.stop_any();
            begun.notify_one();
        };
        let drained = async {
            draining.notified().await;
            app.texts_ended().await;
            tokio::time::sleep(LAST_BYTES).await;
        };
        let server = axum::serve(listener, routes).with_graceful_shutdown(stop);
        let loaded = async {
            match loading.await {
                Ok(Err(error)) => Err(error),
                _ => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            served = server => served.map_err(failed),
            // A client that never completes its request keeps its connection, but not the server.
            () = drained => Ok(()),
            failed = loaded => failed,
            never = sweep(&app) => match never {},
        };
        #[cfg(feature = "train")]
        app.trainer.end();
        app.base_choice.end();
        ended
    })
}

/// The runtime of the server.
fn runtime() -> Result<tokio::runtime::Runtime> {
    // It starts two threads of its own and would panic without them.
    check_threads(2)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Error::lack(format!("cannot start the server: {error}")))
}

/// Drops the indexes of users' histories and the uploads that nobody can ask for any more, again and again.
async fn sweep(app: &app::App) -> Infallible {
    loop {
        tokio::time::sleep(SWEEP).await;
        app.retrievers.sweep();
        app.uploads.sweep();
    }
}
