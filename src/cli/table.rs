//! Aligned columns with colours that say what the words say already.

use anstyle::{AnsiColor, Style};

/// One cell.
pub(crate) struct Cell {
    text: String,
    style: Style,
    right: bool,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), style: Style::new(), right: false }
    }

    /// Aligned to the right, as figures are.
    pub(crate) fn figure(text: impl Into<String>) -> Self {
        Self { right: true, ..Self::new(text) }
    }

    pub(crate) fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }
}

/// Rows under a header.
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// Between two columns.
const GAP: usize = 2;

impl Table {
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The text. With a width, the last column is cut to it.
    pub(crate) fn render(&self, width: Option<usize>) -> String {
        let widths = self.widths();
        let before: usize = widths.iter().rev().skip(1).map(|column| column + GAP).sum();
        let last = width.map(|width| width.saturating_sub(before).max(16));
        let header: Vec<_> = self
            .header
            .iter()
            .enumerate()
            .map(|(at, text)| {
                let right = self.rows.first().and_then(|row| row.get(at)).is_some_and(|cell| cell.right);
                Cell { text: (*text).to_owned(), style: dim(), right }
            })
            .collect();
        let mut out = String::new();
        for row in std::iter::once(&header).chain(&self.rows) {
            push_row(&mut out, row, &widths, last);
        }
        out
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<_> = self.header.iter().map(|text| text.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        widths
    }
}

fn push_row(out: &mut String, row: &[Cell], widths: &[usize], last: Option<usize>) {
    let mut line = String::new();
    for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
        let is_last = at + 1 == row.len();
        let text = match last {
            Some(most) if is_last => super::words::cut(&cell.text, most),
            Some(_) | None => cell.text.clone(),
        };
        let pad = " ".repeat(width.saturating_sub(text.chars().count()));
        let painted = paint(&text, cell.style);
        match (cell.right, is_last) {
            (true, _) => line.push_str(&format!("{pad}{painted}")),
            (false, true) => line.push_str(&painted),
            (false, false) => line.push_str(&format!("{painted}{pad}")),
        }
        if !is_last {
            line.push_str(&" ".repeat(GAP));
        }
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

/// The text in a style; plain text stays without escapes.
pub(crate) fn paint(text: &str, style: Style) -> String {
    if style.is_plain() || text.is_empty() { text.to_owned() } else { format!("{style}{text}{style:#}") }
}

/// Less important.
pub(crate) fn dim() -> Style {
    Style::new().dimmed()
}

/// More important.
pub(crate) fn bold() -> Style {
    Style::new().bold()
}

/// Good.
pub(crate) fn green() -> Style {
    Style::new().fg_color(Some(AnsiColor::Green.into()))
}

/// Not good yet.
pub(crate) fn yellow() -> Style {
    Style::new().fg_color(Some(AnsiColor::Yellow.into()))
}

/// Bad.
pub(crate) fn red() -> Style {
    Style::new().fg_color(Some(AnsiColor::Red.into()))
}

/// The colour of a status word.
pub(crate) fn status_style(word: &str) -> Style {
    match word {
        "healthy" | "working" | "done" => green(),
        "starting" | "recovering" | "slow" | "degraded" => yellow(),
        "dead" | "unhealthy" | "unresponsive" => red(),
        "quarantined" | "stuck" => red().bold(),
        _ => dim(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_the_last_is_cut() {
        let mut table = Table::new(&["NAME", "N", "WHY"]);
        table.row(vec![Cell::new("a"), Cell::figure("1"), Cell::new("a very long reason indeed")]);
        table.row(vec![Cell::new("longer"), Cell::figure("100"), Cell::new("")]);
        let text = anstream::adapter::strip_str(&table.render(Some(20))).to_string();
        assert_eq!(text, "NAME      N  WHY\na         1  a very long rea…\nlonger  100\n");
    }
}
