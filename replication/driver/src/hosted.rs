//! One replica with its log: appends and cuts happen in the order the machine wants them, one cut at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use heddle_log_store::{AppendError, Disk, Log};
use heddle_proto::batch::BatchHeader;
use heddle_proto::ids::{NodeId, Offset};
use heddle_replication::replica::Replica;

/// Something to do to the log.
pub(crate) enum LogOp {
    Append(Bytes, BatchHeader),
    Cut(Offset),
    Begin(Offset),
}

/// A cut that has to wait for the disk.
#[derive(Copy, Clone)]
pub(crate) struct CutDue {
    pub(crate) at: Offset,
    pub(crate) begins_anew: bool,
}

/// How a primary sees a peer over time.
#[derive(Copy, Clone)]
pub(crate) struct Watch {
    /// Reaching this offset counts as keeping up.
    pub(crate) mark: Offset,
    /// When it last did.
    pub(crate) caught_at: Duration,
}

pub(crate) struct Hosted<D: Disk> {
    pub(crate) replica: Replica,
    pub(crate) log: Log<D>,
    /// Every node that is to have a replica.
    pub(crate) replicas: BTreeSet<NodeId>,
    waiting: VecDeque<LogOp>,
    cutting: bool,
    /// What is committed and not yet told.
    pub(crate) committed_due: Option<Offset>,
    pub(crate) watches: BTreeMap<NodeId, Watch>,
    pub(crate) resent_at: Duration,
}

impl<D: Disk> Hosted<D> {
    pub(crate) fn new(replica: Replica, log: Log<D>, replicas: BTreeSet<NodeId>, now: Duration) -> Self {
        Hosted {
            replica,
            log,
            replicas,
            waiting: VecDeque::new(),
            cutting: false,
            committed_due: None,
            watches: BTreeMap::new(),
            resent_at: now,
        }
    }

    /// Whether a cut is under way or something waits behind one.
    pub(crate) fn is_cutting(&self) -> bool {
        self.cutting || !self.waiting.is_empty()
    }

    pub(crate) fn queue(&mut self, op: LogOp) {
        self.waiting.push_back(op);
    }

    pub(crate) fn cut_done(&mut self) {
        self.cutting = false;
    }

    /// Does what may be done now. Returns a cut that becomes due.
    ///
    /// # Errors
    /// An append failed that the machine counts as done.
    pub(crate) fn pump(&mut self) -> Result<Option<CutDue>, AppendError> {
        while !self.cutting
            && let Some(op) = self.waiting.pop_front()
        {
            match op {
                LogOp::Append(batch, header) => self.log.append(batch, &header)?,
                LogOp::Cut(at) => return Ok(Some(self.begin_cut(at, false))),
                LogOp::Begin(at) => return Ok(Some(self.begin_cut(at, true))),
            }
        }
        Ok(None)
    }

    fn begin_cut(&mut self, at: Offset, begins_anew: bool) -> CutDue {
        self.cutting = true;
        CutDue { at, begins_anew }
    }
}
