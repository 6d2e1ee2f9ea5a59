//! Points in time.

use tidemill_types::Timestamp;

const MICROS_PER_SECOND: i64 = 1_000_000;
const NANOS_PER_MICRO: i64 = 1_000;

/// To the wire.
#[must_use]
pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let nanos = at.0.rem_euclid(MICROS_PER_SECOND) * NANOS_PER_MICRO;
    prost_types::Timestamp {
        seconds: at.0.div_euclid(MICROS_PER_SECOND),
        nanos: i32::try_from(nanos).expect("less than a second of nanoseconds"),
    }
}

/// From the wire; rounds down to microseconds and saturates.
#[must_use]
pub fn timestamp_from(at: &prost_types::Timestamp) -> Timestamp {
    let micros = i64::from(at.nanos).div_euclid(NANOS_PER_MICRO);
    Timestamp(
        at.seconds
            .saturating_mul(MICROS_PER_SECOND)
            .saturating_add(micros),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trips(micros: i64) {
            prop_assert_eq!(timestamp_from(&timestamp(Timestamp(micros))), Timestamp(micros));
        }
    }
}
