"""What a process uses: processor time from /proc/PID/stat, memory from /proc/PID/status."""

import os
import threading
import time

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SAMPLE_S = 0.05


def cpu_seconds(pid):
    """User and system time of all threads so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def memory_kib(pid):
    """VmRSS, its highest value VmHWM, and the two parts of VmRSS: of its own, and of mapped files."""
    wanted = {"VmRSS": "rss_kib", "VmHWM": "rss_peak_kib", "RssAnon": "rss_anonymous_kib", "RssFile": "rss_file_kib"}
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        pairs = (line.split(":") for line in file)
        return {wanted[key]: int(value.split()[0]) for key, value in pairs if key in wanted}


class CpuSampler:
    """Notes the processor time of a process many times a second, for a look back at its last seconds."""

    def __init__(self, pid):
        self._pid, self._samples, self._stop = pid, [], threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        while not self._stop.is_set():
            try:
                self._samples.append((time.monotonic(), cpu_seconds(self._pid)))
            except OSError:
                return  # it has ended, which its caller notices
            self._stop.wait(_SAMPLE_S)

    def cpus_of_last(self, seconds, skip_s):
        """Processors kept busy between `seconds` before the last sample and `skip_s` before it; None without samples."""
        if len(self._samples) < 2:
            return None
        end = self._samples[-1][0]
        inside = [sample for sample in self._samples if end - seconds <= sample[0] <= end - skip_s]
        if len(inside) < 2:
            return None
        (from_s, from_cpu), (to_s, to_cpu) = inside[0], inside[-1]
        return (to_cpu - from_cpu) / (to_s - from_s)
