//! Tables and lists of fields as text. Pure.

use console::{Alignment, measure_text_width, pad_str, style, truncate_str};

use super::printable;

/// For whom text is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For people: columns, a header, nothing wider than the terminal.
    People {
        /// The terminal's columns.
        width: usize,
        /// Whether it shows colours.
        color: bool,
    },
    /// For programs: tabs between cells, no header, nothing cut.
    Plain,
}

/// The blanks between two columns.
const GAP: usize = 2;

/// A table. Without rows there is nothing for programs, and a word for people.
pub fn table<const N: usize>(form: Style, heads: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let Style::People { width, color } = form else {
        return rows.iter().map(|row| row.join("\t") + "\n").collect();
    };
    if rows.is_empty() {
        return "nothing\n".to_owned();
    }
    let mut widths = heads.map(measure_text_width);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = measure_text_width(cell).max(*width);
        }
    }
    let lay = |cells: &[String; N]| {
        let padded: Vec<_> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| pad_str(cell, width, Alignment::Left, None))
            .collect();
        let line = padded.join(&" ".repeat(GAP));
        truncate_str(line.trim_end(), width, "…").into_owned()
    };
    let head = style(lay(&heads.map(str::to_owned))).bold().force_styling(color).to_string();
    let lines = std::iter::once(head).chain(rows.iter().map(lay));
    lines.map(|line| line + "\n").collect()
}

/// Names and values.
pub fn fields(form: Style, pairs: &[(&str, String)]) -> String {
    let widest = pairs.iter().map(|(name, _)| measure_text_width(name)).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| match form {
        Style::Plain => format!("{name}\t{}\n", printable(value)),
        Style::People { color, .. } => {
            let name = style(pad_str(name, widest, Alignment::Left, None)).bold();
            format!("{}{}{}\n", name.force_styling(color), " ".repeat(GAP), printable(value))
        }
    };
    pairs.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> [[String; 3]; 2] {
        [["01J", "hash", "COMPLETED"], ["01K", "a\tlong", "FAILED"]]
            .map(|row| row.map(str::to_owned))
    }

    const HEADS: [&str; 3] = ["JOB", "WORKLOAD", "STATE"];

    #[test]
    fn people_get_columns() {
        let form = Style::People { width: 80, color: false };
        let golden = "JOB  WORKLOAD  STATE\n01J  hash      COMPLETED\n01K  a long    FAILED\n";
        assert_eq!(table(form, HEADS, &rows()), golden);
        assert_eq!(table(form, HEADS, &[]), "nothing\n");
    }

    #[test]
    fn nothing_is_wider_than_the_terminal() {
        let form = Style::People { width: 12, color: true };
        let text = table(form, HEADS, &rows());
        assert!(text.starts_with("\x1b[1mJOB  WORKLO…\x1b[0m\n"), "{text:?}");
        assert!(text.lines().all(|line| measure_text_width(line) <= 12));
    }

    #[test]
    fn programs_get_tabs_and_whole_cells() {
        assert_eq!(
            table(Style::Plain, HEADS, &rows()),
            "01J\thash\tCOMPLETED\n01K\ta long\tFAILED\n"
        );
        assert_eq!(table(Style::Plain, HEADS, &[]), "");
    }

    #[test]
    fn fields_line_up() {
        let pairs = [("job", "01J".to_owned()), ("workload", "ha\nsh".to_owned())];
        let form = Style::People { width: 80, color: false };
        assert_eq!(fields(form, &pairs), "job       01J\nworkload  ha sh\n");
        assert_eq!(fields(Style::Plain, &pairs), "job\t01J\nworkload\tha sh\n");
    }
}
