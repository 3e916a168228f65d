//! Alice, the user of the demo, in a temporary data folder. The bench runs the program as its users do.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use cope_llama::bases;
use cope_llama::home::{Home, UserFolder, UserName};

/// The path of the program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_cope-llama");

/// Alice and her data folder.
pub struct Alice {
    pub home: tempfile::TempDir,
    pub folder: UserFolder,
    /// The path of the base's file.
    pub base: String,
}

impl Alice {
    /// Imports the history of the demo. The base is `model`, or else the one that `model pull` has put into the data
    /// folder.
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

    /// Runs the program with `arguments`, and returns what it prints.
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
