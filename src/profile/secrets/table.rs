//! The rows of the tables, and the rules that they make.

use super::checks::named;
use super::numbers::SecretCheck;

/// Columns of a table, without its comments.
pub(super) fn rows<const N: usize>(table: &'static str) -> impl Iterator<Item = [&'static str; N]> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let columns: Vec<_> = line.splitn(N, '\t').collect();
        columns.try_into().expect("a row has all columns")
    })
}

/// One pattern of secrets.
pub(super) struct SecretRule {
    pub kind: &'static str,
    /// In the syntax of the crate regex; its named group is the secret, or else the whole match.
    pub pattern: String,
    pub check: SecretCheck,
}

impl SecretRule {
    pub fn new(kind: &'static str, check: &str, pattern: &str) -> Self {
        Self {
            kind,
            pattern: pattern.to_owned(),
            check: named(check).expect("a check of the table is a function"),
        }
    }
}
