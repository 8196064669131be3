//! The sending end of a stream: what goes next.
//!
//! [`Outbound::step`] takes one input and the time. Inputs only queue; [`Input::Flush`] lets out what may go, so that a turn of
//! the core fills one write. In that order: what asks and greets, acknowledgements, commit positions, records of replicas that
//! keep up, records of those that catch up.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use heddle_proto::ids::{Epoch, Offset, TopicPartition};

use super::Options;
use crate::history::History;
use crate::message::{Life, Message};

/// How urgent records are.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pace {
    /// Their backup keeps up: a commit may wait for them.
    Hot,
    /// Their backup lags: within the budget for that.
    CatchUp,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A replica says something to its counterpart at the other end.
    Say {
        /// Whose replica.
        partition: TopicPartition,
        /// What it says. Of an append the range is what counts: it goes in as many pieces as it needs.
        message: Message,
        /// How urgent the records of an append are.
        pace: Pace,
    },
    /// A primary that has greeted a backup over this stream, or sent it something, has committed up to here.
    Committed {
        /// Whose primary.
        partition: TopicPartition,
        /// How far.
        committed: Offset,
    },
    /// The outstanding [`Output::Read`] of this partition gave whole batches up to here.
    Read {
        /// Whose log.
        partition: TopicPartition,
        /// Of which read.
        ticket: u64,
        /// The offset after the last batch.
        upto: Offset,
        /// Their bytes.
        bytes: u64,
    },
    /// The outstanding [`Output::Read`] of this partition could not be done: the range is dropped. The replica says again
    /// what is due when it is asked to resend.
    Unreadable {
        /// Whose log.
        partition: TopicPartition,
        /// Of which read.
        ticket: u64,
    },
    /// The peer has taken so many bytes of batches since the connection was made.
    Taken(u64),
    /// The connection takes more.
    Flush,
}

/// What the driver is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Put this into the next frame.
    Send {
        /// Whose replica says it.
        partition: TopicPartition,
        /// What. The batches of an append that has records are those just read for it.
        message: Message,
    },
    /// Read whole batches from the log, at most so many bytes but at least one, and answer with [`Input::Read`] or
    /// [`Input::Unreadable`]. The answer to a read that is no longer wanted does no harm.
    Read {
        /// Whose log.
        partition: TopicPartition,
        /// Names this read in its answer.
        ticket: u64,
        /// Where the first batch begins.
        from: Offset,
        /// Where the last may end.
        upto: Offset,
        /// How much may be read.
        bytes_max: usize,
    },
    /// Flush again at this time at the latest.
    Wake(Duration),
}

/// Records of one partition that wait to be sent.
#[derive(Clone, Debug)]
struct Range {
    next: Offset,
    upto: Offset,
    history: History,
    pace: Pace,
    /// The ticket of the read that is outstanding.
    reading: Option<u64>,
}

/// What the other end knows of a primary here.
#[derive(Clone, Debug)]
struct Told {
    epoch: Epoch,
    life: Life,
    committed: Offset,
    told: Offset,
    due: Option<Duration>,
    /// What had been sent over the connection when records of this partition last went.
    sent_upto: u64,
}

/// Partitions that take turns.
#[derive(Debug, Default)]
struct Turns {
    waiting: BTreeSet<TopicPartition>,
    last: Option<TopicPartition>,
}

impl Turns {
    fn next(&mut self) -> Option<TopicPartition> {
        let after = self.last.map_or(Unbounded, Excluded);
        let next = self.waiting.range((after, Unbounded)).next().or(self.waiting.first()).copied()?;
        self.waiting.remove(&next);
        self.last = Some(next);
        Some(next)
    }
}

/// State of the sending end. It lives as long as its connection.
#[derive(Debug)]
pub struct Outbound {
    options: Options,
    /// The newest of each kind: an older one of the same kind has nothing to add.
    greetings: BTreeMap<(TopicPartition, u8), Message>,
    acks: BTreeMap<TopicPartition, Message>,
    ranges: BTreeMap<TopicPartition, Range>,
    hot: Turns,
    catch_up: Turns,
    told: BTreeMap<TopicPartition, Told>,
    commits_due: BTreeSet<(Duration, TopicPartition)>,
    tickets: u64,
    sent_bytes: u64,
    taken_bytes: u64,
    /// Bytes of reads that are outstanding, as far as they may go.
    reading_bytes: u64,
    /// The read for a partition that catches up. One at a time: they come from disk, where others wait for small writes.
    catch_up_read: Option<TopicPartition>,
    /// What catching up may still send; it may be overdrawn by one read.
    budget_bytes: i64,
    budget_at: Duration,
}

impl Outbound {
    /// A new connection.
    ///
    /// # Panics
    /// If the options are not sound: see [`Options::is_sound`].
    pub fn new(options: Options, now: Duration) -> Outbound {
        assert!(options.is_sound(), "{options:?}");
        Outbound {
            options,
            greetings: BTreeMap::new(),
            acks: BTreeMap::new(),
            ranges: BTreeMap::new(),
            hot: Turns::default(),
            catch_up: Turns::default(),
            told: BTreeMap::new(),
            commits_due: BTreeSet::new(),
            tickets: 0,
            sent_bytes: 0,
            taken_bytes: 0,
            reading_bytes: 0,
            catch_up_read: None,
            budget_bytes: options.catch_up_window_bytes as i64,
            budget_at: now,
        }
    }

    /// Takes one input and says what is to be done about it.
    pub fn step(&mut self, now: Duration, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Say { partition, message, pace } => self.say(now, partition, message, pace),
            Input::Committed { partition, committed } => self.committed(now, partition, committed),
            Input::Read { partition, ticket, upto, bytes } => {
                self.read(partition, ticket, (upto, bytes), out)
            }
            Input::Unreadable { partition, ticket } => {
                if self.ranges.get(&partition).is_some_and(|range| range.reading == Some(ticket)) {
                    self.drop_range(partition);
                }
            }
            Input::Taken(bytes) => self.taken_bytes = self.taken_bytes.max(bytes.min(self.sent_bytes)),
            Input::Flush => self.flush(now, out),
        }
        self.check();
    }

    /// Bytes of batches that the peer has not taken yet.
    pub fn under_way_bytes(&self) -> u64 {
        self.sent_bytes - self.taken_bytes
    }

    /// Whether nothing of a partition waits to be sent or taken: what the peer has not answered then may be lost. Others may
    /// keep the connection busy all the time.
    pub fn is_quiet(&self, partition: TopicPartition) -> bool {
        let waits = self.ranges.contains_key(&partition)
            || self.acks.contains_key(&partition)
            || self.greetings.range((partition, 0)..=(partition, u8::MAX)).next().is_some();
        !waits && self.told.get(&partition).is_none_or(|told| told.sent_upto <= self.taken_bytes)
    }

    /// Takes back what waits to be said: the replica here does not lead any more in the epoch of all this, or there is none.
    pub fn forget(&mut self, partition: TopicPartition) {
        self.forget_told(partition);
        self.acks.remove(&partition);
        let said: Vec<_> =
            self.greetings.range((partition, 0)..=(partition, u8::MAX)).map(|(key, _)| *key).collect();
        said.iter().for_each(|key| drop(self.greetings.remove(key)));
        self.check();
    }

    fn say(&mut self, now: Duration, partition: TopicPartition, message: Message, pace: Pace) {
        match message {
            Message::Append { epoch, life, from, upto, history, committed } if from < upto => {
                self.tell(partition, epoch, life, committed);
                self.queue(partition, from, upto, history, pace);
            }
            Message::Ack { .. } => drop(self.acks.insert(partition, message)),
            // No records may follow for long, and what is committed is to be known all the same.
            Message::Welcome { epoch, life, committed, .. }
            | Message::Append { epoch, life, committed, .. } => {
                self.tell(partition, epoch, life, committed);
                self.committed(now, partition, committed);
                self.greetings.insert((partition, kind_of(&message)), message);
            }
            greeting => drop(self.greetings.insert((partition, kind_of(&greeting)), greeting)),
        }
    }

    /// Another epoch or another life of the backup: what was said to the last one is of no use.
    fn tell(&mut self, partition: TopicPartition, epoch: Epoch, life: Life, committed: Offset) {
        let told = self.told.get(&partition);
        if told.is_none_or(|told| (told.epoch, told.life) != (epoch, life)) {
            self.forget_told(partition);
            let told = Told { epoch, life, committed, told: Offset::ZERO, due: None, sent_upto: 0 };
            self.told.insert(partition, told);
        }
        if let Some(told) = self.told.get_mut(&partition) {
            told.committed = told.committed.max(committed);
        }
    }

    fn queue(&mut self, partition: TopicPartition, from: Offset, upto: Offset, history: History, pace: Pace) {
        match self.ranges.get_mut(&partition) {
            Some(range) if range.upto == from => {
                range.history.extend(from, &history);
                range.upto = upto;
                range.pace = pace;
            }
            _ => {
                self.drop_range(partition);
                self.ranges.insert(partition, Range { next: from, upto, history, pace, reading: None });
            }
        }
        self.turn(partition);
    }

    /// Puts a partition that has something to send in line, where its pace says.
    fn turn(&mut self, partition: TopicPartition) {
        self.hot.waiting.remove(&partition);
        self.catch_up.waiting.remove(&partition);
        let Some(range) = self.ranges.get(&partition).filter(|range| range.reading.is_none()) else { return };
        let pace = range.pace;
        if range.next == range.upto {
            self.ranges.remove(&partition);
        } else {
            self.turns(pace).waiting.insert(partition);
        }
    }

    fn turns(&mut self, pace: Pace) -> &mut Turns {
        match pace {
            Pace::Hot => &mut self.hot,
            Pace::CatchUp => &mut self.catch_up,
        }
    }

    fn drop_range(&mut self, partition: TopicPartition) {
        if self.ranges.remove(&partition).is_some_and(|range| range.reading.is_some()) {
            self.read_ended(partition);
        }
        self.turn(partition);
    }

    fn read_ended(&mut self, partition: TopicPartition) {
        self.reading_bytes -= self.options.frame_bytes_max as u64;
        self.catch_up_read.take_if(|reading| *reading == partition);
    }

    fn forget_told(&mut self, partition: TopicPartition) {
        self.drop_range(partition);
        if let Some(due) = self.told.remove(&partition).and_then(|told| told.due) {
            self.commits_due.remove(&(due, partition));
        }
    }

    fn committed(&mut self, now: Duration, partition: TopicPartition, committed: Offset) {
        let Some(told) = self.told.get_mut(&partition) else { return };
        told.committed = told.committed.max(committed);
        if told.committed > told.told && told.due.is_none() {
            let due = now + self.options.commit_delay;
            told.due = Some(due);
            self.commits_due.insert((due, partition));
        }
    }

    /// Batches are at hand: they go, unless what was asked for is no longer wanted.
    fn read(
        &mut self,
        partition: TopicPartition,
        ticket: u64,
        (upto, bytes): (Offset, u64),
        out: &mut Vec<Output>,
    ) {
        let Some(range) = self.ranges.get_mut(&partition).filter(|range| range.reading == Some(ticket))
        else {
            return;
        };
        assert!(range.next < upto && upto <= range.upto, "whole batches of {range:?}, not up to {upto}");
        let from = std::mem::replace(&mut range.next, upto);
        range.reading = None;
        let history = range.history.of_range(from, upto);
        self.sent_bytes += bytes;
        if range.pace == Pace::CatchUp {
            self.budget_bytes = self.budget_bytes.saturating_sub_unsigned(bytes);
        }
        self.read_ended(partition);
        let Some((epoch, life, committed)) = self.tell_committed(partition) else { return };
        if let Some(told) = self.told.get_mut(&partition) {
            told.sent_upto = self.sent_bytes;
        }
        out.push(Output::Send {
            partition,
            message: Message::Append { epoch, life, from, upto, history, committed },
        });
        self.turn(partition);
    }

    /// The commit position goes out now.
    fn tell_committed(&mut self, partition: TopicPartition) -> Option<(Epoch, Life, Offset)> {
        let told = self.told.get_mut(&partition)?;
        told.told = told.committed;
        if let Some(due) = told.due.take() {
            self.commits_due.remove(&(due, partition));
        }
        Some((told.epoch, told.life, told.committed))
    }

    fn flush(&mut self, now: Duration, out: &mut Vec<Output>) {
        let greetings = std::mem::take(&mut self.greetings).into_iter();
        let greetings = greetings.map(|((partition, _), message)| (partition, message));
        let acks = std::mem::take(&mut self.acks);
        out.extend(greetings.chain(acks).map(|(partition, message)| Output::Send { partition, message }));
        self.flush_commits(now, out);
        self.refill(now);
        while self.room(Pace::Hot) && self.start_read(Pace::Hot, out) {}
        if self.catch_up_read.is_none() && self.room(Pace::CatchUp) {
            self.start_read(Pace::CatchUp, out);
        }
        self.wake(now, out);
    }

    /// Commit positions travel with records; those that would have waited too long go alone.
    fn flush_commits(&mut self, now: Duration, out: &mut Vec<Output>) {
        while let Some((_, partition)) = self.commits_due.first().copied().filter(|(due, _)| *due <= now) {
            if let Some((epoch, life, committed)) = self.tell_committed(partition) {
                out.push(Output::Send { partition, message: Message::Commit { epoch, life, committed } });
            }
        }
    }

    fn refill(&mut self, now: Duration) {
        let micros = now.saturating_sub(self.budget_at).as_micros().min(1_000_000) as u64;
        let gained = self.options.catch_up_bytes_per_second.saturating_mul(micros) / 1_000_000;
        if gained > 0 || micros == 0 {
            self.budget_at = now;
            let most = self.options.catch_up_window_bytes as i64;
            self.budget_bytes = self.budget_bytes.saturating_add_unsigned(gained).min(most);
        }
    }

    fn room(&self, pace: Pace) -> bool {
        let window = match pace {
            Pace::Hot => self.options.window_bytes,
            Pace::CatchUp if self.budget_bytes <= 0 => return false,
            Pace::CatchUp => self.options.catch_up_window_bytes,
        };
        self.under_way_bytes() + self.reading_bytes + self.options.frame_bytes_max as u64 <= window
    }

    /// Asks for the records of the partition whose turn it is; `false` when none waits.
    fn start_read(&mut self, pace: Pace, out: &mut Vec<Output>) -> bool {
        let Some(partition) = self.turns(pace).next() else { return false };
        let Some(range) = self.ranges.get_mut(&partition) else { return true };
        self.tickets += 1;
        let (ticket, bytes_max) = (self.tickets, self.options.frame_bytes_max);
        range.reading = Some(ticket);
        self.reading_bytes += bytes_max as u64;
        if pace == Pace::CatchUp {
            self.catch_up_read = Some(partition);
        }
        out.push(Output::Read { partition, ticket, from: range.next, upto: range.upto, bytes_max });
        true
    }

    fn wake(&self, now: Duration, out: &mut Vec<Output>) {
        let commit = self.commits_due.first().map(|(due, _)| *due);
        let waits = !self.catch_up.waiting.is_empty();
        let short = 1u64.saturating_add_signed(-self.budget_bytes.min(0)).saturating_mul(1_000_000);
        let refilled = (waits && self.budget_bytes <= 0)
            .then(|| now + Duration::from_micros(short / self.options.catch_up_bytes_per_second + 1));
        if let Some(at) = [commit, refilled].into_iter().flatten().min() {
            out.push(Output::Wake(at));
        }
    }

    fn check(&self) {
        assert!(self.taken_bytes <= self.sent_bytes, "{self:?}");
        assert!(self.ranges.len() <= self.told.len(), "every range has a primary here: {self:?}");
        let is_reading = |range: &&Range| range.reading.is_some();
        debug_assert_eq!(
            self.reading_bytes,
            self.ranges.values().filter(is_reading).count() as u64 * self.options.frame_bytes_max as u64
        );
    }
}

/// Of each kind only the newest is kept.
fn kind_of(message: &Message) -> u8 {
    match message {
        Message::Join(_) => 0,
        Message::Welcome { .. } => 1,
        Message::Append { .. } => 2,
        Message::Commit { .. } => 3,
        Message::Ack { .. } => 4,
    }
}

#[cfg(test)]
mod tests;
