//! Thoughts: the text that some models write between tags, such as `<think>` and `</think>`, before an answer. They are cut
//! from the texts that a voice learns and from the earlier turns of a chat, and told from the answer while it is written.

#[cfg(test)]
mod tests;

/// The tags of most models.
const THINK: (&str, &str) = ("<think>", "</think>");

/// The tags that are known, each with its opening and its closing text.
const KNOWN: [(&str, &str); 14] = [
    THINK,
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflect>", "</reflect>"),
    ("<reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("◁think▷", "◁/think▷"),
    ("<|channel>thought", "<channel|>"),
];

/// A sentence that Apriel's template writes instead of a tag.
const APRIEL: (&str, &str) = ("Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]\n");

/// The texts around a thought in the Harmony format, in which several special tokens make a tag.
const HARMONY: (&str, &str) = (
    "<|channel|>analysis<|message|>",
    "<|end|><|start|>assistant<|channel|>final<|message|>",
);

/// The tags that some models write around the answer after a thought.
const ANSWER_TAGS: [(&str, &str); 7] = [
    ("<answer>", "</answer>"),
    ("<output>", "</output>"),
    ("<response>", "</response>"),
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
    // What stands before the answer ends the thought.
    ("", "<|return|>"),
    ("", "[END FINAL RESPONSE]"),
];

/// The words by which the name of a tag speaks of thoughts.
const WORDS: [&str; 7] = [
    "think",
    "thought",
    "reason",
    "reflect",
    "ponder",
    "deliberat",
    "scratch",
];

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
        let known = || KNOWN.into_iter().chain([APRIEL, HARMONY]);
        let opened = known().filter_map(|tags| Some((prompt.rfind(tags.0)?, tags)));
        let opened = opened.max_by_key(|(start, _)| *start);
        let is_known =
            |tag: &str| known().any(|(opening, closing)| [opening, closing].contains(&tag));
        let unknown = last_tag(prompt).filter(|(_, tag)| !is_known(tag));
        let after_known = |start: usize| opened.is_none_or(|(known, _)| known < start);
        match (unknown, opened) {
            (Some((start, tag)), _) if after_known(start) => Self::of_tag(tag, mentions),
            (_, Some((start, (opening, closing)))) if !prompt[start..].contains(closing) => {
                Ok(Some(Self {
                    opening: opening.to_owned(),
                    closing: closing.to_owned(),
                }))
            }
            _ => Ok(None),
        }
    }

    /// The tags of the thought that `text`, which a template writes at the end of prompts alone, opens and does not close with
    /// a tag at its beginning. The tag may have any name, and `mentions` is that of [`left_open`](Self::left_open).
    ///
    /// # Errors
    ///
    /// The opening tag, if nothing is known to close it.
    pub fn of_any_name(
        text: &str,
        mentions: impl Fn(&str) -> bool,
    ) -> Result<Option<Self>, String> {
        // A known tag may be longer than what stands between its brackets.
        let mut known = KNOWN.iter().chain([&APRIEL, &HARMONY]).chain(&ANSWER_TAGS);
        let begins_with = |tag: &str| !tag.is_empty() && text.starts_with(tag);
        let is_known = known.any(|(opening, closing)| begins_with(opening) || begins_with(closing));
        match tag_at(text, 0).filter(|_| !is_known) {
            Some(tag) if !counterpart(tag).is_some_and(|closing| text.contains(&closing)) => {
                Self::of_tag(tag, mentions)
            }
            _ => Ok(None),
        }
    }

    /// The tags of a thought that an unknown tag opens; `None` if the tag closes one.
    fn of_tag(tag: &str, mentions: impl Fn(&str) -> bool) -> Result<Option<Self>, String> {
        match counterpart(tag) {
            None => Ok(None),
            Some(closing) if mentions(&closing) => Ok(Some(Self {
                opening: tag.to_owned(),
                closing,
            })),
            Some(_) => Err(tag.to_owned()),
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

/// Whether a text begins with a tag.
#[must_use]
pub fn begins_with_tag(text: &str) -> bool {
    tag_at(text, 0).is_some()
}

/// The last tag in `text` whose name speaks of thoughts, and where it starts.
fn last_tag(text: &str) -> Option<(usize, &str)> {
    let tag = |start: usize| {
        let tag = tag_at(text, start)?;
        let name = tag.to_ascii_lowercase();
        let speaks = WORDS.iter().any(|word| name.contains(word));
        speaks.then_some((start, tag))
    };
    let starts = text.rmatch_indices(['<', '[', '◁']);
    starts.map(|(start, _)| start).find_map(tag)
}

/// The tag that begins at this place of a text.
fn tag_at(text: &str, start: usize) -> Option<&str> {
    let end = match text[start..].chars().next()? {
        '<' => '>',
        '[' => ']',
        '◁' => '▷',
        _ => return None,
    };
    let length = text[start..].find(end)? + end.len_utf8();
    let tag = &text[start..start + length];
    (length <= MAX_TAG && !tag.contains('\n')).then_some(tag)
}

/// The closing tag of an opening one; `None` for a tag that closes.
fn counterpart(tag: &str) -> Option<String> {
    let name = tag.trim_start_matches(['<', '[', '◁', '|']);
    let bracket = &tag[..tag.len() - tag.trim_start_matches(['<', '[', '◁']).len()];
    let lower = name.to_ascii_lowercase();
    if lower.starts_with('/') || lower.starts_with("end") {
        return None;
    }
    for (begin, end) in [("START", "END"), ("begin", "end"), ("start", "end")] {
        if tag.contains(begin) {
            return Some(tag.replace(begin, end));
        }
    }
    Some(format!("{bracket}/{}", &tag[bracket.len()..]))
}

/// `text` without its thoughts, and without tags around the answer after them; `None` if it has no thought. Tags are known in
/// upper and lower case. A thought opens at the beginning of a line. The first one may lack its opening tag, which then was
/// part of the prompt, and one with nothing before it its closing tag, if it was cut off.
#[must_use]
pub fn without_thoughts(text: &str) -> Option<String> {
    // Most texts are told to have none by the bracket that every tag begins with.
    if !text.contains(['<', '[', '◁']) {
        return None;
    }
    let mut kept = String::new();
    let closing = text.to_ascii_lowercase().find(THINK.1);
    let closing = closing.map(|at| (&text[..at], &text[at + THINK.1.len()..]));
    let mut rest = match closing {
        Some((thought, rest)) if ends_thought(thought, rest) => rest.trim_start(),
        _ => text,
    };
    while let Some((start, end)) = first_thought(rest) {
        if !rest[..start].trim().is_empty() {
            kept.push_str(&rest[..start]);
        }
        rest = rest[end..].trim_start();
    }
    if rest.len() == text.len() {
        return None;
    }
    if kept.is_empty() {
        rest = without_answer_tags(rest);
    }
    if rest.is_empty() {
        kept.truncate(kept.trim_end().len());
    }
    Some(kept + rest)
}

/// An answer without the tags around it.
fn without_answer_tags(answer: &str) -> &str {
    let mut answer = answer;
    for (opening, closing) in ANSWER_TAGS {
        if let Some(inner) = answer.strip_prefix(opening)
            && (!opening.is_empty() || inner.trim_end().ends_with(closing))
        {
            let inner = inner.trim_start();
            let end = inner.trim_end();
            answer = end.strip_suffix(closing).map_or(inner, str::trim_end);
        }
    }
    answer
}

/// Whether a closing tag between these texts ends a thought that the prompt has opened, and is not one that a sentence
/// mentions: those stand between blanks or quotation marks.
fn ends_thought(before: &str, after: &str) -> bool {
    let touches = |c: char| c.is_alphanumeric() || ['\n', '.', '!', '?'].contains(&c);
    !before.to_ascii_lowercase().contains(THINK.0)
        && (before.chars().next_back().is_none_or(touches) || after.starts_with('\n'))
}

/// Where the first thought of `text` begins and ends.
fn first_thought(text: &str) -> Option<(usize, usize)> {
    // In ASCII, upper and lower case have equal lengths.
    let lower = text.to_ascii_lowercase();
    let thought = |(opening, closing): (&str, &str)| {
        let begins_line = |start: &usize| {
            let before = text[..*start].trim_end_matches([' ', '\t']);
            before.is_empty() || before.ends_with('\n')
        };
        let opening_tag = opening.to_ascii_lowercase();
        let starts = lower.match_indices(&opening_tag).map(|(start, _)| start);
        let start = starts.into_iter().find(begins_line)?;
        let closing_tag = closing.to_ascii_lowercase();
        match lower[start..].find(&closing_tag) {
            Some(length) => Some((start, start + length + closing.len())),
            // Apriel's sentence may also begin an answer.
            None if opening != APRIEL.0 && text[..start].trim().is_empty() => {
                Some((start, text.len()))
            }
            None => None,
        }
    };
    let thoughts = KNOWN.into_iter().chain([DETAILS, APRIEL, HARMONY]);
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
