//! Secrets of the configuration: they are in memory, and nothing shows them.

use std::fmt;

use tidemill_types::limits::WEBHOOK_NAME_CHARS_MAX;
use toml::Value;

/// Most bytes of a secret's file: anything longer is another file.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// A secret. It shows itself as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// A secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: for what needs it, at the place where it needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Reads `name = "secret"` or `name = { file = "/run/secrets/name" }`.
    pub(super) fn read(name: &str, value: &Value) -> Result<Self, String> {
        let is_name = !name.is_empty()
            && name.len() <= WEBHOOK_NAME_CHARS_MAX
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if !is_name {
            return Err(format!(
                "{name:?} is no name: letters, digits, `-`, `_` and `.`, at most {WEBHOOK_NAME_CHARS_MAX}"
            ));
        }
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Table(table) => match (table.len(), table.get("file")) {
                (1, Some(Value::String(file))) => read_file(name, file)?,
                _ => return Err(format!("{name}: must be a string or {{ file = \"PATH\" }}")),
            },
            _ => return Err(format!("{name}: must be a string or {{ file = \"PATH\" }}")),
        };
        // The text of a problem must not hold it.
        if text.trim().is_empty() {
            return Err(format!("{name}: the secret is empty"));
        }
        Ok(Self(text))
    }
}

fn read_file(name: &str, file: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{name}: cannot read {file}: {error}"))?;
    if text.len() > FILE_BYTES_MAX {
        return Err(format!(
            "{name}: {file} has {} bytes, at most {FILE_BYTES_MAX} are allowed",
            text.len()
        ));
    }
    // Editors end a file with a line feed.
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
