//! Clocks and sleeping.

use std::{
    future::Future,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_lite::future;
use heddle_proto::ids::Timestamp;

/// The wall clock, for record timestamps. A clock before 1970 reads as 0.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Waits.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// Waits for `future` until `deadline`; `None` when it was not ready by then. What is dropped then must not be a socket
/// or disk operation.
pub async fn until<T>(deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    let left = deadline.saturating_duration_since(Instant::now());
    future::or(async { Some(future.await) }, async {
        sleep(left).await;
        None
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::block_on::block_on;

    /// A timer can fire while it is being armed; a core that sleeps then would never wake up.
    #[test]
    fn the_shortest_sleeps_end() {
        let slept = block_on(async {
            for nanoseconds in 0..20_000 {
                sleep(Duration::from_nanos(nanoseconds)).await;
            }
        });
        assert_eq!(slept, Ok(()));
    }
}
