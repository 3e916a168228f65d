//! Shows texts side by side, or one below the other, while they are being written.
//!
//! The texts come one after the other. So a column grows while those on its left are complete: the cursor goes back up, and
//! each row is written anew with the cells of all columns. Rows that have scrolled off the screen cannot be reached any more.
//! If the next column would have to begin above the screen, all columns are shown once more below.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::ops::Range;

use super::columns::{column_width, header, row, title_line, wrap};
use super::lines::Screen;

/// The number of rows above the text of a column.
const N_HEADER: usize = 2;

/// Texts under their titles that are shown as they come.
pub enum LiveTexts<W> {
    Columns(LiveColumns<W>),
    Below(LiveBelow<W>),
}

impl<W: Write> LiveTexts<W> {
    /// Begins with the text of the first title, in columns if a screen of this size has room for them.
    pub fn begin(out: W, titles: &[&str], screen: Screen) -> io::Result<Self> {
        let height = screen.height.unwrap_or(usize::MAX);
        match column_width(titles.len(), screen.width) {
            Some(width) => LiveColumns::begin(out, titles, width, height).map(Self::Columns),
            None => LiveBelow::begin(out, titles).map(Self::Below),
        }
    }

    /// Appends to the current text.
    pub fn push(&mut self, text: &str) -> io::Result<()> {
        match self {
            Self::Columns(columns) => columns.push(text),
            Self::Below(below) => below.push(text),
        }
    }

    /// Ends the current text; the next one follows.
    pub fn end_text(&mut self) -> io::Result<()> {
        match self {
            Self::Columns(columns) => columns.end_column(),
            Self::Below(below) => below.end_text(),
        }
    }

    /// Leaves the cursor at the beginning of a line below all texts.
    pub fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Columns(columns) => columns.close(),
            Self::Below(below) => below.close(),
        }
    }
}

/// Texts in columns.
pub struct LiveColumns<W> {
    out: W,
    /// The width of a column in cells.
    width: usize,
    /// The number of rows of the screen.
    height: usize,
    /// The lines of each column so far, with its header.
    columns: Vec<Vec<String>>,
    /// The column that grows, and its text so far.
    current: usize,
    text: String,
    /// The number of rows that were written, and the row of the cursor.
    n_written: usize,
    cursor: usize,
}

impl<W: Write> LiveColumns<W> {
    fn begin(out: W, titles: &[&str], width: usize, height: usize) -> io::Result<Self> {
        let columns = titles.iter().map(|title| header(title, width).to_vec());
        let mut live = Self {
            out,
            width,
            height,
            columns: columns.collect(),
            current: 0,
            text: String::new(),
            n_written: 0,
            cursor: 0,
        };
        live.write_rows(0..N_HEADER)?;
        Ok(live)
    }

    fn push(&mut self, text: &str) -> io::Result<()> {
        self.text.push_str(text);
        let lines = wrap(&self.text, self.width);
        let column = &mut self.columns[self.current];
        let before = column.split_off(N_HEADER);
        let n_same = before.iter().zip(&lines).take_while(|(x, y)| x == y);
        let first_changed = N_HEADER + n_same.count();
        column.extend(lines);
        let rows = first_changed..column.len();
        self.write_rows(rows)
    }

    fn end_column(&mut self) -> io::Result<()> {
        // Where the columns are shown once more, those on the left may be longer.
        let n_rows = self.columns.iter().map(Vec::len).max().unwrap_or(0);
        self.write_rows(self.n_written..n_rows)?;
        self.current += 1;
        self.text.clear();
        let is_last = self.current == self.columns.len();
        if !is_last && self.n_written > N_HEADER.saturating_add(self.height) {
            self.close()?;
            writeln!(self.out)?;
            (self.n_written, self.cursor) = (0, 0);
            self.write_rows(0..N_HEADER)?;
        }
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        let mut output = String::new();
        self.move_to(self.n_written.saturating_sub(1), &mut output);
        writeln!(self.out, "{output}")
    }

    /// Writes these rows with the cells of all columns.
    fn write_rows(&mut self, rows: Range<usize>) -> io::Result<()> {
        let mut output = String::new();
        for row in rows {
            self.move_to(row, &mut output);
            // The row is cleared first: after a row that fills the screen, some terminals would clear its last cell.
            output.push_str("\r\x1b[K");
            output.push_str(&self::row(&self.columns, row, self.width));
        }
        self.out.write_all(output.as_bytes())?;
        self.out.flush()
    }

    /// Moves the cursor to `row`, which is on the screen, or is the next one below.
    fn move_to(&mut self, row: usize, output: &mut String) {
        let is_new = row >= self.n_written;
        let row_there = if is_new {
            self.n_written.saturating_sub(1)
        } else {
            row
        };
        let distance = row_there.abs_diff(self.cursor);
        let direction = if row_there < self.cursor { 'A' } else { 'B' };
        if distance > 0 {
            write!(output, "\x1b[{distance}{direction}").expect("a string takes all");
        }
        if is_new && self.n_written > 0 {
            output.push('\n');
        }
        self.cursor = row;
        self.n_written = self.n_written.max(row + 1);
    }
}

/// Texts one below the other.
pub struct LiveBelow<W> {
    out: W,
    /// The titles that are still to come.
    titles: std::vec::IntoIter<String>,
    /// White space that is written as soon as text follows.
    held: String,
    /// Whether text of the current title was written.
    has_text: bool,
}

impl<W: Write> LiveBelow<W> {
    fn begin(out: W, titles: &[&str]) -> io::Result<Self> {
        let titles: Vec<String> = titles.iter().map(|title| title_line(title)).collect();
        let mut live = Self {
            out,
            titles: titles.into_iter(),
            held: String::new(),
            has_text: false,
        };
        live.write_title()?;
        Ok(live)
    }

    fn push(&mut self, text: &str) -> io::Result<()> {
        self.held.push_str(text);
        let text = if self.has_text {
            self.held.as_str()
        } else {
            self.held.trim_start()
        };
        let shown = text.trim_end();
        if shown.is_empty() {
            return Ok(());
        }
        self.out.write_all(shown.as_bytes())?;
        self.out.flush()?;
        self.held = text[shown.len()..].to_owned();
        self.has_text = true;
        Ok(())
    }

    fn end_text(&mut self) -> io::Result<()> {
        self.out.write_all(b"\n\n")?;
        self.write_title()
    }

    fn close(&mut self) -> io::Result<()> {
        // After the last text the cursor is at the beginning of a line already.
        if self.has_text || !self.held.is_empty() {
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }

    fn write_title(&mut self) -> io::Result<()> {
        self.held.clear();
        self.has_text = false;
        if let Some(title) = self.titles.next() {
            writeln!(self.out, "{title}")?;
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
