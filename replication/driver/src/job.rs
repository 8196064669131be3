//! What has to wait for a disk, as futures that name no runtime.

use bytes::Bytes;
use heddle_log_store::{Disk, Log, ReadError, StorageError};
use heddle_proto::ids::{Offset, TopicPartition};

use crate::connection::Peer;
use crate::hosted::Cutting;
use crate::promises::PromiseFiles;

/// Something to wait for. One at a time for each partition, but for reads; promises one at a time.
pub enum Job<D: Disk> {
    /// Take back the end of a log, or all of it.
    Cut {
        /// Whose.
        partition: TopicPartition,
        /// The cut, which has begun.
        cutting: CutJob,
    },
    /// Write all promises.
    Promises {
        /// Where.
        files: PromiseFiles<D>,
        /// The table.
        table: Vec<u8>,
        /// How often it has been written, this time included.
        number: u64,
    },
    /// Have the damage of a log recorded.
    Damage {
        /// Whose log.
        partition: TopicPartition,
        /// The log.
        log: Log<D>,
    },
    /// Flush a log.
    Flush(Log<D>),
    /// Read batches for a stream.
    Read(ReadJob<D>),
}

/// See [`Job::Cut`].
pub struct CutJob(pub(crate) Cutting);

/// See [`Job::Read`].
pub struct ReadJob<D: Disk> {
    pub(crate) peer: Peer,
    pub(crate) connection: u64,
    pub(crate) partition: TopicPartition,
    pub(crate) ticket: u64,
    pub(crate) log: Log<D>,
    pub(crate) from: Offset,
    pub(crate) upto: Offset,
    pub(crate) bytes_max: usize,
}

/// What became of a job.
#[derive(Debug)]
pub enum Done {
    /// The log ends, or begins, where it was to.
    Cut(TopicPartition),
    /// The next start knows of the damage that a log had.
    Damage(TopicPartition),
    /// The promises are on stable storage.
    Promises,
    /// What a log held is durable, as the hooks have said, or it is gone.
    Flushed,
    /// Batches, or why there are none.
    Read {
        /// For which peer.
        peer: Peer,
        /// Over which connection.
        connection: u64,
        /// Whose.
        partition: TopicPartition,
        /// Of which read.
        ticket: u64,
        /// From where, and up to where at most.
        range: (Offset, Offset),
        /// The batches.
        batches: Result<Vec<Bytes>, ReadError>,
    },
}

/// A job that failed in a way that ends the process.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The promises could not be written.
    #[error("promises could not be written: {0}")]
    Promises(#[source] std::io::Error),
}

impl<D: Disk> Job<D> {
    /// Does it.
    ///
    /// # Errors
    /// [`JobError`]: the process must exit, what is on the disk is known again only after recovery.
    pub async fn run(self) -> Result<Done, JobError> {
        match self {
            Job::Cut { partition, cutting } => {
                cutting.0.await?;
                Ok(Done::Cut(partition))
            }
            Job::Promises { files, table, number } => {
                files.write(&table, number).await.map_err(JobError::Promises)?;
                Ok(Done::Promises)
            }
            Job::Damage { partition, log } => {
                log.damage_recorded().await;
                Ok(Done::Damage(partition))
            }
            Job::Flush(log) => match log.flush().await {
                Err(ReadError::Storage(error)) => Err(error.into()),
                _ => Ok(Done::Flushed),
            },
            Job::Read(read) => {
                let ReadJob { peer, connection, partition, ticket, log, from, upto, bytes_max } = read;
                let batches = log.read(from, upto, bytes_max).await;
                Ok(Done::Read { peer, connection, partition, ticket, range: (from, upto), batches })
            }
        }
    }
}
