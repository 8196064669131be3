"""What every small program shows with its client library, and how its report is read.

A program prints one JSON object a line: `{"case": NAME, "outcome": "passed"|"failed"|"skipped", "reason": TEXT}`. A case
of the contract that is not reported counts as failed, so a program that dies or forgets one cannot pass.
"""

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from .results import FAILED, Case
from .suite import Context

CASES = {
    "compression": "records come back with no compression, gzip, snappy, lz4 and zstd",
    "idempotent": "an idempotent producer writes each record once and in order",
    "admin": "a topic is created, listed, described, given configs and partitions, and deleted",
    "groups": "members share a topic, rebalance when one joins and one leaves, commit, and go on from the commit",
    "transactions": "committed records are read, aborted ones are not; offsets commit with the transaction",
    "headers": "headers come back in order, repeated names and empty values included",
    "tombstones": "a record without a value has none when it is read, and an empty value is empty",
    "timestamps": "the producer's timestamps are kept; with LogAppendTime the broker's count",
    "offsets by time": "offsets are found by time; earliest and latest too",
    "delete records": "after delete-records reading begins at the first record left",
    "big messages": "a message just under max.message.bytes goes through, one above it is refused",
    "unknown topic": "producing to and reading from a topic that does not exist says so",
}
SECONDS_MAX = 240


def run(context: Context, command: list, cwd: Path, environment: dict[str, str] | None = None) -> Iterator[Case]:
    """Runs a program against the broker and reads its report."""
    said = {}
    for case in reports(context, command, cwd, environment or {}):
        said[case.name] = case
        yield case
    for name in CASES:
        if name not in said and context.wants(name):
            yield Case(name, FAILED, "the program did not report it")


def reports(context: Context, command: list, cwd: Path, environment: dict[str, str]) -> Iterator[Case]:
    own = {"HEDDLE_BOOTSTRAP": context.bootstrap, "CLIENTS_CORE": "1" if context.core else ""}
    if context.only:
        own["CLIENTS_ONLY"] = context.only
    with (context.logs / "program.log").open("wb") as log:
        program = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env=os.environ | own | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        watchdog = threading.Timer(SECONDS_MAX, program.kill)
        watchdog.start()
        try:
            begun = time.monotonic()
            for line in program.stdout:
                if not line.startswith('{"case"'):
                    log.write(line.encode())
                    continue
                said = json.loads(line)
                now = time.monotonic()
                yield Case(said["case"], said["outcome"], said.get("reason", ""), round(now - begun, 1))
                begun = now
            status = program.wait()
        finally:
            watchdog.cancel()
            program.kill()
            program.wait()
    if status != 0:
        yield Case("the program ends by itself", FAILED, f"status {status}; its output is {log.name}")
