//! Divides a mail into what its author wrote, what they quoted, and what programs wrote around both.

use std::collections::BTreeSet;

use super::footers;
use super::line::{Cut, Line, LinePlace};
use super::markers::{Label, MARKERS, RuledLine};
use super::template::{Attribution, fold, has_address, is_moment};

/// A mail that is divided.
#[derive(Debug, Default)]
pub(super) struct Divided {
    /// The author's own text.
    pub own: String,
    /// The text that the author quoted, without quotations within it.
    pub quoted: String,
    /// The kinds of parts that were cut.
    pub cuts: BTreeSet<&'static str>,
}

/// The most lines that a mail program breaks a line of attribution into.
const MAX_ATTRIBUTION_LINES: usize = 4;

/// The most blank lines between a line of attribution or a rule and what belongs to it.
const MAX_BLANK_LINES: usize = 2;

/// Divides the lines of a mail. `author` is the author's name, by which a signature is known.
pub(super) fn divide(mut lines: Vec<Line>, author: &str, keep_signature: bool) -> Divided {
    cut_answered(&mut lines);
    cut_attributions(&mut lines);
    footers::cut(&mut lines, author);
    if keep_signature {
        for line in &mut lines {
            if line.place == LinePlace::Cut(Cut::Signature) {
                line.place = LinePlace::Own;
            }
        }
    }
    let cuts = lines.iter().filter_map(|line| match line.place {
        LinePlace::Own => None,
        LinePlace::Quoted(_) => Some(Cut::Attribution.name()),
        LinePlace::Cut(cut) => Some(cut.name()),
    });
    Divided {
        cuts: cuts.collect(),
        own: join(&lines, LinePlace::Own),
        quoted: join(&lines, LinePlace::Quoted(1)),
    }
}

/// The text of the lines at a place. Blank lines before what is cut are cut with it.
fn join(lines: &[Line], place: LinePlace) -> String {
    let mut text = String::new();
    let mut is_soft = false;
    for line in lines {
        if line.place != place {
            text.truncate(text.trim_end().len());
            is_soft = false;
            continue;
        }
        if !is_soft && !text.is_empty() {
            text.push('\n');
        }
        is_soft = line.is_soft;
        text.push_str(if is_soft {
            &line.text
        } else {
            line.text.trim_end()
        });
    }
    text.replace('\u{a0}', " ")
        .trim_matches(['\n', ' '])
        .to_owned()
}

/// A place from which on a mail is another one's, which is answered or forwarded.
struct AnsweredMail {
    /// The first line below the headers or the line of attribution.
    end: usize,
    is_forward: bool,
}

/// Marks the mails that are answered or forwarded, with what programs write above them: below the own text, and within
/// quotations.
fn cut_answered(lines: &mut [Line]) {
    let mut depth = 0;
    let mut quotation = Quotation::default();
    let mut i = 0;
    while i < lines.len() {
        let place = lines[i].place;
        if place == LinePlace::Own {
            quotation = Quotation::default();
        }
        let Some(AnsweredMail { end, is_forward }) = boundary(lines, i) else {
            quotation.has_text |= !lines[i].is_blank();
            lines[i].place = match place {
                LinePlace::Own if depth > 0 => LinePlace::Quoted(depth),
                LinePlace::Quoted(inner) => LinePlace::Quoted(inner + depth + quotation.depth),
                place => place,
            };
            i += 1;
            continue;
        };
        let is_marked = next_text(lines, end).is_some_and(|next| lines[next].is_quoted());
        let is_whole = is_forward && depth == 0 && !quotation.has_text;
        if is_whole && (place != LinePlace::Own || !is_marked) {
            let forwarded = lines[i..]
                .iter_mut()
                .take_while(|line| place == LinePlace::Own || !line.is_own());
            forwarded.for_each(|line| line.place = LinePlace::Cut(Cut::Forward));
            continue;
        }
        lines[i..end]
            .iter_mut()
            .for_each(|line| line.place = LinePlace::Cut(Cut::Attribution));
        match place {
            LinePlace::Own => depth += usize::from(!is_marked),
            _ => quotation.depth += usize::from(quotation.has_text),
        }
        quotation.has_text = true;
        i = end;
    }
}

/// The state of a quotation while its lines are read.
#[derive(Default)]
struct Quotation {
    has_text: bool,
    /// How many mails further down in the thread its lines are.
    depth: usize,
}

/// The boundary that begins at a line.
fn boundary(lines: &[Line], start: usize) -> Option<AnsweredMail> {
    let line = &lines[start];
    if matches!(line.place, LinePlace::Cut(_)) || line.is_blank() {
        return None;
    }
    let text = line.text.trim();
    let rule = MARKERS.rule(text);
    let begins = MARKERS.begins_forward(text);
    let intro = if begins {
        Some(RuledLine::Forward)
    } else {
        rule
    };
    let below = if intro.is_some() {
        next_text(lines, start + 1)
    } else {
        Some(start)
    };
    let below = below.filter(|&below| below <= start + 1 + MAX_BLANK_LINES);
    let headers = below.and_then(|below| headers(lines, below, intro));
    let is_forward = intro == Some(RuledLine::Forward);
    match headers {
        Some(end) => Some(AnsweredMail { end, is_forward }),
        None if matches!(rule, Some(RuledLine::Forward | RuledLine::Original)) => {
            Some(AnsweredMail {
                end: start + 1,
                is_forward,
            })
        }
        None => certain_attribution(lines, start),
    }
}

/// A line of attribution that is one even if nothing below it is marked as a quotation.
fn certain_attribution(lines: &[Line], start: usize) -> Option<AnsweredMail> {
    let place = lines[start].place;
    if start > 0 && !lines[start - 1].is_blank() && lines[start - 1].place == place {
        return None;
    }
    let ends = (start + 1)..=(start + MAX_ATTRIBUTION_LINES).min(lines.len());
    let end = ends
        .take_while(|&end| lines[end - 1].place == place && !lines[end - 1].is_blank())
        .find(|&end| {
            MARKERS.attribution(&joined(&lines[start..end])) == Some(Attribution::Certain)
        })?;
    Some(AnsweredMail {
        end,
        is_forward: false,
    })
}

/// The end of a block of headers that begins at a line, below the line `intro` if there is one: adjoining lines with a sender,
/// a date and a subject. Instead of the subject it may have the recipient, if there is an address: without one,
/// `From: Berlin`, `Date: Monday`, `To: Hamburg` is a person's own text. Below words such as `Begin forwarded message:`, a
/// sender and one more header suffice.
fn headers(lines: &[Line], start: usize, intro: Option<RuledLine>) -> Option<usize> {
    const MAX_HEADER_LINES: usize = 30;
    const MAX_WRAPPED: usize = 3;
    let place = lines[start].place;
    let mut labels = Vec::new();
    let (mut end, mut i) = (start, start);
    while i < lines.len().min(start + MAX_HEADER_LINES)
        && lines[i].place == place
        && !lines[i].is_blank()
        && i <= end + MAX_WRAPPED
    {
        let known = MARKERS.label(&lines[i].text);
        labels.extend(known);
        if known.is_some() || intro.is_some() && is_unknown_header(&lines[i].text) {
            end = i + 1;
        } else if i == start {
            return None;
        }
        i += 1;
    }
    let has = |label| labels.contains(&label);
    let has_address = || lines[start..end].iter().any(|line| line.text.contains('@'));
    let is_named = matches!(intro, Some(RuledLine::Forward | RuledLine::Original));
    let is_whole = has(Label::Date) && (has(Label::Subject) || has(Label::To) && has_address());
    let is_block = has(Label::From) && (is_whole || is_named && labels.len() >= 2);
    (is_block || intro.is_some() && labels.is_empty() && is_unknown_block(&lines[start..end]))
        .then_some(end)
}

/// Whether a line may be a header in a language that the table of markers lacks: a short name, a colon and a value.
fn is_unknown_header(line: &str) -> bool {
    const MAX_NAME: usize = 25;
    let folded = fold(line);
    folded.split_once(": ").is_some_and(|(name, _)| {
        name.chars().count() <= MAX_NAME
            && !name.contains(|character: char| character.is_ascii_digit())
    })
}

/// Whether some headers in a language that the table of markers lacks are those of a mail: an address, and a date with its
/// time.
fn is_unknown_block(headers: &[Line]) -> bool {
    let has_sender = headers.iter().any(|line| has_address(&line.text));
    headers.len() >= 3 && has_sender && headers.iter().any(|line| is_moment(&fold(&line.text)))
}

/// The next line from `start` on that is not blank.
fn next_text(lines: &[Line], start: usize) -> Option<usize> {
    (start..lines.len()).find(|&i| !lines[i].is_blank())
}

fn joined(lines: &[Line]) -> String {
    lines
        .iter()
        .map(|line| line.text.trim())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Marks the lines that say who is quoted, above each quotation.
fn cut_attributions(lines: &mut [Line]) {
    for i in 1..lines.len() {
        let is_first = lines[i].is_quoted() && !lines[i - 1].is_quoted();
        if let Some(start) = is_first.then(|| attribution_above(lines, i)).flatten() {
            lines[start..i]
                .iter_mut()
                .for_each(|line| line.place = LinePlace::Cut(Cut::Attribution));
        }
    }
}

/// The first line of the attribution above a quotation.
fn attribution_above(lines: &[Line], quote: usize) -> Option<usize> {
    let end = (0..quote)
        .rev()
        .find(|&i| !lines[i].is_blank() || !lines[i].is_own())?
        + 1;
    if quote - end > MAX_BLANK_LINES {
        return None;
    }
    let starts = (end.saturating_sub(MAX_ATTRIBUTION_LINES)..end).rev();
    let found: Vec<_> = starts
        .take_while(|&start| lines[start].is_own() && !lines[start].is_blank())
        .filter_map(|start| Some((start, MARKERS.attribution(&joined(&lines[start..end]))?)))
        .collect();
    let at_least = |least| found.iter().find(|(_, attribution)| *attribution >= least);
    let best = at_least(Attribution::Opened).or_else(|| at_least(Attribution::Named));
    best.map(|(start, _)| *start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::import::mail::body::plain_lines;

    fn divided(body: &str) -> (String, String) {
        let reply = divide(plain_lines(body, false, false), "Bob Hill", false);
        (reply.own, reply.quoted)
    }

    #[test]
    fn an_attribution_that_begins_with_a_name_may_be_broken_within_the_address() {
        let body = "Olur.\n\nÅsa Öberg <\nasa@lind.example>, 1 May 2021 Cmt, 23:28 tarihinde şunu yazdı:\n\n> Gelir misin?";
        assert_eq!(divided(body).0, "Olur.");
    }

    #[test]
    fn the_authors_own_text_is_what_remains() {
        for (body, own, quoted) in [
            (
                "Hello Ann,\n\nOn Monday, 2 March, Ann Lee\n<ann@example.org> wrote:\n> Shall we?\n>> Before.\n\
                 > Really?\n\nYes.\nBut when:\n> At six?\nAt six.\n-- \nBob\n> not this",
                "Hello Ann,\n\nYes.\nBut when:\nAt six.",
                "Shall we?\nReally?\nAt six?\nnot this",
            ),
            (
                "See below.\n\n-----Original Message-----\nFrom: Ann\nHi",
                "See below.",
                "From: Ann\nHi",
            ),
            (
                "Yes.\n\n________________________________\nFrom: Ann <ann@example.org>\nSent: Monday\nTo: Bob\nSubject: x\n\n\
                 Will you?\n\nVon: Bob\nGesendet: Sonntag\nAn: Ann\nBetreff: x\n\nAsk me.",
                "Yes.",
                "Will you?",
            ),
            (
                "Yes.\n\nOn 2 Mar 2026, at 18:01, Ann Lee <ann@example.org> wrote:\n\nWill you?",
                "Yes.",
                "Will you?",
            ),
            (
                "Ja.\n\n> Am 02.03.2026 um 18:01 schrieb Ann <ann@example.org>:\n> \n> Kommst du?",
                "Ja.",
                "Kommst du?",
            ),
            (
                "FYI\n\n---------- Forwarded message ---------\nFrom: Ann\n\nNews.",
                "FYI",
                "",
            ),
            (
                "FYI\n\nBegin forwarded message:\n\n> From: Ann <a@example.org>\n> Date: Monday\n> Subject: x\n> \n> News.",
                "FYI",
                "News.",
            ),
            (
                "FYI\n\n> Begin forwarded message:\n> \n> From: Ann\n> Date: Monday\n> Subject: x\n> \n> News.",
                "FYI",
                "",
            ),
            (
                "Áno.\n\n____________________________________\nAutor: Ann <ann@example.org>\nČas: 2. 3. 2026 10:00\nAdresát: Bob\n\nPrídeš?",
                "Áno.",
                "Prídeš?",
            ),
            (
                "Ja.\n\nOn Mon, Mar 2, 2026 at 6:01 PM Ann of the Very Long Department of Roofs\nand Gutters <\nann@example.org> wrote:\n\n> Will you?",
                "Ja.",
                "Will you?",
            ),
        ] {
            assert_eq!(divided(body), (own.into(), quoted.into()), "{body}");
        }
    }

    #[test]
    fn ordinary_texts_stay_whole() {
        for body in [
            "On Monday my sister wrote:\n\nThe roof leaks.\n\nShe is cross.",
            "From: Berlin\nDate: 3 March\nTo: Hamburg\n\nBy train.",
            "Dear Ann,\n\nFrom now on I use the stairs.\nSent from my desk, this is slower.\n\nBob",
            "Table:\n--\nrow one",
            "Please keep this confidential, and delete it when you have read it, will you?",
        ] {
            assert_eq!(divided(body).0, body);
        }
    }

    #[test]
    fn what_programs_write_below_a_text_is_cut() {
        let list = format!(
            "I second that.\n\n{}\nroofs mailing list\nroofs@lists.example\nhttps://lists.example/roofs",
            "_".repeat(47)
        );
        for (body, own) in [
            ("On my way\n\nSent from my iPhone", "On my way"),
            ("Ok\n--\u{a0} \nBob Hill, Ladders Ltd", "Ok"),
            (
                "Best,\nBob\n\n--\nBob Hill | Ladders Ltd\nThis e-mail is confidential.",
                "Best,\nBob",
            ),
            (&list, "I second that."),
            ("Yes.\n\nVirus-free. www.example.org", "Yes."),
            (
                "Yes.\n\nThis e-mail is for the intended recipient only. If it is not for you, please delete it.",
                "Yes.",
            ),
        ] {
            assert_eq!(divided(body).0, own, "{body}");
        }
        let kept = divide(
            plain_lines("Yes.\n-- \nBob", false, false),
            "Bob Hill",
            true,
        );
        assert_eq!(kept.own, "Yes.\n--\nBob");
    }
}
