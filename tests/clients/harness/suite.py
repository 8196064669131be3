"""The main function of a suite's `run`: a fresh broker for each port mode, the suite's cases, its result files."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from . import broker, install, places
from .results import FAILED, PASSED, Case, Result

PORT_MODES = ("per-core", "single")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Runs this suite against a broker of its own; HEDDLE_BIN names it.")
    parser.add_argument("--port-mode", choices=PORT_MODES, action="append", help="only this one (may be repeated)")
    parser.add_argument("--core", action="store_true", help="a bounded selection")
    parser.add_argument("--results", type=Path, default=places.RESULTS, help="folder of the result files")
    parser.add_argument("--only", metavar="TEXT", help="only cases whose name holds this; writes no result file")
    return parser.parse_args()


class Context:
    """What a suite is told: where the broker is, how much to do, where its own files go."""

    def __init__(self, running: broker.Broker, core: bool, only: str | None, logs: Path):
        self.broker = running
        self.bootstrap = running.bootstrap
        self.core = core
        self.only = only
        self.logs = logs

    def wants(self, name: str) -> bool:
        return self.only is None or self.only in name


def main(
    folder: Path,
    version: Callable[[], str],
    cases: Callable[[Context], Iterator[Case]],
    settings: dict[str, str] | None = None,
) -> None:
    """Runs a suite; ends with status 1 if a case fails, 2 if something it needs is missing."""
    options = arguments()
    suite = folder.name
    try:
        # Installs as well, so that what is missing is said before a broker starts.
        client = version()
    except install.Missing as missing:
        print(f"{suite}: CANNOT RUN: {missing}", file=sys.stderr)
        sys.exit(2)
    holds = True
    for port_mode in options.port_mode or PORT_MODES:
        result = Result(suite, client, port_mode, "core" if options.core else "all", broker.version())
        run_once(result, options, cases, settings)
        print(result.line(), flush=True)
        if options.only is None:
            result.write(options.results)
        holds = holds and result.holds()
    sys.exit(0 if holds else 1)


def run_once(result: Result, options: argparse.Namespace, cases, settings) -> None:
    begun = time.monotonic()
    logs = places.LOGS / f"{result.suite}.{result.port_mode}"
    logs.mkdir(parents=True, exist_ok=True)
    with broker.Broker(result.port_mode, logs / "broker.log", settings) as running:
        for case in cases(Context(running, options.core, options.only, logs)):
            result.add(case)
            if case.outcome != PASSED or options.only is not None:
                print(f"  {case.outcome} {result.port_mode} {case.name}: {case.reason}", flush=True)
        result.add(broker_case(running))
        if result.cases[-1].outcome != PASSED:
            print(f"  {result.port_mode} broker: {result.cases[-1].reason}", flush=True)
    result.seconds = round(time.monotonic() - begun, 1)


def broker_case(running: broker.Broker) -> Case:
    """Whether the broker came through it: still there, stopping cleanly, nothing to complain about in its log."""
    name = "the broker stays up, stops cleanly and logs no warning"
    try:
        running.stop()
    except broker.BrokerFailed as failed:
        return Case(name, FAILED, str(failed))
    complaints = running.complaints()
    return Case(name, FAILED if complaints else PASSED, "; ".join(complaints[:3]))
