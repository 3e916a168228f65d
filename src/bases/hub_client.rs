//! Requests to Hugging Face's Hub. Redirects are followed here, so that the token reaches no other host than the Hub's.

use std::fmt::{self, Write};
use std::time::Duration;

use serde_json::Value;
use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, LINK, LOCATION, RANGE};
use ureq::http::{HeaderMap, HeaderName, Response, Uri};
use ureq::{Agent, Body};

use crate::{Error, Result};

/// Time without any byte after which a connection counts as dead.
const SILENCE: Duration = Duration::from_secs(10);
/// Time for the beginning of an answer.
const ANSWER: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: usize = 10;
/// The most bytes of an answer in JSON; a list of a thousand files has some hundred thousand.
const MAX_JSON: u64 = 16 << 20;

/// A request that did not bring what it should.
#[derive(Debug)]
pub enum HubFailure {
    /// A host answered with this status.
    Status {
        /// The host that answered.
        host: String,
        /// Whether that is the Hub itself, and not a host that stores files.
        is_hub: bool,
        /// The HTTP status.
        status: u16,
    },
    /// A host could not be reached, or its answer not be used.
    NoAnswer {
        /// The host that was asked.
        host: String,
        /// The reason.
        reason: String,
    },
}

impl HubFailure {
    /// Whether the same request may succeed a little later. Links to storage hosts are made anew by each request.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Status { is_hub, status, .. } => {
                !is_hub || matches!(status, 408 | 429 | 500..=599)
            }
            Self::NoAnswer { .. } => true,
        }
    }
}

impl fmt::Display for HubFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { host, status, .. } => write!(f, "{host} answered with status {status}"),
            Self::NoAnswer { host, reason } => write!(f, "{host}: {reason}"),
        }
    }
}

/// A client of one Hub.
pub struct HubClient {
    agent: Agent,
    endpoint: Uri,
    token: Option<String>,
}

impl HubClient {
    /// A client of the Hub at `endpoint`, an `http` or `https` address without a path.
    ///
    /// # Errors
    ///
    /// [`Error::Input`], if it is none, or the token has characters that no token has.
    pub fn new(endpoint: &str, token: Option<String>) -> Result<Self> {
        let uri = endpoint.trim_end_matches('/').parse::<Uri>().ok();
        let is_web = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
        let endpoint = uri
            .filter(|uri| is_web(uri) && uri.authority().is_some())
            .ok_or_else(|| {
                Error::input(format_args!(
                    "HF_ENDPOINT is {endpoint:?}, which is no address such as https://huggingface.co"
                ))
            })?;
        let is_plain = |token: &String| token.bytes().all(|byte| byte.is_ascii_graphic());
        if !token.iter().all(is_plain) {
            return Err(Error::input(
                "the token for Hugging Face has characters that no token has; check HF_TOKEN and the file of the token",
            ));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(SILENCE))
            .timeout_resolve(Some(SILENCE))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("cope-llama/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            agent: config.new_agent(),
            endpoint,
            token,
        })
    }

    /// The Hub's host, and its port if it is no usual one.
    pub fn host(&self) -> String {
        host(&self.endpoint)
    }

    /// Whether requests to the Hub carry a token.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The JSON at `path`, and the path of the next part of a list that has one.
    pub fn json(&self, path: &str) -> Result<(Value, Option<String>), HubFailure> {
        let mut answer = self.get(path, None)?;
        let next = self.next(answer.headers());
        let reader = answer.body_mut().with_config().limit(MAX_JSON).reader();
        let value = serde_json::from_reader(reader).map_err(|error| HubFailure::NoAnswer {
            host: self.host(),
            reason: format!("its answer is no JSON ({error})"),
        })?;
        Ok((value, next))
    }

    /// The file at `path`, from the byte `from` on if the host can give a part of it, else from its beginning.
    pub fn file(&self, path: &str, from: u64) -> Result<Response<Body>, HubFailure> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        self.get(path, range.as_deref())
    }

    /// An answer with a status of success to a request for `path`, after redirects.
    fn get(&self, path: &str, range: Option<&str>) -> Result<Response<Body>, HubFailure> {
        let unusable = |uri: &Uri, reason: &str| HubFailure::NoAnswer {
            host: host(uri),
            reason: reason.to_owned(),
        };
        let mut uri = format!("{}{path}", self.base())
            .parse::<Uri>()
            .map_err(|error| unusable(&self.endpoint, &error.to_string()))?;
        for _ in 0..=MAX_REDIRECTS {
            let mut headers: Vec<(HeaderName, &str)> = vec![(ACCEPT_ENCODING, "identity")];
            headers.extend(range.map(|range| (RANGE, range)));
            let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
            let is_hub = same_origin(&uri, &self.endpoint);
            let bearer = bearer.as_deref().filter(|_| is_hub);
            headers.extend(bearer.map(|bearer| (AUTHORIZATION, bearer)));
            let mut request = self.agent.get(&uri);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let answer = request
                .call()
                .map_err(|error| unusable(&uri, &error.to_string()))?;
            let status = answer.status();
            if status.is_success() {
                return Ok(answer);
            }
            let location = answer.headers().get(LOCATION);
            let location = location.filter(|_| status.is_redirection());
            let Some(location) = location.and_then(|it| it.to_str().ok()) else {
                return Err(HubFailure::Status {
                    host: host(&uri),
                    is_hub,
                    status: status.as_u16(),
                });
            };
            let target = resolve(&uri, location);
            uri = target.ok_or_else(|| unusable(&uri, "it redirects to no usable address"))?;
        }
        Err(unusable(&uri, "there are too many redirects"))
    }

    /// Scheme and host of the endpoint, and a path if it has one.
    fn base(&self) -> String {
        self.endpoint.to_string().trim_end_matches('/').to_owned()
    }

    /// The path of the next part of a list, if it lies on the Hub.
    fn next(&self, headers: &HeaderMap) -> Option<String> {
        let links = headers.get(LINK)?.to_str().ok()?;
        let next = links
            .split(',')
            .find(|link| link.contains("rel=\"next\""))?;
        let address = next.split_once('<')?.1.split_once('>')?.0;
        Some(address.strip_prefix(&self.base())?.to_owned()).filter(|path| path.starts_with('/'))
    }
}

fn host(uri: &Uri) -> String {
    let full = uri.authority().map_or("", |authority| authority.as_str());
    // An address may hold a name and a password.
    full.rsplit('@').next().unwrap_or(full).to_owned()
}

fn same_origin(one: &Uri, other: &Uri) -> bool {
    let port = |uri: &Uri| {
        let usual = if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        uri.port_u16().unwrap_or(usual)
    };
    let name = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    one.scheme_str() == other.scheme_str() && name(one) == name(other) && port(one) == port(other)
}

/// The address that a redirect from `from` leads to; `None` if it is none, or one without encryption from one with it.
fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    let authority = from.authority()?;
    let scheme = from.scheme_str()?;
    let target = if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.contains("://") {
        location.to_owned()
    } else {
        let folder = from
            .path()
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let target: Uri = target.parse().ok()?;
    let target_scheme = target.scheme_str()?;
    let is_safe = target_scheme == "https" || (target_scheme == "http" && scheme == "http");
    is_safe.then_some(target)
}

/// A path of a repository as a part of an address.
pub fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(byte as char);
        } else {
            // Writing into a String never fails.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn redirects_are_resolved_and_never_lose_encryption() {
        let from = uri("https://hub.example/a/b/resolve/main/m.gguf");
        let to = |location: &str| resolve(&from, location).map(|uri| uri.to_string());
        for (location, target) in [
            ("/c/d", Some("https://hub.example/c/d")),
            (
                "n.gguf",
                Some("https://hub.example/a/b/resolve/main/n.gguf"),
            ),
            ("//cdn.example/x?y", Some("https://cdn.example/x?y")),
            ("https://cdn.example/x", Some("https://cdn.example/x")),
            ("http://hub.example/c/d", None),
            ("file:///etc/passwd", None),
        ] {
            assert_eq!(to(location).as_deref(), target, "{location}");
        }
        let open = resolve(&uri("http://a/x"), "http://b/y").unwrap();
        assert_eq!(open.to_string(), "http://b/y");
    }

    #[test]
    fn only_the_same_scheme_host_and_port_are_the_hubs() {
        let hub = uri("https://hub.example");
        for (other, is_same) in [
            ("https://HUB.example:443/x", true),
            ("http://hub.example/x", false),
            ("https://hub.example:444/x", false),
            ("https://cdn.hub.example/x", false),
            ("https://hub.example@evil.example/x", false),
        ] {
            assert_eq!(same_origin(&uri(other), &hub), is_same, "{other}");
        }
    }

    #[test]
    fn endpoints_and_tokens_are_checked() {
        for endpoint in ["", "huggingface.co", "ftp://x", "https://"] {
            let Err(error) = HubClient::new(endpoint, None) else {
                panic!("{endpoint} was taken");
            };
            assert!(error.to_string().starts_with("HF_ENDPOINT is "), "{error}");
        }
        let Err(error) = HubClient::new("https://x", Some("hf_a\nb".into())) else {
            panic!("the token was taken");
        };
        assert!(!error.to_string().contains("hf_a"), "{error}");
        assert_eq!(encoded("a b/ü.gguf"), "a%20b/%C3%BC.gguf");
    }
}
