//! `model list`: the base models of this program and of others, each with what it is and what it needs.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use cope_convert::say;
use cope_llama::bases::{self, Base, Places};
use cope_llama::home::Home;
use unicode_width::UnicodeWidthStr;

use super::measured::MeasuredModel;
use crate::cli::byte_size::size;

/// The cells of a row but the last, which is of any width.
const COLUMNS: [&str; 7] = [
    "NAME",
    "FROM",
    "ARCHITECTURE",
    "TYPE",
    "SIZE",
    "CHAT",
    "TRAINING",
];

/// A model in the list.
struct ListRow {
    cells: [String; 7],
    note: String,
}

impl ListRow {
    /// A model that is on this machine.
    fn of_file(name: &str, from: &str, path: &Path, note: String) -> Result<Self> {
        let model = MeasuredModel::read(path)?;
        let weight_type = model.facts.weight_type.map_or("-", |it| it.name());
        let cells = [
            name.to_owned(),
            from.to_owned(),
            model.facts.architecture,
            weight_type.to_owned(),
            size(model.facts.bytes),
            size(model.chat),
            model.training.map_or_else(|| "no".to_owned(), size),
        ];
        Ok(Self { cells, note })
    }

    /// A model of the list that is not here yet.
    fn of_base(base: &Base, note: String) -> Self {
        let cells = [
            base.name.clone(),
            "model pull".to_owned(),
            base.architecture.clone(),
            "-".to_owned(),
            size(base.bytes),
            "-".to_owned(),
            "-".to_owned(),
        ];
        Self { cells, note }
    }
}

pub fn run(home: &Home) -> Result<()> {
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    let mut add = |name: &str, from: &str, path: &Path, note: String| match ListRow::of_file(
        name, from, path, note,
    ) {
        Ok(row) => rows.push(row),
        Err(error) => notes.push(format!("{name}: {error:#}")),
    };
    let known = bases::all();
    let mut absent = Vec::new();
    for (number, base) in known.iter().enumerate() {
        let default = if number == 0 { ", the default" } else { "" };
        let note = format!("{} ({}){default}", base.title, base.licence);
        let path = home.base(&base.file);
        if path.exists() {
            add(&base.name, "installed", &path, note);
        } else {
            absent.push(ListRow::of_base(base, note));
        }
    }
    for path in home.bases()? {
        if known.iter().all(|base| home.base(&base.file) != path) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            add(&name, "installed", &path, String::new());
        }
    }
    let stored = bases::all_stored(&Places::of_this_user());
    for model in &stored.models {
        add(&model.name, model.store.title(), &model.path, String::new());
    }
    rows.extend(absent);
    print(&rows)?;
    for note in stored.notes.iter().chain(&notes) {
        say!("left out: {note}");
    }
    Ok(())
}

fn print(rows: &[ListRow]) -> Result<()> {
    let titles = COLUMNS.map(str::to_owned);
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row.cells[column].width());
            cells.max().unwrap_or(0).max(COLUMNS[column].width())
        })
        .collect();
    let mut out = io::stdout().lock();
    let mut line = |cells: &[String; 7], note: &str| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            let blanks = " ".repeat(width - cell.width() + 2);
            // Numbers are read from the right.
            let is_size = ["MB", "GB"].iter().any(|unit| cell.ends_with(unit));
            if is_size {
                text.extend([&blanks[2..], cell, "  "]);
            } else {
                text.extend([cell, &*blanks]);
            }
        }
        text.push_str(note);
        writeln!(out, "{}", text.trim_end())
    };
    line(&titles, "")?;
    for row in rows {
        line(&row.cells, &row.note)?;
    }
    Ok(())
}
