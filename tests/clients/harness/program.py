"""Runs the cases of a Python client program one after the other and reports each: see `contract`."""

import asyncio
import inspect
import json
import os
import sys
import time
import traceback

BOOTSTRAP = os.environ.get("HEDDLE_BOOTSTRAP", "127.0.0.1:9092")
ONLY = os.environ.get("CLIENTS_ONLY")
CASE_SECONDS_MAX = 60


class Skip(Exception):
    """The client has no such feature; the text says why that is no fault of the broker's."""


CASES = []


def case(name):
    """Marks a function as the case of this name."""

    def add(function):
        CASES.append((name, function))
        return function

    return add


def topic(name: str) -> str:
    """A topic name of this run's own."""
    return f"{name}-{time.time_ns():x}"


def expect(found, wanted, what: str) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: {found!r} instead of {wanted!r}")


def until(what: str, condition, seconds: float = 30):
    """Waits for a condition to give something; what it gave."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
    return found


def main() -> None:
    for name, function in CASES:
        if ONLY and ONLY not in name:
            continue
        outcome, reason = "passed", ""
        try:
            if inspect.iscoroutinefunction(function):
                asyncio.run(asyncio.wait_for(function(), CASE_SECONDS_MAX))
            else:
                function()
        except Skip as skip:
            outcome, reason = "skipped", str(skip)
        except Exception as error:  # whatever a client raises is the finding
            traceback.print_exc()
            outcome, reason = "failed", f"{type(error).__name__}: {error}"[:500]
        print(json.dumps({"case": name, "outcome": outcome, "reason": reason}), flush=True)
    sys.stdout.flush()
