//! A server that speaks as much of Hugging Face's API as a download needs, and fails on demand. The Hub and the host that
//! stores the files are two ports.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A failure of one request to the host of files.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// A status, with a page that explains it.
    Status(u16),
    /// So many bytes of the rest, and then the connection ends.
    Cut(usize),
    /// So many bytes of the rest, and then none for a long time.
    Stall(usize),
    /// An answer that claims to be whole with so many bytes.
    Short(usize),
    /// The right number of other bytes.
    WrongBytes,
    /// The whole file, whichever part was asked for.
    NoRange,
}

/// A request that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
}

#[derive(Default)]
struct HubState {
    /// For each path, the bytes and the name of the blob.
    files: Vec<(String, Vec<u8>, String)>,
    faults: VecDeque<Fault>,
    /// The fault of all requests for which there is no other.
    lasting_fault: Option<Fault>,
    /// The status of all answers of the API.
    api_status: Option<u16>,
    to_hub: Vec<Request>,
    to_storage: Vec<Request>,
}

/// The server, whose one repository is `a/b-GGUF`.
pub struct HubServer {
    state: Arc<Mutex<HubState>>,
    pub endpoint: String,
}

impl HubServer {
    pub fn start() -> Self {
        let state = Arc::<Mutex<HubState>>::default();
        let (hub, storage) = (listener(), listener());
        let address = |it: &TcpListener| format!("http://{}", it.local_addr().unwrap());
        let (endpoint, storage_address) = (address(&hub), address(&storage));
        let for_hub = Arc::clone(&state);
        answer_all(hub, move |stream, request| {
            let mut state = for_hub.lock().unwrap();
            answer_hub(&mut state, stream, &request, &storage_address);
            state.to_hub.push(request);
        });
        let for_storage = Arc::clone(&state);
        answer_all(storage, move |stream, request| {
            let mut state = for_storage.lock().unwrap();
            let fault = state.faults.pop_front().or(state.lasting_fault);
            let number: usize = request.path.trim_start_matches('/').parse().unwrap();
            let bytes = state.files[number].1.clone();
            state.to_storage.push(request.clone());
            drop(state);
            answer_storage(stream, &request, &bytes, fault);
        });
        Self { state, endpoint }
    }

    /// Adds a file; its blob is named by its SHA-256.
    pub fn add(&self, path: &str, bytes: &[u8]) {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        std::fs::write(&copy, bytes).unwrap();
        let etag = cope_convert::sha256(&copy).unwrap();
        let mut state = self.state();
        state.files.push((path.to_owned(), bytes.to_vec(), etag));
    }

    pub fn fail(&self, faults: &[Fault]) {
        self.state().faults.extend(faults);
    }

    pub fn always_fail(&self, fault: Option<Fault>) {
        self.state().lasting_fault = fault;
    }

    pub fn refuse(&self, status: Option<u16>) {
        self.state().api_status = status;
    }

    pub fn etag(&self, path: &str) -> String {
        let state = self.state();
        let file = state.files.iter().find(|(known, _, _)| known == path);
        file.unwrap().2.clone()
    }

    /// The requests since the last call, to the Hub and to the host of files.
    pub fn requests(&self) -> (Vec<Request>, Vec<Request>) {
        let mut state = self.state();
        let to_hub = std::mem::take(&mut state.to_hub);
        (to_hub, std::mem::take(&mut state.to_storage))
    }

    fn state(&self) -> MutexGuard<'_, HubState> {
        self.state.lock().unwrap()
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Answers one request of each connection, on threads that end with the process.
fn answer_all(
    listener: TcpListener,
    answer: impl Fn(&mut TcpStream, Request) + Clone + Send + 'static,
) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = answer.clone();
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                if let Some(request) = read(&stream) {
                    answer(&mut stream, request);
                }
            });
        }
    });
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    Some(Request {
        path,
        authorization: headers.remove("authorization"),
        range: headers.remove("range"),
    })
}

fn answer_hub(state: &mut HubState, stream: &mut TcpStream, request: &Request, storage: &str) {
    let json = |value: &Value| (200, String::new(), value.to_string());
    let path = &*request.path;
    let (status, headers, body) = if let Some(status) = state.api_status {
        (status, String::new(), json!({ "error": "no" }).to_string())
    } else if path == "/api/models/a/b-GGUF/refs" {
        let main = json!({ "name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT });
        json(&json!({ "tags": [], "branches": [main] }))
    } else if path.starts_with("/api/models/a/b-GGUF/tree/") {
        tree(state, path, request)
    } else if let Some(file) = path.strip_prefix(&*format!("/a/b-GGUF/resolve/{COMMIT}/")) {
        // The Hub sends on to itself first, as it does for repositories with a new name.
        let place = format!("Location: /moved/{file}\r\n");
        (307, place, String::new())
    } else if let Some(file) = path.strip_prefix("/moved/") {
        let mut files = state.files.iter();
        match files.position(|(known, _, _)| known.replace(' ', "%20") == file) {
            Some(number) => (
                302,
                format!("Location: {storage}/{number}\r\n"),
                String::new(),
            ),
            None => (404, String::new(), "Entry not found".to_owned()),
        }
    } else {
        (404, String::new(), "Not found".to_owned())
    };
    respond(stream, status, &headers, body.as_bytes());
}

/// The list of files, in two parts.
fn tree(state: &HubState, path: &str, request: &Request) -> (u16, String, String) {
    let entries = state.files.iter().map(|(path, bytes, etag)| {
        json!({
            "type": "file",
            "path": path,
            "oid": "f".repeat(40),
            "size": bytes.len(),
            "lfs": { "oid": etag, "size": bytes.len(), "pointerSize": 135 },
        })
    });
    let folder = json!({ "type": "directory", "path": "x", "oid": "e".repeat(40), "size": 0 });
    let entries: Vec<Value> = std::iter::once(folder).chain(entries).collect();
    let (first, second) = entries.split_at(entries.len().min(2));
    assert!(path.contains("recursive=true"), "{request:?}");
    if path.ends_with("&cursor=2") {
        return (200, String::new(), json!(second).to_string());
    }
    // The server's own address is the one that it was asked at.
    let next = format!("Link: <{{endpoint}}{path}&cursor=2>; rel=\"next\"\r\n");
    (200, next, json!(first).to_string())
}

fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) {
    let endpoint = format!("http://{}", stream.local_addr().unwrap());
    let headers = headers.replace("{endpoint}", &endpoint);
    let length = body.len();
    // A client that is gone needs no answer.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let _ = stream.write_all(body);
}

fn answer_storage(stream: &mut TcpStream, request: &Request, bytes: &[u8], fault: Option<Fault>) {
    let from = request.range.as_ref().map(|range| {
        let range = range.strip_prefix("bytes=").unwrap();
        range.strip_suffix('-').unwrap().parse::<usize>().unwrap()
    });
    if let Some(Fault::Status(status)) = fault {
        let page = format!("<html>{status}</html>");
        return respond(stream, status, "", page.as_bytes());
    }
    let from = from.filter(|_| !matches!(fault, Some(Fault::NoRange)));
    if from.is_some_and(|from| from >= bytes.len()) {
        return respond(stream, 416, "", b"");
    }
    let rest = &bytes[from.unwrap_or(0)..];
    let other: Vec<u8> = rest.iter().map(|byte| !byte).collect();
    let rest = if matches!(fault, Some(Fault::WrongBytes)) {
        &other
    } else {
        rest
    };
    let (sent, claimed) = match fault {
        Some(Fault::Cut(n) | Fault::Stall(n)) => (n, rest.len()),
        Some(Fault::Short(n)) => (n, n),
        _ => (rest.len(), rest.len()),
    };
    let (status, range) = match from {
        Some(from) => {
            let (last, all) = (bytes.len() - 1, bytes.len());
            (206, format!("Content-Range: bytes {from}-{last}/{all}\r\n"))
        }
        None => (200, String::new()),
    };
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\n{range}Content-Length: {claimed}\r\nConnection: close\r\n\r\n"
    );
    let _ = stream.write_all(&rest[..sent.min(rest.len())]);
    let _ = stream.flush();
    if matches!(fault, Some(Fault::Stall(_))) {
        thread::sleep(Duration::from_secs(60));
    }
}
