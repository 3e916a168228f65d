//! Protection from pages of other sites.
//!
//! A page of any site can have a browser on this machine call a server on it. Such a call names the site in its `Origin`
//! header; and a call from a site that has pointed its own name at this machine's address (DNS rebinding) names the site in
//! its `Host` header.

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};

use super::api_error::ApiError;
use super::settings::ServeOptions;

/// Checks that a request is meant for this server, and was not sent by a page of another site.
///
/// # Errors
///
/// [`ApiError::forbidden`] otherwise.
pub fn check(options: &ServeOptions, headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).or(uri.authority().map(Authority::as_str));
    let host = host.unwrap_or_default();
    if !is_own_host(options, host) {
        return Err(ApiError::forbidden(format!(
            "this server does not answer to the name {host:?}: start it with --allow-host to add one"
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
        "pages of {origin} may not use this server: start it with --allow-origin to let them"
    )))
}

/// Whether `host`, with a port or without, is an address or a name of this server.
fn is_own_host(options: &ServeOptions, host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        // In an IPv6 address without a port, such as `[::1]`, the last colon is part of the address.
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let is_address = name.parse::<std::net::IpAddr>().is_ok_and(|ip| {
        // A server that listens beyond loopback may have any address; a site cannot make an address its name. Clients that
        // are told the address at which a server listens, such as 0.0.0.0, send that one.
        ip.is_loopback() || ip.is_unspecified() || !options.address.ip().is_loopback()
    });
    is_address
        || name.eq_ignore_ascii_case("localhost")
        || options
            .hosts
            .iter()
            .any(|host| host.eq_ignore_ascii_case(name))
}
