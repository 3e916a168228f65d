//! A server as a process of its own, with users who are trained on a few texts.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cope_llama::bases;
use cope_llama::home::{Home, UserName};

use super::process::memory_mb;
use super::random_adapter;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cope-llama");

/// The number of texts that each user is trained on.
const TEXTS: usize = 6;

/// A data folder with trained users.
pub struct Users {
    folder: tempfile::TempDir,
    base: String,
}

impl Users {
    /// A folder without users, for the base at `model` or the default one.
    pub fn none(model: Option<&PathBuf>) -> Result<Self> {
        let base = match model {
            Some(model) => model.clone(),
            None => Home::open()?.base(&bases::default_base().file),
        };
        ensure!(
            base.is_file(),
            "{} is not there: `cope-llama model pull`",
            base.display()
        );
        Ok(Self {
            folder: tempfile::tempdir()?,
            base: base.to_string_lossy().into_owned(),
        })
    }

    /// One user, whose adapter has random weights.
    pub fn with_random_adapter(model: Option<&PathBuf>, name: &str) -> Result<Self> {
        let users = Self::none(model)?;
        Home::at(users.folder.path()).create_user(UserName::new(name)?)?;
        random_adapter::write(users.base(), &users.adapter(name)?)?;
        Ok(users)
    }

    /// Users with these names, each trained on other texts of alice's.
    pub fn train(model: Option<&PathBuf>, names: &[&str]) -> Result<Self> {
        let users = Self::none(model)?;
        let texts = include_str!("../../models/alice/history.jsonl");
        for (number, name) in names.iter().enumerate() {
            let part: Vec<_> = texts.lines().skip(TEXTS * number).take(TEXTS).collect();
            let file = users.folder.path().join("texts.jsonl");
            std::fs::write(&file, part.join("\n"))?;
            users.run(&["user", "import", name, &file.to_string_lossy()])?;
            let little = [
                "--epochs",
                "4",
                "--learning-rate",
                "4e-3",
                "--replay",
                "0",
                "--n-samples",
                "1",
                "--sample-tokens",
                "8",
            ];
            users.run(&[&["train", name, "-m", &users.base][..], &little].concat())?;
        }
        Ok(users)
    }

    /// The base's file.
    pub fn base(&self) -> &Path {
        Path::new(&self.base)
    }

    /// Puts the base where `model pull` would put the default one.
    pub fn link_base(&self) -> Result<()> {
        let place = Home::at(self.folder.path()).base(&bases::default_base().file);
        std::fs::create_dir_all(place.parent().context("a folder")?)?;
        let base = self.base().canonicalize()?;
        // A hard link cannot cross file systems.
        if std::fs::hard_link(&base, &place).is_err() {
            std::fs::copy(&base, &place)?;
        }
        Ok(())
    }

    /// The file of a user's adapter.
    pub fn adapter(&self, name: &str) -> Result<PathBuf> {
        let home = Home::at(self.folder.path());
        Ok(home.user(UserName::new(name)?)?.adapter())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env("COPE_HOME", self.folder.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let output = self.command(arguments).output()?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{arguments:?}: {error}");
        Ok(())
    }
}

/// A server of such users, which is killed when it is dropped.
pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    /// A server that has loaded the users' base.
    pub fn start(users: &Users, options: &[&str]) -> Result<Self> {
        let server = Self::spawn(users.command(&["serve", "-m", &users.base]).args(options))?;
        while ureq::get(format!("{}/health", server.url)).call().is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// A server in a data folder in which no base is yet.
    pub fn start_without_base(users: &Users, options: &[&str]) -> Result<Self> {
        let server = Self::spawn(users.command(&["serve"]).args(options))?;
        // The server looks for a base before it answers.
        while ureq::get(format!("{}/api/me", server.url)).call().is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Starts a server and waits until it listens.
    fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command
            .args(["--port", "0"])
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("a pipe")?;
        let mut line = String::new();
        BufReader::new(stderr).read_line(&mut line)?;
        let url = line.trim().strip_prefix("listening on ");
        Ok(Self {
            child,
            url: url.context("where it listens")?.to_owned(),
        })
    }

    /// The server's resident memory, in MB.
    pub fn resident_mb(&self) -> Result<f64> {
        memory_mb(&self.child.id().to_string(), "VmRSS")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
