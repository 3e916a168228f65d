//! The default base model, for tests of its real behaviour. They fail if it is missing: a test that is skipped shows
//! nothing.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use cope_llama::bases;
use cope_llama::home::Home;
use cope_llama::llama::Model;

/// The path of the model: `$COPE_TEST_MODEL`, or the file that `cope-llama model pull` has put into the data folder.
pub fn path() -> PathBuf {
    let path = std::env::var_os("COPE_TEST_MODEL").map_or_else(
        || Home::open().unwrap().base(&bases::default_base().file),
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "{} is missing: `make test` pulls it, or set COPE_TEST_MODEL",
        path.display()
    );
    path
}

/// The model in llama.cpp, loaded once for all tests of a process.
pub fn load() -> Arc<Model> {
    static MODEL: OnceLock<Arc<Model>> = OnceLock::new();
    Arc::clone(MODEL.get_or_init(|| Model::load(&path(), None).unwrap()))
}
