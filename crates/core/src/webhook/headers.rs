//! A request's headers, and which of them a flow may see.

use std::collections::BTreeMap;

/// Headers that carry what lets their owner in somewhere: never in a message.
const CREDENTIALS: [&str; 8] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "cookie2",
    "set-cookie",
    "x-api-key",
    "x-auth-token",
    "x-gitlab-token",
];

/// Headers by lower-case name; the values of repeated ones joined by `, `.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    by_name: BTreeMap<String, String>,
}

impl Headers {
    /// The value of a header, by its lower-case name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(String::as_str)
    }

    /// What a message shows: all but credentials and the signature that was checked.
    pub(super) fn shown(&self, signature: Option<&str>) -> BTreeMap<String, String> {
        self.by_name
            .iter()
            .filter(|(name, _)| {
                !CREDENTIALS.contains(&name.as_str()) && signature != Some(name.as_str())
            })
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let mut by_name = BTreeMap::<String, String>::new();
        for (name, value) in headers {
            let value = text(value.as_ref());
            by_name
                .entry(name.as_ref().to_ascii_lowercase())
                .and_modify(|known| {
                    known.push_str(", ");
                    known.push_str(&value);
                })
                .or_insert(value);
        }
        Self { by_name }
    }
}

/// A header's value: UTF-8, or else ISO 8859-1, which is what it was in HTTP's first days.
fn text(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => value.iter().map(|byte| char::from(*byte)).collect(),
    }
}
