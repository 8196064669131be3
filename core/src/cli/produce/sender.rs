//! Fills batches, sends them to the owners of their partitions, and counts what is acknowledged.

use super::lines::Lines;
use crate::cli::CliError;
use crate::cli::args::{Acks, ProduceArgs};
use crate::cli::session::Session;
use crate::runtime::time;
use heddle_client::router::{Located, partition_of};
use heddle_client::{
    Acks as ClientAcks, Call, ClientError, ErrorCode, PartitionIndex, ProduceTo, Produced, TopicInfo,
};
use heddle_proto::batch::{BatchBuilder, BatchError, Compression};
use std::collections::{BTreeMap, VecDeque};

/// A batch is sent at this size: large enough to make the broker's work per batch small, and below every topic's limit.
const BATCH_BYTES: usize = 256 << 10;
/// Bytes sent and not acknowledged, above which we wait.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;

/// What was sent and what came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Records sent, or on their way.
    pub sent: u64,
    /// Records acknowledged (with `--acks 0`: handed to the system).
    pub acknowledged: u64,
    /// Batches acknowledged.
    pub batches: u64,
    /// Bytes of keys and values sent.
    pub bytes: u64,
}

/// A batch on its way.
struct Flight {
    call: Call<Produced>,
    records: u64,
    bytes: usize,
}

/// Sends records to one topic.
pub struct Sender {
    session: Session,
    topic: String,
    partition_count: u32,
    /// All records go here, if given.
    fixed: Option<u32>,
    /// Where the next record without a key goes; moves on with each batch.
    turn: u32,
    acks: Acks,
    compression: Compression,
    open: BTreeMap<u32, BatchBuilder>,
    flights: VecDeque<Flight>,
    in_flight_bytes: usize,
    counts: Counts,
}

impl Sender {
    /// A sender to `topic`; refuses a partition that it does not have.
    pub fn new(session: Session, topic: &TopicInfo, args: &ProduceArgs) -> Result<Sender, CliError> {
        let count = topic.partitions.len();
        if let Some(partition) = args.partition.filter(|partition| *partition as usize >= count) {
            return Err(CliError::NoSuchPartition { topic: topic.name.clone(), partition, count });
        }
        Ok(Sender {
            session,
            topic: topic.name.clone(),
            partition_count: count as u32,
            fixed: args.partition,
            turn: 0,
            acks: args.acks,
            compression: args.compression,
            open: BTreeMap::new(),
            flights: VecDeque::new(),
            in_flight_bytes: 0,
            counts: Counts::default(),
        })
    }

    /// What was sent so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What `acknowledged` counts, in a word.
    pub fn verb(&self) -> &'static str {
        if self.acks == Acks::None { "sent" } else { "acknowledged" }
    }

    /// The error `cause`, with how far we had come.
    pub fn stopped(&self, cause: CliError) -> CliError {
        let Counts { acknowledged, sent, .. } = self.counts;
        CliError::Stopped { cause: Box::new(cause), acknowledged, sent }
    }

    fn partition(&self, key: Option<&[u8]>) -> u32 {
        match (self.fixed, key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of(key, self.partition_count).get(),
            (None, None) => self.turn,
        }
    }

    /// Adds one record, sending batches that are full. `lines` is asked for words if the record is too long.
    pub async fn add(&mut self, key: Option<&[u8]>, value: &[u8], lines: &Lines) -> Result<(), CliError> {
        let bytes = key.map_or(0, <[u8]>::len) + value.len();
        let mut partition = self.partition(key);
        let is_full = |batch: &BatchBuilder| !batch.is_empty() && batch.size_bytes() + bytes > BATCH_BYTES;
        if self.open.get(&partition).is_some_and(is_full) {
            self.send(partition).await?;
            partition = self.partition(key);
        }
        let compression = self.compression;
        let batch = self.open.entry(partition).or_insert_with(|| BatchBuilder::new(compression));
        batch.push(time::now(), key, Some(value), &[]).map_err(|error| refusal(error, lines))?;
        self.counts.sent += 1;
        self.counts.bytes += bytes as u64;
        Ok(())
    }

    /// Sends every batch that holds anything.
    pub async fn send_open(&mut self) -> Result<(), CliError> {
        let partitions: Vec<u32> = self.open.keys().copied().collect();
        for partition in partitions {
            self.send(partition).await?;
        }
        Ok(())
    }

    /// Sends what is left and waits for all acknowledgements.
    pub async fn finish(&mut self) -> Result<(), CliError> {
        self.send_open().await?;
        while !self.flights.is_empty() {
            self.land().await?;
        }
        if self.acks == Acks::None { self.wait_until_sent().await } else { Ok(()) }
    }

    async fn send(&mut self, partition: u32) -> Result<(), CliError> {
        let Some(batch) = self.open.remove(&partition) else { return Ok(()) };
        self.turn = (self.turn + 1) % self.partition_count;
        let records = u64::from(batch.record_count());
        let bytes = batch
            .build()
            .map_err(|error| CliError::Client { what: self.what(), detail: error.to_string() })?;
        while self.in_flight_bytes > 0 && self.in_flight_bytes + bytes.len() > IN_FLIGHT_BYTES_MAX {
            self.land().await?;
        }
        let owner = self.session.owner(&self.topic, PartitionIndex::new(partition)).await?;
        self.launch(&owner, bytes.freeze(), records).await
    }

    async fn launch(&mut self, owner: &Located, batch: bytes::Bytes, records: u64) -> Result<(), CliError> {
        owner.client.ready().await.map_err(|error| self.failed(error))?;
        let (to, bytes) = (ProduceTo::from(owner), batch.len());
        let acks = match self.acks {
            Acks::All => ClientAcks::All,
            Acks::One => ClientAcks::Primary,
            Acks::None => {
                owner.client.produce_unacked(to, batch).map_err(|error| self.failed(error))?;
                self.count(records);
                return Ok(());
            }
        };
        self.in_flight_bytes += bytes;
        self.flights.push_back(Flight { call: owner.client.produce(to, acks, batch), records, bytes });
        Ok(())
    }

    /// Waits for the oldest batch.
    async fn land(&mut self) -> Result<(), CliError> {
        let Some(Flight { call, records, bytes }) = self.flights.pop_front() else { return Ok(()) };
        self.in_flight_bytes -= bytes;
        call.await.map_err(|error| self.failed(error))?;
        self.count(records);
        Ok(())
    }

    fn count(&mut self, records: u64) {
        self.counts.acknowledged += records;
        self.counts.batches += 1;
    }

    /// Requests of a connection are answered in order, so an answer says that all before it has arrived.
    async fn wait_until_sent(&self) -> Result<(), CliError> {
        for partition in 0..self.partition_count {
            let owner = self.session.owner(&self.topic, PartitionIndex::new(partition)).await?;
            owner.client.metadata(Some(&[&self.topic]), false).await.map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    fn what(&self) -> String {
        format!("producing to topic `{}`", self.topic)
    }

    fn failed(&self, error: ClientError) -> CliError {
        let hint = match error.code() {
            Some(ErrorCode::MessageTooLarge) => {
                "; raise max.message.bytes of the topic with `heddle topic alter`"
            }
            _ => "",
        };
        match self.session.failed(&self.what(), error) {
            CliError::Refused { what, code, message } => {
                CliError::Refused { what, code, message: message + hint }
            }
            other => other,
        }
    }
}

/// Why a record does not fit into an empty batch.
fn refusal(error: BatchError, lines: &Lines) -> CliError {
    match error {
        BatchError::TooLarge(_) => lines.too_long(),
        error => CliError::Client { what: "a record".to_owned(), detail: error.to_string() },
    }
}
