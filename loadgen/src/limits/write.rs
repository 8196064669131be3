//! Durable writes: `O_DIRECT | O_DSYNC` on a pre-zeroed file, one region to each thread.

use super::file::{AlignedBuffer, IO_BYTES_MAX, ScratchFile};
use super::paced::{Pacing, Timed, sleep_precisely};
use super::{DEPTH_MAX, LimitError, LimitPlan};
use crate::clock::Clock;
use crate::schedule::Schedule;
use std::os::unix::fs::FileExt;
use std::thread;

/// Each thread writes round and round in at least this much.
const REGION_BYTES: usize = 16 * 1024 * 1024;

/// Measures `plan`'s writes.
pub(super) fn measure(plan: &LimitPlan) -> Result<Timed, LimitError> {
    let depth = plan.depth.clamp(1, DEPTH_MAX);
    let slots = (REGION_BYTES / plan.write_bytes()).max(1);
    let file = ScratchFile::create(&plan.dir, slots * plan.write_bytes() * depth as usize)?;
    let clock = Clock::start();
    let start = clock.now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..depth)
            .map(|lane| {
                let schedule = (plan.rate > 0)
                    .then(|| Schedule::new(start, plan.rate, u64::from(lane), u64::from(depth)));
                let pacing = Pacing { clock, schedule, duration: plan.duration };
                let (file, bytes) = (&file, plan.write_bytes());
                scope.spawn(move || write_lane(file, &pacing, lane as usize, slots, bytes))
            })
            .collect();
        let mut all = Timed::default();
        for thread in threads {
            all.add(&thread.join().map_err(|_| LimitError::Panicked)??);
        }
        Ok(all)
    })
}

fn write_lane(
    scratch: &ScratchFile,
    pacing: &Pacing,
    lane: usize,
    slots: usize,
    bytes: usize,
) -> Result<Timed, LimitError> {
    sleep_precisely();
    let file = scratch.open_durable()?;
    let buffer = AlignedBuffer::random(bytes, lane as u64);
    pacing.run(|index| {
        let slot = lane * slots + index as usize % slots;
        for from in (0..bytes).step_by(IO_BYTES_MAX) {
            let part = &buffer.get()[from..bytes.min(from + IO_BYTES_MAX)];
            file.write_all_at(part, (slot * bytes + from) as u64).map_err(scratch.error("writing"))?;
        }
        Ok(())
    })
}
