"""The contract with confluent-kafka: librdkafka behind a Python API."""

import time

from confluent_kafka import (
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)
from harness.program import BOOTSTRAP, case, expect, main, topic, until

BASE = {"bootstrap.servers": BOOTSTRAP, "broker.address.family": "v4"}
admin = AdminClient(BASE)


def create(name: str, partitions: int = 1, **configs: str) -> str:
    new = NewTopic(name, partitions, 1, config={key.replace("_", "."): value for key, value in configs.items()})
    admin.create_topics([new])[name].result(20)
    return name


def producer(**settings) -> Producer:
    return Producer(BASE | {key.replace("_", "."): value for key, value in settings.items()})


def consumer(group: str | None = None, **settings) -> Consumer:
    own = {"group.id": group or topic("nobody"), "auto.offset.reset": "earliest", "enable.auto.commit": False}
    return Consumer(BASE | own | {key.replace("_", "."): value for key, value in settings.items()})


def send(to: str, values, **settings) -> list:
    """Produces to partition 0 unless a value is a dict of arguments; the reports in order of sending."""
    reports = []
    client = producer(**settings)
    for value in values:
        arguments = value if isinstance(value, dict) else {"value": value}
        arguments = {"partition": 0} | arguments
        client.produce(to, on_delivery=lambda error, message: reports.append((error, message)), **arguments)
        client.poll(0)
    expect(client.flush(30), 0, "records not delivered")
    for error, _ in reports:
        if error is not None:
            raise KafkaException(error)
    return [message for _, message in reports]


def read(name: str, count: int, seconds: float = 20, **settings) -> list:
    """Reads so many records of partition 0 from the beginning, and that there is none after them."""
    client = consumer(enable_partition_eof=True, **settings)
    client.assign([TopicPartition(name, 0, 0)])
    found, end = [], time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            message = client.poll(0.5)
            if message is None:
                continue
            if message.error() is None:
                found.append(message)
            elif message.error().code() == KafkaError._PARTITION_EOF:
                if len(found) >= count:
                    break
            else:
                raise KafkaException(message.error())
    finally:
        client.close()
    expect(len(found), count, f"records of {name}")
    return found


@case("compression")
def compression():
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        name = create(topic(f"codec-{codec}"))
        values = [f"{number} {'compressible ' * 40}".encode() for number in range(200)]
        send(name, values, compression_type=codec, linger_ms=50)
        expect([message.value() for message in read(name, 200)], values, codec)


@case("idempotent")
def idempotent():
    name = create(topic("idempotent"))
    values = [str(number).encode() for number in range(5_000)]
    reports = send(name, values, enable_idempotence=True, linger_ms=1, batch_num_messages=50)
    expect([message.offset() for message in reports], list(range(5_000)), "offsets")
    expect([message.value() for message in read(name, 5_000)], values, "order")


@case("admin")
def administration():
    name = create(topic("admin"), 2, retention_ms="3600000")
    listed = admin.list_topics(timeout=10).topics
    expect(len(listed[name].partitions), 2, "partitions")
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    configs = admin.describe_configs([resource])[resource].result(10)
    expect(configs["retention.ms"].value, "3600000", "retention.ms")
    expect(configs["retention.ms"].is_default, False, "retention.ms was given")
    expect(configs["max.message.bytes"].is_default, True, "max.message.bytes was not given")
    change = ConfigEntry("retention.ms", "7200000", incremental_operation=AlterConfigOpType.SET)
    altered = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[change])
    admin.incremental_alter_configs([altered])[altered].result(10)
    configs = admin.describe_configs([resource])[resource].result(10)
    expect(configs["retention.ms"].value, "7200000", "retention.ms after the change")
    admin.create_partitions([NewPartitions(name, 4)])[name].result(10)
    until("four partitions", lambda: len(admin.list_topics(name, timeout=10).topics[name].partitions) == 4)
    try:
        create(name)
        raise AssertionError("the topic was created twice")
    except KafkaException as error:
        expect(error.args[0].code(), KafkaError.TOPIC_ALREADY_EXISTS, "creating it twice")
    admin.delete_topics([name])[name].result(10)
    until("the topic is gone", lambda: name not in admin.list_topics(timeout=10).topics)


@case("groups")
def groups():
    name = create(topic("groups"), 4)
    for protocol in ("classic", "consumer"):
        share_and_resume(name, topic(f"group-{protocol}"), protocol)


def share_and_resume(name: str, group: str, protocol: str):
    own = {"group_protocol": protocol}
    if protocol == "classic":
        own |= {"session_timeout_ms": 6000, "heartbeat_interval_ms": 500}
    seen = {}

    def poll(*members):
        for member in members:
            message = member.poll(0.1)
            if message is not None and message.error() is None:
                key = (message.partition(), message.offset())
                expect(key in seen, False, f"{protocol}: {key} was committed, and read again")
                seen[key] = message.value()
                member.commit(message=message, asynchronous=False)

    for round_number in range(2):
        send(name, [{"value": f"{round_number}".encode(), "partition": p % 4} for p in range(40)])
    first, second = consumer(group, **own), consumer(group, **own)
    first.subscribe([name])
    until(f"{protocol}: the first has all", lambda: poll(first) or len(first.assignment()) == 4)
    second.subscribe([name])
    until(
        f"{protocol}: both share",
        lambda: poll(first, second) or (len(first.assignment()), len(second.assignment())) == (2, 2),
    )
    first.close()
    until(f"{protocol}: the second takes over", lambda: poll(second) or len(second.assignment()) == 4)
    total = sum(hi for _, hi in (second.get_watermark_offsets(TopicPartition(name, p)) for p in range(4)))
    until(f"{protocol}: all are read", lambda: poll(second) or len(seen) == total)
    second.close()
    send(name, [{"value": b"late", "partition": p} for p in range(4)])
    third = consumer(group, **own)
    third.subscribe([name])
    until(f"{protocol}: it goes on from the commit", lambda: poll(third) or len(seen) == total + 4)
    committed = third.committed([TopicPartition(name, p) for p in range(4)], timeout=10)
    expect(sum(part.offset for part in committed), total + 4, f"{protocol}: committed offsets")
    third.close()


@case("transactions")
def transactions():
    source, name = create(topic("source")), create(topic("transactions"))
    send(source, [b"1", b"2", b"3"])
    group = topic("txn-group")
    reader = consumer(group)
    reader.subscribe([source])
    batch = []
    until("the source is read", lambda: batch.extend(reader.consume(3, timeout=1)) or len(batch) >= 3)
    client = producer(transactional_id=topic("txn"))
    client.init_transactions(20)
    client.begin_transaction()
    for message in batch:
        client.produce(name, b"committed " + message.value(), partition=0)
    position = reader.position(reader.assignment())
    client.send_offsets_to_transaction(position, reader.consumer_group_metadata(), 20)
    client.commit_transaction(20)
    client.begin_transaction()
    client.produce(name, b"aborted", partition=0)
    client.flush(10)
    client.abort_transaction(20)
    client.begin_transaction()
    client.produce(name, b"last", partition=0)
    client.commit_transaction(20)
    wanted = [b"committed 1", b"committed 2", b"committed 3"]
    found = read(name, 4, isolation_level="read_committed")
    expect([message.value() for message in found], [*wanted, b"last"], "read_committed")
    found = read(name, 5, isolation_level="read_uncommitted")
    expect([message.value() for message in found], [*wanted, b"aborted", b"last"], "read_uncommitted")
    committed = reader.committed([TopicPartition(source, 0)], timeout=10)
    expect(committed[0].offset, 3, "the offset that the transaction committed")
    reader.close()


@case("headers")
def headers():
    name = create(topic("headers"))
    sent = [("a", b"1"), ("b", b""), ("a", b"2"), ("none", None)]
    send(name, [{"value": b"x", "headers": sent}])
    expect(read(name, 1)[0].headers(), sent, "headers")


@case("tombstones")
def tombstones():
    name = create(topic("tombstones"))
    send(name, [{"key": b"k", "value": None}, {"key": b"k", "value": b""}, {"value": b"no key"}])
    found = [(message.key(), message.value()) for message in read(name, 3)]
    expect(found, [(b"k", None), (b"k", b""), (None, b"no key")], "keys and values")


@case("timestamps")
def timestamps():
    name = create(topic("timestamps"), retention_ms="-1")
    send(name, [{"value": b"x", "timestamp": 1_600_000_000_123}])
    expect(read(name, 1)[0].timestamp(), (TIMESTAMP_CREATE_TIME, 1_600_000_000_123), "CreateTime")
    name = create(topic("append-time"), message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    send(name, [{"value": b"x", "timestamp": 1_600_000_000_123}])
    kind, at = read(name, 1)[0].timestamp()
    expect(kind, TIMESTAMP_LOG_APPEND_TIME, "kind")
    expect(before - 1000 <= at <= time.time() * 1000 + 1000, True, f"{at} is about {before}")


@case("offsets by time")
def offsets_by_time():
    name = create(topic("times"), retention_ms="-1")
    start = 1_700_000_000_000
    # One batch for each, so that the broker's index is asked and not one batch's base.
    for number in range(10):
        send(name, [{"value": b"x", "timestamp": start + number * 1000}])
    client = consumer()
    for wanted, at in ((0, start - 5), (3, start + 3000), (4, start + 3001), (-1, start + 60_000)):
        found = client.offsets_for_times([TopicPartition(name, 0, at)], timeout=10)
        expect(found[0].offset, wanted, f"offset for {at - start} ms")
    expect(client.get_watermark_offsets(TopicPartition(name, 0), timeout=10), (0, 10), "watermarks")
    client.close()
    part = TopicPartition(name, 0)
    for spec, wanted in ((OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 10), (OffsetSpec.max_timestamp(), 9)):
        listed = admin.list_offsets({part: spec}, isolation_level=IsolationLevel.READ_UNCOMMITTED)[part].result(10)
        expect(listed.offset, wanted, f"{spec}")


@case("delete records")
def delete_records():
    name = create(topic("delete"))
    send(name, [str(number).encode() for number in range(10)])
    done = admin.delete_records([TopicPartition(name, 0, 4)])
    expect(next(iter(done.values())).result(10).low_watermark, 4, "low watermark")
    client = consumer()
    expect(client.get_watermark_offsets(TopicPartition(name, 0), timeout=10), (4, 10), "watermarks")
    client.close()
    expect([message.offset() for message in read(name, 6)], list(range(4, 10)), "what is left")


@case("big messages")
def big_messages():
    name = create(topic("big"), max_message_bytes="2000000")
    just_under = b"b" * (2_000_000 - 200)
    send(name, [just_under], message_max_bytes=4_000_000)
    expect(read(name, 1)[0].value(), just_under, "the big one")
    try:
        send(name, [b"b" * 2_000_100], message_max_bytes=4_000_000)
        raise AssertionError("a message above max.message.bytes was taken")
    except KafkaException as error:
        expect(error.args[0].code(), KafkaError.MSG_SIZE_TOO_LARGE, "the error")


@case("unknown topic")
def unknown_topic():
    client = consumer(allow_auto_create_topics=False)
    missing = topic("missing")
    client.subscribe([missing])
    error = until("the consumer is told", lambda: (m := client.poll(0.5)) and m.error())
    expect(error.code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "the consumer's error")
    client.close()
    try:
        admin.delete_topics([missing])[missing].result(10)
        raise AssertionError("a topic that does not exist was deleted")
    except KafkaException as failed:
        expect(failed.args[0].code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "deleting it")
    name = create(topic("one-partition"))
    try:
        send(name, [{"value": b"x", "partition": 7}])
        raise AssertionError("a record for a partition that does not exist was taken")
    except KafkaException as failed:
        expect(failed.args[0].code(), KafkaError._UNKNOWN_PARTITION, "producing to it")


main()
