"""What was measured on what: versions, machine, and the exact configuration of both brokers."""

import os
import pathlib
import platform
import subprocess

import brokers
import cells


def gather(work, port):
    """Everything a reader needs to judge the figures; paths of this machine are replaced by words."""
    plain = pathlib.Path("DATA_DIR")
    heddle = brokers.heddle_options(plain, port)
    jvm = (*brokers.JVM_HEAP, *brokers.JVM_FLAGS, *brokers.JVM_LOG)
    return {
        "heddle_commit": _output("git", "-C", str(brokers.HERE), "describe", "--always", "--dirty"),
        "heddle_command": " ".join(["heddle", *heddle[1:]]),
        "kafka_version": os.environ["KAFKA_VERSION"],
        "kafka_command": " ".join(["java", *jvm, "-cp", "KAFKA_JARS", "kafka.Kafka", "server.properties"]),
        "kafka_server_properties": brokers.server_properties(plain, port),
        "java_version": _output("java", "-version").splitlines(),
        "topic_configs": {
            f"{broker} {durability}": ", ".join(configs) or "(none)"
            for (broker, durability), configs in brokers.TOPIC_CONFIGS.items()
        },
        "batches": {str(size): f"{limit} B, {cells.LINGER_US} us" for size, limit in cells.BATCH_BYTES.items()},
        "kernel": platform.release(),
        "processors": f"{os.cpu_count()} x {_after_colon('/proc/cpuinfo', 'model name')}",
        "memory": _after_colon("/proc/meminfo", "MemTotal"),
        "file_system": _output("stat", "-f", "-c", "%T", str(work)),
    }


def _output(*command):
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return ended.stdout.strip()


def _after_colon(path, key):
    with open(path, encoding="utf-8") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith(key)), "unknown")
