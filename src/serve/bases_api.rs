//! Handlers of `/api/bases`, by which the page pulls and loads a base.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use cope_convert::gguf::Gguf;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::app::App;
use super::auth::Caller;
use super::extract::{JsonBody, PathPart};
use crate::bases::{self, Base, ModelFacts, StoredModel};

/// The bases that can be pulled, the models of other programs, and the base that is being pulled.
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, ApiError> {
    caller.require_admin("pull a base")?;
    Ok(Json(bases_of(&app)))
}

/// Whether the person agrees to the terms of a base.
#[derive(Deserialize)]
pub struct Agreement {
    #[serde(default)]
    agree: bool,
}

/// Loads a base, which is pulled before if it is not there yet, or a model of another program.
pub async fn choose(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
    JsonBody(agreement): JsonBody<Agreement>,
) -> Result<Json<Value>, ApiError> {
    caller.require_admin("pull a base")?;
    if let Some(path) = bases::find_stored(&app.options.places, &name)? {
        app.base_choice.choose_file(name, path)?;
        return Ok(Json(bases_of(&app)));
    }
    let base = bases::find(&name)?;
    if let Some(terms) = &base.consent
        && !agreement.agree
        && !base.is_pulled(&app.home)
    {
        let message = format!("{name} needs your consent: {terms}");
        return Err(ApiError::invalid_field("agree", message));
    }
    app.base_choice.choose(base)?;
    Ok(Json(bases_of(&app)))
}

/// Stops the pulling of a base.
pub async fn stop(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PathPart(name): PathPart,
) -> Result<Json<Value>, ApiError> {
    caller.require_admin("pull a base")?;
    let base = bases::find(&name)?;
    app.base_choice.stop_pulling(&base.name);
    Ok(Json(bases_of(&app)))
}

fn bases_of(app: &App) -> Value {
    let base = |base: &Base| {
        json!({
            "name": base.name,
            "title": base.title,
            "bytes": base.bytes,
            "licence": base.licence,
            "consent": base.consent,
            "is_pulled": base.is_pulled(&app.home),
        })
    };
    let stored = bases::all_stored(&app.options.places).models;
    let stored = stored.iter().filter_map(of_stored);
    let all = bases::all();
    json!({
        "bases": all.iter().map(base).chain(stored).collect::<Vec<_>>(),
        "pulling": app.base_choice.pulling(),
        "message": app.base_choice.summary()["message"],
    })
}

/// A model of another program, if its header can be read.
fn of_stored(model: &StoredModel) -> Option<Value> {
    let facts = ModelFacts::of(&Gguf::open(&model.path).ok()?).ok()?;
    let title = format!("{} ({})", model.name, facts.architecture);
    Some(json!({
        "name": model.name,
        "title": title,
        "bytes": facts.bytes,
        "licence": null,
        "consent": null,
        "is_pulled": true,
    }))
}
