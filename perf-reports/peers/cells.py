"""What is measured: every cell of the matrix, in the order of the run, and how long that takes."""

import dataclasses
import os

BROKERS = ("heddle", "kafka")
DURABILITIES = ("durable", "async")
# 16 first: the whole matrix is measured there, and the other two have its main cells.
PARTITION_COUNTS = (16, 1, 1000)
QUICK_PARTITION_COUNTS = (16, 1000)

# One record a request, and batches as the OpenMessaging Benchmark makes them. Largest batch by bytes of a record: with
# 128 KiB a batch could not hold two records of 64 KiB.
LINGER_US = 1000
BATCH_BYTES = {100: 128 << 10, 1024: 128 << 10, 65536: 512 << 10}

PRIME_1000_S = 5

MAX = 0  # the rate "as fast as possible"

# (record bytes, shape): rates, with all partitions counts or with 16 only.
MAIN = {
    (1024, "single"): (1000, 5000),
    (1024, "batched"): (10000, 50000, MAX),
    (100, "batched"): (20000, MAX),
    (65536, "single"): (1000,),
    (65536, "batched"): (MAX,),
}
FULL = {
    (1024, "single"): (1000, 2000, 5000, MAX),
    (1024, "batched"): (10000, 20000, 50000, MAX),
    (100, "single"): (1000,),
    (100, "batched"): (20000, MAX),
    (65536, "single"): (100, 1000),
    (65536, "batched"): (MAX,),
}
QUICK = {
    (1024, "single"): (1000,),
    (1024, "batched"): (10000, MAX),
}
# Sizes other than 1 KiB have one turn less, and shorter cells.
MAIN_RECORD_BYTES = 1024


@dataclasses.dataclass(frozen=True)
class Cell:
    """One load on one broker. `rate` is in records per second; the times are in seconds."""

    broker: str
    durability: str
    partitions: int
    record_bytes: int
    shape: str
    rate: int
    turn: int
    warmup_s: float
    duration_s: float

    @property
    def load(self):
        """The cell without broker and turn: what is compared."""
        return (self.durability, self.partitions, self.record_bytes, self.shape, self.rate)

    @property
    def name(self):
        rate = "max" if self.rate == MAX else str(self.rate)
        parts = (self.durability, f"p{self.partitions}", f"{self.record_bytes}b", self.shape, rate)
        return "-".join((*parts, self.broker, str(self.turn)))


@dataclasses.dataclass(frozen=True)
class Life:
    """One start of one broker, its cells, and its end. Only one broker is alive at any time."""

    broker: str
    durability: str
    partitions: int
    turn: int
    cells: tuple

    @property
    def block(self):
        return f"{self.durability}-p{self.partitions}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """The lives of a run in their order, and how long each is warmed up."""

    lives: tuple
    # One record a request, as fast as they are answered: for the JIT compiler of the JVM, and the same for both.
    warm_s: float
    # The same on the measured topic, at least.
    prime_s: float

    def priming_s(self, life):
        """Kafka creates files and flushes them at a partition's first write, some 400 a second."""
        return max(self.prime_s, PRIME_1000_S * life.partitions / 1000)

    def seconds(self, life):
        """About how long a life takes: start, warm-up, cells with what the generator needs around them, end."""
        around = {"heddle": 1.2, "kafka": 5.5}[life.broker]
        cells = sum(cell.warmup_s + cell.duration_s + 0.3 for cell in life.cells)
        return around + self.warm_s + self.priming_s(life) + cells


def plan_from_environment():
    """The plan asked for by TURNS, QUICK and ONLY (a list of blocks such as durable-p16)."""
    quick = os.environ.get("QUICK") == "1"
    turns = int(os.environ.get("TURNS", "1" if quick else "3"))
    only = os.environ.get("ONLY", "").split()
    lives = []
    for turn in range(1, turns + 1):
        for durability in DURABILITIES:
            for partitions in QUICK_PARTITION_COUNTS if quick else PARTITION_COUNTS:
                for broker in BROKERS:
                    life = _life(broker, durability, partitions, turn, turns, quick)
                    if life.cells and (not only or life.block in only):
                        lives.append(life)
    return Plan(tuple(lives), warm_s=3 if quick else 4, prime_s=2)


def _life(broker, durability, partitions, turn, turns, quick):
    table = QUICK if quick else FULL if partitions == 16 else MAIN
    cells = []
    for (record_bytes, shape), rates in table.items():
        is_main = record_bytes == MAIN_RECORD_BYTES
        if not is_main and turn == turns and turns > 1:
            continue
        duration_s = 2 if quick else 5 if is_main else 3
        for rate in rates:
            place = (broker, durability, partitions, record_bytes, shape, rate)
            cells.append(Cell(*place, turn=turn, warmup_s=1, duration_s=duration_s))
    # What a saturated broker leaves to be written back must not disturb a latency.
    cells.sort(key=lambda cell: cell.rate == MAX)
    return Life(broker, durability, partitions, turn, tuple(cells))
