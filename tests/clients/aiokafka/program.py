"""The contract with aiokafka: the protocol written in Python, on asyncio."""

import asyncio
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code
from aiokafka.structs import OffsetAndMetadata
from harness.program import BOOTSTRAP, case, expect, main, topic


async def administer(act):
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await admin.start()
    try:
        return await act(admin)
    finally:
        await admin.close()


def checked(reply):
    """Raises the error of a reply about topics, which aiokafka leaves to its caller."""
    errors = getattr(reply, "topic_errors", None) or getattr(reply, "topic_error_codes", None) or []
    for name, code, *rest in errors:
        if code != 0:
            raise for_code(code)(f"{name}: {rest}")
    return reply


async def create(name: str, partitions: int = 1, **configs: str) -> str:
    configs = {key.replace("_", "."): value for key, value in configs.items()}
    checked(await administer(lambda admin: admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])))
    return name


async def send(to: str, values, **settings) -> list:
    """Produces to partition 0 unless a value is a dict of arguments; the reports in order of sending."""
    async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, **settings) as client:
        waiting = []
        for value in values:
            arguments = value if isinstance(value, dict) else {"value": value}
            waiting.append(await client.send(to, **({"partition": 0} | arguments)))
        return [await one for one in waiting]


def consumer(*topics: str, **settings) -> AIOKafkaConsumer:
    own = {"bootstrap_servers": BOOTSTRAP, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    return AIOKafkaConsumer(*topics, **(own | settings))


async def read(name: str, count: int, seconds: float = 20, **settings) -> list:
    """Reads so many records of partition 0 from the beginning, and that there is none after them."""
    found, part = [], TopicPartition(name, 0)
    client = consumer(**settings)
    await client.start()
    try:
        client.assign([part])
        await client.seek_to_beginning(part)
        end = (await client.end_offsets([part]))[part]
        until = time.monotonic() + seconds
        while time.monotonic() < until and await client.position(part) < end:
            found += (await client.getmany(part, timeout_ms=500)).get(part, [])
    finally:
        await client.stop()
    expect(len(found), count, f"records of {name}")
    return found


async def until(what: str, condition, seconds: float = 30):
    end = time.monotonic() + seconds
    while not (found := await condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        await asyncio.sleep(0.1)
    return found


@case("compression")
async def compression():
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        name = await create(topic(f"codec-{codec}"))
        values = [f"{number} {'compressible ' * 40}".encode() for number in range(200)]
        await send(name, values, compression_type=codec, linger_ms=50)
        expect([record.value for record in await read(name, 200)], values, str(codec))


@case("idempotent")
async def idempotent():
    name = await create(topic("idempotent"))
    values = [str(number).encode() for number in range(3_000)]
    reports = await send(name, values, enable_idempotence=True, max_batch_size=512)
    expect([report.offset for report in reports], list(range(3_000)), "offsets")
    expect([record.value for record in await read(name, 3_000)], values, "order")


async def configs_of(name: str) -> dict[str, str]:
    resource = ConfigResource(ConfigResourceType.TOPIC, name)
    replies = await administer(lambda admin: admin.describe_configs([resource]))
    return {entry[0]: entry[1] for reply in replies for found in reply.resources for entry in found[4]}


@case("admin")
async def administration():
    name = await create(topic("admin"), 2, retention_ms="3600000")
    expect(name in await administer(lambda admin: admin.list_topics()), True, "it is listed")
    described = await administer(lambda admin: admin.describe_topics([name]))
    expect(len(described[0]["partitions"]), 2, "partitions")
    expect((await configs_of(name))["retention.ms"], "3600000", "retention.ms")
    resource = ConfigResource(ConfigResourceType.TOPIC, name, configs={"retention.ms": "7200000"})
    for reply in await administer(lambda admin: admin.alter_configs([resource])):
        for code, message, *_ in reply.resources:
            if code != 0:
                raise for_code(code)(message)
    expect((await configs_of(name))["retention.ms"], "7200000", "retention.ms after the change")
    checked(await administer(lambda admin: admin.create_partitions({name: NewPartitions(total_count=4)})))

    async def partitions():
        return len((await administer(lambda admin: admin.describe_topics([name])))[0]["partitions"]) == 4

    await until("four partitions", partitions)
    try:
        await create(name)
        raise AssertionError("the topic was created twice")
    except TopicAlreadyExistsError:
        pass
    checked(await administer(lambda admin: admin.delete_topics([name])))

    async def gone():
        return name not in await administer(lambda admin: admin.list_topics())

    await until("the topic is gone", gone)


@case("groups")
async def groups():
    name, group, seen = await create(topic("groups"), 4), topic("group"), set()
    own = {"group_id": group, "session_timeout_ms": 6000, "heartbeat_interval_ms": 500, "metadata_max_age_ms": 2000}
    await send(name, [{"value": str(n).encode(), "partition": n % 4} for n in range(40)])

    async def poll(*members):
        for member in members:
            for part, records in (await member.getmany(timeout_ms=100)).items():
                for record in records:
                    expect((part.partition, record.offset) in seen, False, f"{record} was committed and read again")
                    seen.add((part.partition, record.offset))
                await member.commit({part: records[-1].offset + 1})

    first, second = consumer(name, **own), consumer(name, **own)
    await first.start()

    def has(*counts, members):
        async def condition():
            await poll(*members)
            return tuple(len(member.assignment()) for member in members) == counts

        return condition

    await until("the first has all", has(4, members=[first]))
    await second.start()
    await until("both share", has(2, 2, members=[first, second]))
    await first.stop()
    await until("the second takes over", has(4, members=[second]))

    def all_read(count, member):
        async def condition():
            await poll(member)
            return len(seen) == count

        return condition

    await until("all are read", all_read(40, second))
    await second.stop()
    await send(name, [{"value": b"late", "partition": n} for n in range(4)])
    third = consumer(name, **own)
    await third.start()
    await until("it goes on from the commit", all_read(44, third))
    committed = [await third.committed(TopicPartition(name, part)) for part in range(4)]
    await third.stop()
    expect(committed, [11] * 4, "committed offsets")


@case("transactions")
async def transactions():
    source, name, group = await create(topic("source")), await create(topic("transactions")), topic("txn-group")
    await send(source, [b"1", b"2", b"3"])
    reader = consumer(source, group_id=group)
    await reader.start()
    try:
        batch = [await reader.getone() for _ in range(3)]
        async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id=topic("txn")) as client:
            async with client.transaction():
                for record in batch:
                    await client.send(name, b"committed " + record.value, partition=0)
                offsets = {TopicPartition(source, 0): OffsetAndMetadata(3, "of a transaction")}
                await client.send_offsets_to_transaction(offsets, group)
            await client.begin_transaction()
            await client.send_and_wait(name, b"aborted", partition=0)
            await client.abort_transaction()
            async with client.transaction():
                await client.send(name, b"last", partition=0)
        expect(await reader.committed(TopicPartition(source, 0)), 3, "the offset that the transaction committed")
    finally:
        await reader.stop()
    wanted = [b"committed 1", b"committed 2", b"committed 3"]
    found = await read(name, 4, isolation_level="read_committed")
    expect([record.value for record in found], [*wanted, b"last"], "read_committed")
    found = await read(name, 5, isolation_level="read_uncommitted")
    expect([record.value for record in found], [*wanted, b"aborted", b"last"], "read_uncommitted")


@case("headers")
async def headers():
    name = await create(topic("headers"))
    sent = [("a", b"1"), ("b", b""), ("a", b"2"), ("none", None)]
    await send(name, [{"value": b"x", "headers": sent}])
    expect(list((await read(name, 1))[0].headers), sent, "headers")


@case("tombstones")
async def tombstones():
    name = await create(topic("tombstones"))
    await send(name, [{"key": b"k", "value": None}, {"key": b"k", "value": b""}, {"value": b"no key"}])
    found = [(record.key, record.value) for record in await read(name, 3)]
    expect(found, [(b"k", None), (b"k", b""), (None, b"no key")], "keys and values")


@case("timestamps")
async def timestamps():
    name = await create(topic("timestamps"), retention_ms="-1")
    await send(name, [{"value": b"x", "timestamp_ms": 1_600_000_000_123}])
    record = (await read(name, 1))[0]
    expect((record.timestamp_type, record.timestamp), (0, 1_600_000_000_123), "CreateTime")
    name = await create(topic("append-time"), message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    await send(name, [{"value": b"x", "timestamp_ms": 1_600_000_000_123}])
    record = (await read(name, 1))[0]
    expect(record.timestamp_type, 1, "kind")
    expect(before - 1000 <= record.timestamp <= time.time() * 1000 + 1000, True, f"{record} is about {before}")


@case("offsets by time")
async def offsets_by_time():
    name = await create(topic("times"), retention_ms="-1")
    start, part = 1_700_000_000_000, TopicPartition(name, 0)
    for number in range(10):
        await send(name, [{"value": b"x", "timestamp_ms": start + number * 1000}])
    async with consumer() as client:
        client.assign([part])
        for wanted, at in ((0, start - 5), (3, start + 3000), (4, start + 3001), (None, start + 60_000)):
            found = (await client.offsets_for_times({part: at}))[part]
            expect(found and found.offset, wanted, f"offset for {at - start} ms")
        expect((await client.beginning_offsets([part]))[part], 0, "earliest")
        expect((await client.end_offsets([part]))[part], 10, "latest")


@case("delete records")
async def delete_records():
    name = await create(topic("delete"))
    await send(name, [str(number).encode() for number in range(10)])
    part = TopicPartition(name, 0)
    done = await administer(lambda admin: admin.delete_records({part: RecordsToDelete(4)}))
    expect(done, {part: 4}, "low watermarks")
    expect([record.offset for record in await read(name, 6)], list(range(4, 10)), "what is left")


@case("big messages")
async def big_messages():
    name = await create(topic("big"), max_message_bytes="2000000")
    just_under = b"b" * (2_000_000 - 200)
    await send(name, [just_under], max_request_size=4_000_000)
    expect((await read(name, 1))[0].value, just_under, "the big one")
    try:
        await send(name, [b"b" * 2_000_100], max_request_size=4_000_000)
        raise AssertionError("a message above max.message.bytes was taken")
    except MessageSizeTooLargeError:
        pass


@case("unknown topic")
async def unknown_topic():
    missing = topic("missing")
    try:
        checked(await administer(lambda admin: admin.delete_topics([missing])))
        raise AssertionError("a topic that does not exist was deleted")
    except UnknownTopicOrPartitionError:
        pass
    name = await create(topic("one-partition"))
    try:
        await send(name, [{"value": b"x", "partition": 7}])
        raise AssertionError("a record for a partition that does not exist was taken")
    except (AssertionError, UnknownTopicOrPartitionError) as error:
        expect("nrecognized partition" in str(error) or isinstance(error, UnknownTopicOrPartitionError), True, str(error))


main()
