//! Request ids: what makes a mutation safe to send again.

/// A new request id: 128 random bits, in hex, after `req_`.
#[must_use]
pub fn new_request_id() -> String {
    format!("req_{:032x}", rand::random::<u128>())
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
}
