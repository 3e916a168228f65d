//! The identity of a value: the SHA-256 of its JSON.

use std::fmt::Write;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// SHA-256 of a value's JSON, as 64 lower-case hexadecimal digits.
pub(crate) fn digest(value: &Value) -> String {
    let digest = Sha256::digest(value.to_string());
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
