//! The default base model, which the tests of real behaviour need.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use cope_llama::bases;
use cope_llama::home::Home;
use cope_llama::llama::Model;

/// The file of `$COPE_TEST_MODEL`, or the one that `cope-llama model pull` has put into the data directory.
///
/// # Panics
///
/// When it is in neither place: a test that cannot run has failed.
pub fn default_model_path() -> PathBuf {
    let path = std::env::var_os("COPE_TEST_MODEL").map_or_else(
        || Home::open().unwrap().base(&bases::default_base().file),
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "the default model is not at {}: run `make test`, `cope-llama model pull`, or set COPE_TEST_MODEL",
        path.display()
    );
    path
}

/// The default model, loaded once for all tests of a process.
pub fn default_model() -> Arc<Model> {
    static MODEL: OnceLock<Arc<Model>> = OnceLock::new();
    let load = || Model::load(&default_model_path(), None).unwrap();
    Arc::clone(MODEL.get_or_init(load))
}
