use unicode_width::UnicodeWidthChar;

use super::super::columns::beside;
use super::*;

/// A terminal that understands what [`LiveColumns`] writes. It keeps what has scrolled off its screen.
struct Terminal {
    /// The cells of each row; the second cell of a wide character holds `None`.
    rows: Vec<Vec<Option<char>>>,
    row: usize,
    column: usize,
    height: usize,
}

impl Terminal {
    fn new(height: usize) -> Self {
        Self {
            rows: vec![Vec::new()],
            row: 0,
            column: 0,
            height,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let text = std::str::from_utf8(bytes).unwrap();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\r' => self.column = 0,
                '\n' => {
                    self.column = 0;
                    self.row += 1;
                    if self.row == self.rows.len() {
                        self.rows.push(Vec::new());
                    }
                }
                '\x1b' => {
                    assert_eq!(chars.next(), Some('['));
                    let sequence = chars.as_str();
                    let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    let n = sequence[..end].parse().unwrap_or(1);
                    match &sequence[end..=end] {
                        "A" => self.row -= n,
                        "B" => self.row += n,
                        "K" => self.rows[self.row].truncate(self.column),
                        other => panic!("unknown sequence {other}"),
                    }
                    let top = self.rows.len().saturating_sub(self.height);
                    assert!(self.row >= top, "the cursor would leave the screen");
                    assert!(self.row < self.rows.len());
                    chars = sequence[end + 1..].chars();
                }
                c => {
                    let row = &mut self.rows[self.row];
                    let width = c.width().unwrap();
                    row.resize(row.len().max(self.column + width), Some(' '));
                    row[self.column] = Some(c);
                    row[self.column + 1..self.column + width].fill(None);
                    self.column += width;
                }
            }
        }
    }

    fn text(&self) -> String {
        let rows = self.rows.iter();
        let rows: Vec<String> = rows
            .map(|row| row.iter().flatten().collect::<String>())
            .collect();
        rows.join("\n")
    }
}

const TEXTS: [(&str, &str); 3] = [
    (
        "one",
        "A few words that need more than one line of a column, said twice: a few words.\n\nEnd.",
    ),
    (
        "two",
        "世界，你好。世界，你好。世界，你好。世界，你好。 And then incomprehensibilities-of-all-sorts.",
    ),
    ("three", "  short \n"),
];

/// Shows the texts in pieces of `n` characters on a screen of this size.
fn shown(texts: &[(&str, &str)], n: usize, width: usize, height: usize) -> Terminal {
    let titles: Vec<&str> = texts.iter().map(|(title, _)| *title).collect();
    let screen = Screen {
        width,
        height: Some(height),
    };
    let mut terminal = Terminal::new(height);
    let mut output = Vec::new();
    let mut live = LiveTexts::begin(&mut output, &titles, screen).unwrap();
    for (_, text) in texts {
        let chars: Vec<char> = text.chars().collect();
        for piece in chars.chunks(n) {
            live.push(&piece.iter().collect::<String>()).unwrap();
        }
        live.end_text().unwrap();
    }
    live.close().unwrap();
    drop(live);
    terminal.feed(&output);
    terminal
}

/// The texts as they are laid out when they are complete.
fn at_once(texts: &[(&str, &str)], width: usize) -> String {
    let texts: Vec<_> = (texts.iter())
        .map(|(title, text)| (*title, (*text).to_owned()))
        .collect();
    beside(&texts, width)
}

#[test]
fn columns_that_grow_end_as_columns_of_complete_texts() {
    for width in [76, 80, 100] {
        for n in [1, 3, 1000] {
            let terminal = shown(&TEXTS, n, width, 24);
            assert_eq!(
                terminal.text(),
                at_once(&TEXTS, width) + "\n",
                "{width}, {n}"
            );
        }
    }
}

#[test]
fn a_column_grows_beside_the_complete_ones() {
    let screen = Screen {
        width: 80,
        height: Some(24),
    };
    let mut output = Vec::new();
    let mut live = LiveTexts::begin(&mut output, &["one", "two"], screen).unwrap();
    live.push("a\nb\nc").unwrap();
    live.end_text().unwrap();
    live.push("世").unwrap();
    drop(live);
    let mut terminal = Terminal::new(24);
    terminal.feed(&output);
    let expected = at_once(&[("one", "a\nb\nc"), ("two", "世")], 80);
    assert_eq!(terminal.text(), expected);
    assert_eq!(terminal.row, N_HEADER);
}

#[test]
fn columns_that_outgrow_the_screen_are_shown_again_below() {
    let long = "line\n".repeat(30);
    let texts = [
        ("one", long.as_str()),
        ("two", "x\ny"),
        ("three", long.as_str()),
    ];
    let terminal = shown(&texts, 4, 80, 10);
    let text = terminal.text();
    assert!(
        text.ends_with(&format!("\n\n{}\n", at_once(&texts, 80))),
        "{text}"
    );
    assert_eq!(text.matches("one").count(), 3);
    // A screen of the height that is needed shows them once.
    assert_eq!(shown(&texts, 4, 80, 30).text(), at_once(&texts, 80) + "\n");
}

#[test]
fn texts_on_a_narrow_screen_come_one_below_the_other() {
    for n in [1, 2, 1000] {
        let terminal = shown(&TEXTS, n, 40, 24);
        assert_eq!(terminal.text(), at_once(&TEXTS, 40) + "\n", "{n}");
    }
}
