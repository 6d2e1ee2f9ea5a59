//! What goes to stdout: tables for people, JSON for programs.

use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde_json::Value;

use crate::{failure::Failure, table::Table};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub format: Format,
    /// Whether stdout is a terminal.
    pub terminal: bool,
    /// Whether colours may be used: on a terminal, unless NO_COLOR is set (<https://no-color.org>).
    pub color: bool,
}

impl Output {
    pub fn new(format: Format) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            format,
            terminal: terminal && !dumb,
            color: terminal && !no_color && !dumb,
        }
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints one line, or several.
    pub fn line(&self, text: impl AsRef<str>) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_ref().as_bytes())?;
        stdout.write_all(b"\n")?;
        stdout.flush()?;
        Ok(())
    }

    /// Prints one JSON document: laid out for reading on a terminal, one line for a pipe, where
    /// line tools such as grep should do.
    pub fn document(&self, value: &Value) -> Result<(), Failure> {
        if self.terminal {
            return self.line(format!("{value:#}"));
        }
        self.line(value.to_string())
    }

    /// Prints one JSON document of a stream of them: one line.
    pub fn stream(&self, value: &Value) -> Result<(), Failure> {
        self.line(value.to_string())
    }

    pub fn table(&self, table: &Table) -> Result<(), Failure> {
        self.line(table.render(self.color).trim_end())
    }

    /// The document or the table, as was asked for.
    pub fn either(
        &self,
        value: impl FnOnce() -> Value,
        table: impl FnOnce() -> Table,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.document(&value()),
            Format::Table => self.table(&table()),
        }
    }

    /// Says something to people beside the result: on stderr, and not to programs.
    pub fn note(&self, text: impl AsRef<str>) {
        if self.format == Format::Table {
            eprintln!("{}", text.as_ref());
        }
    }
}
