//! Alice, the user of the demo, in a data folder of her own, by the program as its users run it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use cope_llama::bases;
use cope_llama::home::{Home, UserFolder, UserName};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_cope-llama");

pub struct Alice {
    pub home: tempfile::TempDir,
    pub folder: UserFolder,
    /// The file of the base.
    pub base: String,
}

impl Alice {
    /// With the history of the demo, and the base `model`, else that of `model pull`.
    pub fn import(model: Option<&PathBuf>) -> Result<Self> {
        let base = match model {
            Some(model) => model.clone(),
            None => Home::open()?.base(&bases::default_base().file),
        };
        let home = tempfile::tempdir()?;
        let alice = Self {
            folder: Home::at(home.path()).create_user(UserName::new("alice")?)?,
            home,
            base: base.to_string_lossy().into_owned(),
        };
        alice.run(&["user", "import", "alice", "--demo"])?;
        Ok(alice)
    }

    /// What the program says to `arguments`.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(PROGRAM)
            .args(arguments)
            .env("COPE_HOME", self.home.path())
            .output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {error}");
        Ok(String::from_utf8(output.stdout)?)
    }
}
