"""What is tried with each of Kafka's tools, in this order; a name in CORE is in the bounded selection too."""

import json
import re
import time

from harness.program import expect, topic, until
from tools import Tools

GROUP = "consumer.group.ConsumerGroupCommand"
CONSUMER = "consumer.ConsoleConsumer"


def contains(text: str, *words: str) -> str:
    for word in words:
        if word not in text:
            raise AssertionError(f"{word!r} is not in: {text[-500:]}")
    return text


def create(tools: Tools, name: str, partitions: int = 1, *configs: str) -> str:
    name = topic(name)
    options = [part for config in configs for part in ("--config", config)]
    tools.run("TopicCommand", "--create", "--topic", name, "--partitions", str(partitions), *options)
    return name


def fill(tools: Tools, name: str, count: int, *properties: str) -> None:
    options = [part for text in properties for part in ("--command-property", text)]
    lines = "".join(f"key{number}:value {number}\n" for number in range(count))
    own = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"]
    tools.run("ConsoleProducer", "--topic", name, *own, *options, given=lines)


def consume(tools: Tools, name: str, count: int, *options: str) -> list[str]:
    own = ["--topic", name, "--from-beginning", "--max-messages", str(count), "--timeout-ms", "30000"]
    said = tools.run(CONSUMER, *own, *options)
    return [line for line in said.splitlines() if line and not line.startswith(("Processed a total", "["))]


def topics(tools: Tools):
    name = create(tools, "topics", 3, "retention.ms=3600000")
    contains(tools.run("TopicCommand", "--list"), name)
    said = tools.run("TopicCommand", "--describe", "--topic", name)
    contains(said, "PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=3600000", "TopicId: ")
    tools.run("TopicCommand", "--alter", "--topic", name, "--partitions", "5")
    contains(tools.run("TopicCommand", "--describe", "--topic", name), "PartitionCount: 5")
    again = ["--create", "--topic", name, "--partitions", "1"]
    contains(tools.run("TopicCommand", *again, fails=True), "already exists")
    tools.run("TopicCommand", *again, "--if-not-exists")
    tools.run("TopicCommand", "--delete", "--topic", name)
    until("the topic is gone", lambda: name not in tools.run("TopicCommand", "--list"))


def configs(tools: Tools):
    name = create(tools, "configs")
    entity = ["--entity-type", "topics", "--entity-name", name]
    tools.run("ConfigCommand", "--alter", *entity, "--add-config", "retention.ms=7200000,max.message.bytes=2000000")
    said = tools.run("ConfigCommand", "--describe", *entity)
    contains(said, "retention.ms=7200000", "max.message.bytes=2000000")
    tools.run("ConfigCommand", "--alter", *entity, "--delete-config", "retention.ms")
    said = tools.run("ConfigCommand", "--describe", *entity)
    expect("retention.ms=7200000" in said, False, "the deleted config is gone")
    contains(tools.run("ConfigCommand", "--describe", "--all", *entity), "retention.ms=604800000", "cleanup.policy=delete")
    contains(tools.run("ConfigCommand", "--alter", *entity, "--add-config", "retention.ms=soon", fails=True), "retention.ms")
    brokers = ["--entity-type", "brokers", "--all", "--describe", "--entity-name"]
    contains(tools.run("ConfigCommand", *brokers, broker_ids(tools)[0]), "auto_create_topics")


def broker_ids(tools: Tools) -> list[str]:
    return re.findall(r"\(id: (\d+) rack", tools.run("BrokerApiVersionsCommand"))


def api_versions(tools: Tools):
    said = tools.run("BrokerApiVersionsCommand")
    contains(said, "Produce(0): ", "Fetch(1): ", "Metadata(3): ", "[usable: ")


def cluster_id(tools: Tools):
    contains(tools.run_bare("ClusterTool", "cluster-id", "--bootstrap-server", tools.bootstrap), "Cluster ID: ")


def console(tools: Tools):
    name = create(tools, "console", 1)
    fill(tools, name, 100)
    got = consume(tools, name, 100, "--formatter-property", "print.key=true")
    expect(got, [f"key{number}\tvalue {number}" for number in range(100)], "records")


def console_compressed(tools: Tools):
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        name = create(tools, codec)
        fill(tools, name, 200, f"compression.type={codec}")
        expect(consume(tools, name, 200), [f"value {number}" for number in range(200)], codec)


def get_offsets(tools: Tools):
    name = create(tools, "offsets", 2)
    fill(tools, name, 50)
    latest = tools.run("GetOffsetShell", "--topic", name)
    counts = [int(line.rsplit(":", 1)[1]) for line in latest.splitlines() if line.startswith(name)]
    expect(sum(counts), 50, "latest offsets")
    for time_spec, check in (("-2", {0}), ("earliest", {0}), ("max-timestamp", None), ("latest", None)):
        said = tools.run("GetOffsetShell", "--topic", name, "--time", time_spec)
        found = {int(line.rsplit(":", 1)[1]) for line in said.splitlines() if line.startswith(name)}
        expect(bool(found), True, f"offsets for {time_spec}")
        if check is not None:
            expect(found, check, f"offsets for {time_spec}")


def verifiable(tools: Tools):
    name = create(tools, "verifiable", 2)
    said = tools.run("VerifiableProducer", "--topic", name, "--max-messages", "1000", "--throughput", "-1", "--acks", "-1")
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    expect(len([event for event in events if event["name"] == "producer_send_success"]), 1000, "acknowledged")
    done = next(event for event in events if event["name"] == "tool_data")
    expect((done["sent"], done["acked"]), (1000, 1000), "the tool's own count")


def verifiable_consumer(tools: Tools):
    name = create(tools, "verifiable-consumer", 2)
    tools.run("VerifiableProducer", "--topic", name, "--max-messages", "500", "--throughput", "-1")
    own = ["--topic", name, "--group-id", topic("verifiable"), "--max-messages", "500", "--reset-policy", "earliest"]
    said = tools.run("VerifiableConsumer", *own)
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    consumed = sum(event["count"] for event in events if event["name"] == "records_consumed")
    expect(consumed, 500, "records consumed")
    commits = [event for event in events if event["name"] == "offsets_committed"]
    expect(bool(commits) and all(event["success"] for event in commits), True, f"commits: {commits[:3]}")


def producer_perf(tools: Tools):
    name = create(tools, "perf", 2)
    own = ["--topic", name, "--num-records", "20000", "--record-size", "1024", "--throughput", "-1"]
    said = tools.run_bare("ProducerPerformance", *own, "--bootstrap-server", tools.bootstrap)
    contains(said, "20000 records sent", "99.9th")
    return name


def consumer_perf(tools: Tools):
    name = producer_perf(tools)
    own = ["--topic", name, "--num-records", "20000", "--timeout", "30000"]
    said = tools.run("ConsumerPerformance", *own)
    last = said.strip().splitlines()[-1].split(",")
    expect(int(last[4]) >= 20_000, True, f"records consumed: {said[-300:]}")


def end_to_end(tools: Tools):
    name = create(tools, "latency")
    own = ["--topic", name, "--num-records", "200", "--producer-acks", "all", "--record-size", "100"]
    contains(tools.run("EndToEndLatency", *own), "Percentiles")


def consumer_groups(tools: Tools):
    name, group = create(tools, "groups", 2), topic("group")
    fill(tools, name, 40)
    consume(tools, name, 40, "--group", group)
    contains(tools.run(GROUP, "--list"), group)
    contains(tools.run("GroupsCommand", "--list"), group, "Classic")
    described = contains(tools.run(GROUP, "--describe", "--group", group), "CURRENT-OFFSET")
    rows = [line.split() for line in described.splitlines() if line.startswith(group)]
    expect(sum(int(row[3]) for row in rows), 40, "committed offsets")
    expect({row[5] for row in rows}, {"0"}, "lag")
    contains(tools.run(GROUP, "--describe", "--state", "--group", group), "Empty")
    reset = ["--reset-offsets", "--group", group, "--topic", name, "--to-earliest", "--execute"]
    contains(tools.run(GROUP, *reset), "NEW-OFFSET")
    described = tools.run(GROUP, "--describe", "--group", group)
    rows = [line.split() for line in described.splitlines() if line.startswith(group)]
    expect({row[3] for row in rows}, {"0"}, "offsets after the reset")
    contains(tools.run(GROUP, "--delete-offsets", "--group", group, "--topic", name), "Successful")
    contains(tools.run(GROUP, "--delete", "--group", group), "successful")
    expect(group in tools.run(GROUP, "--list"), False, "the group is gone")


def group_members(tools: Tools):
    name, group = create(tools, "members", 2), topic("members-group")
    own = ["--topic", name, "--group", group]
    with tools.background(CONSUMER, *own), tools.background(CONSUMER, *own):
        described = lambda: tools.run(GROUP, "--describe", "--members", "--group", group)  # noqa: E731
        both = until("two members share two partitions", lambda: two_members(described(), group), 60)
        expect(sorted(both), ["1", "1"], "partitions of each")
        contains(tools.run(GROUP, "--describe", "--state", "--group", group), "Stable")
        # The tool says that it failed and ends with status 0.
        contains(tools.run(GROUP, "--delete", "--group", group), "not empty")
    until("the group empties", lambda: "Empty" in tools.run(GROUP, "--describe", "--state", "--group", group), 60)


def two_members(described: str, group: str) -> list[str] | None:
    rows = [line.split() for line in described.splitlines() if line.startswith(group)]
    counts = [row[4] for row in rows]
    return counts if counts == ["1", "1"] else None


def new_protocol(tools: Tools):
    name, group = create(tools, "new-protocol", 2), topic("kip-848")
    fill(tools, name, 20)
    consume(tools, name, 20, "--group", group, "--command-property", "group.protocol=consumer")
    contains(tools.run("GroupsCommand", "--list"), group, "Consumer")
    contains(tools.run(GROUP, "--describe", "--state", "--group", group), "Empty")


def transactions(tools: Tools):
    source, name, group = create(tools, "txn-source"), create(tools, "txn-target"), topic("txn-group")
    fill(tools, source, 100)
    transactional_id = topic("copier")
    copy = ["--input-topic", source, "--input-partition", "0", "--output-topic", name, "--broker-list", tools.bootstrap]
    copy += ["--transactional-id", transactional_id, "--consumer-group", group, "--max-messages", "100"]
    copy += ["--transaction-size", "10", "--enable-random-aborts"]
    contains(tools.run_bare("TransactionalMessageCopier", *copy), "remaining")
    got = consume(tools, name, 100, "--isolation-level", "read_committed")
    expect(sorted(got), sorted(f"value {number}" for number in range(100)), "each record once")
    contains(tools.run("TransactionsCommand", "list"), transactional_id, "TransactionalId")
    said = tools.run("TransactionsCommand", "describe", "--transactional-id", transactional_id)
    contains(said, "CompleteCommit")
    said = tools.run("TransactionsCommand", "describe-producers", "--topic", name, "--partition", "0")
    contains(said, "ProducerId", "LastSequence")
    tools.run("TransactionsCommand", "find-hanging", "--broker-id", broker_ids(tools)[0])


def abandoned_transaction(tools: Tools):
    name = create(tools, "abandoned")
    where = ["--topic", name, "--partition", "0"]
    begun = ["--topic", name, "--num-records", "100000", "--record-size", "100", "--throughput", "20"]
    begun += ["--transactional-id", topic("abandoner"), "--transaction-duration-ms", "600000"]
    with tools.background("ProducerPerformance", *begun):
        until("a transaction is open", lambda: open_transaction(tools, where))
    start = open_transaction(tools, where)
    fill(tools, name, 10)
    seen = ["--topic", name, "--from-beginning", "--isolation-level", "read_committed", "--timeout-ms", "3000"]
    expect("value" in tools.run(CONSUMER, *seen), False, "what comes after an open transaction is seen")
    tools.run("TransactionsCommand", "abort", *where, "--start-offset", start)
    expect(open_transaction(tools, where), None, "the transaction that was aborted")
    got = consume(tools, name, 10, "--isolation-level", "read_committed")
    expect(got, [f"value {number}" for number in range(10)], "what a reader sees after the abort")


def open_transaction(tools: Tools, where: list[str]) -> str | None:
    """The first offset of the transaction that a producer has open in a partition."""
    said = tools.run("TransactionsCommand", "describe-producers", *where)
    starts = [line.split()[-1] for line in said.splitlines()[1:] if line]
    return next((start for start in starts if start.isdigit()), None)


def delete_records(tools: Tools):
    name = create(tools, "delete-records")
    fill(tools, name, 30)
    wanted = {"partitions": [{"topic": name, "partition": 0, "offset": 10}], "version": 1}
    path = tools.logs / "delete.json"
    path.write_text(json.dumps(wanted))
    contains(tools.run("DeleteRecordsCommand", "--offset-json-file", str(path)), "low_watermark: 10")
    contains(tools.run("GetOffsetShell", "--topic", name, "--time", "-2"), f"{name}:0:10")
    expect(consume(tools, name, 20), [f"value {number}" for number in range(10, 30)], "what is left")


def log_dirs(tools: Tools):
    name = create(tools, "log-dirs")
    fill(tools, name, 10)
    said = tools.run("LogDirsCommand", "--describe", "--topic-list", name)
    reply = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    found = [p for b in reply["brokers"] for d in b["logDirs"] for p in d["partitions"] if p["partition"] == f"{name}-0"]
    expect(len(found), 1, f"one broker has the partition: {said[-400:]}")
    expect(found[0]["size"] > 0 and found[0]["offsetLag"] == 0, True, f"its size and lag: {found}")


def compatibility(tools: Tools):
    """Kafka's own check of what clients may use, as its system tests run it against old brokers."""
    name = create(tools, "compatibility")
    own = ["--num-cluster-nodes", str(len(broker_ids(tools))), "--topic", name]
    wanted = {
        "offsets-for-times-supported": "true",
        "cluster-id-supported": "true",
        "expect-record-too-large-exception": "false",
        "create-topics-supported": "true",
        "describe-acls-supported": "false",
        "describe-configs-supported": "true",
        "idempotent-producer-supported": "true",
    }
    options = [part for key, value in wanted.items() for part in (f"--{key}", value)]
    contains(tools.run("ClientCompatibilityTest", *own, *options), "SUCCESS")


def later_lines(tools: Tools):
    """A consumer that waits at the end gets what is produced afterwards, soon."""
    name = create(tools, "later")
    with tools.background(CONSUMER, "--topic", name, "--partition", "0", "--offset", "earliest") as consumer:
        time.sleep(3)
        fill(tools, name, 5)
        until("the consumer prints them", lambda: consumer.path.read_text().count("value ") == 5)


ALL = {
    "kafka-topics": topics,
    "kafka-configs": configs,
    "kafka-broker-api-versions": api_versions,
    "kafka-cluster": cluster_id,
    "kafka-console-producer and -consumer": console,
    "the console tools with each codec": console_compressed,
    "kafka-console-consumer waits for records": later_lines,
    "kafka-get-offsets": get_offsets,
    "kafka-verifiable-producer": verifiable,
    "kafka-verifiable-consumer": verifiable_consumer,
    "kafka-producer-perf-test": producer_perf,
    "kafka-consumer-perf-test": consumer_perf,
    "kafka-e2e-latency": end_to_end,
    "kafka-consumer-groups": consumer_groups,
    "kafka-consumer-groups with members": group_members,
    "KIP-848 with the console consumer": new_protocol,
    "kafka-transactions and the message copier": transactions,
    "kafka-transactions abort": abandoned_transaction,
    "kafka-delete-records": delete_records,
    "kafka-log-dirs": log_dirs,
    "ClientCompatibilityTest": compatibility,
}
CORE = {
    "kafka-topics",
    "kafka-console-producer and -consumer",
    "kafka-verifiable-consumer",
    "kafka-producer-perf-test",
    "KIP-848 with the console consumer",
    "kafka-transactions and the message copier",
}
