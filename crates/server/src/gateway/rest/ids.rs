//! Ids as clients of the Open Integration Hub write them: 24 hex digits.
//!
//! Ours have 16 bytes, theirs 12. The short form is the first 12 bytes of ours (time, partition, half of the
//! entropy), so nothing has to be stored for it, and an id is found by it as a row is found by the beginning of
//! its key. Two ids that begin alike are told from each other by the whole id; none is taken for the other.

use super::Refusal;

/// Bytes of a short id.
pub(in crate::gateway) const SHORT_BYTES: usize = 12;

/// The 24 hex digits of an id.
pub(super) fn short(id: &[u8; 16]) -> String {
    hex(&id[..SHORT_BYTES])
}

/// The 32 hex digits of an id.
pub(super) fn long(id: &[u8; 16]) -> String {
    hex(id)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

/// The bytes of a text of 24 hex digits.
pub(in crate::gateway) fn of_short(text: &str) -> Option<[u8; SHORT_BYTES]> {
    from_hex(text)
}

/// An id in a path as gRPC knows it: 24 hex digits stay, 32 become ours, ours stays.
///
/// What could be an id of OIH's but none of ours (any 12 bytes) is not found; anything else is no id.
pub(super) fn in_path<I>(
    text: &str,
    whole: impl Fn([u8; 16]) -> I,
) -> Result<Option<String>, Refusal>
where
    I: std::fmt::Display + std::str::FromStr,
{
    if of_short(text).is_some() || text.parse::<I>().is_ok() {
        return Ok(Some(text.to_owned()));
    }
    if let Some(bytes) = from_hex::<16>(text) {
        return Ok(Some(whole(bytes).to_string()));
    }
    if text.len() == SHORT_BYTES {
        return Ok(None);
    }
    Err(Refusal::bad("Invalid id"))
}
