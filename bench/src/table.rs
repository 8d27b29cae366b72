//! Tables of medians.

/// What one subject has measured, in all repeats.
pub(crate) struct Row {
    subject: &'static str,
    columns: Vec<(String, Vec<f64>)>,
}

impl Row {
    pub(crate) fn new(subject: &'static str) -> Self {
        Self { subject, columns: Vec::new() }
    }

    pub(crate) fn add(&mut self, figures: &[(String, f64)]) {
        for (name, value) in figures.iter().filter(|(name, _)| !name.starts_with('|')) {
            match self.columns.iter_mut().find(|(known, _)| known == name) {
                Some((_, values)) => values.push(*value),
                None => self.columns.push((name.clone(), vec![*value])),
            }
        }
    }

    fn cell(&self, column: &str) -> String {
        let values = self.columns.iter().find(|(name, _)| name == column);
        values.map_or_else(|| "-".to_owned(), |(_, values)| summary(values))
    }
}

fn summary(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = number(f64::midpoint(sorted[middle], sorted[(sorted.len() - 1) / 2]));
    match &*sorted {
        [_] => median,
        [least, .., greatest] => format!("{median} ({}–{})", number(*least), number(*greatest)),
        [] => unreachable!("a column begins with a value"),
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub(crate) fn print(rows: &[Row]) {
    let mut header = vec!["".to_owned()];
    for (name, _) in rows.iter().flat_map(|row| &row.columns) {
        if !header.contains(name) {
            header.push(name.clone());
        }
    }
    let mut lines = vec![header.clone()];
    for row in rows {
        let mut line = vec![row.subject.to_owned()];
        line.extend(header[1..].iter().map(|column| row.cell(column)));
        lines.push(line);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let rule = widths.iter().map(|&width| "-".repeat(width)).collect();
    lines.insert(1, rule);
    for line in lines {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("| {} |", cells.join(" | "));
    }
}
