"""Runs Apache Kafka's command line tools by their main classes, as Kafka's own scripts do."""

import contextlib
import os
import subprocess
import time
from pathlib import Path

from harness import install

PACKAGE = "org.apache.kafka.tools"
# Quick to start: the tools run for seconds.
JVM = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xmx256m"]
SECONDS_MAX = 90
LOGGING = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="OFF"><Appenders><Console name="E" target="SYSTEM_ERR"><PatternLayout pattern="[%d] %p %m (%c)%n"/>
</Console></Appenders><Loggers><Root level="WARN"><AppenderRef ref="E"/></Root></Loggers></Configuration>
"""


class ToolFailed(Exception):
    """A tool ended with a status of failure, or did not end."""


class Tools:
    """Kafka's tools against one broker; all output goes to the log as well."""

    def __init__(self, bootstrap: str, jars: Path, logs: Path):
        self.bootstrap = bootstrap
        self.log = logs / "tools.log"
        self.log.write_text("")
        self.config = logs / "log4j2.xml"
        self.config.write_text(LOGGING)
        self.logs = logs
        self.java = [install.command("java", "openjdk-17-jre-headless"), *JVM]
        self.java += [f"-Dlog4j.configurationFile={self.config}", "-cp", f"{jars}/*"]

    def command(self, tool: str, *arguments: str) -> list[str]:
        return [*self.java, f"{PACKAGE}.{tool}", *arguments]

    def run(self, tool: str, *arguments: str, given: str = "", seconds: float = SECONDS_MAX, fails: bool = False) -> str:
        """A tool with `--bootstrap-server`; what it printed, with its errors if it is to fail."""
        return self.run_bare(tool, "--bootstrap-server", self.bootstrap, *arguments, given=given, seconds=seconds, fails=fails)

    def run_bare(self, tool: str, *arguments: str, given: str = "", seconds: float = SECONDS_MAX, fails: bool = False) -> str:
        command = self.command(tool, *arguments)
        try:
            done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired as late:
            said = b"".join(part or b"" for part in (late.stdout, late.stderr)).decode(errors="replace")
            self.note(tool, arguments, "does not end", said)
            raise ToolFailed(f"{tool} {' '.join(arguments)}: does not end: {said[-300:]}") from None
        both = done.stdout + done.stderr
        self.note(tool, arguments, f"status {done.returncode}", both)
        if (done.returncode != 0) != fails:
            raise ToolFailed(f"{tool} {' '.join(arguments)}: status {done.returncode}: {both[-400:]}")
        return both if fails else done.stdout

    def note(self, tool: str, arguments, end: str, said: str) -> None:
        with self.log.open("a") as log:
            log.write(f"$ {tool} {' '.join(arguments)}\n{said}({end})\n\n")

    @contextlib.contextmanager
    def background(self, tool: str, *arguments: str):
        """A tool that runs on until the block ends; its output is at `.path`."""
        path = self.logs / f"{tool}-{time.monotonic_ns()}.out"
        with path.open("w") as out:
            command = self.command(tool, "--bootstrap-server", self.bootstrap, *arguments)
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=os.environ)
        process.path = path
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self.note(tool, arguments, f"status {process.returncode}", path.read_text(errors="replace"))
            path.unlink()
