//! Aligned columns, and the colours of states.

/// What a text looks like on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    #[default]
    Plain,
    Bold,
    Yellow,
    Green,
    Red,
    Grey,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Yellow => "\x1b[33m",
            Self::Green => "\x1b[32m",
            Self::Red => "\x1b[31m",
            Self::Grey => "\x1b[90m",
        }
    }

    /// The text in this style, or as it is without colours.
    pub fn paint(self, text: &str, color: bool) -> String {
        if color && self != Self::Plain && !text.is_empty() {
            format!("{}{text}\x1b[0m", self.code())
        } else {
            text.to_owned()
        }
    }
}

/// One cell.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: printable(&text.into()),
            style,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::Plain)
    }
}

/// Names and errors come from users: a terminal's control characters must not come through.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Rows under a header.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    empty: &'static str,
}

impl Table {
    /// `empty` is what is said when there is no row.
    pub fn new(header: &[&'static str], empty: &'static str) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
            empty,
        }
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.header.len());
        self.rows.push(cells);
    }

    pub fn render(&self, color: bool) -> String {
        if self.rows.is_empty() {
            return format!("{}\n", self.empty);
        }
        let mut widths: Vec<usize> = self.header.iter().map(|text| text.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let header: Vec<Cell> = self
            .header
            .iter()
            .map(|text| Cell::styled(*text, Style::Bold))
            .collect();
        let mut out = String::new();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
                line.push_str(&cell.style.paint(&cell.text, color));
                if i + 1 < row.len() {
                    let pad = width - cell.text.chars().count() + 2;
                    line.extend(std::iter::repeat_n(' ', pad));
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Names and values, one under the other.
pub fn details(pairs: &[(&'static str, Cell)], color: bool) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, cell) in pairs.iter().filter(|(_, cell)| !cell.text.is_empty()) {
        let name = format!("{:<width$}", format!("{name}:"), width = width + 1);
        out.push_str(&Style::Grey.paint(&name, color));
        out.push_str("  ");
        out.push_str(&cell.style.paint(&cell.text, color));
        out.push('\n');
    }
    out.pop();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "STATE"], "No flows.");
        table.row(vec!["a".into(), Cell::styled("active", Style::Green)]);
        table.row(vec!["Müller & Söhne".into(), "".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_by_characters() {
        assert_eq!(
            table().render(false),
            "NAME            STATE\n\
             a               active\n\
             Müller & Söhne\n"
        );
    }

    #[test]
    fn colours_do_not_change_the_alignment() {
        let colored = table().render(true);
        assert!(colored.contains("\x1b[32mactive\x1b[0m"));
        let plain: String = colored
            .replace("\x1b[32m", "")
            .replace("\x1b[1m", "")
            .replace("\x1b[0m", "");
        assert!(plain.contains("a               active"));
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Table::new(&["A"], "No flows.").render(false), "No flows.\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(Cell::from("a\x1b[2Jb\n").text, "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn details_leave_out_what_is_empty() {
        let text = details(
            &[
                ("id", "x".into()),
                ("reason", "".into()),
                ("state", "y".into()),
            ],
            false,
        );
        assert_eq!(text, "id:      x\nstate:   y");
    }
}
