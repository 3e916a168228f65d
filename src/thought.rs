//! Thoughts: the text that some models write between tags, such as `<think>` and `</think>`, before an answer. They are cut
//! from the texts that a voice learns and from the earlier turns of a chat, and told from the answer while it is written.

/// The tags of most models.
const THINK: (&str, &str) = ("<think>", "</think>");

/// The tags that are known, each with its opening and its closing text.
const KNOWN: [(&str, &str); 9] = [
    THINK,
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel>thought", "<channel|>"),
];

/// A sentence that Apriel's template writes instead of a tag.
const APRIEL: (&str, &str) = ("Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]\n");

/// The form of thoughts in chats that Open WebUI exports.
const DETAILS: (&str, &str) = ("<details type=\"reasoning\"", "</details>");

/// The longest tag, in bytes.
const MAX_TAG: usize = 40;

/// Whether a special token of this name is one of the tags around thoughts, or begins one.
#[must_use]
pub fn is_special_tag(name: &str) -> bool {
    let is_tag = |(opening, closing): &(&str, &str)| opening.starts_with(name) || *closing == name;
    !name.is_empty() && KNOWN.iter().any(is_tag)
}

/// The tags around a thought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThoughtTags {
    /// The text before a thought.
    pub opening: String,
    /// The text after it.
    pub closing: String,
}

impl ThoughtTags {
    /// The tags of the thought that `prompt`, the end of a prompt, opens and does not close. `mentions` says whether the
    /// template that wrote it has a text: a tag that is not known is closed by its counterpart (`<ponder>` by `</ponder>`)
    /// only if the template mentions that.
    ///
    /// # Errors
    ///
    /// The opening tag, if nothing is known to close it.
    pub fn left_open(
        prompt: &str,
        mentions: impl Fn(&str) -> bool,
    ) -> Result<Option<Self>, String> {
        let known = || KNOWN.into_iter().chain([APRIEL]);
        let opened = known().filter_map(|tags| Some((prompt.rfind(tags.0)?, tags)));
        let opened = opened.max_by_key(|(start, _)| *start);
        let is_known =
            |tag: &str| known().any(|(opening, closing)| [opening, closing].contains(&tag));
        let unknown = last_tag(prompt).filter(|(_, tag)| !is_known(tag));
        let after_known = |start: usize| opened.is_none_or(|(known, _)| known < start);
        match (unknown, opened) {
            (Some((start, tag)), _) if after_known(start) => match counterpart(tag) {
                None => Ok(None),
                Some(closing) if mentions(&closing) => Ok(Some(Self {
                    opening: tag.to_owned(),
                    closing,
                })),
                Some(_) => Err(tag.to_owned()),
            },
            (_, Some((start, (opening, closing)))) if !prompt[start..].contains(closing) => {
                Ok(Some(Self {
                    opening: opening.to_owned(),
                    closing: closing.to_owned(),
                }))
            }
            _ => Ok(None),
        }
    }

    /// The text that ends the thought at the end of `prompt`, which has just opened it, without any words.
    #[must_use]
    pub fn empty_thought(&self, prompt: &str) -> String {
        let closing = &self.closing;
        if closing.ends_with('\n') || prompt.ends_with(&self.opening) {
            closing.clone()
        } else {
            format!("\n{closing}\n\n")
        }
    }
}

/// The last tag in `text` whose name speaks of thoughts, and where it starts.
fn last_tag(text: &str) -> Option<(usize, &str)> {
    let tag = |start: usize| {
        let end = if text[start..].starts_with('<') {
            '>'
        } else {
            ']'
        };
        let tag = &text[start..=start + text[start..].find(end)?];
        let name = tag.to_ascii_lowercase();
        let speaks = ["think", "thought", "reason"].map(|word| name.contains(word));
        let is_tag = tag.len() <= MAX_TAG && !tag.contains('\n');
        (is_tag && speaks.contains(&true)).then_some((start, tag))
    };
    let starts = text.rmatch_indices(['<', '[']);
    starts.map(|(start, _)| start).find_map(tag)
}

/// The closing tag of an opening one; `None` for a tag that closes.
fn counterpart(tag: &str) -> Option<String> {
    let name = tag[1..].trim_start_matches('|').to_ascii_lowercase();
    if name.starts_with('/') || name.starts_with("end") {
        return None;
    }
    for (begin, end) in [("START", "END"), ("begin", "end"), ("start", "end")] {
        if tag.contains(begin) {
            return Some(tag.replace(begin, end));
        }
    }
    Some(format!("{}/{}", &tag[..1], &tag[1..]))
}

/// `text` without its thoughts; `None` if it has none. A thought opens at the beginning of a line. The first one may lack
/// its opening tag, which then was part of the prompt, and one with nothing before it its closing tag, if it was cut off.
#[must_use]
pub fn without_thoughts(text: &str) -> Option<String> {
    let mut kept = String::new();
    let mut rest = match text.split_once(THINK.1) {
        Some((thought, rest)) if ends_thought(thought, rest) => rest.trim_start(),
        _ => text,
    };
    while let Some((start, end)) = first_thought(rest) {
        if !rest[..start].trim().is_empty() {
            kept.push_str(&rest[..start]);
        }
        rest = rest[end..].trim_start();
    }
    if rest.is_empty() {
        kept.truncate(kept.trim_end().len());
    }
    (rest.len() < text.len()).then(|| kept + rest)
}

/// Whether a closing tag between these texts ends a thought that the prompt has opened, and is not one that a sentence
/// mentions: those stand between blanks or quotation marks.
fn ends_thought(before: &str, after: &str) -> bool {
    let touches = |c: char| c.is_alphanumeric() || ['\n', '.', '!', '?'].contains(&c);
    !before.contains(THINK.0)
        && (before.chars().next_back().is_none_or(touches) || after.starts_with('\n'))
}

/// Where the first thought of `text` begins and ends.
fn first_thought(text: &str) -> Option<(usize, usize)> {
    let thought = |(opening, closing): (&str, &str)| {
        let begins_line = |start: &usize| {
            let before = text[..*start].trim_end_matches([' ', '\t']);
            before.is_empty() || before.ends_with('\n')
        };
        let starts = text.match_indices(opening).map(|(start, _)| start);
        let start = starts.into_iter().find(begins_line)?;
        match text[start..].find(closing) {
            Some(length) => Some((start, start + length + closing.len())),
            None if text[..start].trim().is_empty() => Some((start, text.len())),
            None => None,
        }
    };
    let thoughts = KNOWN.into_iter().chain([DETAILS]);
    thoughts.filter_map(thought).min()
}

/// A piece of a text, divided into a thought and an answer. Either may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitText {
    /// Text of the thought.
    pub thought: String,
    /// Text of the answer.
    pub answer: String,
}

/// Divides a text that comes piece by piece into the thought at its beginning, if it has one, and the answer after it.
/// White space around the thought belongs to neither.
#[derive(Clone, Debug, Default)]
pub struct ThoughtSplitter {
    part: Part,
    /// Text that may be part of a tag, or white space at the edge of a thought.
    pending: String,
}

#[derive(Clone, Debug, Default)]
enum Part {
    /// Nothing was decided yet.
    #[default]
    Beginning,
    /// A thought that ends with this tag, before its first word.
    ThoughtBegins(String),
    /// A thought that ends with this tag.
    Thought(String),
    /// A thought has ended, and the answer has not begun.
    AfterThought,
    Answer,
}

impl ThoughtSplitter {
    /// A splitter of the text after a prompt that has opened a thought with these tags, if it has.
    #[must_use]
    pub fn new(opened: Option<ThoughtTags>) -> Self {
        Self {
            part: opened.map_or(Part::Beginning, |tags| Part::ThoughtBegins(tags.closing)),
            pending: String::new(),
        }
    }

    /// Takes the next piece of the text. Returns what has become certain.
    pub fn push(&mut self, text: &str) -> SplitText {
        let mut split = SplitText::default();
        self.pending.push_str(text);
        while self.advance(&mut split) {}
        split
    }

    /// Ends the text. Returns what was held back of it.
    pub fn finish(&mut self) -> SplitText {
        let rest = std::mem::take(&mut self.pending);
        match self.part {
            Part::ThoughtBegins(_) | Part::Thought(_) => SplitText {
                thought: rest.trim_end().to_owned(),
                ..SplitText::default()
            },
            _ => SplitText {
                answer: rest,
                ..SplitText::default()
            },
        }
    }

    /// Moves what is certain from `pending` to `split`. Returns whether another part has begun.
    fn advance(&mut self, split: &mut SplitText) -> bool {
        match &self.part {
            Part::Beginning | Part::AfterThought => {
                let text = self.pending.trim_start();
                if let Some((opening, closing)) = KNOWN.iter().find(|it| text.starts_with(it.0)) {
                    self.pending = text[opening.len()..].to_owned();
                    self.part = Part::ThoughtBegins((*closing).to_owned());
                    return true;
                }
                if KNOWN.iter().any(|it| it.0.starts_with(text)) {
                    return false;
                }
                if matches!(self.part, Part::AfterThought) {
                    self.pending = text.to_owned();
                }
                self.part = Part::Answer;
                true
            }
            Part::ThoughtBegins(closing) => {
                let text = self.pending.trim_start();
                if text.is_empty() {
                    return false;
                }
                self.part = Part::Thought(closing.clone());
                self.pending = text.to_owned();
                true
            }
            Part::Thought(closing) => {
                let closing = closing.trim_end();
                if let Some((thought, rest)) = self.pending.split_once(closing) {
                    split.thought.push_str(thought.trim_end());
                    self.pending = rest.to_owned();
                    self.part = Part::AfterThought;
                    return true;
                }
                let certain = certain(&self.pending, closing);
                split.thought.push_str(&self.pending[..certain]);
                self.pending.drain(..certain);
                false
            }
            Part::Answer => {
                split.answer.push_str(&std::mem::take(&mut self.pending));
                false
            }
        }
    }
}

/// The length of the beginning of `text` that is neither part of `closing` nor white space before it.
fn certain(text: &str, closing: &str) -> usize {
    let n_tag = (1..closing.len()).rev();
    let n_tag = n_tag
        .filter(|&n| closing.is_char_boundary(n))
        .find(|&n| text.ends_with(&closing[..n]))
        .unwrap_or(0);
    text[..text.len() - n_tag].trim_end().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_are_cut_from_a_text_and_mere_mentions_are_not() {
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
            ("<|channel>thought\nhm<channel|>yes", Some("yes")),
            (
                "<details type=\"reasoning\" done=\"true\">\nhm\n</details>\nyes",
                Some("yes"),
            ),
            ("the tags <think> and </think> mark a thought", None),
            ("a line\n<think> that never ends", None),
            ("<details>\nmore\n</details>", None),
            ("nothing here", None),
            ("", None),
        ] {
            assert_eq!(without_thoughts(text).as_deref(), rest, "{text:?}");
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
        ] {
            assert_eq!(tags(prompt), expected, "{prompt:?}");
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
        let mut splits: Vec<SplitText> =
            pieces.map(|piece: String| splitter.push(&piece)).collect();
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
}
