//! Where the default model is that `make test` has pulled.

use std::path::PathBuf;

/// `$COPE_TEST_MODEL`, or the default base of the home folder.
pub fn path() -> PathBuf {
    let path = std::env::var_os("COPE_TEST_MODEL")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            cope_llama::home::Home::open()
                .unwrap()
                .base(&cope_llama::bases::default_base().file)
        });
    assert!(
        path.exists(),
        "{} is missing: `make test` pulls it, or set COPE_TEST_MODEL",
        path.display()
    );
    path
}
