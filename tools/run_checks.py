"""Checks: every part of `make test` and `make lint`, each with its count and its time.

    python tools/run_checks.py [--only lint|pages|pytest] [arguments for pytest]

All parts run even when an earlier one fails, so that one run tells everything. The last
line counts pytest's tests, "N passed, N failed"; the one before it names the parts that failed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
UI = ROOT / "extension" / "ui"
JUNIT = ROOT / ".cache" / "pytest.xml"


@dataclass(frozen=True, slots=True)
class Part:
    """One command whose exit status is its verdict."""

    group: str
    name: str
    command: tuple[str, ...]
    folder: Path = ROOT
    # Quiet parts show their output only when they fail.
    quiet: bool = True


def parts(pytest_arguments: list[str]) -> list[Part]:
    found = [
        Part("lint", "ruff", (str(BIN / "ruff"), "check", ".")),
        Part("lint", "import contracts", (str(BIN / "lint-imports"),)),
        Part("lint", "pyright", (str(BIN / "pyright"), "--level", "error")),
    ]
    if (UI / "package.json").exists():
        found.append(Part("lint", "tsc", ("npx", "--no-install", "tsc", "--noEmit"), UI))
        found.append(Part("pages", "page tests", ("npm", "test", "--silent"), UI))
    if not pytest_arguments:
        # On its own line, because it takes minutes once; a narrowed run builds what it needs.
        build = (str(BIN / "python"), "-m", "tests.cluster.binaries", "--optional")
        found.append(Part("pytest", "kubernetes build", build, quiet=False))
    pytest = (str(BIN / "python"), "-m", "pytest", f"--junitxml={JUNIT}", *pytest_arguments)
    found.append(Part("pytest", "pytest", pytest, quiet=False))
    return found


def count_in(output: str) -> str:
    """The number a tool's own closing line gives, in its words; empty when it gives none."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    for pattern in (
        r"Tests\s+(.*\(\d+\))",  # vitest
        r"(Contracts: .*\.)",  # lint-imports
        r"(\d+ errors?, \d+ warnings?)",  # pyright
    ):
        if matches := re.findall(pattern, plain):
            return matches[-1]
    return ""


def run(part: Part) -> tuple[bool, float, str]:
    """Whether it passed, how many seconds it took, and what it counted."""
    began = time.monotonic()
    if not part.quiet:
        done = subprocess.run(part.command, cwd=part.folder)
        return done.returncode == 0, time.monotonic() - began, ""
    done = subprocess.run(
        part.command, cwd=part.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    )
    if done.returncode:
        print(done.stdout, flush=True)
    return done.returncode == 0, time.monotonic() - began, count_in(done.stdout)


def tally(junit: Path) -> Counter[str]:
    """How many tests passed, failed (errors included) and were skipped."""
    seen: Counter[str] = Counter()
    for case in ElementTree.parse(junit).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            seen["failed"] += 1
        elif case.find("skipped") is not None:
            seen["skipped"] += 1
        else:
            seen["passed"] += 1
    return seen


def seconds_by_folder(junit: Path) -> dict[str, float]:
    """Seconds that the tests of each folder of tests/ took, longest first."""
    spent: dict[str, float] = {}
    for case in ElementTree.parse(junit).getroot().iter("testcase"):
        folder = case.get("classname", "").removeprefix("tests.").split(".")[0]
        spent[folder] = spent.get(folder, 0.0) + float(case.get("time", 0))
    return dict(sorted(spent.items(), key=lambda entry: -entry[1]))


def main() -> int:
    arguments = sys.argv[1:]
    only = None
    if arguments[:1] == ["--only"]:
        only, arguments = arguments[1], arguments[2:]
    JUNIT.parent.mkdir(exist_ok=True)
    JUNIT.unlink(missing_ok=True)
    began = time.monotonic()
    rows = []
    failed_parts = []
    for part in parts(arguments):
        if only not in (None, part.group):
            continue
        passed, seconds, counted = run(part)
        if part.name == "pytest" and JUNIT.exists():
            seen = tally(JUNIT)
            counted = ", ".join(f"{seen[word]} {word}" for word in ("passed", "failed", "skipped"))
        row = f"{'ok' if passed else 'FAILED':7}{part.name:18}{seconds:7.1f} s  {counted}"
        if part.quiet:
            print(row, flush=True)
        rows.append(row)
        if not passed:
            failed_parts.append(part.name)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 72
    print("─" * min(width, 72))
    print("\n".join(rows))
    if JUNIT.exists():
        spent = seconds_by_folder(JUNIT).items()
        print("tests/: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in spent))
    seen = tally(JUNIT) if JUNIT.exists() else Counter()
    verdict = f"failed: {', '.join(failed_parts)}" if failed_parts else "all parts passed"
    print(f"{verdict}, in {time.monotonic() - began:.0f} s")
    if only in (None, "pytest"):
        print(f"{seen['passed']} passed, {seen['failed']} failed, {seen['skipped']} skipped")
    else:
        print(f"{len(rows) - len(failed_parts)} passed, {len(failed_parts)} failed")
    return 1 if failed_parts else 0


if __name__ == "__main__":
    sys.exit(main())
