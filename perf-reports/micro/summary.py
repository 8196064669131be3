#!/usr/bin/env python3
"""Prints one table of the results of run.sh: times, instructions and allocations, with what differs from the baseline.

    summary.py RESULTS BASELINE
"""

import re
import sys
from pathlib import Path


def read_counts(path):
    """Instructions and allocations by piece, in order; empty if there is no such file."""
    if not path.is_file():
        return {}
    lines = (line.split("\t") for line in path.read_text().splitlines())
    return {piece: (instructions, allocations) for piece, instructions, allocations in lines}


def read_times(path):
    """Fastest and median time by piece, as divan prints them; empty if none were measured."""
    if not path.is_file():
        return {}
    row = re.compile(r"[├╰]─ (\S+)\s+([\d.]+ \S+)\s+│ [\d.]+ \S+\s+│ ([\d.]+ \S+)\s+│")
    return {found[1]: (found[2], found[3]) for found in map(row.search, path.read_text().splitlines()) if found}


def difference(now, before):
    """How much a count differs from the baseline, in words."""
    if before is None:
        return "new"
    if now == "-" or before == "-" or now == before:
        return "" if now == before else f"was {before}"
    change = 100 * (int(now) - int(before)) / int(before)
    return f"{change:+.1f} %"


def main():
    results, baseline = Path(sys.argv[1]), Path(sys.argv[2])
    counts, times, before = (
        read_counts(results / "counts.tsv"),
        read_times(results / "times.txt"),
        read_counts(baseline),
    )
    print("| piece | fastest | median | instructions | against the baseline | allocations | baseline |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for piece, (instructions, allocations) in counts.items():
        fastest, median = times.get(piece, ("", ""))
        known = before.get(piece, (None, "new"))
        print(
            f"| `{piece}` | {fastest} | {median} | {instructions} | {difference(instructions, known[0])}"
            f" | {allocations} | {known[1]} |"
        )
    for piece in before.keys() - counts.keys():
        print(f"| `{piece}` | gone | | | | | |")


main()
