//! The web page, whose files are compiled into the program.

use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::api_error::ApiError;

/// The policy of the page: it loads nothing from other servers, and no other page may embed it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Style sheets and modules by their names below `/page/`.
const FILES: [(&str, &str); 24] = [
    ("answer.js", include_str!("page/answer.js")),
    ("api.js", include_str!("page/api.js")),
    ("base.css", include_str!("page/base.css")),
    ("bases.js", include_str!("page/bases.js")),
    ("chat.css", include_str!("page/chat.css")),
    ("chat.js", include_str!("page/chat.js")),
    ("chat_store.js", include_str!("page/chat_store.js")),
    ("compare.js", include_str!("page/compare.js")),
    ("conversations.js", include_str!("page/conversations.js")),
    ("curve.js", include_str!("page/curve.js")),
    ("dom.js", include_str!("page/dom.js")),
    ("guessing.js", include_str!("page/guessing.js")),
    ("items.js", include_str!("page/items.js")),
    ("layout.css", include_str!("page/layout.css")),
    ("main.js", include_str!("page/main.js")),
    ("panels.css", include_str!("page/panels.css")),
    ("scrolling.js", include_str!("page/scrolling.js")),
    ("session.js", include_str!("page/session.js")),
    ("settings.js", include_str!("page/settings.js")),
    ("training.js", include_str!("page/training.js")),
    ("upload_options.js", include_str!("page/upload_options.js")),
    ("upload_summary.js", include_str!("page/upload_summary.js")),
    ("uploads.js", include_str!("page/uploads.js")),
    ("welcome.js", include_str!("page/welcome.js")),
];

/// Answers with the page's HTML.
pub async fn html() -> Response {
    answer("text/html; charset=utf-8", include_str!("page/index.html"))
}

/// Answers with a style sheet or a module of the page.
///
/// # Errors
///
/// [`ApiError::not_found`] when the page has no such file.
pub async fn file(Path(name): Path<String>) -> Result<Response, ApiError> {
    let found = FILES.iter().find(|(known, _)| *known == name);
    let (name, text) =
        found.ok_or_else(|| ApiError::not_found(format!("there is nothing at /page/{name}")))?;
    let kind = match name.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        _ => "text/javascript; charset=utf-8",
    };
    Ok(answer(kind, text))
}

fn answer(kind: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(POLICY),
        ),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/serve/page");
        let entries = fs::read_dir(folder).unwrap();
        let mut names: BTreeSet<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(names.remove("index.html"));
        let served: BTreeSet<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(served, names);
    }

    #[test]
    fn every_module_that_is_imported_is_served() {
        for (name, text) in FILES {
            for part in text.split("from \"./").skip(1) {
                let (imported, _) = part.split_once('"').unwrap();
                let is_served = FILES.iter().any(|(known, _)| *known == imported);
                assert!(is_served, "{name} imports {imported}");
            }
        }
    }
}
