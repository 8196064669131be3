"""The harness's own tests: that what should fail a suite does. `run-all` begins with them."""

import importlib.util
import json
import sys
import tempfile
import unittest
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import SimpleNamespace

from . import broker, contract, known, places, results
from .results import FAILED, PASSED, SKIPPED, Case, Result


def load(path: str):
    """A module of a suite, or a script without the ending of one."""
    name = path.replace("/", "_").replace("-", "_").removesuffix(".py")
    loader = SourceFileLoader(name, str(places.CLIENTS / path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def result(*cases: Case, suite: str = "kcat", mode: str = "single", selection: str = "all") -> Result:
    made = Result(suite, "1", mode, selection, "heddle 0")
    for case in cases:
        made.add(case)
    return made


class Results(unittest.TestCase):
    def test_a_skip_needs_a_reason(self):
        self.assertEqual(result(Case("a", SKIPPED)).cases[0].outcome, FAILED)
        self.assertEqual(result(Case("a", SKIPPED, "kcat cannot")).cases[0].outcome, SKIPPED)

    def test_nothing_passed_is_no_success(self):
        self.assertFalse(result(Case("a", SKIPPED, "why")).holds())
        self.assertFalse(result().holds())
        self.assertFalse(result(Case("a", PASSED), Case("b", FAILED, "x")).holds())
        self.assertTrue(result(Case("a", PASSED)).holds())

    def test_a_file_is_read_as_it_was_written(self):
        with tempfile.TemporaryDirectory() as folder:
            made = result(Case("a", PASSED, "", 1.5), Case("b", FAILED, "x"))
            path = made.write(Path(folder))
            self.assertEqual(len(path.read_text().splitlines()), 1)
            self.assertEqual(results.read(path), made)


class KnownFailures(unittest.TestCase):
    LINES = [known.Known("kcat", "transactions", "there are none")]

    def test_only_what_is_listed_is_forgiven(self):
        made = result(Case("transactions", FAILED, "x"), Case("headers", FAILED, "x"))
        self.assertEqual([case.name for case in known.unexpected(made, self.LINES)], ["headers"])
        other = result(Case("transactions", FAILED, "x"), suite="aiokafka")
        self.assertEqual(len(known.unexpected(other, self.LINES)), 1)

    def test_a_line_is_told_off_when_its_case_passes(self):
        self.assertEqual(known.passing(result(Case("transactions", PASSED)), self.LINES), self.LINES)
        self.assertEqual(known.passing(result(Case("transactions", FAILED, "x")), self.LINES), [])
        self.assertEqual(known.passing(result(Case("headers", PASSED)), self.LINES), [])

    def test_the_list_can_be_read(self):
        self.assertTrue(all(line.why for line in known.read()))


class Contract(unittest.TestCase):
    def cases(self, program: str) -> dict[str, str]:
        with tempfile.TemporaryDirectory() as folder:
            context = SimpleNamespace(
                bootstrap="x", core=False, only=None, logs=Path(folder), wants=lambda name: True
            )
            command = [sys.executable, "-c", program]
            return {case.name: case.outcome for case in contract.run(context, command, Path(folder))}

    def test_what_is_not_reported_has_failed(self):
        said = self.cases("print('{\"case\": \"headers\", \"outcome\": \"passed\", \"reason\": \"\"}')")
        self.assertEqual(said.pop("headers"), PASSED)
        self.assertEqual(set(said.values()), {FAILED})
        self.assertEqual(len(said), len(contract.CASES) - 1)

    def test_a_program_that_dies_has_failed(self):
        lines = "\n".join(json.dumps({"case": name, "outcome": "passed"}) for name in contract.CASES)
        said = self.cases(f"print({lines!r}, flush=True); import os; os.abort()")
        self.assertEqual([name for name, outcome in said.items() if outcome == FAILED], ["the program ends by itself"])


class Log(unittest.TestCase):
    def test_warnings_errors_and_deaths_are_found(self):
        for line in (
            "2026-01-01T00:00:00Z ERROR heddle_core::kafka: a reply could not be encoded",
            "2026-01-01T00:00:00Z  WARN heddle_core::boot::listen: no connection can be accepted for now",
            "heddle: bug: index out of bounds",
        ):
            self.assertTrue(broker.is_alarming(line), line)
        for line in (
            "2026-01-01T00:00:00Z  INFO heddle_core::boot: starting cores=2",
            "2026-01-01T00:00:00Z  WARN heddle_core::boot: cpu: 2 cores share CPU 0. Use fewer",
        ):
            self.assertFalse(broker.is_alarming(line), line)


class GoEvents(unittest.TestCase):
    def read(self, *events: tuple, names=("TestA",)) -> dict[str, str]:
        lines = []
        for action, test, output in events:
            lines.append(json.dumps({"Action": action, "Test": test} | ({"Output": output} if output else {})))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "events"
            path.write_text("\n".join(lines))
            return {case.name: case.outcome for case in load("franz-go/events.py").read(path, list(names))}

    def test_a_sibling_whose_name_goes_on_is_no_child(self):
        said = self.read(
            ("output", "TestA/range", "    --- FAIL: TestA/range (1.00s)\n"),
            ("fail", "TestA/range", ""),
            ("output", "TestA/range/848", "    --- PASS: TestA/range/848 (1.00s)\n"),
            ("pass", "TestA/range/848", ""),
            ("output", "TestA", "--- FAIL: TestA (1.00s)\n"),
            ("fail", "TestA", ""),
        )
        self.assertEqual(said, {"TestA/range": FAILED, "TestA/range/848": PASSED})

    def test_a_test_that_fails_after_its_children_passed_has_failed(self):
        said = self.read(
            ("output", "TestA/x", "    --- PASS: TestA/x (1.00s)\n"),
            ("pass", "TestA/x", ""),
            ("output", "TestA", "--- FAIL: TestA (1.00s)\n"),
            ("fail", "TestA", ""),
        )
        self.assertEqual(said, {"TestA": FAILED, "TestA/x": PASSED})

    def test_what_did_not_end_has_failed(self):
        said = self.read(("run", "TestA", ""), ("run", "TestA/x", ""), ("pass", "TestA/x", ""), names=("TestA", "TestB"))
        self.assertEqual(said, {"TestA": FAILED, "TestA/x": PASSED, "TestB": FAILED})


class Table(unittest.TestCase):
    def test_modes_are_put_together_and_cells_stay_cells(self):
        skip = Case("a|b", SKIPPED, "why\nso")
        page = load("table").render([result(skip, Case("c", PASSED)), result(skip, mode="per-core")])
        self.assertIn("| kcat | 1 | single | 1 | 0 | 1 |", page)
        self.assertIn("| kcat | a\\|b | both | why so |", page)


def holds() -> bool:
    tests = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    return unittest.TextTestRunner(stream=sys.stderr, verbosity=0).run(tests).wasSuccessful()
