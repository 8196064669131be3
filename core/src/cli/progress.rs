//! The live line of long work: on a terminal only, a few times a second.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line changes: readable, and nothing beside the work.
const EVERY: Duration = Duration::from_millis(200);

/// A line on standard error that is overwritten.
pub struct Progress {
    shown: bool,
    enabled: bool,
    next: Instant,
}

impl Progress {
    /// Shows nothing unless standard error is a terminal.
    pub fn new() -> Progress {
        Progress { shown: false, enabled: std::io::stderr().is_terminal(), next: Instant::now() + EVERY }
    }

    /// Replaces the line, if it is time; `text` is only called then.
    pub fn update(&mut self, text: impl FnOnce() -> String) {
        if !self.enabled || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + EVERY;
        self.shown = true;
        self.print(&format!("\r{}\x1b[K", text()));
    }

    /// Removes the line.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            self.print("\r\x1b[K");
        }
    }

    /// A progress line that cannot be shown is no error.
    fn print(&self, text: &str) {
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
