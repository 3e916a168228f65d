//! Makes rules of the words that stand before secrets without a form of their own: `password: …`, `Das Passwort ist …`.

use std::collections::BTreeMap;

use super::table::{SecretRule, rows};

const PHRASES: &str = include_str!("phrases.tsv");

/// Words that may stand between a word and its secret without ending the sentence: "password *for the router*:".
const GAP: &str = r"[^\n.!?;:=,，、。：＝|]{0,30}?";

/// The same as far as it goes: "the password *for the router at home* is …".
const LONG_GAP: &str = r"[^\n.!?;:=,，、。：＝|]{0,30}";

/// Signs between a word and its secret.
const SIGN: &str = r#"["'`*_)\]]{0,3}\s*(?:(?:[:=：＝|→\t>]|=>|->) ?)+\s{0,3}"#;

/// Particles that follow the word without a blank.
const PARTICLE: &str = r"\s*[はが是为為은는이]\s*";

/// Quotation marks and marks of Markdown before a secret.
const OPEN: &str = r#"["'`“”„«‹「『* ]{0,5}"#;

/// A secret as one word, which ends before letters of scripts that write no blanks.
const WORD: &str = r#"(?P<s>[!-~\p{Latin}\p{Cyrillic}\p{Greek}&&[^"`<>|]]{4,})"#;

/// A lone word that ends its line or is followed by a comma.
const LONE: &str = r#"(?P<s>\p{L}[\p{L}\p{M}_-]{3,})["'`”»*_]{0,3}[.!]?(?:\s*(?m:$)|[,;)])"#;

/// Words in quotation marks.
const QUOTED: &str = r#"(?:"(?P<s>[^\n"]{4,60})"|'(?P<t>[^\n']{4,60})'|[“„](?P<u>[^\n“”]{4,60})[“”]|«\s?(?P<v>[^\n»]{4,60}?)\s?»|「(?P<w>[^\n」]{4,60})」|`(?P<x>[^\n`]{4,60})`)"#;

const DIGITS: &str = r"(?P<s>[0-9]{4,8})(?-u:\b)";

const CHECK_DIGITS: &str = r"(?P<s>[0-9]{3,8})(?-u:\b)";

const NUMBER: &str =
    r"(?P<s>[A-Z]{0,3}[0-9](?:[ ./-]?[0-9]){4,24}[A-Z]?(?-u:\b)|[A-Z0-9]{6,12}(?-u:\b))";

/// The rules of all phrases. All languages are looked for in every text.
pub(super) fn rules() -> Vec<SecretRule> {
    let mut groups: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    let mut verbs = Vec::new();
    for [kind, _language, form, words] in rows::<4>(PHRASES) {
        let words = words.split(" | ");
        match kind {
            "is" => verbs.extend(words),
            _ => groups.entry((kind, form)).or_default().extend(words),
        }
    }
    let is = format!(
        r"(?:(?:,?\s+(?:{}|[—–-])){{1,3}}\s+|{PARTICLE})",
        verbs.join("|")
    );
    let mut rules = Vec::new();
    for ((kind, form), words) in groups {
        let words = words.join("|");
        let mut add = |between: &str, secret: &str, check: &str| {
            let pattern = format!("(?iu)(?:{words}){between}{secret}");
            rules.push(SecretRule::new(kind, check, &pattern));
        };
        let ways = [
            (format!("{GAP}{SIGN}"), "after_sign"),
            (format!("{GAP}{is}"), "after_word"),
            (format!("{LONG_GAP}{is}"), "after_word"),
            (r"\w{0,3}(?:['’]s)?\s+".to_owned(), "after_word"),
            (r"\w{0,3}\s*\(".to_owned(), "after_sign"),
        ];
        // "They pass x86_64" has a verb, not a password.
        let is_beside = |between: &str| between.starts_with(r"\w");
        for (between, check) in &ways {
            if form == "signed" && is_beside(between) {
                continue;
            }
            let between = format!("{between}{OPEN}");
            match form {
                "digits" => add(&between, DIGITS, "-"),
                "check" => add(&between, CHECK_DIGITS, "-"),
                "number" => add(&between, NUMBER, "number"),
                "key" => add(&between, WORD, "key"),
                _ => add(&between, WORD, check),
            }
        }
        if form == "any" {
            let [(sign, _), (verb, _), ..] = &ways;
            add(&format!("{sign}{OPEN}"), LONE, "lone");
            add(&format!("(?:{sign}|{verb})"), QUOTED, "quoted");
        }
    }
    rules
}
