//! The highest rate that holds, by doubling and bisection over short runs.

use anyhow::Result;

use crate::options::RATE_MAX;

/// A search ends when the rate that holds and the one that does not are this near to each other.
const PRECISION: f64 = 1.05;
/// Trials at most: doubling and bisection need fewer but for a machine that changes meanwhile.
const TRIALS_MAX: usize = 24;
/// Below this the search says that no rate holds.
const RATE_MIN: f64 = 1.0;

/// What one run at a rate showed.
#[derive(Clone, Debug, PartialEq)]
pub enum Trial<T> {
    /// The limit held.
    Holds(T),
    /// It did not.
    Broken,
}

/// Looks for the highest rate at which `run` holds, beginning at `start`. Gives the best run that held;
/// nothing when none did.
///
/// # Errors
/// Whatever a run ends in.
pub async fn highest<T>(
    start: f64,
    mut run: impl AsyncFnMut(f64) -> Result<Trial<T>>,
) -> Result<Option<(f64, T)>> {
    let mut best: Option<(f64, T)> = None;
    let mut broken: Option<f64> = None;
    for _ in 0..TRIALS_MAX {
        let rate = match (best.as_ref().map(|(rate, _)| *rate), broken) {
            (None, None) => start,
            (Some(holds), None) => (holds * 2.0).min(RATE_MAX),
            (None, Some(broken)) => broken / 2.0,
            (Some(holds), Some(broken)) => (holds * broken).sqrt(),
        };
        let exhausted = best.as_ref().is_some_and(|(holds, _)| rate <= *holds);
        if rate < RATE_MIN || exhausted {
            break;
        }
        match run(rate).await? {
            Trial::Holds(found) => best = Some((rate, found)),
            Trial::Broken => broken = Some(rate),
        }
        if let (Some((holds, _)), Some(broken)) = (&best, broken)
            && broken / holds <= PRECISION
        {
            break;
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn search(capacity: f64, start: f64) -> (Option<f64>, usize) {
        let mut trials = 0;
        let found = highest(start, async |rate| {
            trials += 1;
            Ok(if rate <= capacity {
                Trial::Holds(())
            } else {
                Trial::Broken
            })
        })
        .await
        .expect("no run fails");
        (found.map(|(rate, ())| rate), trials)
    }

    #[tokio::test]
    async fn finds_the_capacity_from_below_and_from_above() {
        for (capacity, start) in [(7_300.0, 500.0), (7_300.0, 100_000.0), (12.0, 500.0)] {
            let (found, trials) = search(capacity, start).await;
            let found = found.expect("some rate holds");
            assert!(
                found <= capacity && found * PRECISION >= capacity,
                "{found}"
            );
            assert!(trials <= 14, "{trials} trials");
        }
    }

    #[tokio::test]
    async fn says_when_no_rate_holds_and_ends_when_all_do() {
        assert_eq!(search(0.0, 500.0).await.0, None);
        assert_eq!(search(f64::INFINITY, 500.0).await.0, Some(RATE_MAX));
    }

    #[tokio::test]
    async fn a_failed_run_ends_the_search() {
        let failed = highest(10.0, async |_| -> Result<Trial<()>> {
            anyhow::bail!("broken")
        });
        assert!(failed.await.is_err());
    }
}
