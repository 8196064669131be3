"""Reads what `go tool test2json` says of a test run."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from harness.results import FAILED, PASSED, SKIPPED, Case

# Why a test that skips itself may: what a user is told, not what the test says of its setup.
SKIPS = {
    "SCRAM": "the broker has no authentication",
    "OAuth": "the broker has no authentication",
    "Share": "the broker has no share groups (KIP-932)",
    "BrokerTooOld": "for brokers that do not advertise produce 0 to 2; this one does, for the sake of older librdkafka",
}


def read(log: Path, names: list[str]) -> Iterator[Case]:
    """The innermost tests of a run, each with how it ended."""
    ended, output, depth = {}, {}, {}
    for line in log.read_text(errors="replace").splitlines():
        event = json.loads(line) if line.startswith("{") else {}
        test = event.get("Test")
        if test is None:
            continue
        output.setdefault(test, [])
        if event["Action"] == "output":
            output[test].append(event["Output"])
            # How far the verdict is indented tells `a/b/c` below `a/b` from `b/c` below `a`.
            if verdict := re.match(r"( *)--- ", event["Output"]):
                depth[test] = len(verdict[1])
        elif event["Action"] in ("pass", "fail", "skip"):
            ended[test] = event
    for test in names:
        output.setdefault(test, [])
    for test in sorted(output):
        below = [o for o in output if o.startswith(f"{test}/") and depth.get(o, 0) == depth.get(test, 0) + 4]
        failed_itself = ended.get(test, {}).get("Action") == "fail" and all(
            ended.get(other, {}).get("Action") in ("pass", "skip") for other in below
        )
        # A test around others counts if it failed by itself, or did not get to its end: then some were not begun.
        if not below or failed_itself or test not in ended:
            yield case(test, ended.get(test), output[test], log)


def case(test: str, event: dict | None, output: list[str], log: Path) -> Case:
    said = [line.strip() for line in output if not re.match(r"\s*(===|---)", line) and line.strip()]
    if event is None:
        return Case(test, FAILED, f"did not finish; {log}")
    seconds = event.get("Elapsed", 0.0)
    if event["Action"] == "skip":
        own = next((reason for word, reason in SKIPS.items() if word.lower() in test.lower()), "")
        return Case(test, SKIPPED, own or " ".join(said), seconds)
    if event["Action"] == "fail":
        return Case(test, FAILED, " ".join(said)[:600], seconds)
    return Case(test, PASSED, "", seconds)
