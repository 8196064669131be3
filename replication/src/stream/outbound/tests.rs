//! What goes next over a stream, and what does not.

use heddle_proto::ids::{PartitionIndex, TopicId};

use super::*;

const OPTIONS: Options = Options {
    window_bytes: 1000,
    catch_up_window_bytes: 400,
    frame_bytes_max: 100,
    catch_up_bytes_per_second: 1000,
    commit_delay: Duration::from_millis(5),
};

fn at(offset: i64) -> Offset {
    Offset::new(offset)
}

fn partition(index: u32) -> TopicPartition {
    TopicPartition::new(TopicId::new([1; 16]), PartitionIndex::new(index))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn append(epoch: i32, from: i64, upto: i64) -> Message {
    let epoch = Epoch::new(epoch);
    let history = History::from_entries(vec![(epoch, at(from))]).expect("one entry");
    Message::Append { epoch, life: Life(1), from: at(from), upto: at(upto), history, committed: at(0) }
}

fn ack(written: i64) -> Message {
    let (written, held) = (at(written), Some(at(written)));
    Message::Ack { epoch: Epoch::new(1), life: Life(1), written, held, version: 0 }
}

/// A stream whose log gives `batch_bytes` for each offset, one batch each.
struct Peer {
    outbound: Outbound,
    batch_bytes: u64,
    reads: Vec<Output>,
    sent: Vec<(u32, Message)>,
    wake: Option<Duration>,
}

impl Peer {
    fn new(batch_bytes: u64) -> Peer {
        let outbound = Outbound::new(OPTIONS, ms(0));
        Peer { outbound, batch_bytes, reads: Vec::new(), sent: Vec::new(), wake: None }
    }

    fn input(&mut self, now: Duration, input: Input) {
        let mut out = Vec::new();
        self.outbound.step(now, input, &mut out);
        for output in out {
            match output {
                Output::Send { partition, message } => self.sent.push((partition.partition.get(), message)),
                Output::Read { .. } => self.reads.push(output),
                Output::Wake(at) => self.wake = Some(at),
            }
        }
    }

    fn say(&mut self, index: u32, message: Message, pace: Pace) {
        self.input(ms(0), Input::Say { partition: partition(index), message, pace });
    }

    /// Answers every read, flushing until nothing more goes.
    fn pump(&mut self, now: Duration) {
        self.input(now, Input::Flush);
        while !self.reads.is_empty() {
            for read in std::mem::take(&mut self.reads) {
                let Output::Read { partition, ticket, from, upto, bytes_max } = read else { continue };
                let count = (bytes_max as u64 / self.batch_bytes).max(1) as i64;
                let upto = upto.min(from.plus(count));
                let bytes = upto.since(from) as u64 * self.batch_bytes;
                self.input(now, Input::Read { partition, ticket, upto, bytes });
            }
            self.input(now, Input::Flush);
        }
    }

    /// Partitions and ranges of the records sent.
    fn ranges(&self) -> Vec<(u32, i64, i64)> {
        let range = |(index, message): &(u32, Message)| match message {
            Message::Append { from, upto, .. } => Some((*index, from.get(), upto.get())),
            _ => None,
        };
        self.sent.iter().filter_map(range).collect()
    }
}

#[test]
fn acknowledgements_that_wait_are_merged_and_go_before_records() {
    let mut peer = Peer::new(10);
    peer.say(1, append(1, 0, 3), Pace::Hot);
    peer.say(2, ack(4), Pace::Hot);
    peer.say(2, ack(7), Pace::Hot);
    peer.pump(ms(0));
    assert_eq!(peer.sent[0], (2, ack(7)));
    assert_eq!(peer.ranges(), [(1, 0, 3)]);
    assert!(peer.outbound.is_quiet(partition(2)));
}

#[test]
fn ranges_that_follow_each_other_go_as_one_and_in_pieces_of_a_frame() {
    let mut peer = Peer::new(40);
    peer.say(1, append(1, 0, 3), Pace::Hot);
    peer.say(1, append(1, 3, 5), Pace::Hot);
    peer.pump(ms(0));
    assert_eq!(peer.ranges(), [(1, 0, 2), (1, 2, 4), (1, 4, 5)]);
    let Message::Append { history, .. } = &peer.sent[1].1 else { panic!("records") };
    assert_eq!(history.entries(), [(Epoch::new(1), at(2))], "each piece says of which epoch it is");
}

#[test]
fn a_full_window_stops_records_and_nothing_else() {
    let mut peer = Peer::new(100);
    peer.say(1, append(1, 0, 50), Pace::Hot);
    peer.pump(ms(0));
    assert_eq!(peer.outbound.under_way_bytes(), 1000);
    peer.say(2, ack(1), Pace::Hot);
    peer.pump(ms(0));
    assert_eq!(peer.sent.last(), Some(&(2, ack(1))));
    peer.input(ms(0), Input::Taken(300));
    peer.input(ms(0), Input::Taken(200));
    peer.pump(ms(0));
    assert_eq!(peer.ranges().last(), Some(&(1, 12, 13)), "three more, an older total gives nothing back");
}

#[test]
fn who_catches_up_leaves_room_and_keeps_to_its_budget() {
    let mut peer = Peer::new(100);
    peer.say(1, append(1, 0, 90), Pace::CatchUp);
    peer.pump(ms(0));
    assert_eq!(peer.ranges().len(), 4, "its part of the window");
    peer.say(2, append(1, 0, 2), Pace::Hot);
    peer.pump(ms(0));
    assert_eq!(peer.ranges().last(), Some(&(2, 1, 2)), "who keeps up has the rest");
    peer.input(ms(0), Input::Taken(600));
    peer.pump(ms(0));
    let at_once = peer.ranges().len();
    assert!(peer.wake.is_some_and(|wake| wake > ms(0) && wake <= ms(200)), "{:?}", peer.wake);
    peer.pump(ms(500));
    let later = peer.ranges().len();
    assert!((at_once..=at_once + 5).contains(&later) && later > at_once, "{at_once} {later}");
    peer.input(ms(500), Input::Taken(u64::MAX));
    peer.pump(ms(500));
    assert!(peer.ranges().len() <= 6 + 5, "half a second, a thousand bytes per second");
}

#[test]
fn one_partition_that_catches_up_is_read_at_a_time_and_those_that_keep_up_beside_it() {
    let mut peer = Peer::new(100);
    peer.say(1, append(1, 0, 9), Pace::CatchUp);
    peer.say(2, append(1, 0, 9), Pace::CatchUp);
    peer.say(3, append(1, 0, 2), Pace::Hot);
    peer.say(4, append(1, 0, 2), Pace::Hot);
    let read_next = |peer: &mut Peer| -> Vec<u32> {
        peer.reads.clear();
        peer.input(ms(0), Input::Flush);
        let is_of = |read: &Output| match read {
            Output::Read { partition, .. } => partition.partition.get(),
            _ => unreachable!("only reads are kept"),
        };
        peer.reads.iter().map(is_of).collect()
    };
    assert_eq!(read_next(&mut peer), [3, 4, 1]);
    let Output::Read { partition: one, ticket, .. } = peer.reads[2] else { panic!("a read") };
    assert_eq!(read_next(&mut peer), [], "until that is answered");
    peer.input(ms(0), Input::Read { partition: one, ticket, upto: at(1), bytes: 100 });
    assert_eq!(read_next(&mut peer), [2]);
    peer.input(ms(0), Input::Say { partition: partition(2), message: append(2, 0, 9), pace: Pace::CatchUp });
    assert_eq!(read_next(&mut peer), [1], "nobody waits for what was read of an older epoch");
    peer.outbound.forget(partition(1));
    assert_eq!(read_next(&mut peer), [2], "nor for what is not wanted any more");
    let Output::Read { partition: two, ticket, .. } = peer.reads[0] else { panic!("a read") };
    peer.input(ms(0), Input::Unreadable { partition: two, ticket });
    peer.say(1, append(3, 0, 9), Pace::CatchUp);
    assert_eq!(read_next(&mut peer), [1], "nor for what cannot be read");
}

#[test]
fn partitions_take_turns() {
    let mut peer = Peer::new(100);
    for index in 0..3 {
        peer.say(index, append(1, 0, 2), Pace::Hot);
    }
    peer.pump(ms(0));
    let order: Vec<u32> = peer.ranges().iter().map(|(index, ..)| *index).collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn what_is_sent_again_replaces_what_waits() {
    let mut peer = Peer::new(100);
    peer.say(1, append(1, 0, 2), Pace::Hot);
    peer.pump(ms(0));
    peer.say(1, append(1, 2, 9), Pace::Hot);
    peer.say(1, append(1, 1, 3), Pace::Hot);
    peer.pump(ms(0));
    assert_eq!(peer.ranges(), [(1, 0, 1), (1, 1, 2), (1, 1, 2), (1, 2, 3)]);
}

#[test]
fn a_partition_is_quiet_when_its_own_records_are_taken_whatever_others_do() {
    let mut peer = Peer::new(10);
    let quiet = |peer: &Peer| [1, 2].map(|index| peer.outbound.is_quiet(partition(index)));
    assert_eq!(quiet(&peer), [true, true]);
    peer.say(1, append(1, 0, 3), Pace::Hot);
    assert_eq!(quiet(&peer), [false, true]);
    peer.pump(ms(0));
    assert_eq!(quiet(&peer), [false, true], "sent is not taken");
    let first = peer.outbound.under_way_bytes();
    peer.say(2, append(1, 0, 3), Pace::Hot);
    peer.pump(ms(0));
    peer.input(ms(0), Input::Taken(first - 1));
    assert_eq!(quiet(&peer), [false, false]);
    peer.input(ms(0), Input::Taken(first));
    assert_eq!(quiet(&peer), [true, false]);
    peer.say(1, ack(4), Pace::Hot);
    assert_eq!(quiet(&peer), [false, false]);
}

#[test]
fn the_answer_to_a_read_of_an_older_epoch_sends_nothing() {
    let mut peer = Peer::new(100);
    peer.say(1, append(1, 0, 2), Pace::Hot);
    peer.input(ms(0), Input::Flush);
    let Some(Output::Read { partition, ticket, .. }) = peer.reads.pop() else { panic!("a read") };
    peer.say(1, append(2, 0, 2), Pace::Hot);
    peer.input(ms(0), Input::Read { partition, ticket, upto: at(2), bytes: 200 });
    assert_eq!(peer.ranges(), []);
    peer.pump(ms(0));
    assert_eq!(peer.ranges().len(), 2);
    peer.say(1, append(2, 2, 4), Pace::Hot);
    peer.input(ms(0), Input::Flush);
    peer.outbound.forget(partition);
    assert!(peer.outbound.is_quiet(partition));
}

#[test]
fn a_commit_position_rides_with_records_or_goes_alone_after_a_while() {
    let mut peer = Peer::new(10);
    let committed = |committed| Input::Committed { partition: partition(1), committed: at(committed) };
    peer.input(ms(0), committed(9));
    peer.pump(ms(100));
    assert_eq!(peer.sent, [], "nobody there knows this primary");
    peer.say(1, append(1, 0, 3), Pace::Hot);
    peer.pump(ms(100));
    peer.input(ms(101), committed(3));
    peer.pump(ms(102));
    assert_eq!((peer.sent.len(), peer.wake), (1, Some(ms(106))));
    peer.pump(ms(106));
    let alone = Message::Commit { epoch: Epoch::new(1), life: Life(1), committed: at(3) };
    assert_eq!(peer.sent.last(), Some(&(1, alone)));
    peer.input(ms(107), committed(4));
    peer.say(1, append(1, 3, 4), Pace::Hot);
    peer.pump(ms(107));
    let sent = peer.sent.len();
    peer.pump(ms(200));
    assert_eq!(peer.sent.len(), sent, "the records have told it");
}

#[test]
fn who_has_been_greeted_hears_what_is_committed_without_any_records() {
    let welcome = |committed| Message::Welcome {
        epoch: Epoch::new(1),
        life: Life(1),
        shared: at(7),
        start: at(0),
        elected_end: at(7),
        committed: at(committed),
    };
    let alone = |committed| Message::Commit { epoch: Epoch::new(1), life: Life(1), committed: at(committed) };
    let mut peer = Peer::new(10);
    peer.say(1, welcome(0), Pace::Hot);
    peer.say(2, welcome(4), Pace::Hot);
    peer.say(3, append(1, 7, 7), Pace::Hot);
    peer.pump(ms(0));
    peer.sent.clear();
    for index in [1, 3] {
        peer.input(ms(1), Input::Committed { partition: partition(index), committed: at(7) });
    }
    peer.pump(ms(4));
    assert_eq!(peer.sent, []);
    peer.pump(ms(6));
    assert_eq!(peer.sent, [(2, alone(4)), (1, alone(7)), (3, alone(7))]);
    peer.pump(ms(100));
    assert_eq!(peer.sent.len(), 3, "and comes to rest");
}
