"""Comparison: two runs of one test suite, test by test.

Pure apart from reading the two JUnit files. A *regression* is a test that passes stock and
does not pass with our spawner, be it failed, in error, skipped or not run at all.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

PASSED = "passed"


def outcomes(junit: Path) -> dict[str, str]:
    """Each test's outcome: passed, failed, error or skipped.

    JUnit gives one ``testcase`` a test. A test that passes and then fails in its teardown
    appears with an error inside, and counts as that.
    """
    found: dict[str, str] = {}
    for case in ElementTree.parse(junit).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        outcome = PASSED
        for child, meaning in (("skipped", "skipped"), ("failure", "failed"), ("error", "error")):
            if case.find(child) is not None:
                outcome = meaning
        if found.get(name, PASSED) == PASSED:
            found[name] = outcome
    return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed between stock and ours."""

    stock: dict[str, str]
    ours: dict[str, str]

    @property
    def regressions(self) -> list[str]:
        return sorted(
            name
            for name, outcome in self.stock.items()
            if outcome == PASSED and self.ours.get(name) != PASSED
        )

    @property
    def differences(self) -> list[str]:
        """Every test whose outcome is not the same, with both outcomes."""
        names = sorted(self.stock.keys() | self.ours.keys())
        return [
            f"{name}: {self.stock.get(name, 'absent')} → {self.ours.get(name, 'absent')}"
            for name in names
            if self.stock.get(name) != self.ours.get(name)
        ]


def counts(run: dict[str, str]) -> str:
    """ "1251 passed, 2 skipped": passed first, then what there is of the others."""
    tally = Counter(run.values())
    parts = [f"{tally[PASSED]} passed"]
    parts += [f"{tally[word]} {word}" for word in ("failed", "error", "skipped") if tally[word]]
    return ", ".join(parts)
