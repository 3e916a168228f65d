//! The rules on small trees: each flags what it is for, and leaves alone what only looks like it.

use super::house::{
    self, docs_opening_with, files_named_twice, long_functions, mod_files, types_named_twice,
};
use super::modules::{arrows_upward, circles, without_floor};
use super::pages::{anchors, broken_links, missing_files};
use super::source::{split, without_tests};
use super::tree::{Tree, join};
use super::{commands::broken_commands, results::unsaid};

const RESULT: &str = "benches/results/2026-11-26-amx/ops.md";

#[test]
fn comments_and_strings_are_no_code() {
    let text = r##"let a = "fn //"; // fn b
/* fn /* fn */ fn */ let c = r#"fn " fn"#; let d: &'fn str = b"\"fn"; let e = ['"', '\'', b'"'];
end"##;
    let (code, comments) = split(text);
    assert!(!code.contains("fn"), "{code}");
    assert!(code.contains("let e = [   ,     ,     ];"), "{code}");
    assert!(code.ends_with("\nend"), "{code}");
    assert_eq!(code.chars().count(), text.chars().count());
    assert_eq!(comments.matches("fn").count(), 4, "{comments}");
}

#[test]
fn tests_are_no_product() {
    let code = "struct A { #[cfg(test)] b: B, c: C }\n#[cfg(test)]\npub(crate) mod table;\n\
        #[cfg(test)]\n#[allow(x)]\nmod tests { fn t() { u } }\n#[cfg(test)] use v::{w, x};\n#[cfg(unix)] fn y() {}";
    let (kept, modules) = without_tests(code);
    let words: Vec<&str> = kept.split_whitespace().collect();
    let expected = "struct A { c: C } #[cfg(unix)] fn y() {}";
    assert_eq!(words.join(" "), expected);
    assert_eq!(modules, ["table"]);
}

#[test]
fn a_type_named_twice_is_found_in_its_crate() {
    let tree = Tree::of(&[
        (
            "src/lib.rs",
            "#[cfg(test)] mod fake; pub struct Args; pub struct Once;",
        ),
        (
            "src/a.rs",
            "pub(super) struct Twice<T>(T);\nenum Hidden {}\n// struct Once;",
        ),
        (
            "src/b.rs",
            "pub mod inner { pub(in crate::b) trait Twice {} }\ntype Hidden = u8;",
        ),
        ("src/b/tests.rs", "pub struct Once;"),
        ("src/fake.rs", "pub struct Once;"),
        (
            "src/c.rs",
            "pub struct Args;\nimpl X { pub type Once = u8; }\nfn f() { struct Once; }",
        ),
        (
            "convert/src/lib.rs",
            "pub struct Once;\n#[cfg(unix)] pub struct P;\n#[cfg(windows)] pub struct P;",
        ),
    ]);
    let public = "src Twice: src/a.rs:1, src/b.rs:1";
    assert_eq!(types_named_twice(&tree, true), [public]);
    let private = "src Hidden: src/a.rs:2, src/b.rs:2";
    assert_eq!(types_named_twice(&tree, false), [private, public]);
}

#[test]
fn a_file_name_that_repeats_is_found() {
    let tree = Tree::of(&[
        ("src/lib.rs", ""),
        ("src/head.rs", ""),
        ("src/train/head.rs", ""),
        ("convert/src/lib.rs", ""),
        ("convert/src/train/mod.rs", ""),
        ("tests/it/head.rs", ""),
    ]);
    assert_eq!(
        files_named_twice(&tree),
        ["head: src/head.rs, src/train/head.rs"]
    );
    assert_eq!(mod_files(&tree), ["convert/src/train/mod.rs"]);
}

#[test]
fn a_circle_is_found_through_what_the_parent_hands_on() {
    let tree = Tree::of(&[
        ("src/lib.rs", "mod a; mod b;"),
        (
            "src/a.rs",
            "mod x;\nmod y;\nmod z;\npub use y::{Other as Y, self};\nuse z::deep;",
        ),
        ("src/a/x.rs", "use std::fmt;\npub struct X(super::Y);"),
        (
            "src/a/y.rs",
            "pub struct Other;\npub fn f() { deep_in::g() }\nuse super::deep as deep_in;",
        ),
        ("src/a/z.rs", "pub mod deep;"),
        (
            "src/a/z/deep.rs",
            "use crate::{a::{x::X as _}, b};\npub fn g() {}",
        ),
        (
            "src/b.rs",
            "#[cfg(test)] mod tests { use super::super::a; }\n/// [`crate::a`]\npub fn h() { \"crate::a\"; }",
        ),
    ]);
    let circles = circles(&tree, "src");
    assert_eq!(circles.len(), 1);
    assert_eq!(circles[0].folder, "src/a");
    assert_eq!(circles[0].members, ["x", "y", "z"]);
    let edges = [
        "x → y (src/a/x.rs:2)",
        "y → z (src/a/y.rs:2)",
        "z → x (src/a/z/deep.rs:1)",
    ];
    assert_eq!(circles[0].edges, edges);
}

#[test]
fn modules_that_use_their_parent_or_child_are_no_circle() {
    let tree = Tree::of(&[
        ("src/lib.rs", "mod a; pub struct Root; pub use a::A;"),
        (
            "src/a.rs",
            "mod x; mod y; pub struct A(x::X, crate::Root); pub use self::y::Y;",
        ),
        (
            "src/a/x.rs",
            "use super::A; pub struct X(crate::A, super::Y, cope_llama::Root);",
        ),
        ("src/a/y.rs", "use super::*; pub struct Y(A);"),
    ]);
    assert!(circles(&tree, "src").is_empty());
}

#[test]
fn a_glob_hides_no_circle() {
    let tree = Tree::of(&[
        ("src/lib.rs", "mod a; mod b;"),
        ("src/a.rs", "use crate::*; pub struct A; fn f() { b::g(); }"),
        ("src/b.rs", "use super::a::*; pub fn g() { A; }"),
    ]);
    assert_eq!(circles(&tree, "src").len(), 1);
}

#[test]
fn an_arrow_upward_is_found() {
    let tree = Tree::of(&[
        (
            "src/lib.rs",
            "mod error; mod home; mod serve; mod odd; pub use serve::Engine;",
        ),
        ("src/error.rs", "fn f() -> crate::Engine { }"),
        ("src/home.rs", "use crate::error;"),
        ("src/serve.rs", "use crate::home;"),
        ("src/odd.rs", ""),
        ("src/main.rs", "mod cli;"),
        ("src/cli.rs", "use cope_llama::serve::Engine;"),
    ]);
    assert_eq!(arrows_upward(&tree), ["error → serve (src/error.rs:1)"]);
    assert_eq!(without_floor(&tree), ["odd"]);
}

#[test]
fn a_function_is_measured_to_its_last_brace() {
    let body = |lines: usize| "\n    g(\"}\");".repeat(lines);
    let long = format!("impl A {{ fn long() -> [u8; 2] {{{}\n}} }}", body(59));
    let short = format!(
        "fn short(f: fn(u8)) {{{}\n}}\ntrait T {{ fn none(&self); }}",
        body(58)
    );
    let tree = Tree::of(&[("src/lib.rs", &long), ("src/a.rs", &short)]);
    let (found, total) = long_functions(&tree);
    assert_eq!(found, ["src/lib.rs:1 long: 61 lines"]);
    assert_eq!(total, 2);
}

#[test]
fn a_doc_comment_is_read_by_its_paragraphs() {
    let text = "//! Of a file.\n\n/// A noun\n/// Of it.\n///\n/// Of its own.\n/// ```\n/// Of code\n/// ```\n\
        // Of no doc.\nfn f() { \"\n/// Of a string\" }\n//// Of a line.\n/// Often.\n";
    let tree = Tree::of(&[("benches/a.rs", text)]);
    let found = docs_opening_with(&tree, "Of ");
    assert_eq!(
        found,
        ["benches/a.rs:1 Of a file.", "benches/a.rs:6 Of its own."]
    );
}

#[test]
fn a_file_of_a_table_is_looked_for_in_the_folders_of_its_row_or_head() {
    let page = "`gone.rs` in prose\n\n| Part | Files in `src/` |\n|---|---|\n| a | `a.rs`, `b.rs` |\n\n\
                | Place | Content |\n|---|---|\n| `src/b/` | `c.rs`, `a.rs`, `src/a.rs` |\n";
    let tree = Tree::of(&[("P.md", page), ("src/a.rs", ""), ("src/b/c.rs", "")]);
    assert_eq!(
        missing_files(&tree, "P.md"),
        ["P.md:5: b.rs", "P.md:9: a.rs"]
    );
}

#[test]
fn a_link_leads_to_a_file_a_folder_or_a_heading() {
    let page = "# Two words, `three`\n[a](docs/b.md) [b](docs/) ![c](docs/b.md#the-top \"t\") [d](#two-words-three)\n\
        [e](https://x.y/z) `[f](none.md)`\n[g]: docs/b.md\n<img src=\"docs/none.svg\">\n\
        [h](none.md) [i](docs/b.md#none) [j](../out.md)\n```\n[k](none.md)\n```\n";
    let tree = Tree::of(&[
        ("README.md", page),
        (
            "docs/b.md",
            "## The top\n## The top\n[a](../README.md) [b](/docs/b.md#the-top-1)\n",
        ),
    ]);
    let found = broken_links(&tree);
    let expected = [
        "README.md:5: docs/none.svg: no file docs/none.svg",
        "README.md:6: none.md: no file none.md",
        "README.md:6: docs/b.md#none: docs/b.md has no heading #none",
        "README.md:6: ../out.md: leads out of the tree",
    ];
    assert_eq!(found, expected);
    assert_eq!(anchors("# A [b](c) – d_e\n"), ["a-b--d_e"]);
    assert_eq!(join("a/b", "../../../c"), None);
}

/// A tree with one page of commands.
fn tree_with(page: &str) -> Tree {
    let help = "$ cope-llama --help\n\nCommands:\n  train  Train\n  user   Users\n  convert  Files\n\nOptions:\n  -h, --help  Help\n\n\
        $ cope-llama train --help\n\nOptions:\n      --all   All\n  -s, --seed <N>  Seed\n\n\
        $ cope-llama user --help\n\nCommands:\n  list  List\n\n";
    let manifest =
        "[package]\nname = \"cope-llama\"\n[features]\nserve = []\n[[bench]]\nname = \"ops\"\n";
    Tree::of(&[
        ("README.md", page),
        ("CHANGELOG.md", "`make gone`\n"),
        ("Cargo.toml", manifest),
        (
            "Makefile",
            "X = a:b\nchat test: build\n\tgone: x\nbuild:\n.PHONY: phony\n",
        ),
        ("tests/cmd/help.trycmd", help),
        ("examples/train.rs", "// steps\n"),
        ("benches/ops.rs", "struct Options { n_rows: usize }\n"),
        ("benches/peer.py", ""),
        (
            "convert/src/cli.rs",
            "enum Command { Merge { max_rank: u8 } }\n",
        ),
    ])
}

#[test]
fn commands_that_name_what_is_there_are_left_alone() {
    let tree = tree_with(
        "`make chat`, `ARM=x make -j test FAST=1`, `make X`, `cope-llama`, `FILE.py`, `train`, `rustfmt --all`\n\
        ```\nmake build && cargo bench --bench ops -- --n-rows 3   # make gone\n\
        cargo run --release --example train --features serve -- --steps 3\ncargo bench --bench NAME -- --any\n\
        cope-llama train bob -s 1 --seed=2 \\\n    --all …\ntarget/release/cope-llama user list | sort --any\n\
        cope-convert merge a --max-rank 3\ncope-llama convert merge\npython3 benches/peer.py --any\npython3 -m pip\n```\n\
        ```c\nmake gone\n```\n",
    );
    assert!(
        broken_commands(&tree).is_empty(),
        "{:?}",
        broken_commands(&tree)
    );
}

#[test]
fn a_command_that_names_what_is_not_there_is_found() {
    let broken = [
        ("make gone", "the Makefile has no target gone"),
        ("make -C x phony", "the Makefile has no target x"),
        ("cargo bench --bench none", "there is no bench none"),
        (
            "cargo bench --bench ops -- --n-columns 3",
            "benches/ops has no option --n-columns",
        ),
        ("cargo run --example none", "there is no example none"),
        ("cargo build --features chat", "there is no features chat"),
        (
            "cargo run --release -- train --lean",
            "`cope-llama train` has no option --lean",
        ),
        ("cope-llama none", "`cope-llama ` has no command none"),
        (
            "cope-llama user drop bob",
            "`cope-llama user` has no command drop",
        ),
        (
            "target/release/cope-llama train --kept",
            "`cope-llama train` has no option --kept",
        ),
        ("cope-llama train -x", "`cope-llama train` has no option -x"),
        ("train --kept", "`cope-llama train` has no option --kept"),
        (
            "cope-convert split",
            "`cope-llama convert` has no command split",
        ),
        (
            "cope-convert merge --min-rank 3",
            "`cope-llama convert merge` has no option --min-rank",
        ),
        ("python3 gone.py", "no file gone.py"),
        ("benches/none.py --any", "no file benches/none.py"),
    ];
    for (command, why) in broken {
        for page in [
            format!("Say `{command}`.\n"),
            format!("```\n$ {command}\n```\n"),
        ] {
            let found = broken_commands(&tree_with(&page));
            assert!(
                found.first().is_some_and(|found| found.ends_with(why)),
                "{command}: {found:?}"
            );
        }
    }
}

#[test]
fn a_result_says_command_machine_compiler_and_commit() {
    let head = "# Ops\n\n- Command: `make bench`\n- Machine: x, 2 cores\n- Compiler: rustc 1.95\n- Commit: 0123abc\n";
    let table = "\n| a |\n|---|\n";
    let whole = format!("{head}{table}\n## More\n{table}");
    assert!(unsaid(&Tree::of(&[(RESULT, &whole)])).is_empty());

    let without = whole.replace("- Commit: 0123abc", "- Commit: newest");
    let found = unsaid(&Tree::of(&[(RESULT, &without)]));
    let place = |line| format!("{RESULT}:{line}: no line `- Commit: …` that says it");
    assert_eq!(found, [place(1), place(11)]);

    let in_section = format!("# Ops\n## One\n{}{table}", &head[6..]);
    assert!(unsaid(&Tree::of(&[(RESULT, &in_section)])).is_empty());
    let found = unsaid(&Tree::of(&[("benches/results/amx/ops.md", &whole)]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(unsaid(&Tree::of(&[("benches/results/README.md", "")])).is_empty());
}

#[test]
fn a_limit_is_kept_up_to_itself() {
    let figure = |limit| house::Figure::new("x", limit, vec!["a".to_owned(), "b".to_owned()]);
    assert!(figure(None).is_kept() && figure(Some(2)).is_kept());
    assert!(!figure(Some(1)).is_kept());
    assert_eq!(
        figure(Some(1)).list(),
        "     2 x (at most 1)\n         a\n         b"
    );
}

#[test]
fn a_rust_file_is_held_to_the_words_of_its_place() {
    let broken = |name, text| super::broken_rules(name, text).len();
    assert_eq!(broken("src/eval.rs", "//! x\nfn f() { println!(); }\n"), 1);
    assert_eq!(broken("src/cli/a.rs", "//! x\nfn f() { println!(); }\n"), 0);
    assert_eq!(broken("tests/tidy/tests.rs", "FIXME\n"), 0);
    assert_eq!(broken("tests/tidying.rs", "FIXME \n"), 2);
    assert_eq!(broken("src/a.rs", "fn f() {}"), 2);
}
