//! Texts in which a chat is written out, with the names of its speakers or with the marks of a model's chat template.

use crate::profile::Example;

/// Marks that begin a chat or a turn, besides special tokens such as `<|im_start|>`.
const BEGINNINGS: [&str; 7] = [
    "<start_of_turn>",
    "<bos>",
    "<|turn>",
    "[INST]",
    "[gMASK]",
    "### Response:",
    "### Assistant:",
];

/// Marks that end a turn or a chat, besides special tokens.
const ENDINGS: [&str; 5] = ["<end_of_turn>", "<eos>", "<turn|>", "[/INST]", "</s>"];

/// The ends of a written-out chat before an answer.
const HEADERS: [&str; 6] = [
    "### Response:",
    "### Assistant:",
    "### Answer:",
    "\nAssistant:",
    " ASSISTANT:",
    "\nASSISTANT:",
];

/// Beginnings of chats that are written out in the words of well-known training sets.
const FIRST_WORDS: [&str; 5] = [
    "### Human:",
    "### Instruction",
    "### User:",
    "Human:",
    "Below is an instruction",
];

/// Names of those who ask in written-out chats, and of those who answer them.
const SPEAKERS: [(&[&str], &[&str]); 3] = [
    (
        &["user", "human", "system"],
        &["assistant", "ai", "bot", "chatbot", "chatgpt", "gpt"],
    ),
    (&["q"], &["a"]),
    (
        &["question", "instruction", "prompt"],
        &["answer", "response"],
    ),
];

/// The longest special token or name of a speaker, in bytes.
const MAX_MARK: usize = 40;

/// How a text begins that is a whole chat; `None` for other texts.
pub(super) fn written_out(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let text = text.strip_prefix("<s>").map_or(text, str::trim_start);
    let first_words = FIRST_WORDS.iter().find(|it| text.starts_with(**it));
    beginning(text)
        .or(first_words.copied())
        .or_else(|| spoken(text))
}

/// The reason to leave an example with marks of a chat template around its texts; `None` if it has none. Marks within a text
/// may be what it is about.
pub(super) fn why_marked(example: &Example) -> Option<&'static str> {
    let mut asked = example.prompt.iter().map(|message| &message.content);
    let is_header = |text: &str| HEADERS.iter().any(|it| text.trim_end().ends_with(it));
    if asked.any(|text| is_marked(text) || is_header(text)) {
        Some("a prompt with marks of a chat template")
    } else if is_marked(&example.response) {
        Some("an answer with marks of a chat template")
    } else {
        None
    }
}

/// Whether a text begins or ends with a mark of a chat template.
fn is_marked(text: &str) -> bool {
    let start = text.trim_start();
    let end = text.trim_end();
    // `<s>` and `</s>` strike a text out in HTML.
    let start = start.strip_prefix("<s>").map_or(start, str::trim_start);
    let is_ending = |mark: &str| end.ends_with(mark) && (mark != "</s>" || !end.contains("<s>"));
    let last = end.rfind("<|").or_else(|| end.rfind("<｜"));
    beginning(start).is_some()
        || ENDINGS.into_iter().any(is_ending)
        || last.is_some_and(|at| special(&end[at..]) == Some(&end[at..]))
}

/// The mark of a chat template that a text begins with.
fn beginning(text: &str) -> Option<&str> {
    let known = BEGINNINGS.iter().find(|mark| text.starts_with(**mark));
    known.copied().or_else(|| special(text))
}

/// The special token that a text begins with, such as `<|im_start|>`.
fn special(text: &str) -> Option<&str> {
    [("<|", "|>"), ("<｜", "｜>")]
        .iter()
        .find_map(|(open, close)| {
            let inner = text.strip_prefix(open)?;
            let token = &text[..open.len() + inner.find(close)? + close.len()];
            let is_name = !token.contains(char::is_whitespace);
            (token.len() <= MAX_MARK && is_name).then_some(token)
        })
}

/// The name at the beginning of a chat in which a line, or in the manner of Vicuna a word, names the one who answers.
fn spoken(text: &str) -> Option<&str> {
    let (mark, name) = speaker(text)?;
    let has_line = |names: &[&str]| {
        let mut others = text.lines().skip(1).filter_map(speaker);
        others.any(|(_, other)| names.contains(&other.as_str()))
    };
    let has_assistant = || {
        let lower = text.to_ascii_lowercase();
        let mut found = lower.match_indices("assistant:");
        found.any(|(at, _)| !lower[..at].ends_with(char::is_alphanumeric))
    };
    let is_chat = SPEAKERS.iter().any(|(asking, answering)| {
        if asking.contains(&name.as_str()) {
            has_line(answering) || asking.contains(&"user") && has_assistant()
        } else {
            name == "assistant" && answering.contains(&"assistant") && has_line(asking)
        }
    });
    is_chat.then_some(mark)
}

/// The name before a colon at the beginning of a line: as it is written, with the colon, and in lower case alone.
fn speaker(line: &str) -> Option<(&str, String)> {
    let (before, _) = line.split_once(':')?;
    let mark = &line[..=before.len()];
    let name = before.trim_matches(|c: char| c.is_whitespace() || "#*".contains(c));
    (mark.len() <= MAX_MARK).then(|| (mark, name.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_that_is_written_out_is_told_from_prose() {
        for (text, mark) in [
            ("User: q\nAssistant: a", Some("User:")),
            ("USER: q ASSISTANT: a", Some("USER:")),
            ("SYSTEM: s\nUSER: q\nASSISTANT: a", Some("SYSTEM:")),
            ("**User:** q\n\n**AI:** a", Some("**User:")),
            ("Assistant: hello\nUser: q", Some("Assistant:")),
            ("Q: q\nA: a", Some("Q:")),
            ("### Question: q\n### Answer: a", Some("### Question:")),
            ("\n\nHuman: q\n\nAssistant: a", Some("Human:")),
            ("### Human: a### Assistant: b", Some("### Human:")),
            ("<bos><start_of_turn>user\nq", Some("<bos>")),
            ("<s> [INST] q [/INST] a", Some("[INST]")),
            (
                "<|start_header_id|>user<|end_header_id|>\n\nq",
                Some("<|start_header_id|>"),
            ),
            ("<|start|>user<|message|>q<|end|>", Some("<|start|>")),
            ("<｜User｜>q<｜Assistant｜>a", Some("<｜User｜>")),
            ("Q: is a letter, as A: is", None),
            ("I asked.\nQ: why?\nA: because", None),
            ("Question: which one?\nA: red\nB: blue", None),
            ("User: a word for those who take what they are given.", None),
            ("The user: asked\nAssistant: answered", None),
            ("Note: it rained.\nAnswer: yes", None),
            ("<s>old</s> new", None),
            ("<| not a token |> 3", None),
            ("", None),
        ] {
            assert_eq!(written_out(text), mark, "{text:?}");
        }
    }

    #[test]
    fn marks_around_a_text_are_told_from_those_it_speaks_of() {
        let prompt = Some("a prompt with marks of a chat template");
        let answer = Some("an answer with marks of a chat template");
        for (asked, answered, why) in [
            ("q", "a", None),
            ("q", "a<|im_end|>\n", answer),
            ("q", "a</s>", answer),
            ("q", "a <end_of_turn>", answer),
            ("q", "<|channel|>final<|message|>a", answer),
            ("q", "### Response:\na", answer),
            (
                "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n",
                "a",
                prompt,
            ),
            ("### Instruction:\nq\n\n### Response:\n", "a", prompt),
            ("USER: q ASSISTANT:", "a", prompt),
            ("q", "the <|im_end|> ends a turn", None),
            ("q", "it ends with `<|im_end|>`", None),
            ("q", "I <s>hate</s>", None),
            ("what does <|im_end|> mean?", "the end", None),
        ] {
            let example = Example::new(asked, answered);
            assert_eq!(why_marked(&example), why, "{asked:?} {answered:?}");
        }
    }
}
