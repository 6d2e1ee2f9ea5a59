//! Pages of lists. A token is where the next page begins, in hex: opaque to clients, and checked.

use tidemill_proto::v1::PageRequest;
use tidemill_types::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};

use super::check::{CheckResult, invalid};

/// Longest key that a token can name: a flow's name in UTF-8.
const TOKEN_BYTES_MAX: usize = 2_048;

/// A checked page request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub size: usize,
    /// The last key of the page before, without the table's prefix.
    pub after: Option<Vec<u8>>,
}

impl Page {
    /// Checks a page request.
    pub fn check(page: Option<PageRequest>) -> CheckResult<Self> {
        let PageRequest { size, token } = page.unwrap_or_default();
        let size = match size {
            0 => PAGE_SIZE_DEFAULT,
            1..=PAGE_SIZE_MAX => size,
            _ => {
                let reason = format!("must be at most {PAGE_SIZE_MAX}");
                return Err(invalid("page.size", reason));
            }
        };
        let after = if token.is_empty() {
            None
        } else {
            Some(from_hex(&token).ok_or_else(|| {
                invalid("page.token", "must be the next_token of the page before")
            })?)
        };
        Ok(Self {
            size: usize::try_from(size).expect("32 bits fit"),
            after,
        })
    }

    /// A key that the token must name exactly: with another length it was not made for this list.
    pub fn after_key<const N: usize>(&self) -> CheckResult<Option<[u8; N]>> {
        self.after
            .as_deref()
            .map(|key| {
                key.try_into().map_err(|_| {
                    invalid(
                        "page.token",
                        "must be the next_token of a page of the same list",
                    )
                })
            })
            .transpose()
    }
}

/// The token of the page after this key.
pub(crate) fn token(key: &[u8]) -> String {
    use std::fmt::Write as _;
    key.iter()
        .fold(String::with_capacity(key.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digits
        .chunks_exact(2)
        .map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip() {
        let key = [0, 1, 0xab, 0xff];
        let page = Page::check(Some(PageRequest {
            size: 0,
            token: token(&key),
        }))
        .expect("a page");
        assert_eq!(page.size, 50);
        assert_eq!(page.after_key(), Ok(Some(key)));
        assert!(page.after_key::<3>().is_err());
    }

    #[test]
    fn bad_pages_are_refused() {
        let check = |size, token: &str| {
            Page::check(Some(PageRequest {
                size,
                token: token.into(),
            }))
        };
        assert!(check(1_000, "").is_ok());
        for (size, token) in [(1_001, ""), (1, "a"), (1, "zz"), (1, "é0"), (1, "+1")] {
            assert!(check(size, token).is_err(), "{size} {token}");
        }
        assert!(check(1, &"00".repeat(TOKEN_BYTES_MAX)).is_err());
    }
}
