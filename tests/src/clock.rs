//! A wall clock that a test moves, for one process: a small library that is loaded into it.
//!
//! Needs a C compiler, as the Kafka client of the tests does.

use std::fs;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::broker::BrokerOptions;

/// How far the wall clock of a process is off.
pub struct WallClock {
    library: PathBuf,
    shift: PathBuf,
    file: fs::File,
}

impl WallClock {
    /// One that is right, in a folder of the test's.
    ///
    /// # Panics
    /// If there is no C compiler.
    pub fn new(folder: &Path) -> WallClock {
        let (source, library) = (folder.join("clock_shift.c"), folder.join("clock_shift.so"));
        fs::write(&source, include_str!("clock_shift.c")).expect("a file can be written");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let mut command = Command::new(compiler);
        command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        let status = command.status().expect("there is a C compiler");
        assert!(status.success(), "the library cannot be compiled");
        let shift = folder.join("clock_shift");
        let file = fs::File::create(&shift).expect("a file can be made");
        let mut clock = WallClock { library, shift, file };
        clock.write(0);
        clock
    }

    /// Puts a broker under this clock.
    pub fn rule(&self, options: BrokerOptions) -> BrokerOptions {
        options.environment("LD_PRELOAD", &self.library).environment("CLOCK_SHIFT_FILE", &self.shift)
    }

    /// From now on it is ahead by so much.
    pub fn ahead(&mut self, by: Duration) {
        self.write(seconds(by));
    }

    /// From now on it is behind by so much.
    pub fn behind(&mut self, by: Duration) {
        self.write(-seconds(by));
    }

    fn write(&mut self, shift: i64) {
        self.file.rewind().expect("a file can be rewound");
        self.file.write_all(&shift.to_ne_bytes()).expect("a file can be written");
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).expect("hours fit")
}
