//! Queries: `page[size]`, `page[number]`, `filter[…]`, `sort`, `search`. Other parameters are not looked at.

use serde_json::{Value, json};
use tidemill_types::limits::{FLOW_NAME_CHARS_MAX, PAGE_SIZE_MAX};

use super::Refusal;

const PAGE_SIZE_DEFAULT: usize = 10;

/// A query's parameters; of several with one name the last.
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub size: usize,
    /// From 1.
    pub number: usize,
}

impl Page {
    /// How many come before it.
    pub const fn offset(self) -> usize {
        (self.number - 1).saturating_mul(self.size)
    }

    /// `meta` of a list with so many items.
    pub fn meta(self, total: usize) -> Value {
        json!({
            "page": self.number,
            "perPage": self.size,
            "total": total,
            "totalPages": total.div_ceil(self.size),
        })
    }
}

impl Query {
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let decode = |text: &str| {
            percent_decode(text)
                .ok_or_else(|| Refusal::bad("the query is not UTF-8, or badly escaped"))
        };
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self { pairs })
    }

    /// A parameter's value, unless it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.pairs.iter().rev();
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    pub fn page(&self) -> Result<Page, Refusal> {
        let number = |name: &str, default: usize, most: usize| match self.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| (1..=most).contains(number))
                .ok_or_else(|| {
                    Refusal::bad(format!("{name} must be a whole number from 1 to {most}"))
                }),
        };
        Ok(Page {
            size: number("page[size]", PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX as usize)?,
            number: number("page[number]", 1, u32::MAX as usize)?,
        })
    }

    /// What to search for, in lower case.
    pub fn search(&self) -> Result<Option<String>, Refusal> {
        match self.get("search") {
            Some(text) if text.chars().count() > FLOW_NAME_CHARS_MAX => Err(Refusal::bad(format!(
                "search has more than {FLOW_NAME_CHARS_MAX} characters"
            ))),
            text => Ok(text.map(str::to_lowercase)),
        }
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}
