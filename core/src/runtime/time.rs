//! Clocks and sleeping.

use std::{
    future::{Future, poll_fn},
    pin::pin,
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

/// Runs a future and says how long the core worked on it: what it waited does not count.
pub async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let mut future = pin!(future);
    let mut spent = Duration::ZERO;
    let output = poll_fn(|cx| {
        let begun = Instant::now();
        let poll = future.as_mut().poll(cx);
        spent += begun.elapsed();
        poll
    })
    .await;
    (output, spent)
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
