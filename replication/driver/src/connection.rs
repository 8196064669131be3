//! One end of the connection to a peer core: both streams, and how it is noticed that the other end lost something.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use heddle_proto::ids::{CoreId, NodeId, TopicPartition};
use heddle_replication::message::{Life, Message};
use heddle_replication::stream::Options;
use heddle_replication::stream::inbound::Inbound;
use heddle_replication::stream::outbound::{Input, Outbound, Output};

/// The other end of a connection: a core of another node.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// The node.
    pub node: NodeId,
    /// Its core that has the replicas.
    pub core: CoreId,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "core {} of node {}", self.core, self.node)
    }
}

/// One message with the batches that belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whose replica says it, to its counterpart.
    pub partition: TopicPartition,
    /// What it says.
    pub message: Message,
    /// The batches of an append, in order.
    pub batches: Vec<Bytes>,
}

/// What travels between two cores at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Number of the sender's connection; a higher one begins anew.
    pub connection: u64,
    /// Number of the receiver's connection that `taken_bytes` is about, and how much of it was taken.
    pub taken: Option<(u64, u64)>,
    /// Messages of all partitions, in order.
    pub said: Vec<Said>,
}

impl Frame {
    /// Bytes of the batches in it.
    pub fn batch_bytes(&self) -> u64 {
        self.said.iter().flat_map(|said| &said.batches).map(|batch| batch.len() as u64).sum()
    }
}

/// The number of a connection: those of a later life are higher.
pub(crate) fn number_in(life: Life, count: u32) -> u64 {
    u64::from(life.0) << 32 | u64::from(count)
}

fn life_of(number: u64) -> u64 {
    number >> 32
}

/// For which records of peers there is room.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// For none.
    None,
    /// For those of replicas that keep up, or nearly do.
    ForHot,
    /// For those of replicas that are far behind, too.
    ForAll,
}

/// See the module. It lives as long as the peer is known; its streams as long as the connection.
pub(crate) struct Connection {
    options: Options,
    pub(crate) number: u64,
    pub(crate) outbound: Outbound,
    pub(crate) peer_number: u64,
    inbound: Inbound,
    taken_due: Option<u64>,
    /// Taken by replicas that are far behind, and not counted yet: it is when there is room for more of that.
    far_behind_bytes: u64,
    pub(crate) ready: Vec<Said>,
    pub(crate) wake: Option<Duration>,
    /// When the peer last took something, or nothing was under way.
    progress_at: Duration,
    progress_bytes: u64,
}

impl Connection {
    pub(crate) fn new(options: Options, number: u64, now: Duration) -> Connection {
        Connection {
            number,
            outbound: Outbound::new(options, now),
            peer_number: 0,
            inbound: Inbound::new(&options),
            taken_due: None,
            far_behind_bytes: 0,
            ready: Vec::new(),
            wake: None,
            progress_at: now,
            progress_bytes: 0,
            options,
        }
    }

    /// Begins anew under a higher number; what was under way may be lost.
    pub(crate) fn reconnect(&mut self, number: u64, now: Duration) {
        self.number = number;
        self.outbound = Outbound::new(self.options, now);
        self.ready.clear();
        self.progress_at = now;
        self.progress_bytes = 0;
    }

    /// Whether a frame of the connection with this number is the first that is heard of a life of the peer.
    pub(crate) fn is_new_life(&self, peer_number: u64) -> bool {
        life_of(peer_number) > life_of(self.peer_number)
    }

    /// The peer's end has this number: `false` if that is an older one than is known.
    pub(crate) fn hear(&mut self, peer_number: u64) -> bool {
        if peer_number > self.peer_number {
            self.peer_number = peer_number;
            self.inbound = Inbound::new(&self.options);
            self.taken_due = None;
            self.far_behind_bytes = 0;
        }
        peer_number == self.peer_number
    }

    /// So many bytes of batches were taken or were of no use, some of them by replicas that are far behind.
    pub(crate) fn took(&mut self, bytes: u64, far_behind_bytes: u64) {
        self.far_behind_bytes += far_behind_bytes;
        self.count_taken(bytes - far_behind_bytes);
    }

    fn count_taken(&mut self, bytes: u64) {
        self.taken_due = self.inbound.taken(bytes).or(self.taken_due);
    }

    /// One input of the outbound stream; what it sends waits for [`Self::flush`]. Reads are returned.
    pub(crate) fn step(&mut self, now: Duration, input: Input, batches: Vec<Bytes>) -> Vec<Output> {
        if input == Input::Flush {
            self.wake = None;
        }
        let (mut out, mut reads, mut batches) = (Vec::new(), Vec::new(), Some(batches));
        self.outbound.step(now, input, &mut out);
        for output in out {
            match output {
                Output::Send { partition, message } => {
                    let has_records = matches!(&message, Message::Append { from, upto, .. } if from < upto);
                    let batches = if has_records { batches.take().unwrap_or_default() } else { Vec::new() };
                    self.ready.push(Said { partition, message, batches });
                }
                Output::Wake(at) => self.wake = Some(at),
                read @ Output::Read { .. } => reads.push(read),
            }
        }
        reads
    }

    /// The next frame, if there is anything to say. Without room the peer is not told what was taken, and so stops when its
    /// window is full: the whole one, or what catching up may have of it.
    pub(crate) fn flush(&mut self, room: Room) -> Option<Frame> {
        let said = std::mem::take(&mut self.ready);
        if room == Room::ForAll && self.far_behind_bytes > 0 {
            let bytes = std::mem::take(&mut self.far_behind_bytes);
            self.count_taken(bytes);
        }
        let taken = (room != Room::None).then(|| self.tell_taken(!said.is_empty())).flatten();
        (taken.is_some() || !said.is_empty()).then_some(Frame { connection: self.number, taken, said })
    }

    fn tell_taken(&mut self, goes_anyway: bool) -> Option<(u64, u64)> {
        if goes_anyway {
            self.taken_due = self.inbound.piggyback().or(self.taken_due);
        }
        self.taken_due.take().map(|bytes| (self.peer_number, bytes))
    }

    /// Whether something is under way and the peer has taken nothing for so long.
    pub(crate) fn is_stuck(&mut self, now: Duration, after: Duration) -> bool {
        let under_way = self.outbound.under_way_bytes();
        if under_way == 0 || under_way != self.progress_bytes {
            self.progress_at = now;
            self.progress_bytes = under_way;
        }
        now.saturating_sub(self.progress_at) >= after
    }
}
