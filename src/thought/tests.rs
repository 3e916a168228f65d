//! Thoughts that are cut from texts, opened by prompts, and divided from answers.

use super::*;

#[test]
fn thoughts_are_cut_from_a_text() {
    for (text, rest) in [
        ("<think>\nhm\n</think>\n\nin the shed", Some("in the shed")),
        ("<think></think>yes", Some("yes")),
        ("  <think>a</think>\n<think>b</think>\nyes\n", Some("yes\n")),
        // The opening tag was part of the prompt.
        (
            "hm, the shed?\n</think>\n\nin the shed",
            Some("in the shed"),
        ),
        ("hm, the shed?</think>in the shed", Some("in the shed")),
        ("Why does it write </think> before the answer?", None),
        // The text was cut off within the thought.
        ("<think>\nhm, the", Some("")),
        ("first\n<think>hm</think>\nsecond", Some("first\nsecond")),
        ("[THINK]hm[/THINK]yes", Some("yes")),
        ("<Think>hm</THINK>yes", Some("yes")),
        ("hm, the shed?</Think>yes", Some("yes")),
        ("◁think▷hm◁/think▷yes", Some("yes")),
        ("<scratchpad>\nhm\n</scratchpad>\nyes", Some("yes")),
        ("<reflect>hm</reflect>yes", Some("yes")),
        ("<|inner_prefix|>hm<|inner_suffix|>yes", Some("yes")),
        ("<think>hm</think>\n<answer>\nyes\n</answer>", Some("yes")),
        (
            "<think>hm</think>yes, in <answer> tags",
            Some("yes, in <answer> tags"),
        ),
        (
            "<|begin_of_thought|>hm<|end_of_thought|>\n<|begin_of_solution|>yes<|end_of_solution|>",
            Some("yes"),
        ),
        (
            "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>yes<|END_RESPONSE|>",
            Some("yes"),
        ),
        (
            "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>yes<|return|>",
            Some("yes"),
        ),
        (
            "Here are my reasoning steps:\nhm\n[BEGIN FINAL RESPONSE]\nyes\n[END FINAL RESPONSE]\n",
            Some("yes"),
        ),
        (
            "Here are my reasoning steps:\nthe shed, then the roof",
            None,
        ),
        ("<answer>yes</answer>", None),
        ("<|channel>thought\nhm<channel|>yes", Some("yes")),
        (
            "<details type=\"reasoning\" done=\"true\">\nhm\n</details>\nyes",
            Some("yes"),
        ),
    ] {
        assert_eq!(without_thoughts(text).as_deref(), rest, "{text:?}");
    }
}

#[test]
fn mere_mentions_of_a_thought_are_not_cut() {
    for text in [
        "the tags <think> and </think> mark a thought",
        "a line\n<think> that never ends",
        "<details>\nmore\n</details>",
        "nothing here",
        "",
    ] {
        assert_eq!(without_thoughts(text), None, "{text:?}");
    }
}

#[test]
fn the_end_of_a_prompt_opens_a_thought_or_not() {
    let tags = |prompt: &str| {
        let opened = ThoughtTags::left_open(prompt, |tag| tag == "</my-thoughts>");
        opened.map(|tags| tags.map(|tags| (tags.empty_thought(prompt), tags.opening)))
    };
    let opened = |empty: &str, opening: &str| Ok(Some((empty.into(), opening.into())));
    let think = "<think>";
    for (prompt, expected) in [
        ("<|assistant|>\n", Ok(None)),
        ("<|assistant|><think>", opened("</think>", think)),
        ("<|assistant|>\n<think>\n", opened("\n</think>\n\n", think)),
        ("<|assistant|>\n<think>\n\n</think>\n\n", Ok(None)),
        ("<|assistant|></think>", Ok(None)),
        (
            "<think>a</think><|assistant|><think>\nOkay, ",
            opened("\n</think>\n\n", think),
        ),
        (
            "<|START_THINKING|>",
            opened("<|END_THINKING|>", "<|START_THINKING|>"),
        ),
        ("<my-thoughts>", opened("</my-thoughts>", "<my-thoughts>")),
        ("<|begin_reasoning|>", Err("<|begin_reasoning|>".to_owned())),
        ("<|begin_reasoning|><|end_reasoning|>", Ok(None)),
        ("<their-thoughts>\n", Err("<their-thoughts>".to_owned())),
        ("◁think▷", opened("◁/think▷", "◁think▷")),
        ("◁reason▷", Err("◁reason▷".to_owned())),
        (
            "<scratchpad>\n",
            opened("\n</scratchpad>\n\n", "<scratchpad>"),
        ),
        ("<reflect>", opened("</reflect>", "<reflect>")),
        ("<ponder>", Err("<ponder>".to_owned())),
        (
            "<|inner_prefix|>",
            opened("<|inner_suffix|>", "<|inner_prefix|>"),
        ),
        (
            "<|start|>assistant<|channel|>analysis<|message|>",
            opened(HARMONY.1, HARMONY.0),
        ),
    ] {
        assert_eq!(tags(prompt), expected, "{prompt:?}");
    }
}

#[test]
fn a_tag_of_any_name_opens_a_thought_unless_it_is_closed_or_stands_around_answers() {
    let tags = |text: &str| {
        let opened = ThoughtTags::of_any_name(text, |tag| tag == "</mull>");
        opened.map(|tags| tags.map(|tags| tags.closing))
    };
    for (text, expected) in [
        ("<mull>\n", Ok(Some("</mull>".to_owned()))),
        ("<brood>\n", Err("<brood>".to_owned())),
        ("<brood></brood>", Ok(None)),
        ("</brood>", Ok(None)),
        ("<answer>", Ok(None)),
        ("<think></think>", Ok(None)),
        // Gemma 4's empty thought.
        ("<|channel>thought\n<channel|>", Ok(None)),
        ("model <brood>", Ok(None)),
        ("", Ok(None)),
    ] {
        assert_eq!(tags(text), expected, "{text:?}");
    }
}

/// The thought and the answer of a text that comes in pieces of `n` characters.
fn split(text: &str, opened: bool, n: usize) -> (String, String) {
    let tags = ThoughtTags {
        opening: THINK.0.to_owned(),
        closing: THINK.1.to_owned(),
    };
    let mut splitter = ThoughtSplitter::new(opened.then_some(tags));
    let characters: Vec<char> = text.chars().collect();
    let pieces = characters.chunks(n).map(|piece| piece.iter().collect());
    let mut splits: Vec<SplitText> = pieces.map(|piece: String| splitter.push(&piece)).collect();
    splits.push(splitter.finish());
    let thought = splits.iter().map(|it| it.thought.as_str()).collect();
    let answer = splits.iter().map(|it| it.answer.as_str()).collect();
    (thought, answer)
}

#[test]
fn a_text_in_pieces_of_any_length_is_divided_alike() {
    for (text, opened, thought, answer) in [
        (
            "<think>\nhm,\n so\n</think>\n\nyes\n",
            false,
            "hm,\n so",
            "yes\n",
        ),
        ("\nhm, </ so\n</think>\n\nyes", true, "hm, </ so", "yes"),
        (" yes <think> no", false, "", " yes <think> no"),
        ("<thin", false, "", "<thin"),
        ("<think>cut off </thi", false, "cut off </thi", ""),
        ("</think>yes", true, "", "yes"),
        ("<think></think>", false, "", ""),
        ("<think>a</think> <think>b</think> yes", false, "ab", "yes"),
        ("[THINK]ü[/THINK]ß", false, "ü", "ß"),
        ("  ", false, "", "  "),
    ] {
        for n in [1, 2, 3, 5, 100] {
            let expected = (thought.to_owned(), answer.to_owned());
            assert_eq!(split(text, opened, n), expected, "{text:?} by {n}");
        }
    }
}

#[test]
fn what_is_certain_is_not_held_back() {
    let mut splitter = ThoughtSplitter::default();
    assert_eq!(splitter.push("<think>hm, the").thought, "hm, the");
    assert_eq!(splitter.push(" shed?\n</").thought, " shed?");
    assert_eq!(splitter.push("think>\n"), SplitText::default());
    assert_eq!(splitter.push("\nin").answer, "in");
    assert_eq!(splitter.push(" the shed").answer, " the shed");
}
