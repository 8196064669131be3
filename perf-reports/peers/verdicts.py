"""The bars of this comparison, and where Kafka is ahead."""

import dataclasses
import statistics

from figures import load_name

P99_SHARE_MAX = 0.3
SATURATION_TIMES_MIN = 2.0
RSS_SHARE_MAX = 0.2


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Heddle's figure divided by Kafka's, for one load or block, medians over the turns."""

    name: str
    heddle: float
    kafka: float
    # Whether the turns of the two overlap: then the order of the medians may be chance.
    overlaps: bool = False
    # Whether Heddle refused batches under this load: then it misses every bar.
    failed: bool = False

    @property
    def value(self):
        return self.heddle / self.kafka if self.kafka else float("inf")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One bar: every ratio it looks at, and those that miss it."""

    bar: str
    unit: str
    ratios: tuple
    missed: tuple

    def text(self):
        if not self.ratios:
            return f"**{self.bar}** Nothing to compare: not measured."
        values = [ratio.value for ratio in self.ratios]
        met = len(self.ratios) - len(self.missed)
        state = "Met" if not self.missed else "Not met"
        spread = f"ratio median {statistics.median(values):.3g}, smallest {min(values):.3g}, largest {max(values):.3g}"
        return f"**{self.bar}** {state}: {met} of {len(self.ratios)} compared ({spread})."


def all_verdicts(results):
    return [latency(results), saturation(results), memory(results)]


def _ratio(name, ours, theirs, failed=False):
    overlaps = min(ours) <= max(theirs) and min(theirs) <= max(ours)
    return Ratio(name, statistics.median(ours), statistics.median(theirs), overlaps, failed)


def _compare(results, wanted, name):
    for key in results.keys:
        heddle, kafka = results.pair(key)
        if heddle and kafka and wanted(key, heddle, kafka):
            ours, theirs = heddle.values(name), kafka.values(name)
            if ours and theirs:
                yield _ratio(load_name(key), ours, theirs, heddle.state == "failed")


def _both_sustain(key, heddle, kafka):
    return key[-1] != 0 and heddle.state == "ok" and kafka.state == "ok"


def _is_saturation(key, heddle, kafka):
    return key[-1] == 0 and kafka.state != "failed"


def _is_comparable(key, heddle, kafka):
    return _both_sustain(key, heddle, kafka) or _is_saturation(key, heddle, kafka)


def latency(results):
    ratios = tuple(_compare(results, _both_sustain, "p99_us"))
    missed = tuple(ratio for ratio in ratios if ratio.value > P99_SHARE_MAX)
    return Verdict(f"p99 at most {P99_SHARE_MAX} × Kafka's at every rate both sustain.", "µs", ratios, missed)


def saturation(results):
    ratios = tuple(_compare(results, _is_saturation, "rate_achieved"))
    missed = tuple(ratio for ratio in ratios if ratio.failed or ratio.value < SATURATION_TIMES_MIN)
    return Verdict(f"Saturation at least {SATURATION_TIMES_MIN:g} × Kafka's.", "records/s", ratios, missed)


def memory(results):
    ratios = []
    for block in results.blocks:
        ours, theirs = (results.peak_rss_kib(broker, block) for broker in ("heddle", "kafka"))
        if ours and theirs:
            mib = [[kib / 1024 for kib in side] for side in (ours, theirs)]
            ratios.append(_ratio(f"{block[0]}, {block[1]:,} partitions", *mib))
    missed = tuple(ratio for ratio in ratios if ratio.value > RSS_SHARE_MAX)
    bar = f"Memory (peak RSS of a broker's life) at most {RSS_SHARE_MAX} × Kafka's."
    return Verdict(bar, "MiB", tuple(ratios), missed)


def kafka_ahead(results):
    """(figure, unit, ratio) wherever Kafka's median is the better one."""
    found = []
    for name, unit in (("p50_us", "µs"), ("p99_us", "µs"), ("p999_us", "µs")):
        better = (ratio for ratio in _compare(results, _both_sustain, name) if ratio.value > 1)
        found += [(name.removesuffix("_us").replace("p999", "p99.9"), unit, ratio) for ratio in better]
    for ratio in _compare(results, _is_saturation, "rate_achieved"):
        if ratio.value < 1:
            found.append(("saturation", "records/s", ratio))
    for ratio in _compare(results, _is_comparable, "cpu_s_per_million"):
        if ratio.value > 1:
            found.append(("processor time", "CPU s per million records", ratio))
    found += [("memory", "MiB", ratio) for ratio in memory(results).ratios if ratio.value > 1]
    for key in results.keys:
        heddle, kafka = results.pair(key)
        if heddle and kafka and key[-1] and kafka.state == "ok" != heddle.state:
            rates = heddle.values("rate_achieved"), kafka.values("rate_achieved")
            found.append(("only Kafka sustains it", "records/s", _ratio(load_name(key), *rates)))
    return found
