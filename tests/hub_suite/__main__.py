"""JupyterHub's own test suite, stock and with our spawner in place of its own.

    python -m tests.hub_suite [--only test_spawner] [--stock cached|fresh] [--hub 6|5]

For each supported JupyterHub line there is one virtual environment with locked versions,
below .cache/hub_suite. Stock results are kept there by version and parts, so that a second
run measures ours only; ``--stock fresh`` takes them again. Exit 1 when any test that passes
stock does not pass with ours, or when no server was started through ours.

A test that fails with ours is run once more by itself, because this suite has tests that
time out on a busy machine; one that then passes is listed, and not counted as failed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hub_suite.comparison import PASSED, Comparison, counts, outcomes

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CACHE = ROOT / ".cache" / "hub_suite"
SPAWNER = "aliquot.spawners.local:SimpleLocalShareSpawner"
SECONDS_PER_TEST = 180


@dataclass(frozen=True, slots=True)
class HubLine:
    """One supported line of JupyterHub, and the parts of its suite that are compared."""

    name: str
    # None runs the whole suite.
    parts: tuple[str, ...] | None

    @property
    def lock(self) -> Path:
        return ROOT / "requirements" / f"hub_suite_{self.name}.lock"

    @property
    def pins(self) -> str:
        """A hash over the pinned versions; comments of the lock file do not count."""
        found = [line for line in self.lock.read_text().splitlines() if "==" in line]
        return hashlib.sha256("\n".join(found).encode()).hexdigest()[:12]

    @property
    def home(self) -> Path:
        return CACHE / self.name

    @property
    def python(self) -> Path:
        return self.home / "venv" / "bin" / "python"

    @property
    def version(self) -> str:
        for line in self.lock.read_text().splitlines():
            if line.startswith("jupyterhub=="):
                return line.removeprefix("jupyterhub==").split()[0]
        raise SystemExit(f"{self.lock.name} pins no jupyterhub. Run `make lock`.")

    @property
    def tests(self) -> Path:
        found = sorted((self.home / "venv").glob("lib/python3*/site-packages/jupyterhub/tests"))
        return found[-1]


LINES = (
    HubLine("6", parts=None),
    HubLine("5", parts=("test_spawner", "test_pages", "test_named_servers", "test_user")),
)


def prepare(line: HubLine) -> None:
    """The line's virtual environment, made again when its lock file changed."""
    stamp = line.home / "installed"
    key = f"{line.pins} {sys.version}"
    if line.python.exists() and stamp.exists() and stamp.read_text() == key:
        return
    print(f"hub-suite: installing JupyterHub {line.version} for its tests …", flush=True)
    shutil.rmtree(line.home / "venv", ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", line.home / "venv"], check=True)
    subprocess.run(
        [line.python, "-m", "pip", "install", "-q", "--require-hashes", "-r", line.lock],
        check=True,
    )
    # The suite starts jupyter servers, which refuse root without this.
    config = line.home / "venv" / "etc" / "jupyter" / "jupyter_server_config.d"
    config.mkdir(parents=True, exist_ok=True)
    allow_root = {"ServerApp": {"allow_root": True}}
    (config.parent / "jupyter_server_config.json").write_text(json.dumps(allow_root))
    stamp.write_text(key)


def environment(line: HubLine, scratch: Path) -> dict[str, str]:
    """A plain environment: the line's own commands, the proxy, and nothing of the caller's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("HOME", "LANG", "LC_ALL", "TERM", "TMPDIR", "USER", "LOGNAME")
        or name.endswith(("_CA_BUNDLE", "_CERTS", "CERT_FILE"))
        # test_db installs old hubs with pip.
        or name.startswith("PIP_")
    }
    path = [line.python.parent, ROOT / "tools" / "node" / "node_modules" / ".bin"]
    kept["PATH"] = os.pathsep.join([*map(str, path), os.environ["PATH"]])
    kept["JUPYTER_CONFIG_DIR"] = str(scratch / "jupyter_config")
    return kept


def run_suite(
    line: HubLine, targets: Sequence[str], label: str, spawner: str | None
) -> tuple[dict[str, str], int]:
    """Run tests of the line's suite; return their outcomes and the starts through ours."""
    scratch = line.home / label
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    shutil.copy(HERE / f"pytest_{line.name}.ini", scratch / "pytest.ini")
    env = environment(line, scratch)
    junit = scratch / "junit.xml"
    # Rooted where the package lies, so that a test's name says its module.
    command = [
        str(line.python), "-m", "pytest", "-c", "pytest.ini", f"--rootdir={line.tests.parents[1]}",
        "--timeout", str(SECONDS_PER_TEST), f"--junitxml={junit}", "--color=no",
        "-p", "no:cacheprovider",
    ]
    started = scratch / "starts"
    if spawner is not None:
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "spawner"), str(HERE)])
        env["ALIQUOT_SWAPPED_SPAWNER"] = spawner
        env["ALIQUOT_COUNTED_STARTS"] = str(started)
        command += ["-p", "swapped_spawner"]
    with (scratch / "output.txt").open("w") as output:
        subprocess.run(
            [*command, *targets], cwd=scratch, env=env, stdout=output, stderr=subprocess.STDOUT
        )
    if not junit.exists():
        tail = "\n".join((scratch / "output.txt").read_text().splitlines()[-25:])
        sys.exit(f"{tail}\nhub-suite: the suite did not run; its output is above.")
    return outcomes(junit), int(started.read_text()) if started.exists() else 0


def targets_of(line: HubLine, only: str | None) -> list[str]:
    """Paths of the test modules to run. ``only`` is a comma-separated list of modules."""
    parts = only.split(",") if only else line.parts
    if parts is None:
        return [str(line.tests)]
    return [str(line.tests / f"{part.removesuffix('.py')}.py") for part in parts]


def stock_results(line: HubLine, only: str | None, fresh: bool) -> dict[str, str]:
    """The suite as it comes: from the cache, or run now and cached.

    A cached run of the whole line also answers for any part of it.
    """
    whole = line.home / f"stock-{line.version}-{line.pins}.json"
    kept = whole if only is None else whole.with_stem(f"{whole.stem}-{only.replace(',', '-')}")
    if not fresh:
        for path in (kept, whole):
            if path.exists():
                recorded = json.loads(path.read_text())
                print(f"  stock: as recorded {recorded['at']} ({recorded['seconds']} s)")
                return only_modules(recorded["outcomes"], only)
    began = time.monotonic()
    run, _ = run_suite(line, targets_of(line, only), "stock", spawner=None)
    seconds = round(time.monotonic() - began)
    at = time.strftime("%Y-%m-%d %H:%MZ", time.gmtime())
    kept.write_text(json.dumps({"at": at, "seconds": seconds, "outcomes": run}, indent=0))
    print(f"  stock: run in {seconds} s")
    return run


def only_modules(run: dict[str, str], only: str | None) -> dict[str, str]:
    """The outcomes that belong to the modules named in ``only``."""
    if only is None:
        return run
    modules = {part.removesuffix(".py") for part in only.split(",")}
    return {name: outcome for name, outcome in run.items() if module_of(name) in modules}


def module_of(name: str) -> str:
    """ "….jupyterhub.tests.test_spawner::test_x" → "test_spawner"."""
    dotted = name.split("::")[0].split(".")
    return next((part for part in dotted if part.startswith("test_")), dotted[-1])


def repeat_failures(
    line: HubLine, failed: Sequence[str], spawner: str
) -> tuple[dict[str, str], int]:
    """Run failed tests once more, by themselves."""
    wanted = sorted({
        f"{line.tests / module_of(name)}.py::{name.split('::', 1)[1]}" for name in failed
    })
    return run_suite(line, wanted, "repeated", spawner)


def compare(line: HubLine, arguments: argparse.Namespace) -> bool:
    """Run one line both ways and print what came out; True when nothing regressed."""
    print(f"JupyterHub {line.version}, {arguments.only or ', '.join(line.parts or ('all',))}")
    prepare(line)
    stock = stock_results(line, arguments.only, arguments.stock == "fresh")
    print(f"  stock: {counts(stock)}", flush=True)
    if arguments.stock_only:
        return True
    began = time.monotonic()
    ours, starts = run_suite(
        line, targets_of(line, arguments.only), "ours", spawner=arguments.spawner
    )
    comparison = Comparison(stock, ours)
    again: list[str] = []
    if 0 < len(comparison.regressions) <= 20:
        repeated, more = repeat_failures(line, comparison.regressions, arguments.spawner)
        starts += more
        again = [name for name in comparison.regressions if repeated.get(name) == PASSED]
        comparison = Comparison(stock, {**ours, **dict.fromkeys(again, PASSED)})
    print(f"  ours:  {counts(comparison.ours)} in {time.monotonic() - began:.0f} s")
    print(f"  {starts} servers were started through {arguments.spawner.split(':')[1]}")
    for name in again:
        print(f"  failed once, passed when repeated by itself: {name}")
    for difference in comparison.differences:
        print(f"  differs: {difference}")
    if comparison.regressions:
        print(f"  FAILED: {len(comparison.regressions)} tests pass stock and not with ours; "
              f"see .cache/hub_suite/{line.name}/ours/output.txt")
    # A part such as test_user starts none; the lines' own choices of parts always do.
    swapped = starts > 0 or arguments.only is not None
    if not swapped:
        print("  FAILED: no server was started through ours, so nothing was compared")
    return swapped and not comparison.regressions


def main() -> None:
    parser = argparse.ArgumentParser(prog="hub-suite", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help="modules of the suite, such as test_spawner,test_user")
    parser.add_argument("--stock", choices=("cached", "fresh"), default="cached")
    parser.add_argument("--stock-only", action="store_true", help="record stock results only")
    parser.add_argument("--hub", choices=[line.name for line in LINES], help="one line only")
    parser.add_argument("--spawner", default=SPAWNER, help="module:Class to swap in")
    arguments = parser.parse_args()
    # A shell that starts a job in the background has it ignore SIGINT, and so does every
    # program below. The hub stops servers by SIGINT: each stop would then take 10 s more,
    # and tests that wait for less would fail.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    chosen = [line for line in LINES if arguments.hub in (None, line.name)]
    good = [compare(line, arguments) for line in chosen]
    print("hub-suite: " + ("the same as stock" if all(good) else "NOT the same as stock"))
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
