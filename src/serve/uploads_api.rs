//! Handlers of `/api/users/{name}/uploads`: the page sends a file, sees what an import of it would give, and has its texts
//! taken, or drops it.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::channel;
use tokio::task::spawn_blocking;
use tokio_stream::StreamExt;

use super::api_error::ApiError;
use super::app::App;
use super::aside::aside;
use super::auth::Caller;
use super::extract::{JsonBody, PathPart, PathParts, QueryFields};
use super::upload_options::UploadOptions;
use super::upload_preview::ReceivedFile;
use crate::Error;
use crate::profile;

/// The most parts of a body that wait for the disk.
const MAX_PARTS: usize = 16;

/// The name of a file that is sent.
#[derive(Deserialize)]
pub struct FileName {
    file: String,
}

/// Stores the body as a file, until its texts are taken. Nothing is kept of a body that ends early or is too long.
pub async fn receive(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
    QueryFields(FileName { file: file_name }): QueryFields<FileName>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    // A page of another site can send this type only after the browser's preflight.
    if headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) != Some(b"application/octet-stream") {
        return Err(ApiError::invalid(
            "the body has to be a file: send `Content-Type: application/octet-stream`",
        ));
    }
    let user = caller.user_folder(&app.home, &name)?;
    let room = app
        .limits
        .uploads
        .saturating_sub(app.uploads.n_bytes(user.name()));
    let (file, open) = user.create_upload(&file_name)?;
    let n_bytes = store(body, open, room).await?.ok_or_else(|| {
        ApiError::too_large(format!(
            "a user's uploads together may have {} MiB: take or drop those before, or split the file",
            app.limits.uploads >> 20
        ))
    })?;
    if n_bytes == 0 {
        return Err(ApiError::invalid("the file is empty"));
    }
    let received = ReceivedFile {
        name: file_name,
        n_bytes,
        file,
    };
    let id = app.uploads.add(user.name(), received);
    Ok(Json(json!({ "id": id })))
}

/// Writes a body to a file. Returns the number of bytes, or `None` where there are more than `room`.
async fn store(body: Body, file: File, room: u64) -> Result<Option<u64>, ApiError> {
    let (parts, mut received) = channel::<Bytes>(MAX_PARTS);
    let writing = spawn_blocking(move || -> io::Result<()> {
        let mut file = file;
        while let Some(part) = received.blocking_recv() {
            file.write_all(&part)?;
        }
        Ok(())
    });
    let (mut body, mut n_bytes) = (body.into_data_stream(), 0);
    while let Some(part) = body.next().await {
        let part = part.map_err(|error| ApiError::invalid(format!("the body: {error}")))?;
        n_bytes += part.len() as u64;
        if n_bytes > room {
            return Ok(None);
        }
        if parts.send(part).await.is_err() {
            // The disk refused a part before.
            break;
        }
    }
    drop(parts);
    let written = writing.await.map_err(|_| ApiError::panicked())?;
    let refused = |error| ApiError::unavailable(format!("the file cannot be stored: {error}"));
    written.map_err(refused)?;
    Ok(Some(n_bytes))
}

/// Previews an import of a file.
pub async fn preview(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathParts((name, id)): PathParts,
    QueryFields(fields): QueryFields<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let user = caller.user_folder(&app.home, &name)?;
    let upload = app.uploads.get(user.name(), &id)?;
    let options = options_of_query(fields)?;
    Ok(Json(app.uploads.preview(&upload, user, options).await))
}

/// Takes the texts of a file into the user's history, and deletes the file.
pub async fn take(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathParts((name, id)): PathParts,
    JsonBody(options): JsonBody<UploadOptions>,
) -> Result<Json<Value>, ApiError> {
    let user = caller.user_folder(&app.home, &name)?;
    let upload = app.uploads.get(user.name(), &id)?;
    aside(move || {
        let _lock = user.lock()?;
        let imported = profile::import(upload.received.file.path(), &options.import_options());
        let imported = imported.map_err(|error| match error {
            Error::Input(_) | Error::Unspecified(_) => {
                ApiError::invalid(upload.received.message(&error))
            }
            error => error.into(),
        })?;
        let mut profile = user.profile()?;
        let added = profile.add(options.part(), imported.examples);
        user.save_profile(&profile)?;
        app.uploads.remove(&upload);
        Ok(Json(json!({ "new": added.new, "known": added.known })))
    })
    .await
}

/// Deletes a file.
pub async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathParts((name, id)): PathParts,
) -> Result<Json<Value>, ApiError> {
    let user = caller.user_folder(&app.home, &name)?;
    app.uploads.remove(&*app.uploads.get(user.name(), &id)?);
    Ok(Json(json!({})))
}

/// The options in an address. `author` may come several times; `columns` has both names with a comma between, or comes twice.
fn options_of_query(fields: Vec<(String, String)>) -> Result<UploadOptions, ApiError> {
    let mut fields_of_options = serde_json::Map::new();
    let (mut authors, mut columns) = (Vec::new(), Vec::new());
    for (name, value) in fields {
        match name.as_str() {
            "author" => authors.push(value),
            "columns" => columns.push(value),
            "keep_secrets" | "keep_signature" | "held_out" => {
                let value: bool = value.parse().map_err(|_| {
                    ApiError::invalid_field(name.clone(), format!("{name} is true or false"))
                })?;
                fields_of_options.insert(name, json!(value));
            }
            _ => {
                fields_of_options.insert(name, json!(value));
            }
        }
    }
    if let [both] = columns.as_slice() {
        columns = both.split(',').map(str::to_owned).collect();
    }
    if !columns.is_empty() {
        fields_of_options.insert("columns".into(), json!(columns));
    }
    fields_of_options.insert("author".into(), json!(authors));
    serde_json::from_value(fields_of_options.into())
        .map_err(|error| ApiError::invalid(format!("the address: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Speaker;

    #[test]
    fn the_options_of_an_address_are_those_of_an_import() {
        let options = |fields: &[(&str, &str)]| {
            let fields = fields.iter();
            let fields = fields.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            options_of_query(fields.collect())
        };
        assert_eq!(options(&[]).unwrap(), UploadOptions::default());
        let all = [
            ("author", "Ann"),
            ("author", "ann@example.org"),
            ("speaker", "assistant"),
            ("lamp_user", "7"),
            ("columns", "a,b"),
            ("keep_secrets", "true"),
        ];
        let expected = UploadOptions {
            author: vec!["Ann".into(), "ann@example.org".into()],
            speaker: Some(Speaker::Assistant),
            lamp_user: Some("7".into()),
            columns: Some(["a".into(), "b".into()]),
            keep_secrets: true,
            ..UploadOptions::default()
        };
        assert_eq!(options(&all).unwrap(), expected);
        let twice = options(&[("columns", "a, or b"), ("columns", "c")]).unwrap();
        assert_eq!(twice.columns, Some(["a, or b".into(), "c".into()]));
        for (name, value, message) in [
            ("keep_secrets", "1", "keep_secrets is true or false"),
            ("columns", "a", "invalid length 1"),
            ("speaker", "model", "unknown variant `model`"),
            ("path", "/etc", "unknown field `path`"),
        ] {
            let error = options(&[(name, value)]).unwrap_err();
            assert!(error.message.contains(message), "{}", error.message);
        }
    }
}
