//! The fixed words that mail programs write around quoted and forwarded mails: the table `markers.tsv`, and what a line is
//! by it. The language of a mail says nothing of the language of these lines, so every line is compared with all rows.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::template::{Attribution, Template, fold};

/// The rows of `markers.tsv`, by kind.
pub(super) struct Markers {
    attributions: Vec<Template>,
    originals: Vec<String>,
    forwards: Vec<String>,
    begins: Vec<String>,
    labels: HashMap<String, Label>,
    phones: Vec<Template>,
    footers: Vec<String>,
    sent: Vec<String>,
    prefixes: Vec<String>,
    automatic: Vec<String>,
    legal: Vec<[Vec<String>; 3]>,
}

/// The headers that a quoted mail is shown with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    From,
    Date,
    To,
    Cc,
    Subject,
    ReplyTo,
}

/// A line of hyphens or underscores, perhaps around words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RuledLine {
    Original,
    Forward,
    /// A rule without words, or around unknown ones: what follows decides.
    Plain,
}

pub(super) static MARKERS: LazyLock<Markers> =
    LazyLock::new(|| Markers::parse(include_str!("markers.tsv")));

/// The most bytes of a line of attribution.
const MAX_ATTRIBUTION_BYTES: usize = 600;

impl Markers {
    fn parse(table: &str) -> Self {
        let rows: Vec<[&str; 4]> = table
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(|line| {
                let fields: Vec<_> = line.split('\t').collect();
                fields
                    .try_into()
                    .expect("a row of markers.tsv has four fields")
            })
            .collect();
        let of = |kind: &'static str| {
            let rows = rows.iter().filter(move |row| row[0] == kind);
            rows.map(|row| row[3])
        };
        let words = |kind: &'static str| of(kind).map(|words| fold(words).to_lowercase()).collect();
        Self {
            attributions: of("attribution").map(Template::parse).collect(),
            originals: words("original"),
            forwards: words("forward"),
            begins: words("begin"),
            labels: of("labels").flat_map(labels).collect(),
            phones: of("phone").map(Template::parse).collect(),
            footers: words("footer"),
            sent: words("sent"),
            prefixes: words("prefix"),
            automatic: words("automatic"),
            legal: of("legal").map(legal).collect(),
        }
    }

    /// The line of attribution that a text is, whose lines are joined.
    pub fn attribution(&self, text: &str) -> Option<Attribution> {
        if text.len() > MAX_ATTRIBUTION_BYTES {
            return None;
        }
        let text = fold(text);
        let text = text.trim_matches(['-', ' ']);
        let found = self.attributions.iter();
        let found = found.filter_map(|template| template.attribution(text));
        found.chain(Template::any_attribution(text)).max()
    }

    /// Whether a line is a rule, which some programs draw above an answered or a forwarded mail.
    pub fn rule(&self, line: &str) -> Option<RuledLine> {
        let line = fold(line);
        let line = line.trim_matches(['*', ' ']);
        let inner = line.trim_matches(['-', '_', '—', '=']);
        let n_drawn = |side: &str| side.len() - side.trim_start_matches(['-', '_', '—', '=']).len();
        let n_before = n_drawn(line);
        if inner.is_empty() {
            return (n_before >= 20).then_some(RuledLine::Plain);
        }
        let n_after = line.len() - n_before - inner.len();
        if n_before < 2 || n_after < 2 {
            return None;
        }
        let words = inner.trim().trim_end_matches(':').to_lowercase();
        if self.forwards.contains(&words) {
            return Some(RuledLine::Forward);
        }
        let is_original = self.originals.contains(&words);
        let is_wide = n_before >= 4 && n_after >= 4;
        let other = is_wide.then_some(RuledLine::Plain);
        if is_original {
            Some(RuledLine::Original)
        } else {
            other
        }
    }

    /// Whether a line says that a forwarded mail begins, as Apple's programs write it.
    pub fn begins_forward(&self, line: &str) -> bool {
        let line = fold(line).to_lowercase();
        let words = line.strip_suffix(':').map(str::trim_end);
        words.is_some_and(|words| self.begins.iter().any(|begin| begin == words))
    }

    /// The header that a line is, such as `From: Ann`, perhaps with asterisks around its name.
    pub fn label(&self, line: &str) -> Option<Label> {
        let line = fold(line);
        let (name, _) = line.trim_start_matches(['*', ' ']).split_once(':')?;
        let name = name.trim_end_matches(['*', ' ']).to_lowercase();
        self.labels.get(&name).copied()
    }

    /// Whether a line is what a phone or a web page writes below a mail.
    pub fn is_phone_line(&self, line: &str) -> bool {
        let line = fold(&without_links(line));
        let line = line.trim_end_matches(['.', '!', ' ']);
        self.phones.iter().any(|phone| phone.is_line(line))
    }

    /// Whether a line begins the footer of a list or a scanner of viruses.
    pub fn is_footer(&self, line: &str) -> bool {
        let line = fold(line).to_lowercase();
        self.footers.iter().any(|footer| line.starts_with(footer))
    }

    /// Whether one of Gmail's labels, between commas, is that of the mails that the person has sent.
    pub fn is_sent(&self, labels: &str) -> bool {
        let mut labels = labels.split(',').map(|label| fold(label).to_lowercase());
        labels.any(|label| self.sent.contains(&label))
    }

    /// Whether a subject is that of a forwarded mail.
    pub fn is_forward(&self, subject: &str) -> bool {
        let subject = fold(subject).to_lowercase();
        self.prefixes
            .iter()
            .any(|prefix| subject.starts_with(prefix))
    }

    /// Whether a subject is that of an automatic answer.
    pub fn is_automatic(&self, subject: &str) -> bool {
        let subject = fold(subject).to_lowercase();
        self.automatic
            .iter()
            .any(|words| subject.starts_with(words))
    }

    /// Whether a paragraph is a disclaimer: it speaks of secrecy, of the addressee and of what others should do, or of two of
    /// these by a phrase such as "intended recipient".
    pub fn is_legal(&self, paragraph: &str) -> bool {
        let text = fold(paragraph).to_lowercase();
        let is_in = |word: &&String| text.contains(word.as_str());
        self.legal.iter().any(|[secret, addressee, others]| {
            let n_kinds = [secret, addressee, others]
                .iter()
                .filter(|words| words.iter().any(|word| is_in(&word)))
                .count();
            let has_phrase = addressee
                .iter()
                .filter(is_in)
                .any(|words| words.contains(' '));
            n_kinds == 3 || n_kinds == 2 && has_phrase
        })
    }
}

/// The names of headers in a row of labels, with what they are.
fn labels(row: &str) -> Vec<(String, Label)> {
    let labels = row.split("; ").map(|label| {
        let (label, name) = label.split_once('=').expect("a label has a name");
        let label = match label {
            "from" => Label::From,
            "date" => Label::Date,
            "to" => Label::To,
            "cc" => Label::Cc,
            "subject" => Label::Subject,
            "reply" => Label::ReplyTo,
            _ => panic!("markers.tsv: the label {label} is unknown"),
        };
        (fold(name).to_lowercase(), label)
    });
    labels.collect()
}

/// The words of secrecy, of the addressee and of what others should do in a row of legal words.
fn legal(row: &str) -> [Vec<String>; 3] {
    let words = |name: &str| {
        let words = row.split("; ").find_map(|part| part.strip_prefix(name));
        let words = words.expect("a row of legal words has three lists");
        words.split(", ").map(str::to_owned).collect()
    };
    [words("secret="), words("addressee="), words("others=")]
}

/// A line without the addresses of its links.
fn without_links(line: &str) -> String {
    let mut text = line.to_owned();
    for (open, close) in [("<http", '>'), ("(http", ')'), ("[http", ']')] {
        while let Some(start) = text.find(open) {
            let Some(n) = text[start..].find(close) else {
                break;
            };
            text.replace_range(start..=start + n, "");
        }
    }
    text.replace(['[', ']'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &[(&str, Option<Attribution>)] = &[
        (
            "On Mon, Mar 2, 2026 at 10:00\u{202f}AM Ann Lee <ann@example.org> wrote:",
            Some(Attribution::Certain),
        ),
        (
            "On 2 Mar 2026, at 18:01, Ann Lee wrote:",
            Some(Attribution::Certain),
        ),
        ("On Monday Ann Lee wrote:", Some(Attribution::Opened)),
        ("On Monday my sister wrote:", None),
        ("My sister wrote:", None),
        (
            "On 2/3/26 10:00, team of roofs & gutters wrote:",
            Some(Attribution::Certain),
        ),
        (
            "* Ann Lee <ann@example.org> [2026-03-02 18:01]:",
            Some(Attribution::Dated),
        ),
        ("But when:", None),
        ("Ann Lee wrote:", Some(Attribution::Named)),
        (
            "Am Montag, dem 02.03.2026 um 18:01 +0100 schrieb Ann Lee:",
            Some(Attribution::Certain),
        ),
        (
            "Le\u{a0}mer. 1 juil. 2020 à\u{a0}16:15, Ann <ann@example.org> a écrit\u{a0}:",
            Some(Attribution::Certain),
        ),
        (
            "pon., 20 cze 2022 o 19:49 Ann Lee <ann@example.org> napisał(a):",
            Some(Attribution::Certain),
        ),
        (
            "вт, 5 янв. 2016\u{a0}г. в 23:39, Ann <ann@example.org>:",
            Some(Attribution::Certain),
        ),
        (
            "Ann <ann@example.org> ezt írta (időpont: 2022. okt. 12., Sze, 16:52):",
            Some(Attribution::Certain),
        ),
        (
            "Ann <ann@example.org> 于2023年1月2日周一 03:20写道：",
            Some(Attribution::Certain),
        ),
        (
            "2021년 2월 2일 (화) 오전 8:33, Ann <ann@example.org>님이 작성:",
            Some(Attribution::Certain),
        ),
        (
            "---- On Mon, 02 Mar 2026 10:00:00 +0100 Ann <ann@example.org> wrote ----",
            Some(Attribution::Certain),
        ),
        (
            "po 2. 3. 2026 o 10:00 Ann <ann@example.org> napísal(a):",
            Some(Attribution::Certain),
        ),
        ("The shop opens on 2 March at 10:00:", None),
        (
            "Dňa 2. 3. 2026 o 10:00 Ann Lee napísala:",
            Some(Attribution::Dated),
        ),
        (
            "\u{202b}في الاثنين، ٢ مارس ٢٠٢٦ في ١٠:٠٠ ص كتب Ann <ann@example.org>\u{200e}:\u{202c}",
            Some(Attribution::Certain),
        ),
    ];

    #[test]
    fn a_line_of_attribution_has_the_words_of_a_program() {
        for (line, expected) in LINES {
            assert_eq!(MARKERS.attribution(line), *expected, "{line}");
        }
    }

    #[test]
    fn rules_labels_and_beginnings_are_known_in_other_languages() {
        for (line, rule) in [
            (
                "---------- Forwarded message ---------",
                Some(RuledLine::Forward),
            ),
            (
                "--- Treść przekazanej wiadomości ---",
                Some(RuledLine::Forward),
            ),
            (
                "-----Ursprüngliche Nachricht-----",
                Some(RuledLine::Original),
            ),
            ("________________________________", Some(RuledLine::Plain)),
            ("-----", None),
            ("--- News ---", None),
            ("-------- Alkuperäinen --------", Some(RuledLine::Plain)),
        ] {
            assert_eq!(MARKERS.rule(line), rule, "{line}");
        }
        for (line, label) in [
            ("From: Ann", Some(Label::From)),
            ("*De\u{a0}:* Ann", Some(Label::From)),
            ("Kopie (CC): Ann", Some(Label::Cc)),
            ("发送时间： 2026年3月2日", Some(Label::Date)),
            ("Note: Ann", None),
        ] {
            assert_eq!(MARKERS.label(line), label, "{line}");
        }
        assert!(MARKERS.begins_forward("Début du message réexpédié :"));
        assert!(!MARKERS.begins_forward("Begin forwarded message"));
    }

    #[test]
    fn lines_of_phones_footers_and_disclaimers_are_known_as_a_whole() {
        for (line, is_phone) in [
            ("Sent from my iPhone", true),
            ("Von meinem iPhone gesendet", true),
            ("Get Outlook for Android<https://aka.ms/x>", true),
            ("iPhoneから送信", true),
            ("发自我的iPhone", true),
            ("Sent from my desk, is much easier than standing.", false),
        ] {
            assert_eq!(MARKERS.is_phone_line(line), is_phone, "{line}");
        }
        assert!(MARKERS.is_footer("Virus-free. www.example.org"));
        assert!(MARKERS.is_sent("Åpnet,Sendt,Kategori: Reklame"));
        assert!(!MARKERS.is_sent("Inbox,Unsent"));
        assert!(MARKERS.is_automatic("Automatische Antwort: Dach"));
        for (text, is_legal) in [
            (
                "This e-mail is confidential and meant for the intended recipient only.",
                true,
            ),
            (
                "Diese Nachricht ist vertraulich. Wenn Sie nicht der richtige Adressat sind, löschen Sie sie.",
                true,
            ),
            (
                "Please keep this confidential, and delete it when you have read it, will you?",
                false,
            ),
            (
                "Bitte behandle das vertraulich und sag dem Empfänger nichts davon.",
                false,
            ),
        ] {
            assert_eq!(MARKERS.is_legal(text), is_legal, "{text}");
        }
    }

    #[test]
    fn every_row_of_the_table_is_known_when_its_gaps_are_filled() {
        for row in include_str!("markers.tsv").lines() {
            let Some((kind, words)) = row.split_once('\t').zip(row.rsplit_once('\t')) else {
                continue;
            };
            let (kind, words) = (kind.0, words.1);
            let line = words
                .replace("DATE", "2.3.2026")
                .replace("TIME", "18:01")
                .replace("NAME", "Ann Lee")
                .replace("ADDR", "ann@example.org")
                .replace('…', "iPhone 7");
            let is_known = match kind {
                "attribution" => MARKERS.attribution(&line).is_some(),
                "original" => {
                    MARKERS.rule(&format!("-----{line}-----")) == Some(RuledLine::Original)
                }
                "forward" => MARKERS.rule(&format!("--- {line} ---")) == Some(RuledLine::Forward),
                "begin" => MARKERS.begins_forward(&format!("{line} :")),
                "phone" => MARKERS.is_phone_line(&format!("{line}.")),
                "footer" => MARKERS.is_footer(&line),
                "sent" => MARKERS.is_sent(&format!("Inbox,{line}")),
                "prefix" => MARKERS.is_forward(&format!("{line} roof")),
                "automatic" => MARKERS.is_automatic(&line),
                _ => true,
            };
            assert!(is_known, "{row}");
        }
    }
}
