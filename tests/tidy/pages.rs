//! Markdown pages: their prose, code, headings and links.

use super::tree::{Tree, folder_of, is_of_kind, join};

/// A line of a page with its number from 1.
pub struct Line<'a> {
    pub number: usize,
    pub text: &'a str,
    /// The language of the fenced block that the line stands in, with nothing of its fence; `None` in prose.
    pub fence: Option<&'a str>,
}

/// The lines of a page without those that are fences themselves.
pub fn lines(text: &str) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut open: Option<(&str, &str)> = None;
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let fence = ["```", "~~~"].into_iter().find(|f| trimmed.starts_with(f));
        match (fence, open) {
            (Some(fence), None) => open = Some((fence, trimmed.trim_start_matches(['`', '~']))),
            (Some(fence), Some((opened, _))) if fence == opened => open = None,
            _ => lines.push(Line {
                number: index + 1,
                text: line,
                fence: open.map(|(_, language)| language.trim()),
            }),
        }
    }
    lines
}

/// The spans of inline code of a line of prose.
pub fn code_spans(line: &str) -> Vec<&str> {
    let mut spans = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].len() - rest[start..].trim_start_matches('`').len();
        let inner = &rest[start + ticks..];
        let Some(end) = inner.find(&rest[start..start + ticks]) else {
            break;
        };
        spans.push(inner[..end].trim());
        rest = &inner[end + ticks..];
    }
    spans
}

/// `line` with blanks for its spans of inline code.
fn without_code(line: &str) -> String {
    let mut line = line.to_owned();
    for span in code_spans(&line.clone()) {
        line = line.replacen(&format!("`{span}`"), "", 1);
    }
    line
}

/// Where the links of a page lead, with the numbers of their lines.
pub fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for line in lines(text).iter().filter(|line| line.fence.is_none()) {
        let prose = without_code(line.text);
        let found = inline_links(&prose)
            .into_iter()
            .chain(definition(&prose))
            .chain(attributes(&prose));
        links.extend(found.map(|link| (line.number, link.to_owned())));
    }
    links
}

/// The targets of `[text](target)` and `![text](target "title")`.
fn inline_links(line: &str) -> Vec<&str> {
    let starts = line.match_indices("](").map(|(at, _)| &line[at + 2..]);
    starts
        .map(|rest| {
            if let Some((target, _)) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>'))
            {
                return target;
            }
            let mut depth = 0;
            let end = rest.find(|char: char| {
                depth += i32::from(char == '(') - i32::from(char == ')');
                depth < 0 || char.is_whitespace()
            });
            &rest[..end.unwrap_or(rest.len())]
        })
        .collect()
}

/// The target of a line `[name]: target`.
fn definition(line: &str) -> Option<&str> {
    let (name, target) = line.trim().strip_prefix('[')?.split_once("]: ")?;
    let is_definition = !name.contains(']');
    is_definition.then(|| target.split_whitespace().next())?
}

/// The targets of `src="…"` and `href="…"`.
fn attributes(line: &str) -> Vec<&str> {
    let starts = ["src=\"", "href=\""].map(|name| line.match_indices(name));
    let starts = starts.into_iter().flatten();
    starts
        .filter_map(|(at, name)| Some(line[at + name.len()..].split_once('"')?.0))
        .collect()
}

/// The reason why the link `target` of the page `page` is broken; `None` if it is not, or leads to another site.
pub fn broken(tree: &Tree, page: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = path.replace("%20", " ");
    let file = match path.strip_prefix('/') {
        Some(from_root) => join("", from_root),
        None if path.is_empty() => Some(page.to_owned()),
        None => join(folder_of(page), &path),
    };
    let Some(file) = file else {
        return Some("leads out of the tree".to_owned());
    };
    if !tree.has_file(&file) && !tree.has_folder(&file) {
        return Some(format!("no file {file}"));
    }
    let is_page = is_of_kind(&file, "md");
    if is_page && !anchor.is_empty() && !anchors(tree.expect(&file)).contains(&anchor.to_owned()) {
        return Some(format!("{file} has no heading #{anchor}"));
    }
    None
}

/// The anchors of a page: of its headings, as GitHub makes them, and those that it names itself.
pub fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for line in lines(text).iter().filter(|line| line.fence.is_none()) {
        for name in ["id=\"", "name=\""] {
            let named = line
                .text
                .split_once(name)
                .and_then(|(_, rest)| rest.split_once('"'));
            anchors.extend(named.map(|(name, _)| name.to_owned()));
        }
        if let Some(heading) = heading(line.text) {
            let first = slug(heading);
            let numbered = (1..).map(|n| format!("{first}-{n}"));
            let mut free = std::iter::once(first.clone()).chain(numbered);
            anchors.extend(free.find(|anchor| !anchors.contains(anchor)));
        }
    }
    anchors
}

/// The words of a line that is a heading.
pub fn heading(line: &str) -> Option<&str> {
    let words = line.trim_start_matches('#');
    (line.starts_with('#') && words.starts_with(' ')).then(|| words.trim())
}

fn slug(heading: &str) -> String {
    // Of a link its text counts alone.
    let mut words = heading.to_owned();
    while let Some((before, after)) = words.split_once("](") {
        let rest = after.split_once(')').map_or("", |(_, rest)| rest);
        words = format!("{before}{rest}");
    }
    let kept = words.chars().filter_map(|char| match char {
        ' ' => Some('-'),
        '-' | '_' => Some(char),
        char => char.is_alphanumeric().then_some(char),
    });
    kept.flat_map(char::to_lowercase).collect()
}

/// Finds the links of all pages that lead nowhere, each with the reason.
pub fn broken_links(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (page, text) in tree.texts(".md") {
        for (line, target) in links(text) {
            let reason = broken(tree, page, &target);
            found.extend(reason.map(|why| format!("{page}:{line}: {target}: {why}")));
        }
    }
    found
}

/// The Rust files that the tables of a page name and that are not there. A name stands for a file in one of the folders that
/// its row or the table's head names, or for a path from the root.
pub fn missing_files(tree: &Tree, page: &str) -> Vec<String> {
    let mut missing = Vec::new();
    let mut head: Option<Vec<&str>> = None;
    for line in lines(tree.expect(page)) {
        if !line.text.starts_with('|') {
            head = None;
            continue;
        }
        let spans = code_spans(line.text);
        let own: Vec<&str> = spans
            .iter()
            .copied()
            .filter(|it| it.ends_with('/'))
            .collect();
        let of_head = head.get_or_insert_with(|| own.clone());
        let folders = [own, of_head.clone()].concat();
        for name in spans.into_iter().filter(|it| is_of_kind(it, "rs")) {
            let is_there = tree.has_file(name)
                || folders
                    .iter()
                    .any(|folder| tree.has_file(&format!("{folder}{name}")));
            if !is_there {
                missing.push(format!("{page}:{}: {name}", line.number));
            }
        }
    }
    missing
}
