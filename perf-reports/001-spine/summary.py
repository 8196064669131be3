#!/usr/bin/env python3
"""Prints the table of this report from the JSON of its runs: median, and the smallest and largest of the turns."""

import glob
import json
import os
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


def main(folder):
    print("| run | p50 µs | p99 µs | limit p50 µs | ratio p50 | ratio p99 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for title, name in [
        ("fsync, 1 KiB, 1,000/s, native", "durable-native"),
        ("the same, generator not pinned", "durable-shared"),
        ("fsync, 1 KiB, 1,000/s, kafka", "durable-kafka"),
        ("the same with a subscribed consumer", "end-to-end"),
        ("fsync, 1 KiB, 5,000/s, 1 partition", "partitions-1"),
        ("fsync, 1 KiB, 5,000/s, 1,000 partitions", "partitions-1000"),
    ]:
        found = runs(folder, name)
        keys = [("p50_us", 0), ("p99_us", 0), ("limit_p50_us", 0), ("ratio_p50", 2), ("ratio_p99", 2)]
        print(f"| {title} | " + " | ".join(column(found, key, digits) for key, digits in keys) + " |")
    end = runs(folder, "end-to-end")
    print(f"\nEnd to end (producer's schedule to subscribed consumer): p50 {column(end, 'end_to_end_p50_us')} µs, "
          f"p99 {column(end, 'end_to_end_p99_us')} µs.\n")
    print("| run | MB/s |")
    print("| --- | --- |")
    for title, name, key in [
        ("fsync, 1 MB batches, one producer", "large-fsync", "mb_per_s"),
        ("async, 1 MB batches, one producer", "large-async", "mb_per_s"),
        ("cold read from the beginning, native", "cold-read", "mb_per_s"),
        ("limit: sequential direct read", "disk", "read_mb_per_s"),
        ("limit: sequential durable write", "disk", "write_mb_per_s"),
    ]:
        print(f"| {title} | {column(runs(folder, name), key)} |")
    print("\n| fact | value |")
    print("| --- | --- |")
    with open(os.path.join(folder, "facts.txt"), encoding="utf-8") as facts:
        for line in facts:
            name, value = line.split()
            print(f"| {name.replace('_', ' ')} | {value} |")


main(sys.argv[1])
