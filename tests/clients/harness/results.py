"""The outcome of a suite in one port mode, and its file: one JSON object on one line."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass
class Case:
    """One thing that was tried. `reason` says why it failed or was skipped."""

    name: str
    outcome: str
    reason: str = ""
    seconds: float = 0.0


@dataclass
class Result:
    """All cases of a suite against one broker."""

    suite: str
    version: str
    port_mode: str
    selection: str
    broker: str
    seconds: float = 0.0
    cases: list[Case] = field(default_factory=list)

    def add(self, case: Case) -> None:
        """Adds a case; a failed or skipped one without a reason is a mistake of the suite."""
        if case.outcome not in (PASSED, FAILED, SKIPPED):
            raise ValueError(f"{case.name}: {case.outcome!r} is no outcome")
        if case.outcome == SKIPPED and not case.reason:
            case = Case(case.name, FAILED, "skipped without a reason", case.seconds)
        self.cases.append(case)

    def of(self, outcome: str) -> list[Case]:
        return [case for case in self.cases if case.outcome == outcome]

    def holds(self) -> bool:
        """Nothing failed, and something passed."""
        return not self.of(FAILED) and bool(self.of(PASSED))

    def line(self) -> str:
        counts = {name: len(self.of(name)) for name in (PASSED, FAILED, SKIPPED)}
        return f"{self.suite} {self.version}, {self.port_mode}: " + ", ".join(
            f"{count} {name}" for name, count in counts.items()
        )

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.suite}.{self.port_mode}.json"
        counts = {name: len(self.of(name)) for name in (PASSED, FAILED, SKIPPED)}
        path.write_text(json.dumps(asdict(self) | counts, sort_keys=True) + "\n")
        return path


def read(path: Path) -> Result:
    """A result as it was written."""
    known = json.loads(path.read_text())
    cases = [Case(**case) for case in known.pop("cases")]
    for name in (PASSED, FAILED, SKIPPED):
        known.pop(name)
    return Result(cases=cases, **known)
