#!/usr/bin/env python3
"""Prints the tables of this report from the JSON of its runs: median, and the smallest and largest of the turns."""

import glob
import json
import os
import re
import statistics
import sys


def runs(folder, name):
    found = []
    for path in sorted(glob.glob(os.path.join(folder, name + "-[0-9].json"))):
        with open(path, encoding="utf-8") as file:
            found.append(json.load(file))
    return found


def spread(values, digits=0):
    values = [value for value in values if value is not None]
    if not values:
        return "-"
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def column(found, key, digits=0):
    return spread([run.get(key) for run in found], digits)


def latencies(folder):
    print("| run | p50 µs | p99 µs | limit p50 µs | limit p99 µs | ratio p50 | ratio p99 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    loads = [
        ("1,000/s, native", "native"),
        ("1,000/s, kafka", "kafka"),
        ("1,000/s, native, with a subscribed consumer", "end-to-end"),
        ("10,000/s, 16 producers, native", "sixteen"),
    ]
    keys = [("p50_us", 0), ("p99_us", 0), ("limit_p50_us", 0), ("limit_p99_us", 0), ("ratio_p50", 2), ("ratio_p99", 2)]
    for profile in ("latency", "balanced"):
        for title, name in loads:
            found = runs(folder, f"{profile}-{name}")
            cells = " | ".join(column(found, key, digits) for key, digits in keys)
            print(f"| {title}, profile {profile} | {cells} |")
    for title, name in [("5,000/s, 1 partition", "partitions-1"), ("5,000/s, 1,000 partitions", "partitions-1000")]:
        found = runs(folder, name)
        print(f"| {title}, profile latency | {column(found, 'p50_us')} | {column(found, 'p99_us')} | | | | |")


def end_to_end(folder):
    print("\n| profile | end to end p50 µs | end to end p99 µs | minus the produce p50 of the same run |")
    print("| --- | --- | --- | --- |")
    for profile in ("latency", "balanced"):
        found = runs(folder, f"{profile}-end-to-end")
        more = [run["end_to_end_p50_us"] - run["p50_us"] for run in found]
        print(f"| {profile} | {column(found, 'end_to_end_p50_us')} | {column(found, 'end_to_end_p99_us')} | {spread(more)} |")


def throughput(folder):
    print("\n| run | MB/s |")
    print("| --- | --- |")
    for title, name, key in [
        *(
            (f"{title}, profile {profile}", f"{profile}-{name}", key)
            for profile in ("balanced", "latency")
            for title, name, key in [
                ("fsync, 1 MB batches, one producer", "large-fsync", "mb_per_s"),
                ("async, 1 MB batches, one producer", "large-async", "mb_per_s"),
                ("consume from memory, native", "memory", "mb_per_s"),
                ("limit beside these: one connection over loopback", "disk", "loopback_mb_per_s"),
                ("limit beside these: sequential durable write, new space", "disk", "first_write_mb_per_s"),
                ("limit beside these: sequential durable write, over old data", "disk", "write_mb_per_s"),
            ]
        ),
        ("cold read from the beginning, native, profile balanced", "cold-read", "mb_per_s"),
        ("limit beside it: direct reads of a topic's own segments", "raw-read", "raw_read_mb_per_s"),
    ]:
        print(f"| {title} | {column(runs(folder, name), key)} |")


def calls(folder):
    """System calls for one request: what strace counted, divided by the requests in its seconds."""
    path = os.path.join(folder, "calls.txt")
    if not os.path.exists(path):
        return
    counts = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            row = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)\s*$", line)
            if row:
                counts[row.group(2)] = int(row.group(1))
    requests = counts.get("recvfrom", 0)
    if not requests:
        return
    print("\n| system call | for one request at 1,000/s |")
    print("| --- | --- |")
    for name in sorted(counts, key=counts.get, reverse=True):
        if name != "total" and counts[name] * 100 > requests:
            print(f"| {name} | {counts[name] / requests:.2f} |")


def main(folder):
    latencies(folder)
    end_to_end(folder)
    throughput(folder)
    calls(folder)
    print("\n| fact | value |")
    print("| --- | --- |")
    with open(os.path.join(folder, "facts.txt"), encoding="utf-8") as facts:
        for line in facts:
            name, value = line.split()
            print(f"| {name} | {value} |")
    bad = [os.path.basename(path) for path in sorted(glob.glob(os.path.join(folder, "*.json")))
           if (json.load(open(path, encoding="utf-8")) or {}).get("errors")]
    print("\nRuns with errors: " + (", ".join(bad) or "none") + ".")


if __name__ == "__main__":
    main(sys.argv[1])
