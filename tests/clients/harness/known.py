"""What is known to fail, and why: a list that only shrinks, so that a run can tell a new failure from an old one.

Each line of `known-failures` is `suite | beginning of the case's name | what is missing`. The table of results shows these
cases as failed all the same. `run-all` says so when a listed case passes: then its line is taken out.
"""

from dataclasses import dataclass
from pathlib import Path

from . import places
from .results import FAILED, PASSED, Case, Result

LIST = places.CLIENTS / "known-failures"


@dataclass(frozen=True)
class Known:
    """A case that fails, by suite and the beginning of its name."""

    suite: str
    case: str
    why: str

    def covers(self, suite: str, case: Case) -> bool:
        return suite == self.suite and case.name.startswith(self.case)


def read(path: Path = LIST) -> list[Known]:
    lines = (line.strip() for line in path.read_text().splitlines())
    found = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("|")]
        if len(parts) != 3 or not all(parts):
            raise ValueError(f"{path}: {line!r} is not `suite | case | what is missing`")
        found.append(Known(*parts))
    return found


def unexpected(result: Result, known: list[Known]) -> list[Case]:
    """The failures that no line covers."""
    return [case for case in result.of(FAILED) if not any(line.covers(result.suite, case) for line in known)]


def passing(result: Result, known: list[Known]) -> list[Known]:
    """The lines whose cases all passed."""
    lines = []
    for line in known:
        covered = [case for case in result.cases if line.covers(result.suite, case)]
        if covered and all(case.outcome == PASSED for case in covered):
            lines.append(line)
    return lines
