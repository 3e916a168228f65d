//! HTML mails: quotations and signatures are told by the elements that mail programs put around them, before any text is
//! made, and each block becomes a line.

use std::sync::LazyLock;

use scraper::node::Node;
use scraper::{ElementRef, Html, Selector};

use super::line::{Cut, Line, LinePlace};

/// The meaning of an element for what is in it or follows it.
#[derive(Clone, Copy)]
enum Mark {
    /// Everything in it is quoted.
    Quoted,
    /// Everything in it and after it is quoted.
    Rest,
    /// It is cut.
    Cut(Cut),
}

/// The elements of mail programs: Gmail, Apple Mail, Thunderbird, Outlook (web, Mac, mobile), Yahoo, Proton, GMX, Zimbra.
const MARKED: [(&str, Mark); 4] = [
    (
        "blockquote, [class*=yahoo_quoted], [id*=yahoo_quoted], .protonmail_quote, div[name=quote], #OLK_SRC_BODY_SECTION, \
         #mail-editor-reference-message-container",
        Mark::Quoted,
    ),
    ("#divRplyFwdMsg, hr[data-marker=__DIVIDER__]", Mark::Rest),
    (".gmail_attr, .moz-cite-prefix", Mark::Cut(Cut::Attribution)),
    (
        ".gmail_signature, .gmail_signature_prefix, .moz-signature, #AppleMailSignature, .AppleMailSignature, #Signature, \
         .protonmail_signature_block, #ms-outlook-mobile-signature",
        Mark::Cut(Cut::Signature),
    ),
];

const FORWARD: &str = ".moz-forward-container";

/// Inline styles of the line that Outlook and Windows Mail draw above the mail that is answered, without blanks.
const RULED: [&str; 3] = [
    "border-top:solid#e1e1e1",
    "border-top:solid#b5c4df",
    "border-top-color:rgb(229,229,229);border-top-width:1px;border-top-style:solid",
];

static SELECTORS: LazyLock<Vec<(Selector, Mark)>> = LazyLock::new(|| {
    let marked = MARKED
        .iter()
        .copied()
        .chain([(FORWARD, Mark::Cut(Cut::Forward))]);
    marked
        .map(|(css, mark)| (Selector::parse(css).expect("a valid selector"), mark))
        .collect()
});

const BLOCKS: [&str; 32] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "center",
    "dd",
    "div",
    "dl",
    "dt",
    "fieldset",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "html",
    "li",
    "main",
    "nav",
    "ol",
    "p",
    "pre",
    "section",
    "table",
    "tr",
    "ul",
];

/// Elements with a blank line before and after them.
const SPACED: [&str; 9] = ["blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "p", "pre"];

const HIDDEN: [&str; 6] = ["head", "script", "style", "template", "title", "noscript"];

/// The most elements that may be within each other. The time that a parser of HTML takes grows with the depth.
pub(super) const MAX_DEPTH: usize = 1_000;

/// Elements that hold no others, or often have no end tag.
const UNCLOSED: [&str; 18] = [
    "area", "base", "br", "col", "dd", "dt", "hr", "img", "input", "li", "link", "meta", "option",
    "p", "td", "th", "tr", "wbr",
];

/// The lines of an HTML text; none if its elements are nested too deeply.
pub(super) fn lines(html: &str) -> Vec<Line> {
    if depth(html) > MAX_DEPTH {
        return Vec::new();
    }
    let document = Html::parse_document(html);
    let mut text = TextOfHtml::new(&document);
    for edge in document.tree.root().traverse() {
        match edge {
            ego_tree::iter::Edge::Open(node) => match node.value() {
                Node::Text(content) => text.push(content),
                Node::Element(_) => text.open(ElementRef::wrap(node).expect("an element")),
                _ => {}
            },
            ego_tree::iter::Edge::Close(node) => {
                if let Some(element) = ElementRef::wrap(node) {
                    text.close(element);
                }
            }
        }
    }
    text.end_line(false);
    text.lines
}

/// How deeply the elements of an HTML text are nested, at most, by its tags alone.
pub(super) fn depth(html: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for tag in html.split('<').skip(1) {
        let name = tag
            .trim_start_matches('/')
            .split(|character: char| !character.is_ascii_alphanumeric());
        let name = name.take(1).collect::<String>().to_ascii_lowercase();
        if name.is_empty() || UNCLOSED.contains(&name.as_str()) {
            continue;
        }
        depth = if tag.starts_with('/') {
            depth.saturating_sub(1)
        } else {
            depth + 1
        };
        deepest = deepest.max(depth);
    }
    deepest
}

/// The text that is made of a tree.
struct TextOfHtml {
    lines: Vec<Line>,
    line: String,
    places: Vec<LinePlace>,
    /// The place of everything that follows, if it is another one's.
    rest: Option<LinePlace>,
    n_hidden: usize,
    n_pre: usize,
    has_tight_paragraphs: bool,
    wants_blank: bool,
}

impl TextOfHtml {
    fn new(document: &Html) -> Self {
        let style = Selector::parse("style").expect("a valid selector");
        let styles = document
            .select(&style)
            .map(|style| squeezed(&style.text().collect::<String>()));
        let has_tight_paragraphs = styles
            .into_iter()
            .any(|style| style.contains("p{margin-top:0"));
        Self {
            lines: Vec::new(),
            line: String::new(),
            places: vec![LinePlace::Own],
            rest: None,
            n_hidden: 0,
            n_pre: 0,
            has_tight_paragraphs,
            wants_blank: false,
        }
    }

    fn place(&self) -> LinePlace {
        let place = *self.places.last().expect("the root has a place");
        match self.rest {
            Some(rest) if place == LinePlace::Own => rest,
            _ => place,
        }
    }

    fn open(&mut self, element: ElementRef) {
        let name = element.value().name();
        self.n_hidden += usize::from(is_hidden(element));
        self.n_pre += usize::from(name == "pre");
        let mark = mark(element);
        if BLOCKS.contains(&name) || mark.is_some() {
            self.end_line(false);
        }
        self.wants_blank |= self.is_spaced(element);
        match name {
            "br" => self.end_line(true),
            "td" | "th" => self.push(" "),
            "img" => self.push_emoji(element),
            _ => {}
        }
        let outer = self.place();
        let inner = match (mark, outer) {
            (Some(Mark::Rest), LinePlace::Own) => {
                self.rest = Some(LinePlace::Quoted(1));
                LinePlace::Quoted(1)
            }
            (Some(Mark::Quoted), LinePlace::Own) => LinePlace::Quoted(1),
            (Some(Mark::Quoted), LinePlace::Quoted(depth)) => LinePlace::Quoted(depth + 1),
            (Some(Mark::Cut(cut)), LinePlace::Own) => LinePlace::Cut(cut),
            // The line of attribution of a quotation within a quotation.
            (Some(Mark::Cut(Cut::Attribution)), LinePlace::Quoted(depth)) => {
                LinePlace::Quoted(depth + 1)
            }
            (_, outer) => outer,
        };
        self.places.push(inner);
    }

    fn close(&mut self, element: ElementRef) {
        let name = element.value().name();
        if BLOCKS.contains(&name) || mark(element).is_some() {
            self.end_line(false);
        }
        self.wants_blank |= self.is_spaced(element);
        self.n_hidden -= usize::from(is_hidden(element));
        self.n_pre -= usize::from(name == "pre");
        self.places.pop();
    }

    fn is_spaced(&self, element: ElementRef) -> bool {
        let name = element.value().name();
        let is_tight = name == "p" && self.has_tight_paragraphs
            || element
                .value()
                .classes()
                .any(|class| class.starts_with("Mso"))
            || style(element).split(';').any(|rule| {
                ["margin:0", "margin-top:0", "margin-bottom:0"]
                    .iter()
                    .any(|start| rule.starts_with(start))
            });
        SPACED.contains(&name) && !is_tight
    }

    fn push(&mut self, text: &str) {
        if self.n_hidden > 0 {
            return;
        }
        for character in text.chars() {
            match character {
                '\u{200b}' | '\u{feff}' | '\r' => {}
                '\n' if self.n_pre > 0 => self.end_line(true),
                ' ' | '\t' | '\n' if self.n_pre == 0 => {
                    if !self.line.is_empty() && !self.line.ends_with(' ') {
                        self.line.push(' ');
                    }
                }
                '\u{a0}' => self.line.push(' '),
                _ => self.line.push(character),
            }
        }
    }

    /// Pictures of emoji have the emoji as their alternative text.
    fn push_emoji(&mut self, element: ElementRef) {
        let text = element.attr("alt").unwrap_or_default();
        if !text.is_ascii() && text.chars().count() <= 4 && !text.contains(char::is_alphanumeric) {
            self.push(text);
        }
    }

    /// Ends the line. One without characters becomes a blank line only if it `is_forced`.
    fn end_line(&mut self, is_forced: bool) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() && !is_forced {
            return;
        }
        let text = if self.n_pre > 0 {
            line.trim_end()
        } else {
            line.trim()
        };
        let place = self.place();
        let is_below_text = self.lines.last().is_some_and(|last| !last.is_blank());
        if std::mem::take(&mut self.wants_blank) && is_below_text && !text.is_empty() {
            self.lines.push(Line::new("", place));
        }
        // The blank of a signature's delimiter tells it from dashes.
        let text = if text == "--" {
            line.trim_start()
        } else {
            text
        };
        self.lines.push(Line::new(text, place));
    }
}

/// The meaning of an element, by what mail programs make.
fn mark(element: ElementRef) -> Option<Mark> {
    let name = element.value().name();
    let style = style(element);
    if RULED.iter().any(|ruled| style.contains(ruled)) {
        return Some(Mark::Rest);
    }
    // A text that was moved to the right is the author's own.
    let is_indented =
        name == "blockquote" && style.contains("border:none") && element.attr("type").is_none();
    if is_indented
        && !element
            .value()
            .classes()
            .any(|class| class == "gmail_quote")
    {
        return None;
    }
    if name == "div"
        && element
            .value()
            .classes()
            .any(|class| class == "gmail_quote")
    {
        return is_gmail_forward(element).then_some(Mark::Cut(Cut::Forward));
    }
    let found = SELECTORS
        .iter()
        .find(|(selector, _)| selector.matches(&element));
    found.map(|(_, mark)| *mark)
}

/// Whether what Gmail quotes is a forwarded mail: a rule stands above its headers.
fn is_gmail_forward(quote: ElementRef) -> bool {
    let attribution = quote.child_elements().next();
    let text =
        attribution.and_then(|attribution| attribution.text().find(|text| !text.trim().is_empty()));
    text.is_some_and(|text| text.trim_start().starts_with("-----"))
}

fn is_hidden(element: ElementRef) -> bool {
    HIDDEN.contains(&element.value().name()) || style(element).contains("display:none")
}

/// The inline style of an element, in small letters and without blanks.
fn style(element: ElementRef) -> String {
    element.attr("style").map(squeezed).unwrap_or_default()
}

fn squeezed(text: &str) -> String {
    let kept = text.chars().filter(|character| !character.is_whitespace());
    kept.collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(html: &str) -> String {
        let lines = lines(html);
        let own = lines.iter().filter(|line| line.is_own());
        own.map(|line| line.text.as_str())
            .collect::<Vec<_>>()
            .join("\n")
            .trim()
            .to_owned()
    }

    #[test]
    fn each_block_is_a_line_and_paragraphs_are_apart() {
        for (html, text) in [
            (
                "<p>Hello Ann,</p><p>it&nbsp;is <b>yours</b> &amp;\n free.</p>",
                "Hello Ann,\n\nit is yours & free.",
            ),
            (
                "<div>One</div><div>Two<br></div><div><br></div><div>Three</div>",
                "One\nTwo\n\nThree",
            ),
            (
                "<p class=MsoNormal>One<o:p></o:p></p><p class=MsoNormal><o:p>&nbsp;</o:p></p><p class=MsoNormal>Two</p>",
                "One\n\nTwo",
            ),
            (
                "<style>P {margin-top:0; margin-bottom:0}</style><p>One</p><p>Two</p>",
                "One\nTwo",
            ),
            (
                "<ul><li>steps: 9</li><li>height</li></ul>",
                "steps: 9\nheight",
            ),
            (
                "<table><tr><td>One</td><td>two</td></tr><tr><td>three</td></tr></table>",
                "One two\nthree",
            ),
            ("<pre>One\n  two</pre>", "One\n  two"),
            (
                "<div style='display: none'>x</div><head><title>x</title></head>One<script>x</script>",
                "One",
            ),
            ("Nice <img alt='😀' src=x><img alt='Logo'>", "Nice 😀"),
        ] {
            assert_eq!(own(html), text, "{html}");
        }
    }

    #[test]
    fn quotations_and_signatures_are_told_by_their_elements() {
        for (html, text) in [
            (
                "Yes.<div class=gmail_quote><div class=gmail_attr>On Monday Ann wrote:</div><blockquote class=gmail_quote>Will you?</blockquote></div>",
                "Yes.",
            ),
            (
                "<div class=gmail_quote><blockquote class=gmail_quote>When?</blockquote><div>At six.</div><blockquote class=gmail_quote>Where?</blockquote></div>Here.",
                "At six.\n\nHere.",
            ),
            (
                "FYI<div class=gmail_quote><div class=gmail_attr>---------- Forwarded message ---------<br>Von: Ann</div><br>News.</div>",
                "FYI",
            ),
            (
                "Yes.<div id=appendonsend></div><hr><div id=divRplyFwdMsg>From: Ann</div><div>Will you?</div>",
                "Yes.",
            ),
            (
                "<p>Yes.</p><div><div style='border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt 0cm 0cm 0cm'><p>Von: Ann</p></div></div><p>Will you?</p>",
                "Yes.",
            ),
            (
                "Yes.<div class='yahoo_quoted'><div>On Monday, Ann wrote:</div><div>Will you?</div></div>",
                "Yes.",
            ),
            (
                "<blockquote style='margin:0 0 0 40px;border:none;padding:0px'>Mine.</blockquote>",
                "Mine.",
            ),
            (
                "Yes.<div class=moz-cite-prefix>Am 2.3.26 schrieb Ann:</div><blockquote type=cite>Will you?</blockquote>",
                "Yes.",
            ),
            (
                "See below.<div class=moz-forward-container>-------- Forwarded Message --------<p>News.</p></div>",
                "See below.",
            ),
            ("Yes.<div class=gmail_signature>Bob</div>", "Yes."),
        ] {
            assert_eq!(own(html), text, "{html}");
        }
    }

    #[test]
    fn elements_may_be_nested_to_a_depth() {
        let nested = |n: usize| format!("{}deep{}", "<div>".repeat(n), "</div>".repeat(n));
        assert_eq!(own(&nested(500)), "deep");
        assert_eq!(lines(&nested(50_000)), []);
        assert_eq!(own(&"<p>a<br>".repeat(5_000)).lines().count(), 9_999);
    }
}
