//! Lays out texts side by side, or one below the other where columns would be too narrow to read.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The smallest readable width of a column, in terminal cells.
const MIN_COLUMN: usize = 24;

/// The space between two columns.
const GAP: &str = "  ";

/// The texts under their titles, in columns of a total width of `width` cells. There is no line break at the end.
pub fn beside(texts: &[(&str, String)], width: usize) -> String {
    let Some(width) = column_width(texts.len(), width) else {
        return below(texts);
    };
    let columns: Vec<Vec<String>> = texts
        .iter()
        .map(|(title, text)| [header(title, width).to_vec(), wrap(text, width)].concat())
        .collect();
    let height = columns.iter().map(Vec::len).max().unwrap_or(0);
    let rows = (0..height).map(|row| self::row(&columns, row, width));
    rows.collect::<Vec<_>>().join("\n")
}

/// The width of each of `n` columns that take `width` cells together; `None` if they would be too narrow to read.
pub fn column_width(n: usize, width: usize) -> Option<usize> {
    let gaps = GAP.len() * n.saturating_sub(1);
    let column = width.saturating_sub(gaps) / n.max(1);
    (column >= MIN_COLUMN).then_some(column)
}

/// The first rows of a column: its title, and a rule.
pub fn header(title: &str, width: usize) -> [String; 2] {
    [title.to_owned(), "─".repeat(width)]
}

/// A row of columns that are each `width` cells wide, without spaces at its end.
pub fn row(columns: &[Vec<String>], row: usize, width: usize) -> String {
    let cells = columns.iter().map(|lines| {
        let line = lines.get(row).map_or("", String::as_str);
        format!("{line}{}", " ".repeat(width.saturating_sub(line.width())))
    });
    cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
}

fn below(texts: &[(&str, String)]) -> String {
    texts
        .iter()
        .map(|(title, text)| format!("{}\n{}\n", title_line(title), text.trim()))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The line above a text that has no column.
pub fn title_line(title: &str) -> String {
    format!("── {title}")
}

/// The lines of `text`, broken between words, and inside words that are wider than `width`.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.trim().lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.width() + 1 + word.width() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            for c in word.chars() {
                if line.width() + c.width().unwrap_or(0) > width {
                    lines.push(std::mem::take(&mut line));
                }
                line.push(c);
            }
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fill_the_width_in_terminal_cells() {
        let texts = [
            ("one", "a few words that need more than a line".to_owned()),
            ("two", "世界".repeat(9)),
        ];
        let expected = "\
one                       two
────────────────────────  ────────────────────────
a few words that need     世界世界世界世界世界世界
more than a line          世界世界世界";
        assert_eq!(beside(&texts, 50), expected);
    }

    #[test]
    fn texts_stand_below_each_other_when_columns_would_be_narrow() {
        let texts = [("one", "first\n".to_owned()), ("two", "second".to_owned())];
        assert_eq!(beside(&texts, 49), "── one\nfirst\n\n── two\nsecond\n");
    }

    #[test]
    fn wrapping_keeps_empty_lines_and_breaks_long_words() {
        assert_eq!(wrap("one\n\ntwo three", 6), ["one", "", "two", "three"]);
        assert_eq!(wrap("incomprehensible", 6), ["incomp", "rehens", "ible"]);
    }
}
