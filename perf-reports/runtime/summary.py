#!/usr/bin/env python3
"""Prints the tables of this report: for each run and runtime the median, smallest and largest of the turns, and the ratio to the first."""

import glob
import json
import os
import re
import statistics
import sys

RUNS = [
    ("fsync, 1 KiB, 1,000/s", "fsync", ["p50_us", "p99_us", "limit_p50_us", "ratio_p50", "cpu_us"]),
    ("async, 1 KiB, 1,000/s", "async", ["p50_us", "p99_us", "cpu_us"]),
    ("the same with a consumer at the tail, end to end", "tail", ["end_to_end_p50_us", "end_to_end_p99_us", "cpu_us"]),
    ("async, 1 KiB, closed loop of 32", "async-closed", ["rate_achieved", "cpu_us"]),
    ("fsync, 1 KiB, closed loop of 32", "fsync-closed", ["rate_achieved", "cpu_us"]),
    ("consume from memory", "consume", ["mb_per_s"]),
    ("fsync, 1 MB batches, closed loop of 8", "large-fsync", ["mb_per_s", "cpu_us"]),
]
TITLES = {"cpu_us": "broker CPU µs a record", "rate_achieved": "records/s", "mb_per_s": "MB/s", "ratio_p50": "p50 / limit"}
WARMUP_SECONDS = 1


def load(folder, side, name):
    found = {}
    for path in glob.glob(os.path.join(folder, f"{side}-{name}-[0-9]*.json")):
        with open(path, encoding="utf-8") as file:
            found[int(re.search(r"-(\d+)\.json$", path).group(1))] = figures(json.load(file))
    return found


def disturbed_turns(folder, sides):
    """Turns in which the disk could not do the raw writes of the limit: something else was using the machine."""
    return {turn for side in sides for turn, run in load(folder, side, "fsync").items() if run["limits"]["is_saturated"]}


def figures(run):
    if run["errors"]:
        sys.exit(f"a run with errors is not a measurement: {run['name']}")
    if run.get("acked_records") and "broker_cpu_ns" in run:
        records = run["acked_records"] / run["seconds"] * (run["seconds"] + WARMUP_SECONDS)
        run["cpu_us"] = run["broker_cpu_ns"] / 1000 / records
    return run


def spread(values):
    if not values:
        return "-"
    digits = 0 if statistics.median(values) >= 100 else 2
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def column(runs, key):
    return [run[key] for run in runs.values() if key in run]


def main(folder):
    sides = {re.search(r"([^/]*)-large-fsync-\d+\.json$", path).group(1)
             for path in glob.glob(os.path.join(folder, "*-large-fsync-*.json"))}
    sides = sorted(sides, key=lambda side: (len(side), side))
    others = "".join(f" {side} | {side} / {sides[0]}, turn by turn |" for side in sides[1:])
    disturbed = disturbed_turns(folder, sides)
    print(f"| run | figure | {sides[0]} |{others}")
    print("| --- | --- |" + " --- |" * (2 * len(sides) - 1))
    for title, name, keys in RUNS:
        runs = {side: {turn: run for turn, run in load(folder, side, name).items() if turn not in disturbed} for side in sides}
        base = runs[sides[0]]
        for key in keys:
            row = [title, TITLES.get(key, key.replace("_us", " µs").replace("_", " ")), spread(column(base, key))]
            for side in sides[1:]:
                pairs = [(run[key], base[turn][key]) for turn, run in runs[side].items() if turn in base and key in run]
                row.append(spread(column(runs[side], key)))
                row.append(spread([ours / theirs for ours, theirs in pairs]))
            print("| " + " | ".join(row) + " |")
            title = ""
    if disturbed:
        print(f"\nTurns left out because the disk could not do the writes of the limit: {len(disturbed)}.")
    calls(folder, sides)
    disk = [json.load(open(path, encoding="utf-8")) for path in sorted(glob.glob(os.path.join(folder, "disk-*.json")))]
    print(f"\nThe disk alone, in the same minutes: {spread([run['write_mb_per_s'] for run in disk])} MB/s of sequential durable writes.")


def calls(folder, sides):
    print("\nSystem calls of the broker for one request at 1,000/s:\n")
    table = {}
    heads = [(side, name) for name in ("fsync", "async") for side in sides]
    for head in heads:
        path = os.path.join(folder, f"{head[0]}-{head[1]}.calls")
        if not os.path.exists(path):
            continue
        with open(path, encoding="utf-8") as file:
            for call, count in (line.split() for line in file):
                table.setdefault(call, {})[head] = float(count)
    print("| call |" + "".join(f" {name}, {side} |" for side, name in heads))
    print("| --- |" + " --- |" * len(heads))
    for call, counts in table.items():
        if max(counts.values()) >= 0.01:
            print(f"| {call} |" + "".join(f" {counts.get(head, 0):.2f} |" for head in heads))


main(sys.argv[1])
