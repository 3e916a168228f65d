//! Downloads from Hugging Face by `-hf`, against a server of the tests that speaks its API and fails on demand.

mod hub_server;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hub_server::{COMMIT, Fault, HubServer, Request};

use super::{Sandbox, error, stderr, stdout};

const FILE: &str = "tiny-Q4_K_M.gguf";
const REPO: &str = "a/b-GGUF";
const PULL: [&str; 4] = ["model", "pull", "-hf", REPO];
/// Bytes of a file that come before a fault.
const PART: usize = 70_000;

/// A server with a model, and a sandbox with a cache.
struct Case {
    sandbox: Sandbox,
    server: HubServer,
    bytes: Vec<u8>,
}

impl Case {
    fn new() -> Self {
        let (sandbox, server) = (Sandbox::new(), HubServer::start());
        let bytes = fs::read(sandbox.tiny_model()).unwrap();
        assert!(bytes.len() > 3 * PART);
        server.add("README.md", b"# A model");
        server.add(FILE, &bytes);
        Self {
            sandbox,
            server,
            bytes,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.sandbox.command(arguments);
        command.env("HF_ENDPOINT", &self.server.endpoint);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Pulls, which must succeed; returns the path and what was said.
    #[track_caller]
    fn pull(&self) -> (PathBuf, String) {
        let output = self.run(&PULL);
        assert!(output.status.success(), "{}", stderr(&output));
        let path = PathBuf::from(stdout(&output).trim_end());
        assert_eq!(fs::read(&path).unwrap(), self.bytes);
        assert!(!self.incomplete().exists());
        (path, stderr(&output))
    }

    /// Pulls, which must fail with one line on stderr beside those of the beginning.
    #[track_caller]
    fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(!self.blob().exists());
        let said = stderr(&output);
        let last = said.lines().last().unwrap();
        last.strip_prefix("error: ").unwrap().to_owned()
    }

    fn repo(&self) -> PathBuf {
        let cache = self.sandbox.path().join(".cache/huggingface/hub");
        cache.join("models--a--b-GGUF")
    }

    fn blob(&self) -> PathBuf {
        self.repo().join("blobs").join(self.server.etag(FILE))
    }

    fn incomplete(&self) -> PathBuf {
        PathBuf::from(format!("{}.incomplete", self.blob().display()))
    }

    /// The ranges of the requests for files since the last call.
    fn ranges(&self) -> Vec<Option<String>> {
        let (_, to_storage) = self.server.requests();
        to_storage.into_iter().map(|it| it.range).collect()
    }

    fn host(&self) -> &str {
        self.server.endpoint.strip_prefix("http://").unwrap()
    }
}

fn from(n: usize) -> String {
    format!("bytes={n}-")
}

/// Waits until `is_so`.
#[track_caller]
fn wait_until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |it| it.len())
}

#[test]
fn a_model_is_downloaded_once_into_the_cache_of_hugging_face() {
    let case = Case::new();
    let (path, said) = case.pull();
    let size = case.bytes.len().div_ceil(1_000_000);
    assert_eq!(said, format!("downloading {FILE} of {REPO}: {size} MB\n"));
    let snapshot = case.repo().join("snapshots").join(COMMIT);
    assert_eq!(path, snapshot.join(FILE));
    let target = Path::new("../../blobs").join(case.server.etag(FILE));
    assert_eq!(fs::read_link(&path).unwrap(), target);
    assert_eq!(
        fs::read_to_string(case.repo().join("refs/main")).unwrap(),
        COMMIT
    );
    let lock = format!(".locks/models--a--b-GGUF/{}.lock", case.server.etag(FILE));
    assert!(case.repo().with_file_name(lock).is_file());
    for file in [case.blob(), case.repo().join("refs/main"), case.repo()] {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o022, 0, "{}", file.display());
    }
    assert_eq!(case.ranges(), [None]);

    // The second time nothing is downloaded, and a chat by the name of the cache asks for nothing.
    assert_eq!(case.pull(), (path, String::new()));
    let (to_hub, to_storage) = case.server.requests();
    assert_eq!((to_hub.len(), to_storage.len()), (3, 0), "{to_hub:?}");
    let list = stdout(&case.run(&["model", "list"]));
    let row = |line: &str| line.starts_with("hf:a/b-GGUF:Q4_K_M  Hugging Face  llama ");
    assert!(list.lines().any(row), "{list}");
    let answer = |model: [&str; 2]| {
        let output = case.run(&["generate", model[0], model[1], "-p", "hello", "-n", "4"]);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let stored = answer(["-m", "hf:a/b-GGUF:Q4_K_M"]);
    assert_eq!(case.server.requests().0, []);
    assert_eq!(answer(["-hf", REPO]), stored);
    assert_eq!(answer(["--hf-repo", "a/b-GGUF:q4_k_m"]), stored);
}

#[test]
fn a_user_who_was_trained_on_a_download_keeps_its_name() {
    let case = Case::new();
    case.sandbox.file("one.md", "# A title\n\nSome words.\n");
    for arguments in [
        &["user", "import", "ann", "one.md"][..],
        &["train", "ann", "-hf", REPO, "--stage", "sft"],
    ] {
        let output = case.run(arguments);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let manifest = case.sandbox.path().join("home/users/ann/manifest.json");
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    let file = manifest["base"]["file"].as_str().unwrap();
    assert!(
        file.ends_with(&format!("snapshots/{COMMIT}/{FILE}")),
        "{file}"
    );
    case.server.requests();
    let answer = case.run(&["generate", "--user", "ann", "-p", "hello", "-n", "4"]);
    assert!(!stderr(&answer).contains("cannot"), "{}", stderr(&answer));
    assert_eq!(case.server.requests(), (Vec::new(), Vec::new()));
}

#[test]
fn the_token_reaches_the_hub_alone() {
    let case = Case::new();
    let bearer = |requests: &[Request]| -> Vec<Option<String>> {
        requests.iter().map(|it| it.authorization.clone()).collect()
    };
    let token = case.sandbox.path().join("token");
    fs::write(&token, " hf_file\n").unwrap();
    for (name, value, expected) in [
        ("HF_TOKEN", "\thf_variable \n", Some("Bearer hf_variable")),
        (
            "HF_TOKEN_PATH",
            token.to_str().unwrap(),
            Some("Bearer hf_file"),
        ),
        ("HF_TOKEN_PATH", "/nowhere", None),
    ] {
        fs::remove_dir_all(case.repo()).unwrap_or_default();
        let output = case.command(&PULL).env(name, value).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(!stderr(&output).contains("hf_"), "{}", stderr(&output));
        let (to_hub, to_storage) = case.server.requests();
        let expected = expected.map(str::to_owned);
        // Branches, two parts of the list, and the file at its old and its new place.
        assert_eq!(bearer(&to_hub), vec![expected; 5], "{name}");
        assert_eq!(bearer(&to_storage), [None], "{name}");
    }
}

#[test]
fn a_repository_that_the_hub_refuses_is_one_clear_line() {
    let case = Case::new();
    let host = case.host();
    for (status, has_token, message) in [
        (
            401,
            false,
            format!(
                "{host} has no repository a/b-GGUF that everybody may read (status 401); check the name, or set HF_TOKEN to a token for it"
            ),
        ),
        (
            404,
            true,
            format!(
                "{host} has no repository a/b-GGUF that the token may read (status 404); check the name and the token"
            ),
        ),
        (
            403,
            true,
            format!(
                "{host} refuses access to a/b-GGUF (status 403); if it has terms to agree to, do so on its page, and set HF_TOKEN"
            ),
        ),
        (
            503,
            false,
            format!("cannot list the files of a/b-GGUF: {host} answered with status 503"),
        ),
    ] {
        case.server.refuse(Some(status));
        let mut command = case.command(&PULL);
        if has_token {
            command.env("HF_TOKEN", "hf_secret");
        }
        let said = error(&command.output().unwrap());
        assert_eq!(said, format!("error: {message}\n"));
    }
    case.server.refuse(None);
    case.pull();
    case.server.refuse(Some(503));
    let (_, said) = case.pull();
    assert_eq!(
        said,
        format!(
            "cannot list the files of a/b-GGUF: {host} answered with status 503; the copy in the cache is used\n"
        )
    );
}

#[test]
fn a_host_of_files_that_fails_for_a_while_is_asked_again() {
    for status in [401, 403, 503] {
        let case = Case::new();
        case.server.fail(&[Fault::Status(status); 2]);
        case.pull();
        assert_eq!(case.ranges(), [None, None, None]);
    }
}

#[test]
fn a_host_of_files_that_keeps_failing_leaves_nothing_in_the_cache() {
    for status in [401, 403, 404, 503] {
        let case = Case::new();
        case.server.always_fail(Some(Fault::Status(status)));
        let message = case.refusal(&PULL);
        assert!(
            message.starts_with(&format!("cannot download {FILE}: 127.0.0.1:")),
            "{message}"
        );
        let end = format!(" answered with status {status}; try again later");
        assert!(message.ends_with(&end), "{message}");
        assert!(!case.repo().join("refs/main").exists());
        assert_eq!(length(&case.incomplete()), 0);
        case.server.always_fail(None);
        case.pull();
    }
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_was() {
    let case = Case::new();
    case.server
        .fail(&[Fault::Cut(PART), Fault::Status(503), Fault::Cut(PART)]);
    case.pull();
    assert_eq!(
        case.ranges(),
        [
            None,
            Some(from(PART)),
            Some(from(PART)),
            Some(from(2 * PART))
        ]
    );
}

/// A pull that has downloaded a part of the file and waits for more.
fn stalled(case: &Case) -> Child {
    case.server.fail(&[Fault::Stall(PART)]);
    let mut command = case.command(&PULL);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = child.unwrap();
    wait_until(|| length(&case.incomplete()) == PART as u64);
    child
}

#[test]
fn a_download_that_is_killed_goes_on_where_it_was() {
    let case = Case::new();
    let mut child = stalled(&case);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!case.blob().exists());
    let (_, said) = case.pull();
    assert!(said.ends_with(", of which 1 MB are here\n"), "{said}");
    assert_eq!(case.ranges(), [None, Some(from(PART))]);
}

#[test]
fn a_signal_stops_a_download_between_two_requests() {
    let case = Case::new();
    case.server.always_fail(Some(Fault::Cut(0)));
    case.server.fail(&[Fault::Cut(PART)]);
    let mut command = case.command(&PULL);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap();
    wait_until(|| length(&case.incomplete()) == PART as u64);
    let id = child.id().to_string();
    let kill = Command::new("kill").args(["-TERM", &id]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    assert_eq!(signal, Some(15), "{}", stderr(&output));
    assert_eq!(length(&case.incomplete()), PART as u64);
    case.server.always_fail(None);
    case.pull();
}

#[test]
fn two_downloads_at_once_are_one() {
    let case = Case::new();
    let mut first = stalled(&case);
    let mut command = case.command(&PULL);
    let second = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let second = second.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    first.kill().unwrap();
    first.wait().unwrap();
    let output = second.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    let waited = format!("another program is downloading {FILE}\n");
    assert!(said.starts_with(&waited), "{said}");
    assert_eq!(case.ranges(), [None, Some(from(PART))]);
}

#[test]
fn a_file_that_ends_early_is_not_kept_as_the_model() {
    let case = Case::new();
    case.server.always_fail(Some(Fault::Short(0)));
    case.server.fail(&[Fault::Short(PART)]);
    let message = case.refusal(&PULL);
    let end = format!(
        ": the connection was cut; {PART} bytes are kept, and the same command goes on from there"
    );
    assert!(message.ends_with(&end), "{message}");
    case.server.always_fail(None);
    case.pull();
}

#[test]
fn wrong_bytes_are_never_the_model() {
    let case = Case::new();
    case.server.always_fail(Some(Fault::WrongBytes));
    assert_eq!(
        case.refusal(&PULL),
        format!(
            "{FILE} came with wrong bytes: its SHA-256 is not the one that {} lists; nothing was kept, try again later",
            case.host()
        )
    );
    assert!(!case.incomplete().exists());
    case.server.always_fail(None);

    // A part that another program left is tried, and then not trusted.
    fs::create_dir_all(case.blob().parent().unwrap()).unwrap();
    fs::write(case.incomplete(), vec![7; PART]).unwrap();
    case.ranges();
    case.pull();
    assert_eq!(case.ranges(), [Some(from(PART)), None]);
}

#[test]
fn a_part_is_begun_anew_where_it_cannot_be_continued() {
    let case = Case::new();
    case.server.fail(&[Fault::Cut(PART), Fault::NoRange]);
    case.pull();
    assert_eq!(case.ranges(), [None, Some(from(PART))]);

    let case = Case::new();
    fs::create_dir_all(case.blob().parent().unwrap()).unwrap();
    fs::write(case.incomplete(), vec![7; case.bytes.len() + 1]).unwrap();
    case.pull();
    assert_eq!(case.ranges(), [None]);
}

#[test]
fn a_blob_that_another_program_has_poisoned_is_downloaded_again() {
    let case = Case::new();
    let (path, _) = case.pull();
    let same_length = vec![b'<'; case.bytes.len()];
    for poison in [&b"<html>503</html>"[..], b"", &same_length] {
        fs::write(case.blob(), poison).unwrap();
        let (again, said) = case.pull();
        assert_eq!(again, path);
        let blob = case.blob();
        assert!(
            said.starts_with(&format!("{} is damaged (", blob.display())),
            "{said}"
        );
    }
}

#[test]
fn offline_only_the_cache_is_used() {
    let case = Case::new();
    let pull = |offline: &str| {
        let mut command = case.command(&PULL);
        command.env("HF_HUB_OFFLINE", offline).output().unwrap()
    };
    assert_eq!(
        error(&pull("yes")),
        "error: a/b-GGUF is not in the cache, and HF_HUB_OFFLINE forbids to download it\n"
    );
    assert_eq!(case.server.requests(), (Vec::new(), Vec::new()));
    assert!(pull("0").status.success());
    case.server.requests();
    let offline = pull("1");
    assert!(offline.status.success(), "{}", stderr(&offline));
    assert!(stdout(&offline).trim_end().ends_with(FILE));
    assert_eq!(case.server.requests(), (Vec::new(), Vec::new()));
    // A Hub that cannot be reached is as good as none.
    let mut command = case.sandbox.command(&PULL);
    let unreachable = command.env("HF_ENDPOINT", "http://127.0.0.1:9").output();
    let unreachable = unreachable.unwrap();
    assert!(unreachable.status.success(), "{}", stderr(&unreachable));
    let said = stderr(&unreachable);
    assert!(
        said.ends_with("; the copy in the cache is used\n"),
        "{said}"
    );
}

#[test]
fn quantisations_files_and_parts_are_chosen_as_by_llama_cpp() {
    let case = Case::new();
    case.server
        .add("BF16/tiny model-BF16-00001-of-00002.gguf", b"GGUFw");
    case.server
        .add("BF16/tiny model-BF16-00002-of-00002.gguf", b"GGUFx");
    case.server.add("half-F16-00001-of-00002.gguf", b"GGUFz");
    case.server.add("mmproj-F32.gguf", b"GGUFy");
    let pulled = |model: &str| {
        let output = case.run(&["model", "pull", "-hf", model]);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).trim_end().to_owned()
    };
    let first = pulled("a/b-GGUF:bf16");
    let second = first.replace("00001-of", "00002-of");
    assert!(first.ends_with("/BF16/tiny model-BF16-00001-of-00002.gguf"));
    assert_eq!(fs::read(second).unwrap(), b"GGUFx");
    assert_eq!(
        case.refusal(&["model", "pull", "-hf", "a/b-GGUF:F16"]),
        "a/b-GGUF lacks half-F16-00002-of-00002.gguf, a part of the model in parts half-F16-00001-of-00002.gguf"
    );
    assert_eq!(
        case.refusal(&["model", "pull", "-hf", "a/b-GGUF:Q2_K"]),
        format!(
            "a/b-GGUF has no file of quantisation Q2_K; it has {FILE}, BF16/tiny model-BF16-00001-of-00002.gguf, half-F16-00001-of-00002.gguf"
        )
    );
    let named = ["model", "pull", "-hfr", REPO, "-hff", "mmproj-F32.gguf"];
    let named = case.run(&named);
    assert!(named.status.success(), "{}", stderr(&named));
    assert!(stdout(&named).ends_with("/mmproj-F32.gguf\n"));
    let none = ["model", "pull", "-hf", REPO, "--hf-file", "../x"];
    assert!(
        case.refusal(&none)
            .starts_with("a/b-GGUF has no file ../x; it has ")
    );
}
