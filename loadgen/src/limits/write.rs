//! Durable writes: `O_DIRECT | O_DSYNC` on pre-zeroed files, one to each thread.

use super::file::{AlignedBuffer, IO_BYTES_MAX, ScratchFile};
use super::paced::{Pacing, Timed, sleep_precisely};
use super::{DEPTH_MAX, LimitError, LimitPlan};
use crate::clock::Clock;
use crate::schedule::Schedule;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread;

/// Each thread writes round and round in about this much.
const REGION_BYTES: usize = 16 * 1024 * 1024;

/// Measures `plan`'s writes.
pub(super) fn measure(plan: &LimitPlan) -> Result<Timed, LimitError> {
    let depth = plan.depth.clamp(1, DEPTH_MAX);
    let files: Vec<ScratchFile> = (0..depth).map(|_| scratch(plan)).collect::<Result<_, _>>()?;
    let clock = Clock::start();
    let start = clock.now();
    thread::scope(|scope| {
        let threads: Vec<_> = files
            .iter()
            .zip(0u64..)
            .map(|(file, lane)| {
                let schedule =
                    (plan.rate > 0).then(|| Schedule::new(start, plan.rate, lane, u64::from(depth)));
                let pacing = Pacing { clock, schedule, duration: plan.duration };
                scope.spawn(move || {
                    sleep_precisely();
                    let mut writer = Writer::open(file, plan)?;
                    pacing.run(|_| writer.write())
                })
            })
            .collect();
        let mut all = Timed::default();
        for thread in threads {
            all.add(&thread.join().map_err(|_| LimitError::Panicked)??);
        }
        Ok(all)
    })
}

/// A file for one [`Writer`].
pub(super) fn scratch(plan: &LimitPlan) -> Result<ScratchFile, LimitError> {
    ScratchFile::create(&plan.dir, slots(plan) * plan.write_bytes())
}

fn slots(plan: &LimitPlan) -> usize {
    (REGION_BYTES / plan.write_bytes()).max(1)
}

/// Writes messages one after the other, round and round in its file.
pub(super) struct Writer<'a> {
    scratch: &'a ScratchFile,
    file: File,
    buffer: AlignedBuffer,
    slots: usize,
    next: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn open(scratch: &'a ScratchFile, plan: &LimitPlan) -> Result<Self, LimitError> {
        let buffer = AlignedBuffer::random(plan.write_bytes(), fastrand::u64(..));
        Ok(Self { scratch, file: scratch.open_durable()?, buffer, slots: slots(plan), next: 0 })
    }

    /// Returns when the next message is durable.
    pub(super) fn write(&mut self) -> Result<(), LimitError> {
        let bytes = self.buffer.get();
        for from in (0..bytes.len()).step_by(IO_BYTES_MAX) {
            let part = &bytes[from..bytes.len().min(from + IO_BYTES_MAX)];
            let position = (self.next * bytes.len() + from) as u64;
            self.file.write_all_at(part, position).map_err(self.scratch.error("writing"))?;
        }
        self.next = (self.next + 1) % self.slots;
        Ok(())
    }
}
