#!/usr/bin/env python3
"""Runs the cells that have no result yet: `measure.py RESULTS WORK`. Called by run.sh, which sets its environment."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import brokers
import cells
import facts
import process

PRODUCERS = 8
IN_FLIGHT_MAX = 8
DRAIN_S = 2
# At the end of a run the generator ends its connections and threads; the broker's processor time is read before that.
SKIP_S = 0.2


class BrokerGone(Exception):
    """The broker died, or cannot be connected to: the rest of its life has no results."""


def load_command(port, topic, broker, durability, partitions, record_bytes, shape, rate, warmup_s, duration_s):
    """The generator's command line; the same for both brokers but for port and topic configs."""
    command = [
        f"{os.environ['HEDDLE_BIN_DIR']}/heddle-loadgen", "run", "--json",
        "--target", f"kafka://127.0.0.1:{port}",
        "--topic", topic, "--partitions", str(partitions), "--replication-factor", "1",
        "--producers", str(PRODUCERS), "--in-flight-max", str(IN_FLIGHT_MAX), "--acks", "all",
        "--record-bytes", str(record_bytes), "--rate", str(rate),
        "--warmup", f"{warmup_s}s", "--duration", f"{duration_s}s", "--drain", f"{DRAIN_S}s",
    ]  # fmt: skip
    for config in brokers.TOPIC_CONFIGS[broker, durability]:
        command += ["--config", config]
    if shape == "single":
        return [*command, "--batch-records", "1"]
    batch_bytes = cells.BATCH_BYTES[record_bytes]
    return [*command, "--batch-bytes", str(batch_bytes), "--linger-us", str(cells.LINGER_US)]


def warm_up(broker, life, plan):
    """Makes the JVM compile, and writes once to every partition of the measured topic."""
    load = (cells.MAIN_RECORD_BYTES, "single", cells.MAX, 0)
    warm = generate(load_command(broker.port, "warm", life.broker, "async", 16, *load, plan.warm_s))
    place = ("measured", life.broker, life.durability, life.partitions)
    prime = generate(load_command(broker.port, *place, *load, plan.priming_s(life)))
    for run in (warm, prime):
        if run["errors"]:
            print(f"errors while {life.broker} was warmed up: {run['errors_by_kind']}", flush=True)
    # Batches go to the partitions in turn, by producers that begin evenly spread.
    if prime["acked_batches"] < life.partitions * 1.5:
        print(f"the warm-up of {life.broker} was too short for {life.partitions} partitions", flush=True)


def generate(command):
    """Runs the generator; its figures."""
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    # 1 says that batches failed, which the figures say too.
    if ended.returncode not in (0, 1):
        raise BrokerGone(f"{' '.join(command)}\n{ended.stderr}")
    return json.loads(ended.stdout)


def run_cell(broker, cell):
    """Runs one cell. Its result is the generator's figures and what the broker used for them."""
    os.sync()
    load = (cell.durability, cell.partitions, cell.record_bytes, cell.shape, cell.rate)
    command = load_command(broker.port, "measured", cell.broker, *load, cell.warmup_s, cell.duration_s)
    with process.CpuSampler(broker.pid) as sampler:
        run = generate(command)
    if not broker.is_alive:
        raise BrokerGone(f"the broker died in {cell.name}")
    return {
        "cell": vars(cell),
        "run": run,
        "broker": {
            "cpus": sampler.cpus_of_last(cell.duration_s, SKIP_S),
            **process.memory_kib(broker.pid),
        },
        "command": command[1:],
        "ended": time.time(),
    }


def write_json(path, value):
    """As a whole or not at all, so that a run that is cut off leaves no half result."""
    half = path.with_suffix(".part")
    half.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    half.replace(path)


def show(cell, result):
    run = result["run"]
    print(
        f"{cell.name:<48} {run['rate_achieved']:>9.0f}/s  p50 {run['p50_us']:>9.0f}  p99 {run['p99_us']:>9.0f} us  "
        f"cpus {result['broker']['cpus'] or 0:.2f}  RSS {result['broker']['rss_kib'] // 1024} MiB  errors {run['errors']}",
        flush=True,
    )


def run_life(life, missing, plan, results, work, port):
    """Runs the missing cells of a life; `False` when the broker did not live to see the end of them."""
    broker = brokers.start(life.broker, work, port)
    try:
        warm_up(broker, life, plan)
        for cell in missing:
            result = run_cell(broker, cell)
            write_json(results / f"{cell.name}.json", result)
            show(cell, result)
        return True
    except BrokerGone as gone:
        log = results / f"died-{life.block}-{life.broker}-{life.turn}.log"
        log.write_text(f"{gone}\n\n{broker.log_text()}", encoding="utf-8")
        print(f"{life.broker} did not live to the end of {life.block}, turn {life.turn}: {log}", flush=True)
        return False
    finally:
        broker.end()


def main():
    # As an exception, so that the broker that is alive is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results, work = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    port = int(os.environ.get("PORT", "29492"))
    plan = cells.plan_from_environment()
    if os.environ.get("FRESH") == "1":
        for path in results.glob("*.json"):
            path.unlink()
    todo = []
    for life in plan.lives:
        missing = [cell for cell in life.cells if not (results / f"{cell.name}.json").exists()]
        if missing:
            todo.append((life, missing))
    seconds = sum(plan.seconds(life) * len(missing) / len(life.cells) for life, missing in todo)
    count = sum(len(missing) for _, missing in todo)
    print(f"{count} cells in {len(todo)} lives of a broker: about {seconds / 60:.0f} minutes", flush=True)
    write_json(results / "facts.json", facts.gather(work, port))
    begun = time.monotonic()
    lived = [run_life(life, missing, plan, results, work, port) for life, missing in todo]
    print(f"took {(time.monotonic() - begun) / 60:.1f} minutes", flush=True)
    if not all(lived):
        print(f"{lived.count(False)} lives ended early: run it again for what is missing", flush=True)


main()
