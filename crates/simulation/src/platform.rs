//! In the place of `crates/replica/src/platform.rs`: the runtime that openraft runs on, with chance from
//! the seed, and calls that block, which here take simulated time.

mod watch;

use std::{io, time::Duration};

#[allow(deprecated)] // openraft's macros name it like this too
use openraft::impls::TokioRuntime;
use openraft::{OptionalSend, async_runtime::AsyncRuntime};
use rand_of_openraft::{SeedableRng, rngs::SmallRng};

use self::watch::SimulatedWatch;
use crate::{options::Planted, run};

/// openraft's own runtime over tokio, but for its random numbers and its watch: tokio's wakes who waits
/// in an order that it draws itself.
#[derive(Debug)]
pub(crate) struct Runtime(#[allow(deprecated)] TokioRuntime);

#[allow(deprecated)]
impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = SmallRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = SimulatedWatch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        SmallRng::seed_from_u64(run::draw())
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

pub(crate) fn leader_restore() -> bool {
    run::planted(Planted::LeaderRestore)
}

/// Milliseconds that a flush, a checkpoint or an install may take.
const BLOCKING_MS: (u64, u64) = (1, 60);

pub(crate) async fn run_blocking<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, io::Error> {
    let ms = run::between(BLOCKING_MS.0, BLOCKING_MS.1);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Ok(call())
}
