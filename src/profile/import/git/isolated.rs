//! Runs git on the objects of a repository, and on nothing else of it.
//!
//! A repository's configuration can name programs (drivers for differences, signatures, monitors of the file system) and
//! servers that git fetches missing objects from, and whoever made the folder wrote it. So git works in an empty repository
//! of ours that borrows the objects: it sees neither the configuration, hooks and attributes of the folder, nor the
//! machine's.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::profile::import::source::malformed;
use crate::{Error, Result};

/// The objects of a repository, read through a repository of ours.
pub struct Isolated {
    /// The repository that is read, for messages.
    path: PathBuf,
    /// The folder of its objects.
    objects: PathBuf,
    ours: TempDir,
    /// The commit that `HEAD` names.
    pub head: String,
    /// The commits at which a shallow clone ends. Their parents are not there, so that they seem to add everything.
    pub boundary: Vec<String>,
}

impl Isolated {
    /// Opens the repository in `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when git finds no commits there; [`Error::Lack`] when git is not installed; [`Error::Io`] when the
    /// temporary repository cannot be written.
    pub fn open(path: &Path) -> Result<Self> {
        // Names are looked up, which runs nothing whatever the configuration says. So the folder may belong to somebody else.
        let find = |arguments: &[&str]| {
            let mut command = git();
            if let Some(above) = path.canonicalize().ok().as_deref().and_then(Path::parent) {
                command.env("GIT_CEILING_DIRECTORIES", above);
            }
            command.arg("-C").arg(path);
            command.args(["-c", "safe.directory=*", "rev-parse"]);
            text(path, &run(path, command.args(arguments), b"")?)
        };
        let head = find(&["--verify", "--end-of-options", "HEAD^{commit}"])?;
        let places = find(&[
            "--path-format=absolute",
            "--git-path",
            "objects",
            "--git-path",
            "shallow",
        ])?;
        let (objects, shallow) = places.trim_end().split_once('\n').unwrap_or_default();
        let ours = tempfile::tempdir().map_err(Error::io("write", std::env::temp_dir()))?;
        let isolated = Self {
            path: path.to_owned(),
            objects: objects.into(),
            head: head.trim().to_owned(),
            boundary: boundary(Path::new(shallow)),
            ours,
        };
        isolated.borrow()?;
        Ok(isolated)
    }

    /// Makes our repository, which has the objects of the one that is read.
    fn borrow(&self) -> Result<()> {
        let format = if self.head.len() > 40 {
            "sha256"
        } else {
            "sha1"
        };
        let mut init = git();
        init.args(["init", "--quiet", "--bare", "--template="]);
        init.arg(format!("--object-format={format}"));
        text(
            &self.path,
            &run(&self.path, init.arg(self.ours.path()), b"")?,
        )?;
        let write = |name: &str, content: String| {
            let path = self.ours.path().join(name);
            std::fs::write(&path, content).map_err(Error::io("write", &path))
        };
        let objects = self.objects.display();
        write("objects/info/alternates", format!("{objects}\n"))?;
        write("HEAD", format!("{}\n", self.head))?;
        if self.boundary.is_empty() {
            return Ok(());
        }
        write("shallow", self.boundary.join("\n") + "\n")
    }

    /// The output of a git command with `input` on stdin.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] with git's message when it fails.
    pub fn run(&self, arguments: &[impl AsRef<OsStr>], input: &[u8]) -> Result<String> {
        let mut command = git();
        command.arg("--git-dir").arg(self.ours.path());
        command.args(["-c", "core.quotePath=false"]);
        let output = run(&self.path, command.args(arguments), input)?;
        if !output.status.success() && self.is_partial() {
            return Err(malformed(
                &self.path,
                "is a partial clone, which lacks the contents of old files; fetch them with `git fetch --refetch --no-filter`",
            ));
        }
        text(&self.path, &output)
    }

    /// Whether the repository was cloned without all objects: packs of such a clone are marked.
    fn is_partial(&self) -> bool {
        let packs = std::fs::read_dir(self.objects.join("pack"));
        let mut packs = packs.into_iter().flatten().flatten();
        packs.any(|pack| pack.path().extension() == Some(OsStr::new("promisor")))
    }
}

/// Git with no configuration but what is said here, and without the network.
fn git() -> Command {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    command.envs([
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_ALLOW_PROTOCOL", "none"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_OPTIONAL_LOCKS", "0"),
    ]);
    command
}

/// Runs a command on the repository in `path`.
fn run(path: &Path, command: &mut Command, input: &[u8]) -> Result<Output> {
    let lack = |error| {
        Error::lack(format_args!(
            "git is needed to read {} and cannot be started: {error}",
            path.display()
        ))
    };
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(lack)?;
    let stdin = child.stdin.take();
    std::thread::scope(|scope| {
        // Written beside the reading, since git may answer before it has read all. If it ends early, its status says why.
        scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(input)));
        child.wait_with_output().map_err(lack)
    })
}

/// The text that a command has printed.
fn text(path: &Path, output: &Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    let message = message.lines().next().unwrap_or("git failed").to_owned();
    Err(malformed(path, message))
}

/// The commits that the file `shallow` names, if there is one.
fn boundary(shallow: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(shallow).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
