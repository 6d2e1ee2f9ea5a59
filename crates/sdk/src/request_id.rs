//! Request ids: what makes a mutation safe to send again.

use std::time::{SystemTime, UNIX_EPOCH};

/// Random bits; the others of 128 are the time.
const RANDOM_BITS: u32 = 80;

/// A new request id: 128 bits in hex, after `req_`. First come 48 bits of the time in milliseconds, then chance (as in
/// a ULID): ids that ascend cost a store that sorts them less than ids that do not. A clock that is wrong does no
/// harm.
#[must_use]
pub fn new_request_id() -> String {
    #[expect(clippy::disallowed_methods, reason = "only makes ids ascend")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.unwrap_or_default().as_millis();
    let chance = rand::random::<u128>() >> (u128::BITS - RANDOM_BITS);
    format!("req_{:032x}", ms << RANDOM_BITS | chance)
}

/// Gives the request an id when its caller gave none, before the first attempt: every attempt then
/// carries the same.
pub(crate) fn ensure(request_id: &mut String) {
    if request_id.is_empty() {
        *request_id = new_request_id();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_made_only_when_missing_and_differ() {
        let (mut a, mut b, mut given) = (String::new(), String::new(), "mine".to_owned());
        for id in [&mut a, &mut b, &mut given] {
            ensure(id);
        }
        assert_ne!(a, b);
        assert_eq!(a.len(), 36);
        assert_eq!(given, "mine");
    }

    #[test]
    fn begin_with_the_time() {
        let ms = |id: &str| u64::from_str_radix(&id[4..16], 16).expect("hex");
        let (first, second) = (new_request_id(), new_request_id());
        // After 2026, before 2100.
        assert!((1_767_225_600_000..4_102_444_800_000).contains(&ms(&first)));
        assert!(ms(&second) >= ms(&first) || ms(&first) - ms(&second) < 10_000);
    }
}
