//! What the components of the OIH sample flows do.

use serde_json::json;
use tidemill_sdk::{Outcome, TaskContext, TaskError};

/// The persons that `testTrigger` invents. The first is whom the logic gateway's sample asks for.
const PERSONS: [(&str, &str, &str); 4] = [
    ("Bert Müller", "Bert", "Müller"),
    ("Ada Lovelace", "Ada", "Lovelace"),
    ("Grace Hopper", "Grace", "Hopper"),
    ("Konrad Zuse", "Konrad", "Zuse"),
];

/// Gives one message with a generated person.
pub fn test_trigger(task: &TaskContext) -> Result<Outcome, TaskError> {
    // By the idempotency key, not by chance: every attempt of a step gives the same.
    let number = fnv1a(task.idempotency_key());
    let (username, first, last) = PERSONS[(number % PERSONS.len() as u64) as usize];
    Ok(Outcome::json(json!({
        "username": username,
        "firstName": first,
        "lastName": last,
        "email": format!("{}.{number:08x}@example.com", first.to_lowercase()),
        "customerNumber": number % 100_000,
    })))
}

/// Gives back the message that it got.
pub fn test_action(task: &TaskContext) -> Result<Outcome, TaskError> {
    Ok(Outcome::message(task.message()))
}

/// Running code out of a flow document needs a sandbox, which this worker does not have.
pub fn refuse_code(task: &TaskContext) -> Result<Outcome, TaskError> {
    Err(TaskError::fatal(
        "CODE_NOT_SUPPORTED",
        format!(
            "{}/{} would run JavaScript from the flow's fields.code, which the example worker refuses: \
             use the built-in transform (JSONata), or serve the function with a worker of your own",
            task.component(),
            task.function()
        ),
    ))
}

/// A small hash that is the same on every machine, for ever.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
