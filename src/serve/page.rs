//! The web page, which is compiled into the program.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

/// The policy of the page: it loads nothing from other servers, and no other page may embed it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers with the page's HTML.
pub async fn html() -> Response {
    file("text/html; charset=utf-8", include_str!("page/index.html"))
}

/// Answers with the page's style sheet.
pub async fn css() -> Response {
    file("text/css; charset=utf-8", include_str!("page/page.css"))
}

/// Answers with the page's script.
pub async fn js() -> Response {
    file(
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    )
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(POLICY),
        ),
    ];
    (headers, text).into_response()
}
