//! Which requests reach the routes at all.
//!
//! A page of any site can have a browser on this machine call a server on it. Such a call names the site as its `Origin`;
//! and one whose site has moved its name to this machine's address names the site as its `Host`.

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};

use super::error::ApiError;
use super::settings::ServeOptions;

/// That a request is meant for this server, and no page of another site sends it.
///
/// # Errors
///
/// [`ApiError::forbidden`] if not.
pub fn check(options: &ServeOptions, headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).or(uri.authority().map(Authority::as_str));
    let host = host.unwrap_or_default();
    if !is_ours(options, host) {
        return Err(ApiError::forbidden(format!(
            "this server is not called {host:?}: give --allow-host to call it so"
        )));
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or("?");
    let own = ["http", "https"].map(|scheme| format!("{scheme}://{host}"));
    if own.iter().any(|own| own == origin) || options.origins.iter().any(|it| it == origin) {
        return Ok(());
    }
    Err(ApiError::forbidden(format!(
        "pages of {origin} may not use this server: give --allow-origin to let them"
    )))
}

/// Whether `host`, with a port or without, is an address or a name of this server.
fn is_ours(options: &ServeOptions, host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        // Of an IPv6 address without a port, the last colon is its own.
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let is_address = name.parse::<std::net::IpAddr>().is_ok_and(|ip| {
        // Whatever address the machine has, a name that others own is none.
        ip.is_loopback() || !options.address.ip().is_loopback()
    });
    is_address
        || name.eq_ignore_ascii_case("localhost")
        || options
            .hosts
            .iter()
            .any(|host| host.eq_ignore_ascii_case(name))
}
