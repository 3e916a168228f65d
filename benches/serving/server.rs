//! A server as a process of its own, with users whose adapters were trained on nothing in particular.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use cope_llama::home::Home;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cope-llama");

pub struct Server {
    child: Child,
    pub url: String,
    _folder: tempfile::TempDir,
}

impl Server {
    /// With users of these names, each trained on some of alice's texts for a moment.
    pub fn start(model: &Path, users: &[&str], options: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let home = folder.path();
        let run = |arguments: &[&str]| -> Result<()> {
            let output = Command::new(PROGRAM)
                .args(arguments)
                .env("COPE_HOME", home)
                .output()?;
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success(), "{arguments:?}: {error}");
            Ok(())
        };
        let base = model.to_str().context("a model's path")?;
        let texts = include_str!("../../models/alice/history.jsonl");
        for (number, user) in users.iter().enumerate() {
            let part: Vec<_> = texts.lines().skip(10 * number).take(10).collect();
            let file = home.join(format!("{user}.jsonl"));
            std::fs::write(&file, part.join("\n"))?;
            run(&["user", "import", user, file.to_str().context("a path")?])?;
            run(&[
                "train",
                user,
                "-m",
                base,
                "--epochs",
                "1",
                "--n-samples",
                "1",
                "--sample-tokens",
                "8",
            ])?;
        }
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--listen", "127.0.0.1:0", "-m", base])
            .args(options)
            .env("COPE_HOME", home)
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("a pipe")?;
        let mut line = String::new();
        BufReader::new(stderr).read_line(&mut line)?;
        let url = line
            .trim()
            .strip_prefix("listening on ")
            .context("where it listens")?;
        let server = Self {
            child,
            url: url.to_owned(),
            _folder: folder,
        };
        while ureq::get(format!("{}/health", server.url)).call().is_err() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Its memory, MB.
    pub fn resident_mb(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(kilobytes.context("VmRSS")?.parse::<f64>()? / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The base that is asked for, or the default.
pub fn base(model: Option<&PathBuf>) -> Result<PathBuf> {
    let base = match model {
        Some(model) => model.clone(),
        None => Home::open()?.base(&cope_llama::bases::default_base().file),
    };
    ensure!(
        base.is_file(),
        "{} is not there: `cope-llama model pull`",
        base.display()
    );
    Ok(base)
}
