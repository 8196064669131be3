"""Starts and ends the two brokers, each with its data in a directory of its own on the same disk."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
START_MAX_S = 60
CLUSTER_ID = "aGVkZGxlLXBlZXJzLTAwMQ"

# As bin/kafka-server-start.sh and bin/kafka-run-class.sh of the distribution set them, without the GC log and JMX.
JVM_HEAP = ("-Xms1g", "-Xmx1g")
JVM_FLAGS = (
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
)
# Errors and warnings only, where the distribution logs more.
JVM_LOG = ("-Dorg.apache.logging.log4j.level=WARN",)

TOPIC_CONFIGS = {
    ("heddle", "durable"): ("durability=fsync",),
    ("heddle", "async"): ("durability=async",),
    ("kafka", "durable"): ("flush.messages=1",),
    ("kafka", "async"): (),
}


class Broker:
    """A running broker: its process, where clients connect, and its data directory, which ends with it."""

    def __init__(self, command, port, data, log):
        self.command, self.port, self.data = command, port, data
        with open(log, "wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        self._log = log

    @property
    def pid(self):
        return self._process.pid

    @property
    def is_alive(self):
        return self._process.poll() is None

    def wait_until(self, is_ready):
        begun = time.monotonic()
        while not is_ready():
            if not self.is_alive or time.monotonic() - begun > START_MAX_S:
                self.end()
                raise SystemExit(f"the broker does not start: {' '.join(self.command)}\n{self.log_text()}")
            time.sleep(0.05)
        return self

    def log_text(self):
        """How it ended, if it did, and the end of what it printed."""
        status = self._process.poll()
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-100:]
        return "\n".join([f"status: {'alive' if status is None else status}", *lines])

    def end(self):
        """Kills it: its data is of no use to anybody any more."""
        if self.is_alive:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self.data, ignore_errors=True)


def start(name, work, port):
    """Starts the broker `name` on an empty data directory below `work`, and waits until clients can connect."""
    return {"heddle": _start_heddle, "kafka": _start_kafka}[name](work, port)


def heddle_options(data, port):
    """The command line of `heddle serve`; HEDDLE_OPTIONS says what a run may choose, as the memory budget of each core."""
    return [
        f"{os.environ['HEDDLE_BIN_DIR']}/heddle", "serve",
        "--data-dir", str(data),
        "--listen", f"127.0.0.1:{port}",
        "--admin", f"127.0.0.1:{port + 500}",
        "--cores", "2",
        *os.environ.get("HEDDLE_OPTIONS", "--memory-bytes 40MiB --frame-bytes-max 16MiB").split(),
    ]  # fmt: skip


def server_properties(data, port):
    """Kafka's configuration with the words in capitals replaced."""
    text = (HERE / "server.properties").read_text(encoding="utf-8")
    for word, value in (("BROKER_PORT", port), ("CONTROLLER_PORT", port + 1), ("DATA_DIR", data)):
        text = text.replace(word, str(value))
    return text


def java(flags, *main):
    """A command line of the JVM that runs the class `main[0]` of Kafka."""
    return ["java", *flags, "-cp", f"{os.environ['KAFKA_LIB_DIR']}/*", *main]


def _start_heddle(work, port):
    data = work / "heddle-data"
    broker = Broker(heddle_options(data, port), port, data, work / "heddle.log")
    return broker.wait_until(lambda: _answers(f"http://127.0.0.1:{port + 500}/health/ready"))


def _start_kafka(work, port):
    data, properties = work / "kafka-data", work / "server.properties"
    properties.write_text(server_properties(data, port), encoding="utf-8")
    storage = java(("-Xmx256m",), "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties))
    subprocess.run(storage, stdout=subprocess.DEVNULL, check=True)
    command = java((*JVM_HEAP, *JVM_FLAGS, *JVM_LOG), "kafka.Kafka", str(properties))
    return Broker(command, port, data, work / "kafka.log").wait_until(lambda: _accepts(port))


def _accepts(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _answers(url):
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
