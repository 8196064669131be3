#!/usr/bin/env python3
"""Prints the table of this report from what its runs left: median, and the smallest and largest of the turns."""

import glob
import json
import os
import re
import statistics
import sys


def spread(values, digits=0):
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def texts(folder, name):
    for path in sorted(glob.glob(os.path.join(folder, name + "-[0-9].*"))):
        with open(path, encoding="utf-8") as file:
            yield file.read()


def values(folder, name, key):
    return [value for value in (json.loads(text).get(key) for text in texts(folder, name)) if value is not None]


def java_produce(folder, name):
    """Kafka's tool counts in MiB."""
    found = (re.search(r"\(([\d.]+) MB/sec\)", text) for text in texts(folder, name))
    return [float(match[1]) * 1.048576 for match in found if match]


def java_consume(folder):
    """Columns: start, end, MiB, MiB/s, records, records/s, rebalance ms, fetch ms, MiB/s while fetching, records/s."""
    rows = [text.split(",") for text in texts(folder, "java-consume")]
    return [float(row[8]) * 1.048576 for row in rows if len(row) >= 10]


def main(folder):
    idle = [json.load(open(path, encoding="utf-8"))["broker_cpu_percent"]
            for path in sorted(glob.glob(os.path.join(folder, "idle-[0-9]-cpu.json")))]
    before, beside = values(folder, "idle-produce", "p99_us"), values(folder, "compacting-produce", "p99_us")
    rows = [
        ("Java producer, 1 KiB, defaults, `fsync`, 16 partitions, MB/s", spread(java_produce(folder, "java-produce"))),
        ("the same client with acks=0 to an `async` topic, MB/s", spread(java_produce(folder, "java-unawaited"))),
        ("the generator with the Java client's batching, 8 producers, `fsync`, MB/s", spread(values(folder, "generator", "mb_per_s"))),
        ("Java consumer of the same, MB/s while fetching", spread(java_consume(folder))),
        ("disk beside these: durable writes into new space, MB/s", spread(values(folder, "disk", "first_write_mb_per_s"))),
        ("1,000 idle members, broker's processor time, % of a core", spread(idle)),
        ("1,000 members join and settle, ms", spread(values(folder, "idle", "first_settle_ms"))),
        ("200 members over 1,000 partitions, one leaves: settled again, ms", spread(values(folder, "rebalance", "rebalance_ms"))),
        ("of that, after the last member had joined again, ms", spread(values(folder, "rebalance", "settle_after_last_join_ms"))),
        ("produce at 1,000/s, `fsync`, p99 µs, nothing else", spread(before)),
        ("the same while compaction runs, p99 µs", spread(beside)),
        ("ratio of the two, turn by turn", spread([b / a for a, b in zip(before, beside) if a], 2)),
        ("bytes compacted meanwhile, MB", spread([v / 1e6 for v in values(folder, "compacted", "bytes_compacted_meanwhile")])),
        ("bytes produced to the compacted topic, GB", spread([v / 1e9 for v in
            [r * 1024 for r in values(folder, "fill", "acked_records")]], 1)),
        ("errors of the members", spread(values(folder, "idle", "errors") + values(folder, "rebalance", "errors"))),
    ]
    print("| what | median (smallest to largest) |")
    print("| --- | --- |")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main(sys.argv[1])
