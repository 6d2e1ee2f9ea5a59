//! What a schedule costs. Not run by default: `cargo test --release -p tidemill-core --test schedule
//! -- --ignored --nocapture cost`.

use std::hint::black_box;
use std::time::Instant;

use tidemill_types::schedule::ScheduleSpec;

use super::{compile, ms};

const CALLS: u32 = 20_000;
const HELD: usize = 20_000;

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "measures; the core itself reads no clock"
)]
#[ignore = "a measurement"]
fn cost() {
    let mut kept = Vec::new();
    for (text, zone) in [
        ("*/3 * * * *", "UTC"),
        ("*/3 * * * *", "Europe/Berlin"),
        ("* * * * * *", "Europe/Berlin"),
        ("0 8 * * 1-5", "Europe/Berlin"),
        ("30 2 * * *", "America/New_York"),
        ("0 0 13 * FRI", "Europe/Berlin"),
        ("0 0 1 1 *", "Europe/Berlin"),
        ("0 0 29 2 *", "Europe/Berlin"),
    ] {
        let spec = ScheduleSpec::from_cron(text).in_timezone(zone);
        let begin = Instant::now();
        for _ in 0..CALLS {
            black_box(compile(black_box(&spec)));
        }
        let compiling = begin.elapsed() / CALLS;
        let schedule = compile(&spec);
        let from = ms("2026-01-01T00:00:00Z");
        let begin = Instant::now();
        for call in 0..i64::from(CALLS) {
            // A step of about 30 minutes that meets no schedule's rhythm.
            black_box(schedule.next_after(black_box(from + call * 1_801_001)));
        }
        let asking = begin.elapsed() / CALLS;
        let before = resident_bytes();
        let held: Vec<_> = (0..HELD).map(|_| compile(&spec)).collect();
        let bytes = (resident_bytes() - before) / HELD;
        // Kept, or the next round would reuse its memory.
        kept.push(held);
        println!(
            "{text:>14} {zone:<17} compile {compiling:?}, next_after {asking:?}, {bytes} bytes"
        );
    }
}

/// Linux only, as the figures are.
#[allow(
    clippy::disallowed_methods,
    reason = "measures; the core itself does no I/O"
)]
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).expect("a second number");
    pages.parse::<usize>().expect("a number") * 4096
}
