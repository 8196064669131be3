//! Carrying out what a machine says, in its order.

use std::time::Duration;

use bytes::Bytes;
use heddle_log_store::Disk;
use heddle_proto::batch::BatchHeader;
use heddle_proto::ids::TopicPartition;
use heddle_replication::io::Output;
use heddle_replication::stream::outbound::Input as StreamInput;

use crate::driver::{Driver, Event};
use crate::gaps;
use crate::hosted::{LogOp, Told};
use crate::job::{CutJob, Job};

impl<D: Disk> Driver<D> {
    pub(crate) fn perform_all(
        &mut self,
        now: Duration,
        partition: TopicPartition,
        outputs: Vec<Output>,
        carried: &[(Bytes, BatchHeader)],
    ) {
        for output in outputs {
            self.perform(now, partition, output, carried);
        }
    }

    fn perform(
        &mut self,
        now: Duration,
        partition: TopicPartition,
        output: Output,
        carried: &[(Bytes, BatchHeader)],
    ) {
        match output {
            Output::Send { to, message, pace } => {
                // Nobody knows where that replica is: as if it had been lost.
                let Some(peer) = self.hosted.get(&partition).and_then(|hosted| hosted.peer(to)) else {
                    return;
                };
                let input = StreamInput::Say { partition, message, pace };
                self.connection(now, peer).step(now, input, Vec::new());
            }
            Output::Record(promise) => self.promise(partition, promise),
            Output::Append { from, upto } => {
                let taken = carried.iter().filter_map(|batch| gaps::within(batch, (from, upto)));
                let appends = taken.map(|(batch, header)| LogOp::Append(batch, header));
                self.change_log(partition, appends.collect());
            }
            Output::Cut(at) => self.change_log(partition, vec![LogOp::Cut(at)]),
            Output::Begin(at) => self.change_log(partition, vec![LogOp::Begin(at)]),
            Output::Committed(committed) => {
                for connection in self.connections.values_mut() {
                    connection.step(now, StreamInput::Committed { partition, committed }, Vec::new());
                }
                if let Some(hosted) = self.hosted.get_mut(&partition) {
                    hosted.committed_due = Some(committed);
                }
                self.tell_committed(partition);
            }
            Output::Lost { from, upto } => self.events.push(Event::Lost(partition, from, upto)),
            Output::Answer { epoch, answer } => self.events.push(Event::Answer(partition, epoch, answer)),
            Output::Change(change) => self.events.push(Event::Change(partition, change)),
            Output::NeedElection => self.events.push(Event::NeedElection(partition)),
            Output::Stopped => self.events.push(Event::Stopped(partition)),
            Output::Halt(fault) => self.events.push(Event::Halted(partition, fault)),
        }
    }

    /// While a cut is under way the log still holds what is to go: nobody may read it for committed.
    pub(crate) fn tell_committed(&mut self, partition: TopicPartition) {
        let Some(hosted) = self.hosted.get_mut(&partition).filter(|hosted| !hosted.is_cutting()) else {
            return;
        };
        if let Some(committed) = hosted.committed_due.take() {
            self.events.push(Event::Committed(partition, committed));
        }
    }

    fn change_log(&mut self, partition: TopicPartition, ops: Vec<LogOp>) {
        if let Some(hosted) = self.hosted.get_mut(&partition) {
            ops.into_iter().for_each(|op| hosted.queue(op));
        }
        self.pump(partition);
    }

    pub(crate) fn pump(&mut self, partition: TopicPartition) {
        let Some(hosted) = self.hosted.get_mut(&partition) else { return };
        let events = &mut self.events;
        let pumped = hosted.pump(|told| {
            events.push(match told {
                Told::Appended(header) => Event::Appended(partition, header),
                Told::Cut(at) => Event::Cut(partition, at),
            });
        });
        match pumped {
            Ok(None) => {}
            Ok(Some(cutting)) => self.jobs.push(Job::Cut { partition, cutting: CutJob(cutting) }),
            Err(error) => self.events.push(Event::Broken(partition, error.to_string())),
        }
    }
}
