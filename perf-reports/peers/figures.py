"""Reads the results of a run and makes of the turns of each load one figure with its spread."""

import json
import pathlib
import statistics

SUSTAINED_SHARE = 0.98  # of the rate that was asked for


class Load:
    """All turns of one load on one broker."""

    def __init__(self, key):
        self.durability, self.partitions, self.record_bytes, self.shape, self.rate = key
        self.results = []

    def values(self, name):
        return [value for result in self.results if (value := _value(result, name)) is not None]

    def median(self, name):
        """The median over the turns; None when there is no value."""
        values = self.values(name)
        return statistics.median(values) if values else None

    @property
    def state(self):
        """"failed", "not sustained" or "ok": what most of the turns were, but one failure is enough."""
        states = [_state(result["run"]) for result in self.results]
        if "failed" in states:
            return "failed"
        return "ok" if states.count("ok") * 2 > len(states) else "not sustained"


def _state(run):
    # A batch without an answer when the generator ends means that the broker is behind, not that it refused anything.
    if any(kind != "timeout" for kind in run["errors_by_kind"]):
        return "failed"
    behind = run["rate_achieved"] < SUSTAINED_SHARE * run["rate_target"]
    return "not sustained" if behind or run["errors"] or run["unsent_records"] else "ok"


def _value(result, name):
    if name == "cpu_s_per_million":
        cpus, rate = result["broker"]["cpus"], result["run"]["rate_achieved"]
        return cpus / rate * 1e6 if cpus is not None and rate else None
    if name in result["broker"]:
        return result["broker"][name]
    return result["run"].get(name)


class Results:
    """The loads of both brokers: `loads[broker][key]`, keys in the order of the tables."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.facts = _read(self.folder / "facts.json")
        self.loads = {"heddle": {}, "kafka": {}}
        self._lives = {}
        for path in self.folder.glob("*-[0-9].json"):
            result = _read(path)
            cell = result["cell"]
            names = ("durability", "partitions", "record_bytes", "shape", "rate")
            key = tuple(cell[name] for name in names)
            self.loads[cell["broker"]].setdefault(key, Load(key)).results.append(result)
            life = (cell["broker"], cell["durability"], cell["partitions"])
            self._lives.setdefault(life, {}).setdefault(cell["turn"], []).append(result)
        self.keys = sorted(set(self.loads["heddle"]) | set(self.loads["kafka"]), key=_order)

    def pair(self, key):
        """Heddle's and Kafka's load of a key; None where it was not measured."""
        return self.loads["heddle"].get(key), self.loads["kafka"].get(key)

    @property
    def blocks(self):
        """(durability, partitions) in the order of the tables."""
        return sorted({key[:2] for key in self.keys}, key=lambda block: (block[0] != "durable", block[1]))

    def peak_rss_kib(self, broker, block):
        """The largest resident set of each life of a broker, one for each turn."""
        return [max(result["broker"]["rss_peak_kib"] for result in life) for life in self._lives_of(broker, block)]

    def end_rss_kib(self, broker, block):
        """The resident set after the last cell of each life."""
        last = (max(life, key=lambda result: result["ended"]) for life in self._lives_of(broker, block))
        return [result["broker"]["rss_kib"] for result in last]

    def _lives_of(self, broker, block):
        return self._lives.get((broker, *block), {}).values()


def _order(key):
    durability, partitions, record_bytes, shape, rate = key
    return (durability != "durable", partitions, record_bytes, shape != "single", rate or float("inf"))


def _read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def spread(values, digits=0):
    """The median, with the smallest and largest behind it when there are several."""
    if not values:
        return "-"
    middle = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def size_name(record_bytes):
    """100 B, 1 KiB, 64 KiB."""
    return f"{record_bytes} B" if record_bytes < 1024 else f"{record_bytes // 1024} KiB"


def rate_name(rate):
    return "as fast as possible" if rate == 0 else f"{rate:,}/s"


def load_name(key):
    durability, partitions, record_bytes, shape, rate = key
    many = "partition" if partitions == 1 else "partitions"
    return f"{durability}, {partitions:,} {many}, {size_name(record_bytes)}, {shape}, {rate_name(rate)}"
