//! What the broker under test has: a few topics, a group, a transactional producer. Set up through the protocol, put
//! right again after random requests changed it, and told to the source of requests.

use std::{net::SocketAddr, time::Instant};

use bytes::{Bytes, BytesMut};
use heddle_net::kafka::{
    ApiKey, Encodable, StrBytes,
    messages::{
        AlterClientQuotasRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClientQuotasRequest,
        FetchRequest, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
        MetadataResponse, ProduceRequest, RequestKind, ResponseKind, TopicName,
        alter_client_quotas_request as quotas,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
        delete_topics_request::DeleteTopicState,
        fetch_request::{FetchPartition, FetchTopic},
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
    },
};
use heddle_proto::{
    batch::{BatchBuilder, Compression},
    ids::{ProducerEpoch, ProducerId, Sequence, Timestamp},
};
use heddle_samples::{Known, Rng};

use super::client::{Client, HANG};

/// What random requests are mostly about: topics, groups, transactional ids, protocols, settings and their values.
const WORDS: [&str; 30] = [
    "t0",
    "t1",
    "compacted",
    "t0",
    "g0",
    "g1",
    "g0",
    "tx0",
    "tx1",
    "tx0",
    "consumer",
    "range",
    "uniform",
    "Stable",
    "Empty",
    "Ongoing",
    "__consumer_offsets",
    "__transaction_state",
    "retention.ms",
    "max.message.bytes",
    "cleanup.policy",
    "compression.type",
    "compact",
    "delete",
    "gzip",
    "1000000",
    "1000",
    "t.*",
    "-1",
    "",
];

/// Topics that are always there, with their partitions and a setting.
const TOPICS: [(&str, i32, (&str, &str)); 4] = [
    ("t0", 3, ("retention.ms", "3600000")),
    ("t1", 1, ("retention.bytes", "100000")),
    ("compacted", 2, ("cleanup.policy", "compact")),
    (HEALTH, 2, ("retention.ms", "-1")),
];

/// A topic whose name and id random requests do not know.
pub const HEALTH: &str = "is-it-well";

/// How many things of a kind that were learnt are remembered.
const LEARNT_MAX: usize = 6;

/// The broker's content, as far as requests need to know it.
pub struct World {
    addresses: Vec<SocketAddr>,
    /// What the random requests know.
    pub rng: Rng,
    learnt: Vec<StrBytes>,
}

fn word(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(text: &str) -> TopicName {
    TopicName(word(text))
}

/// Makes a request of a group or a transaction one that mostly succeeds: who asks is who the broker knows.
pub fn make_sensible(request: &mut RequestKind, version: i16, rng: &mut Rng) {
    let (id, epoch) = rng.known().producers.last().copied().unwrap_or((0, 0));
    let member = rng.known().words.last().cloned().unwrap_or_default();
    match request {
        RequestKind::AddPartitionsToTxn(request) if version < 4 => {
            request.v3_and_below_transactional_id = word("tx0").into();
            (request.v3_and_below_producer_id, request.v3_and_below_producer_epoch) = (id.into(), epoch);
        }
        RequestKind::AddPartitionsToTxn(request) => {
            for transaction in &mut request.transactions {
                transaction.transactional_id = word("tx0").into();
                (transaction.producer_id, transaction.producer_epoch) = (id.into(), epoch);
            }
        }
        RequestKind::AddOffsetsToTxn(request) => {
            request.transactional_id = word("tx0").into();
            (request.producer_id, request.producer_epoch) = (id.into(), epoch);
            request.group_id = word("g0").into();
        }
        RequestKind::TxnOffsetCommit(request) => {
            request.transactional_id = word("tx0").into();
            (request.producer_id, request.producer_epoch) = (id.into(), epoch);
            request.group_id = word("g0").into();
            request.generation_id = -1;
        }
        RequestKind::EndTxn(request) => {
            request.transactional_id = word("tx0").into();
            (request.producer_id, request.producer_epoch) = (id.into(), epoch);
        }
        RequestKind::InitProducerId(request) => {
            request.transactional_id = Some(word("tx0").into());
            request.transaction_timeout_ms = 1 + rng.below(2000) as i32;
            (request.producer_id, request.producer_epoch) = ((-1).into(), -1);
        }
        RequestKind::JoinGroup(request) => {
            request.group_id = word("g0").into();
            request.session_timeout_ms = 1 + rng.below(300) as i32;
            request.protocol_type = word("consumer");
            request.protocols.iter_mut().for_each(|protocol| protocol.name = word("range"));
            request.member_id = if rng.flip() { member } else { StrBytes::default() };
        }
        RequestKind::SyncGroup(request) => {
            request.group_id = word("g0").into();
            request.member_id = member;
            request.generation_id = 1 + rng.below(4) as i32;
            if version >= 5 {
                request.protocol_type = Some(word("consumer"));
                request.protocol_name = Some(word("range"));
            }
        }
        RequestKind::ConsumerGroupHeartbeat(request) => {
            request.group_id = word("g1").into();
            (request.instance_id, request.rack_id, request.server_assignor) = (None, None, None);
            request.member_epoch = rng.below(3) as i32;
            request.member_id = if rng.flip() { member } else { word("m") };
            request.rebalance_timeout_ms = 100;
            request.topic_partitions = Some(Vec::new());
            request.subscribed_topic_names = Some(vec![topic("t0"), topic("t1")]);
        }
        _ => {}
    }
}

/// Forgets the oldest when there are too many.
fn remember<T: PartialEq>(list: &mut Vec<T>, new: T) {
    list.retain(|old| *old != new);
    list.push(new);
    if list.len() > LEARNT_MAX {
        list.remove(0);
    }
}

impl World {
    /// Sets a new broker up.
    pub fn create(addresses: &[SocketAddr], seed: u64) -> World {
        let rng = Rng::knowing(seed, Known::default());
        let mut world = World { addresses: addresses.to_vec(), rng, learnt: Vec::new() };
        world.find_coordinator(0, "g0");
        world.find_coordinator(1, "tx0");
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(word("tx0").into()))
            .with_transaction_timeout_ms(60_000);
        let deadline = Instant::now() + HANG;
        while world.rng.known().producers.is_empty() {
            assert!(Instant::now() < deadline, "no producer id is to be had");
            let reply = world.ask(ApiKey::InitProducerId, 4, &request);
            world.learn(&reply);
        }
        world.restore();
        world
    }

    /// A new connection to one of the cores.
    pub fn connect(&mut self) -> Client {
        let core = self.rng.below(self.addresses.len());
        Client::connect(self.addresses[core])
    }

    fn ask(&mut self, api: ApiKey, version: i16, request: &impl Encodable) -> ResponseKind {
        self.connect().ask(api, version, request)
    }

    /// Waits until the coordinator of a key is there.
    fn find_coordinator(&mut self, key_type: i8, key: &str) {
        let request =
            FindCoordinatorRequest::default().with_key_type(key_type).with_coordinator_keys(vec![word(key)]);
        let deadline = Instant::now() + HANG;
        loop {
            let ResponseKind::FindCoordinator(reply) = self.ask(ApiKey::FindCoordinator, 4, &request) else {
                panic!("another reply");
            };
            if reply.coordinators[0].error_code == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "there is no coordinator: {reply:?}");
        }
    }

    /// Takes note of what a reply says that later requests may use.
    pub fn learn(&mut self, reply: &ResponseKind) {
        let (known, learnt) = (self.rng.known(), &mut self.learnt);
        match reply {
            ResponseKind::JoinGroup(reply) if !reply.member_id.is_empty() => {
                remember(learnt, reply.member_id.clone());
            }
            ResponseKind::ConsumerGroupHeartbeat(reply) => {
                reply.member_id.iter().for_each(|id| remember(learnt, id.clone()));
            }
            ResponseKind::InitProducerId(reply) if reply.error_code == 0 => {
                remember(&mut known.producers, (reply.producer_id.0, reply.producer_epoch));
            }
            ResponseKind::EndTxn(reply) if reply.error_code == 0 && reply.producer_epoch >= 0 => {
                remember(&mut known.producers, (reply.producer_id.0, reply.producer_epoch));
            }
            ResponseKind::Fetch(reply) if reply.session_id > 0 => {
                let sessions = &mut known.sessions;
                let before = sessions.iter().find(|(id, _)| *id == reply.session_id);
                let epoch = before.map_or(1, |(_, epoch)| epoch + 1);
                sessions.retain(|(id, _)| *id != reply.session_id);
                remember(sessions, (reply.session_id, epoch));
            }
            _ => {}
        }
    }

    /// Puts right what random requests changed, and tells what there is now.
    pub fn restore(&mut self) {
        self.clear_quotas();
        let kept = |name: &str| name.starts_with("__") || TOPICS.iter().any(|(kept, _, _)| *kept == name);
        let strange: Vec<_> = self
            .topics()
            .topics
            .iter()
            .filter_map(|topic| topic.name.clone())
            .filter(|name| !kept(name))
            .map(|name| DeleteTopicState::default().with_name(Some(name)))
            .collect();
        if !strange.is_empty() {
            let request = DeleteTopicsRequest::default().with_topics(strange).with_timeout_ms(10_000);
            self.ask(ApiKey::DeleteTopics, 6, &request);
        }
        let topics = TOPICS.iter().map(|(name, count, (setting, value))| {
            let config =
                CreatableTopicConfig::default().with_name(word(setting)).with_value(Some(word(value)));
            CreatableTopic::default()
                .with_name(topic(name))
                .with_num_partitions(*count)
                .with_replication_factor(1)
                .with_configs(vec![config])
        });
        let request = CreateTopicsRequest::default().with_topics(topics.collect()).with_timeout_ms(10_000);
        self.ask(ApiKey::CreateTopics, 7, &request);
        self.tell();
    }

    fn topics(&mut self) -> MetadataResponse {
        let request = MetadataRequest::default().with_topics(None);
        let ResponseKind::Metadata(reply) = self.ask(ApiKey::Metadata, 12, &request) else {
            panic!("another reply");
        };
        reply
    }

    fn tell(&mut self) {
        let metadata = self.topics();
        let told =
            metadata.topics.iter().filter(|topic| topic.name.as_ref().is_none_or(|name| &***name != HEALTH));
        let ids = told.map(|topic| *topic.topic_id.as_bytes()).collect();
        let words = WORDS.iter().map(|text| word(text)).chain(self.learnt.iter().cloned()).collect();
        let known = self.rng.known();
        known.topic_ids = ids;
        known.words = words;
        known.batches = batches(&known.producers);
    }

    /// Takes every quota back, so that nobody is held back any more but on connections that are already.
    pub fn clear_quotas(&mut self) {
        let request = DescribeClientQuotasRequest::default();
        let ResponseKind::DescribeClientQuotas(reply) = self.ask(ApiKey::DescribeClientQuotas, 1, &request)
        else {
            panic!("another reply");
        };
        let set = reply.entries.expect("quotas can be listed");
        let entries = set.into_iter().map(|entry| {
            let entity = entry.entity.into_iter().map(|part| {
                quotas::EntityData::default()
                    .with_entity_type(part.entity_type)
                    .with_entity_name(part.entity_name)
            });
            let ops = entry
                .values
                .into_iter()
                .map(|value| quotas::OpData::default().with_key(value.key).with_remove(true));
            quotas::EntryData::default().with_entity(entity.collect()).with_ops(ops.collect())
        });
        let entries: Vec<_> = entries.collect();
        if !entries.is_empty() {
            let request = AlterClientQuotasRequest::default().with_entries(entries);
            self.ask(ApiKey::AlterClientQuotas, 1, &request);
        }
    }

    /// The broker still does what it is for, on every core.
    pub fn assert_well(&mut self) {
        for (core, address) in self.addresses.clone().into_iter().enumerate() {
            let mut client = Client::connect(address);
            let index = (core % 2) as i32;
            let end = log_end(&mut client, index);
            let value = format!("{core} at {end}");
            let batch = batch(BatchBuilder::new(Compression::None), &[&value]);
            assert_eq!(produce(&mut client, index, batch), (0, end), "a produce on core {core}");
            let (error, read) = fetch(&mut client, index, end);
            assert_eq!((error, read), (0, vec![value]), "a fetch on core {core}");
        }
    }
}

fn log_end(client: &mut Client, index: i32) -> i64 {
    let partition = ListOffsetsPartition::default().with_partition_index(index).with_timestamp(-1);
    let asked = ListOffsetsTopic::default().with_name(topic(HEALTH)).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![asked]);
    let ResponseKind::ListOffsets(reply) = client.ask(ApiKey::ListOffsets, 5, &request) else {
        panic!("another reply");
    };
    reply.topics[0].partitions[0].offset
}

/// The error and the offset.
fn produce(client: &mut Client, index: i32, batch: Bytes) -> (i16, i64) {
    let partition = PartitionProduceData::default().with_index(index).with_records(Some(batch));
    let data = TopicProduceData::default().with_name(topic(HEALTH)).with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![data]);
    let ResponseKind::Produce(reply) = client.ask(ApiKey::Produce, 9, &request) else {
        panic!("another reply");
    };
    let told = &reply.responses[0].partition_responses[0];
    (told.error_code, told.base_offset)
}

/// The error and the values from an offset on.
fn fetch(client: &mut Client, index: i32, offset: i64) -> (i16, Vec<String>) {
    let partition = FetchPartition::default()
        .with_partition(index)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let asked = FetchTopic::default().with_topic(topic(HEALTH)).with_partitions(vec![partition]);
    let request =
        FetchRequest::default().with_max_bytes(1 << 20).with_session_epoch(-1).with_topics(vec![asked]);
    let ResponseKind::Fetch(reply) = client.ask(ApiKey::Fetch, 12, &request) else {
        panic!("another reply");
    };
    let told = &reply.responses[0].partitions[0];
    let batches = told.records.clone().unwrap_or_default();
    let records = heddle_proto::batch::records_shared(&batches, 1 << 20).expect("a batch was written");
    let text = |value: Option<Bytes>| String::from_utf8_lossy(&value.unwrap_or_default()).into_owned();
    let values = records.map(|record| text(record.expect("the records are whole").value));
    (told.error_code, values.collect())
}

/// A batch of these values, each its own key.
fn batch(mut builder: BatchBuilder, values: &[&str]) -> Bytes {
    for value in values {
        let time = Timestamp::new(1_700_000_000_000);
        builder.push(time, Some(value.as_bytes()), Some(value.as_bytes()), &[]).expect("it is small");
    }
    builder.build().expect("it is small").freeze()
}

/// Batches that are good, and some that are not, of producers that are known and of nobody.
fn batches(producers: &[(i64, i16)]) -> Vec<Bytes> {
    let plain = |compression| batch(BatchBuilder::new(compression), &["a", "b", "a", ""]);
    let mut batches: Vec<Bytes> = Compression::ALL.into_iter().map(plain).collect();
    for ((id, epoch), sequence) in producers.iter().zip([0, 0, 1, 0, 2, 0]) {
        let of = || {
            let (id, epoch) = (ProducerId::new(*id), ProducerEpoch::new(*epoch));
            BatchBuilder::new(Compression::None).producer(id, epoch, Sequence::new(sequence))
        };
        batches.push(batch(of(), &["idempotent"]));
        batches.push(batch(of().transactional(), &["transactional"]));
    }
    batches.push(batch(BatchBuilder::new(Compression::None).control(), &["control"]));
    // Base offset, length, epoch, magic, CRC, attributes, last offset delta, count of records.
    for (at, byte) in [(7, 9), (11, 1), (15, 7), (16, 1), (17, 0xff), (22, 0x77), (26, 9), (60, 200)] {
        let mut wrong = BytesMut::from(&batches[0][..]);
        wrong[at] = byte;
        batches.push(wrong.freeze());
    }
    batches.push(batches[0].slice(..batches[0].len() - 1));
    batches
}
