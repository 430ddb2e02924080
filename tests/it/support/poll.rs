use std::{
    fmt::Display,
    panic::Location,
    time::{Duration, Instant},
};

/// Looks again and again until `look` gives a value; fails the test with its last objection when the time is up.
#[track_caller]
pub(crate) fn eventually<T, E: Display, L>(within: Duration, mut look: L) -> impl Future<Output = T>
where
    L: AsyncFnMut() -> Result<T, E>,
{
    /// Between two looks.
    const TICK: Duration = Duration::from_millis(10);
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + within;
        loop {
            match look().await {
                Ok(value) => return value,
                Err(objection) if Instant::now() >= deadline => {
                    panic!("not within {within:?} ({caller}): {objection}")
                }
                Err(_) => tokio::time::sleep(TICK).await,
            }
        }
    }
}
