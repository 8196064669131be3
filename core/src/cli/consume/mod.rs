//! `heddle consume`: subscribes to all partitions and prints what is pushed, until told to stop.

mod group;
mod printer;
pub mod start;

use self::printer::Printer;
use super::CliError;
use super::args::{ConsumeArgs, Format};
use super::progress::Progress;
use super::session::{OnThisExecutor, Session};
use crate::runtime::{block_on::spawn, event::Event, signals};
use bytes::Bytes;
use futures_lite::future;
use heddle_client::router::{Consumer, Located};
use heddle_client::{ClientError, Delivery, Offset, PartitionIndex, StartFrom, TopicInfo};
use heddle_proto::batch::{batches, records_shared, verify};
use heddle_proto::limits::DECOMPRESSED_BYTES_MAX;
use start::StartAt;
use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal, Write};
use std::rc::Rc;

/// Bytes the brokers may send ahead of what is printed, shared by all partitions.
const CREDIT_BYTES: u64 = 32 << 20;
/// Less than this per partition would make a subscription a series of single batches.
const CREDIT_BYTES_MIN: u64 = 64 << 10;

/// Prints to standard output until the limits given, an error, or SIGINT.
pub async fn run(args: ConsumeArgs) -> Result<(), CliError> {
    run_to(args, Box::new(io::stdout())).await
}

/// As [`run`], to another place.
pub(super) async fn run_to(args: ConsumeArgs, out: Box<dyn Write>) -> Result<(), CliError> {
    if let Some(group) = &args.group {
        return group::run(&args, group, out).await;
    }
    let session = Session::open(&args.connect.server).await?;
    let topic = session.topic(&args.topic, false).await?;
    let partitions = chosen(&topic, args.partition)?;
    let shared = Rc::new(Shared::new(&args, partitions.len(), out));
    signals::install();
    let credit_bytes = (CREDIT_BYTES / partitions.len() as u64).max(CREDIT_BYTES_MIN);
    for partition in partitions {
        let follower = Follower {
            session: session.clone(),
            topic: args.topic.clone(),
            partition,
            credit_bytes,
            position: Rc::new(Cell::new(-1)),
        };
        spawn(run_follower(follower, shared.clone(), args.from, args.until_end));
    }
    future::or(shared.done.wait(), signals::stop_requested()).await;
    shared.finish()
}

fn chosen(topic: &TopicInfo, wanted: Option<u32>) -> Result<Vec<PartitionIndex>, CliError> {
    let all = || topic.partitions.iter().map(|info| info.partition);
    match wanted {
        None => Ok(all().collect()),
        Some(partition) if all().any(|index| index.get() == partition) => {
            Ok(vec![PartitionIndex::new(partition)])
        }
        Some(partition) => Err(CliError::NoSuchPartition {
            topic: topic.name.clone(),
            partition,
            count: topic.partitions.len(),
        }),
    }
}

/// What the followers of all partitions share. Borrows last for one record or one flush, never across an await.
struct Shared {
    printer: RefCell<Printer<Box<dyn Write>>>,
    progress: RefCell<Progress>,
    /// Records that may still be printed.
    left: Cell<u64>,
    printed: Cell<u64>,
    following: Cell<usize>,
    failure: RefCell<Option<CliError>>,
    done: Rc<Event>,
}

impl Shared {
    fn new(args: &ConsumeArgs, partition_count: usize, out: Box<dyn Write>) -> Shared {
        let default = if args.connect.json { Format::Json } else { Format::Raw };
        let shared = Shared {
            printer: RefCell::new(Printer::new(out, args.format.unwrap_or(default), &args.topic)),
            progress: RefCell::new(Progress::new()),
            left: Cell::new(args.max.unwrap_or(u64::MAX)),
            printed: Cell::new(0),
            following: Cell::new(partition_count),
            failure: RefCell::new(None),
            done: Event::new(),
        };
        if args.max == Some(0) {
            shared.done.fire();
        }
        shared
    }

    /// Prints one record; `false` if it was the last one wanted, or none is wanted any more.
    fn print(&self, partition: u32, record: &heddle_proto::batch::Record) -> Result<bool, CliError> {
        let Some(left) = self.left.get().checked_sub(1) else { return Ok(false) };
        self.printer.borrow_mut().record(partition, record)?;
        self.left.set(left);
        self.printed.set(self.printed.get() + 1);
        if left == 0 {
            self.done.fire();
        }
        Ok(left > 0)
    }

    /// Ends a delivery.
    fn flush(&self) -> Result<(), CliError> {
        self.printer.borrow_mut().flush()?;
        // On a terminal the records themselves are the progress.
        if !io::stdout().is_terminal() {
            self.progress.borrow_mut().update(|| format!("{} records", self.printed.get()));
        }
        Ok(())
    }

    /// One follower has ended; the first failure or the last end ends the command.
    fn on_end(&self, result: Result<(), CliError>) {
        self.following.set(self.following.get() - 1);
        let failed = result.is_err();
        if let Err(error) = result {
            self.failure.borrow_mut().get_or_insert(error);
        }
        if failed || self.following.get() == 0 {
            self.done.fire();
        }
    }

    fn finish(&self) -> Result<(), CliError> {
        self.progress.borrow_mut().clear();
        let failure = self.failure.borrow_mut().take();
        self.printer.borrow_mut().flush()?;
        failure.map_or(Ok(()), Err)
    }
}

/// Reads one partition.
struct Follower {
    session: Session,
    topic: String,
    partition: PartitionIndex,
    credit_bytes: u64,
    /// The offset after the last record that was printed.
    position: Rc<Cell<i64>>,
}

async fn run_follower(follower: Follower, shared: Rc<Shared>, from: StartAt, until_end: bool) {
    let result = follower.follow(&shared, from, until_end).await;
    shared.on_end(result);
}

impl Follower {
    async fn follow(&self, shared: &Shared, from: StartAt, until_end: bool) -> Result<(), CliError> {
        let start = self.start(from).await?;
        self.follow_from(shared, start, until_end).await
    }

    /// Prints from an offset on.
    async fn follow_from(&self, shared: &Shared, start: Offset, until_end: bool) -> Result<(), CliError> {
        let end = match until_end {
            true => self.resolve(StartFrom::Latest).await?,
            false => Offset::new(i64::MAX),
        };
        let from = StartFrom::Offset(start);
        let mut consumer: Consumer<OnThisExecutor> =
            Consumer::new(self.session.router(), &*self.topic, self.partition, from, self.credit_bytes);
        let mut range = Range { next: start, end };
        while range.next < range.end {
            let delivery = consumer.next().await.map_err(|error| self.failed(error))?;
            let more = self.print(shared, &delivery, &mut range)?;
            shared.flush()?;
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// The first offset wanted.
    async fn start(&self, from: StartAt) -> Result<Offset, CliError> {
        match from {
            StartAt::Offset(offset) => Ok(Offset::new(offset)),
            from => match self.resolve(from.on_wire()).await? {
                // No record is that new: wait for one.
                offset if offset < Offset::ZERO => self.resolve(StartFrom::Latest).await,
                offset => Ok(offset),
            },
        }
    }

    async fn resolve(&self, at: StartFrom) -> Result<Offset, CliError> {
        let ask = |owner: &Located| owner.client.list_offsets(owner.topic, owner.partition, at);
        let listed = self.session.router().at_owner(&self.topic, self.partition, ask).await;
        listed.map(|listed| listed.offset).map_err(|error| self.failed(error))
    }

    /// Prints the records of a delivery that lie in `range`, and moves its begin; `false` if no more are wanted.
    fn print(&self, shared: &Shared, delivery: &Delivery, range: &mut Range) -> Result<bool, CliError> {
        for batch in batches(&delivery.batches) {
            let (header, place) = batch.map_err(|error| self.damaged(range.next, &error))?;
            let bytes = delivery.batches.slice(place);
            if !header.is_control() && !self.print_batch(shared, &bytes, range)? {
                return Ok(false);
            }
            range.next = range.next.max(header.next_offset());
        }
        Ok(true)
    }

    fn print_batch(&self, shared: &Shared, bytes: &Bytes, range: &Range) -> Result<bool, CliError> {
        let damaged = |error| self.damaged(range.next, &error);
        verify(bytes).map_err(damaged)?;
        for record in records_shared(bytes, DECOMPRESSED_BYTES_MAX).map_err(damaged)? {
            let record = record.map_err(damaged)?;
            if record.offset >= range.end {
                return Ok(false);
            }
            if record.offset >= range.next {
                let before = shared.printed.get();
                let more = shared.print(self.partition.get(), &record)?;
                if shared.printed.get() > before {
                    self.position.set(record.offset.next().get());
                }
                if !more {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn damaged(&self, at: Offset, error: &heddle_proto::batch::BatchError) -> CliError {
        CliError::Damaged { partition: self.partition.get(), offset: at.get(), detail: error.to_string() }
    }

    fn failed(&self, error: ClientError) -> CliError {
        self.session.failed(&format!("partition {} of topic `{}`", self.partition, self.topic), error)
    }
}

/// Offsets still wanted.
struct Range {
    next: Offset,
    end: Offset,
}
