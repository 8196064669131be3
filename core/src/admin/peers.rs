//! What a core knows of each core of another node that it replicates with, and of who was not let in; found out when
//! somebody looks.

use std::collections::{BTreeMap, BTreeSet};

use heddle_log_store::Disk;
use heddle_replication_driver::{Driver, Lag, Peer};
use heddle_replication_transport::{HandshakeCounts, StreamCounts, wire::Refusal};
use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use super::metrics::{CoreReport, Kind};
use crate::shard::Shard;

/// One stream: this core and a core of another node.
#[derive(Clone, Copy, Debug)]
pub struct StreamReport {
    /// The other core.
    pub peer: Peer,
    /// Its connections.
    pub counts: StreamCounts,
    /// What it is to have from here and has not.
    pub lag: Lag,
}

impl<D: Disk> Shard<D> {
    /// Every core of other nodes that replicas here need, or that has come by itself. Looks at every replica once for each.
    pub(super) fn stream_reports(&self) -> Vec<StreamReport> {
        let runner = self.replicas.runner();
        let streams = self.replicas.peers().map(|peers| peers.streams()).unwrap_or_default();
        let counts: BTreeMap<Peer, StreamCounts> = streams.into_iter().collect();
        let needed = runner.look(Driver::peers);
        let all: BTreeSet<Peer> = needed.into_iter().chain(counts.keys().copied()).collect();
        let report = |peer: Peer| StreamReport {
            peer,
            counts: counts.get(&peer).copied().unwrap_or_default(),
            lag: runner.look(|driver| driver.lag(peer)),
        };
        all.into_iter().map(report).collect()
    }

    /// The nodes that this core is connected to.
    pub(super) fn reached_nodes(&self) -> BTreeSet<u32> {
        let streams = self.replicas.peers().map(|peers| peers.streams()).unwrap_or_default();
        streams.iter().filter(|(_, counts)| counts.is_connected).map(|(peer, _)| peer.node.get()).collect()
    }

    /// Connections of peers to this core that came to nothing.
    pub(super) fn failed_handshakes(&self) -> Vec<(&'static str, u64)> {
        let Some(peers) = self.replicas.peers() else { return Vec::new() };
        let HandshakeCounts { refused, version, garbage, too_slow, too_many } = peers.handshakes();
        let others =
            [("version", version), ("garbage", garbage), ("too_slow", too_slow), ("too_many", too_many)];
        let refusals =
            Refusal::ALL.map(|reason| (name(reason), refused.get(&reason).copied().unwrap_or_default()));
        refusals.into_iter().chain(others).filter(|(_, count)| *count > 0).collect()
    }
}

fn name(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Unknown => "unknown",
        Refusal::Cluster => "cluster",
        Refusal::OwnNode => "own_node",
        Refusal::NodeInUse => "node_in_use",
        Refusal::NotMe => "not_me",
        Refusal::Secret => "secret",
        Refusal::Purpose => "purpose",
    }
}

/// A family of one number for each stream.
type Family = (&'static str, Kind, &'static str, fn(&StreamReport) -> u64);

const FAMILIES: [Family; 11] = [
    ("stream_connected", Kind::Gauge, "1 while there is a connection to that core", |it| {
        it.counts.is_connected.into()
    }),
    ("stream_reconnects", Kind::Counter, "Connections made anew after the first one", |it| {
        it.counts.connection_count.saturating_sub(1)
    }),
    ("stream_failed_dials", Kind::Counter, "Attempts to connect that came to nothing", |it| {
        it.counts.failed_dial_count
    }),
    ("stream_bad_frames", Kind::Counter, "Connections that ended because of what the peer sent", |it| {
        it.counts.bad_frame_count
    }),
    ("stream_sent_bytes", Kind::Counter, "Bytes sent after the handshakes", |it| it.counts.bytes_sent),
    ("stream_received_bytes", Kind::Counter, "Bytes of whole frames received", |it| it.counts.bytes_received),
    ("stream_sent_frames", Kind::Counter, "Frames sent", |it| it.counts.frames_sent),
    ("stream_received_frames", Kind::Counter, "Frames received", |it| it.counts.frames_received),
    (
        "stream_lag_records",
        Kind::Gauge,
        "Records of partitions led here that the peer has not acknowledged",
        |it| it.lag.records,
    ),
    ("stream_lag_bytes", Kind::Gauge, "About the bytes of these records", |it| it.lag.bytes),
    (
        "stream_unacknowledged_bytes",
        Kind::Gauge,
        "Bytes of batches that were sent and that the peer has not taken yet",
        |it| it.lag.under_way_bytes,
    ),
];

/// All families of streams and handshakes.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, reports: &[CoreReport]) -> std::fmt::Result {
    for (name, kind, help, value) in FAMILIES {
        let metric_type = match kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        };
        let mut family = encoder.encode_descriptor(name, help, None, metric_type)?;
        for (labels, stream) in streams(reports) {
            let mut metric = family.encode_family(&labels)?;
            match kind {
                Kind::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value(stream), None)?,
                Kind::Gauge => metric.encode_gauge(&value(stream))?,
            }
        }
    }
    let help = "The newest time from a ping to its answer";
    let unit = Some(&Unit::Seconds);
    let mut family = encoder.encode_descriptor("stream_round_trip", help, unit, MetricType::Gauge)?;
    for (labels, stream) in streams(reports) {
        let Some(took) = stream.counts.round_trip else { continue };
        family.encode_family(&labels)?.encode_gauge(&took.as_secs_f64())?;
    }
    let help = "Connections of peers that were not let in, by reason";
    let mut family = encoder.encode_descriptor("peer_handshakes_failed", help, None, MetricType::Counter)?;
    for report in reports {
        for (reason, count) in &report.failed_handshakes {
            let labels = [("core", report.core.to_string()), ("reason", (*reason).to_owned())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
    }
    Ok(())
}

type Labels = [(&'static str, String); 3];

fn streams(reports: &[CoreReport]) -> impl Iterator<Item = (Labels, &StreamReport)> {
    reports.iter().flat_map(|report| {
        report.streams.iter().map(|stream| {
            let (node, core) = (stream.peer.node.to_string(), stream.peer.core.to_string());
            ([("core", report.core.to_string()), ("peer_node", node), ("peer_core", core)], stream)
        })
    })
}
