"""A broker as a child process: free loopback ports, a temporary data directory, ended by its process id.

Its log is part of the result: a suite that makes the broker warn or fail has found something, whatever the client says.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from . import places

CORES = 2
READY_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60
# Below the range that the kernel hands out to outgoing connections.
PORTS = range(12_000, 32_000)
# Small, so that a suite runs beside other work; segments and messages are as in production.
SETTINGS = {"memory-bytes": "256MiB", "reserve-bytes": "64MiB", "spin-us": "0", "wal-file-bytes": "16MiB"}


class BrokerFailed(Exception):
    """The broker did not start, or ended by itself."""


def binary() -> Path:
    """The broker under test: HEDDLE_BIN, or the newest build of this tree."""
    if named := os.environ.get("HEDDLE_BIN"):
        path = Path(named).resolve()
        if not path.is_file():
            raise SystemExit(f"HEDDLE_BIN={named}: no such file; build it or unset the variable")
        return path
    target = Path(os.environ.get("CARGO_TARGET_DIR", places.TOP / "target"))
    built = [path for path in (target / "release/heddle", target / "debug/heddle") if path.is_file()]
    if not built:
        raise SystemExit("no broker to test: `cargo build --release --bins`, or set HEDDLE_BIN")
    return max(built, key=lambda path: path.stat().st_mtime)


def version() -> str:
    """What the broker says it is, and how it was built as far as its path tells."""
    said = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    kind = binary().parent.name
    return f"{said} ({kind} build)" if kind in ("release", "debug") else said


def free_ports(count: int) -> int:
    """The first of so many consecutive ports that nobody listens on."""
    first = PORTS.start + (os.getpid() * 31) % (len(PORTS) - count)
    for _ in range(len(PORTS) // count):
        if all(is_free(port) for port in range(first, first + count)):
            return first
        first += count
        if first + count > PORTS.stop:
            first = PORTS.start
    raise BrokerFailed(f"no {count} consecutive ports are free in {PORTS}")


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def is_alarming(line: str) -> bool:
    words = line.split(maxsplit=3)
    if len(words) > 2 and words[1] in ("WARN", "ERROR"):
        return words[2] not in ("heddle_core::boot:", "heddle_core::cli::serve:") or words[1] == "ERROR"
    return line.startswith("heddle: ") or "panicked at" in line


class Broker:
    """Starts on entry, stops on exit; the log is kept at `log`."""

    def __init__(self, port_mode: str, log: Path, settings: dict[str, str] | None = None):
        self.port_mode = port_mode
        self.log = log
        self.settings = SETTINGS | (settings or {})
        self.process: subprocess.Popen | None = None
        self.data_dir = Path(tempfile.mkdtemp(prefix="heddle-clients-"))
        self.port = 0
        self.admin_port = 0

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> "Broker":
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        for attempt in range(5):
            self.port = free_ports(CORES + 1)
            self.admin_port = self.port + CORES
            try:
                self.start()
                return self
            except BrokerFailed:
                # Another process may have been faster in taking a port.
                if attempt == 4 or "another process listens" not in self.log.read_text(errors="replace"):
                    self.__exit__()
                    raise
                self.log.write_bytes(b"")
        raise AssertionError("the loop returns or raises")

    def start(self) -> None:
        """Starts it on its ports and data, and waits until it is ready."""
        options = {
            "data-dir": str(self.data_dir / "data"),
            "listen": self.bootstrap,
            "admin": f"127.0.0.1:{self.admin_port}",
            "cores": str(CORES),
            "port-mode": self.port_mode,
        } | self.settings
        command = [str(binary()), "serve"]
        for key, value in options.items():
            command += [f"--{key}", value]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HEDDLE_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until = time.monotonic() + READY_SECONDS_MAX
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > until:
                state = self.process.poll()
                self.kill()
                raise BrokerFailed(f"the broker is not ready (status {state}); its log is {self.log}")
            time.sleep(0.1)

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/health/ready", timeout=2) as reply:
                return reply.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """Stops it as an operator does; what is wrong with how it ends is raised."""
        process, self.process = self.process, None
        if process is None:
            return
        if (status := process.poll()) is None:
            process.send_signal(signal.SIGTERM)
            try:
                status = process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise BrokerFailed(f"the broker does not stop within {STOP_SECONDS_MAX} s") from None
        if status != 0:
            raise BrokerFailed(f"the broker ended with status {status}; its log is {self.log}")

    def kill(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    def complaints(self) -> list[str]:
        """Lines of its log at level WARN or ERROR, and panics; without its checks of the machine at the start."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if is_alarming(line)]

    def __exit__(self, *_) -> None:
        self.kill()
        shutil.rmtree(self.data_dir, ignore_errors=True)
