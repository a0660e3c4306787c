//! Results as Markdown tables.

use std::fmt::Write as _;

use crate::stats::Summary;

/// A titled table; the first column is left-aligned, figures are right-aligned.
#[derive(Debug)]
pub struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        Self {
            title: title.into(),
            columns: columns.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
        }
    }

    pub fn push(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    pub fn to_markdown(&self) -> String {
        let mut text = format!(
            "### {}\n\n| {} |\n|---",
            self.title,
            self.columns.join(" | ")
        );
        text.push_str(&"|--:".repeat(self.columns.len().saturating_sub(1)));
        text.push_str("|\n");
        for row in &self.rows {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        text
    }
}

/// `median (min-max)`, with as many digits as the size of the figure deserves.
pub fn range(summary: Option<Summary>) -> String {
    summary.map_or_else(
        || "-".to_owned(),
        |s| format!("{} ({}-{})", figure(s.median), figure(s.min), figure(s.max)),
    )
}

pub fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_valid_markdown() {
        let mut table = Table::new("Drain", &["what", "per second"]);
        table.push(["one".to_owned(), range(Summary::of([7000.4, 12.0, 0.5]))]);
        assert_eq!(
            table.to_markdown(),
            "### Drain\n\n| what | per second |\n|---|--:|\n| one | 12.0 (0.50-7000) |\n"
        );
    }
}
