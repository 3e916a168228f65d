use std::ffi::CString;
use std::fmt::Write;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::llama::sys;

/// The result of [`check`], where the tokens are those with a number.
fn checked(gbnf: &str) -> Result<(), String> {
    check(gbnf, &|name| {
        token_digits(name).is_some_and(|it| it.parse::<u32>().is_ok())
    })
}

/// Whether llama.cpp accepts a grammar, without a vocabulary.
fn llama_cpp_accepts(gbnf: &str) -> bool {
    let text = CString::new(gbnf).unwrap();
    // SAFETY: both texts are NUL-terminated; without a vocabulary, the parser refuses tokens that are named by their text.
    unsafe {
        let sampler =
            sys::llama_rs_sampler_init_grammar(std::ptr::null(), text.as_ptr(), c"root".as_ptr());
        if !sampler.is_null() {
            sys::llama_sampler_free(sampler);
        }
        !sampler.is_null()
    }
}

/// Grammars that use everything that GBNF has.
const SOUND: [&str; 8] = [
    r#"root ::= "a"{3}"#,
    r#"root ::= "a"{2,3} [a-z]{0,2000} x{1,} ("b" | "c"){2000}
x ::= "x" | [^\]\\\x41-\u00e9] | ."#,
    "root ::= (\"a\" { 1 , 2 # a comment with {9,1}\n })\n",
    r#"root ::= "{3,1}" "\"{3,1}" [{3,1}] [\]{9,1}] <[3]> # {3,1}"#,
    "# first\nroot ::= # second\n  item (\",\" # third\n item)* |\r\n  !<[7]> tail?\r\nitem ::= [0-9]+ | \"\"\ntail ::= \"t\" tail | \"\"",
    "root ::= expr\nexpr ::= term ([-+*/] term)*\nterm ::= \"(\" expr \")\" | [0-9]+ \"\" \"\\t\\r\\n\"",
    "root ::= (\"a\"? \"b\"?)* \"é\" \"\\U0001F600\" (c)+\nc ::= \"c\"{0} \"d\"",
    "a-1 ::= [a-]\nroot ::= \"x\"{2}{3} a-1{0,2}{3} | ()",
];

#[test]
fn sound_grammars_are_taken_by_both() {
    for gbnf in SOUND {
        assert_eq!(checked(gbnf), Ok(()), "{gbnf}");
        assert!(llama_cpp_accepts(gbnf), "{gbnf}");
    }
}

/// Refused grammars, each with the line that the refusal names (0 for none) and the reason.
const REFUSED: &[(&str, usize, &str)] = &[
    (
        "root",
        1,
        "`::=` has to follow the name `root`, not the end",
    ),
    (
        "root ::= \"a\"\n\nmy_rule ::= \"b\"",
        3,
        "`::=` has to follow the name `my`, not `_` (names have letters, digits and hyphens)",
    ),
    (
        "root ::= \"a\"\n  | \"b\"",
        2,
        "a rule begins with its name, not with `|`; a rule ends with its line, unless the line ends with `|` or is in parentheses",
    ),
    (
        "root ::= \"a\n\nb ::= [c",
        1,
        "a text has no closing quotation mark",
    ),
    ("root ::= b\nb ::= [c", 2, "a class has no closing `]`"),
    ("root ::= []", 1, "a class is empty"),
    ("root ::= \"a\\q\"", 1, "the escape `\\q` is not known"),
    (
        "root ::= [\\x4]",
        1,
        "`\\x` needs 2 hexadecimal digits behind it",
    ),
    ("root ::= (\"a\"\n", 1, "a group has no closing `)`"),
    ("root ::= (\"a\" ::= )", 1, "`:` cannot stand in a group"),
    (
        "root ::= \"a\") \"b\"",
        1,
        "`)` cannot stand here in the rule `root`",
    ),
    ("root ::= * \"a\"", 1, "a repetition has nothing before it"),
    ("root ::= \"\"+", 1, "a repetition has nothing before it"),
    (
        "root ::= <|none|>",
        1,
        "`<|none|>` is not one token of the model",
    ),
    (
        "root ::= <[+3]>",
        1,
        "`<[+3]>` is not one token of the model",
    ),
    ("root ::= !a", 1, "a token is named as `<[7]>` or `<|end|>`"),
    (
        "root ::= \"a\"\nb ::= missing",
        2,
        "the rule `missing` is not defined",
    ),
    (
        "root ::= \"a\"\nroot ::= \"b\"",
        2,
        "the rule `root` is defined twice",
    ),
    (
        "other ::= \"a\"",
        0,
        "has no rule `root`, with which it begins",
    ),
    ("", 0, "has no rule `root`, with which it begins"),
    (
        "root ::= \"a\"{3,1}",
        1,
        "the repetition {3,1} has a least count above its most",
    ),
    (
        "root ::= [\\]] # {\n\nb ::= ( \"a\" { 1, # {\n 0 } )",
        3,
        "the repetition { 1, # {\n 0 } has a least count above its most",
    ),
    (
        "root ::= \"a\"{0,2001}",
        1,
        "the repetition {0,2001} has a count above 2000",
    ),
    (
        "root ::= \"a\"{99999999999999999999}",
        1,
        "the repetition {99999999999999999999} has a count above 2000",
    ),
    (
        "root ::= \"a\"{,3}",
        1,
        "a `{` begins no repetition `{n}`, `{n,}` or `{n,m}`",
    ),
    (
        "root ::= \"a\"{1,2,3}",
        1,
        "a `{` begins no repetition `{n}`, `{n,}` or `{n,m}`",
    ),
    (
        "root ::= \"a\"{x}",
        1,
        "a `{` begins no repetition `{n}`, `{n,}` or `{n,m}`",
    ),
    (
        "root ::= (\"a\" | )*",
        1,
        "what may be empty is repeated without end",
    ),
    (
        "root ::= \"a\"?+",
        1,
        "what may be empty is repeated without end",
    ),
    (
        "root ::= a* \"b\"\na ::= \"\" | \"a\"",
        1,
        "what may be empty is repeated without end",
    ),
];

#[test]
fn a_refusal_names_the_line_and_what_is_wrong() {
    for &(gbnf, line, what) in REFUSED {
        let reason = match line {
            0 => what.to_owned(),
            line => format!("is wrong in line {line}: {what}"),
        };
        // llama.cpp takes these, and would write out some of them without end.
        let only_ours = ["count above", "class is empty", "defined twice"];
        let only_ours = gbnf.is_empty() || only_ours.iter().any(|it| reason.contains(it));
        assert_eq!(checked(gbnf), Err(reason), "{gbnf}");
        assert!(only_ours || !llama_cpp_accepts(gbnf), "{gbnf}");
    }
}

/// llama.cpp finds some of these circles and follows the others until memory is full.
#[test]
fn a_rule_that_begins_with_itself_is_refused_by_its_name() {
    for (gbnf, name) in [
        ("root ::= root \"a\" | \"b\"", "root"),
        (
            "root ::= a\na ::= (\"x\"? b)\nb ::= \"y\"{0,3} a \"z\"",
            "a",
        ),
        (
            "root ::= none root \"x\" | \"y\"\nnone ::= also\nalso ::= \"y\" | \"\"",
            "root",
        ),
        ("root ::= \"a\" b\nb ::= c | (b | \"d\")\nc ::= \"c\"", "b"),
    ] {
        let line = 1 + gbnf[..gbnf.find(&format!("{name} ::=")).unwrap()]
            .matches('\n')
            .count();
        let first = gbnf
            .find(&format!(" {name}"))
            .map_or(line, |at| line.min(1 + gbnf[..at].matches('\n').count()));
        let expected = format!("is wrong in line {first}: the rule `{name}` may begin with itself");
        assert_eq!(checked(gbnf), Err(expected), "{gbnf}");
    }
    // A rule may contain itself elsewhere.
    assert_eq!(checked("root ::= \"(\" root? \")\" root | \"a\""), Ok(()));
}

#[test]
fn repetitions_and_beginnings_are_bounded() {
    let of = |n: usize| format!("root ::= {}", "\"abcd\"{50} ".repeat(n));
    assert_eq!(checked(&of(2000)), Ok(()));
    let refused = checked(&of(2001)).unwrap_err();
    assert!(refused.contains("may write out 400000"), "{refused}");
    // A repetition of a repetition writes out what the first one has.
    assert!(checked(&format!("root ::= \"a\"{{1000}}{}", "{1}".repeat(400))).is_err());
    let nested = "root ::= (\"a\"{50}){41}";
    assert_eq!(checked(nested), Ok(()));
    assert!(llama_cpp_accepts(nested));
    let nested = "root ::= (\"a\"{0,50}){41}";
    assert_eq!(
        checked(nested),
        Err("repeats repetitions more than 2000 times".to_owned())
    );
    assert!(!llama_cpp_accepts(nested));
    // Each rule doubles the ways of the one after it.
    let of = |n: usize| {
        let rules = (0..n).map(|it| format!("r{it} ::= r{0} | r{0} \"x\"\n", it + 1));
        format!("root ::= r0\n{}r{n} ::= \"y\"", rules.collect::<String>())
    };
    assert_eq!(checked(&of(12)), Ok(()));
    assert_eq!(
        checked(&of(60)),
        Err("has too many ways to begin a text".to_owned())
    );
    // Long chains of rules take no stack of ours.
    let mut chain = String::new();
    for n in 0..10_000 {
        writeln!(chain, "r{n} ::= r{}", n + 1).unwrap();
    }
    assert_eq!(
        checked(&format!("root ::= r0\n{chain}r10000 ::= \"y\"")),
        Ok(())
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 10_000,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Changed grammars are refused by both, or taken by both. What is refused here alone is not asked of llama.cpp.
    #[test]
    fn changed_grammars_are_read_as_llama_cpp_reads_them(
        gbnf in prop::sample::select(&SOUND[..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize, prop::sample::select(&["\"", "[", "]", "(", ")", "{", "}", "*", "+", "?", "|", "\n", " ", "a", "root", "x", "1", ",", "\\", "<[1]>", "!", "::=", "#", "^", "-", "."][..])), 1..4),
    ) {
        let mut gbnf = gbnf.to_owned();
        for (at, n_removed, added) in changes {
            let chars: Vec<_> = gbnf.char_indices().map(|it| it.0).chain([gbnf.len()]).collect();
            let at = at.index(chars.len());
            let end = chars[(at + n_removed).min(chars.len() - 1)];
            gbnf.replace_range(chars[at]..end, added);
        }
        let ours = checked(&gbnf);
        let only_ours = ["begin with itself", "defined twice", "class is empty", "count above", "too many ways", "repeats"];
        // llama.cpp forgets what is repeated no times, whether it is defined or not.
        let is_forgotten = |reason: &String| gbnf.contains("{0}") && reason.contains("not defined");
        if ours.as_ref().is_err_and(is_forgotten) {
            return Ok(());
        }
        if !ours.as_ref().is_err_and(|reason| only_ours.iter().any(|it| reason.contains(it))) {
            prop_assert_eq!(ours.is_ok(), llama_cpp_accepts(&gbnf), "{:?}: {}", ours, gbnf);
        }
    }
}
