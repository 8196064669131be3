//! Ends connections that have been silent for too long, without racing their reads against a timer.
use std::cell::Cell;
use std::future::pending;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future;

use super::stream::ShutdownHandle;

/// When a connection last did something; clones share the time.
#[derive(Clone, Debug)]
pub struct Activity(Rc<Cell<Instant>>);

impl Default for Activity {
    fn default() -> Activity {
        Activity(Rc::new(Cell::new(Instant::now())))
    }
}

impl Activity {
    /// Something has just happened.
    pub fn note(&self) {
        self.0.set(Instant::now());
    }

    fn idle(&self) -> Duration {
        self.0.get().elapsed()
    }
}

/// Runs `work` to its end; if `activity` is not noted for `idle_max`, the connection is shut down, which ends
/// its reads and writes and so `work`.
pub async fn close_when_idle<T>(
    activity: Activity,
    idle_max: Duration,
    connection: ShutdownHandle,
    work: impl Future<Output = T>,
) -> T {
    let watch = async {
        while let Some(rest) = idle_max.checked_sub(activity.idle()).filter(|rest| !rest.is_zero()) {
            glommio::timer::sleep(rest).await;
        }
        connection.shutdown(Shutdown::Both);
        pending().await
    };
    future::or(work, watch).await
}
