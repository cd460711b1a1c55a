"""KubeSpawner's own test suite, stock and with our spawner in place of its own.

    python -m tests.kubespawner_suite [--source PATH-OR-URL] [--kubeconfig FILE]

The suite is in no package, so it is taken from KubeSpawner's repository at a fixed commit:
from ``--source`` or ``KUBESPAWNER_SOURCE`` (a clone, bare or not), else from GitHub. It runs in
a virtual environment of locked versions, below .cache/kubespawner_suite.

Without ``--kubeconfig`` the tests that need pods skip themselves; with it they run at that
cluster, which must start real containers and reach an image registry. Exit 1 when any test
that passes stock does not pass with ours, or when no spawner was made of ours.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.hub_suite.comparison import PASSED, Comparison, counts, outcomes
from tests.kubespawner_suite.needs import why

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CACHE = ROOT / ".cache" / "kubespawner_suite"
LOCK = ROOT / "requirements" / "kubespawner_suite.lock"
PYTHON = CACHE / "venv" / "bin" / "python"
REPOSITORY = "https://github.com/jupyterhub/kubespawner.git"
# "Bump to 7.1.0", which the tag 7.1.0 names.
COMMIT = "178e6acf57a7579b044f37d0e6092883e5bf04c8"
SPAWNER = "aliquot.spawners.kubernetes:KubeShareSpawner"

# A cluster that is not there: the suite asks for a kubeconfig before it looks for one.
NOWHERE = """
apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: none, user: {}}]
contexts: [{name: none, context: {cluster: none, user: none}}]
current-context: none
"""


def prepare() -> None:
    """The virtual environment, made again when the lock file changed."""
    pins = [line for line in LOCK.read_text().splitlines() if "==" in line]
    key = hashlib.sha256("\n".join([sys.version, *pins]).encode()).hexdigest()
    stamp = CACHE / "installed"
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == key:
        return
    print("kubespawner-suite: installing KubeSpawner for its tests …", flush=True)
    shutil.rmtree(CACHE / "venv", ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", CACHE / "venv"], check=True)
    install = [PYTHON, "-m", "pip", "install", "-q", "--require-hashes", "-r", LOCK]
    subprocess.run(install, check=True)
    stamp.write_text(key)


def take_tests(source: str) -> Path:
    """The suite's files, as they were at the commit."""
    tests = CACHE / "tests"
    taken_from = CACHE / "tests-commit"
    if tests.is_dir() and taken_from.exists() and taken_from.read_text() == COMMIT:
        return tests
    repository = Path(source)
    if not repository.exists():
        repository = CACHE / "repository"
        shutil.rmtree(repository, ignore_errors=True)
        clone = ["git", "clone", "-q", "--bare", source, str(repository)]
        if subprocess.run(clone, timeout=300).returncode:
            sys.exit(
                f"kubespawner-suite: {source} cannot be cloned. Name a clone of KubeSpawner's "
                "repository with KUBESPAWNER_SOURCE."
            )
    shutil.rmtree(tests, ignore_errors=True)
    archive = subprocess.run(
        ["git", "-C", str(repository), "archive", COMMIT, "tests"], check=True, capture_output=True
    )
    subprocess.run(["tar", "-x", "-C", str(CACHE)], input=archive.stdout, check=True)
    taken_from.write_text(COMMIT)
    return tests


def run(tests: Path, label: str, spawner: str | None, kubeconfig: Path) -> dict[str, str]:
    """Each test's outcome; also writes what was skipped and why."""
    scratch = CACHE / label
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    (scratch / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    kept = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "TMPDIR")}
    env = kept | {
        "PATH": f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}",
        "KUBECONFIG": str(kubeconfig),
    }
    command = [
        str(PYTHON), "-m", "pytest", "-c", "pytest.ini", f"--rootdir={tests.parent}", "-q", "-rs",
        f"--junitxml={scratch / 'junit.xml'}", "--color=no", "-p", "no:cacheprovider", str(tests),
    ]  # fmt: skip
    if spawner is not None:
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "spawner"), str(HERE)])
        env["ALIQUOT_SWAPPED_SPAWNER"] = spawner
        env["ALIQUOT_COUNTED_SPAWNERS"] = str(scratch / "made")
        command += ["-p", "swapped_kubespawner"]
    with (scratch / "output.txt").open("w") as output:
        subprocess.run(command, cwd=scratch, env=env, stdout=output, stderr=subprocess.STDOUT)
    if not (scratch / "junit.xml").exists():
        tail = "\n".join((scratch / "output.txt").read_text().splitlines()[-25:])
        sys.exit(f"{tail}\nkubespawner-suite: the suite did not run; its output is above.")
    return outcomes(scratch / "junit.xml")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="kubespawner-suite", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--source", default=os.environ.get("KUBESPAWNER_SOURCE", REPOSITORY))
    parser.add_argument("--kubeconfig", type=Path)
    parser.add_argument("--spawner", default=SPAWNER, help="module:Class to swap in")
    arguments = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    prepare()
    tests = take_tests(arguments.source)
    kubeconfig = arguments.kubeconfig
    if kubeconfig is None:
        kubeconfig = CACHE / "nowhere.kubeconfig"
        kubeconfig.write_text(NOWHERE)
    stock = run(tests, "stock", None, kubeconfig)
    print(f"  stock: {counts(stock)}", flush=True)
    ours = run(tests, "ours", arguments.spawner, kubeconfig)
    made = CACHE / "ours" / "made"
    number = int(made.read_text()) if made.exists() else 0
    print(f"  ours:  {counts(ours)}")
    print(f"  {number} spawners were made of {arguments.spawner.split(':')[1]}")
    comparison = Comparison(stock, ours)
    for difference in comparison.differences:
        print(f"  differs: {difference}")
    for name in sorted(n for n, outcome in ours.items() if outcome == stock.get(n) != PASSED):
        print(f"  {ours[name]}: {name.split('.')[-1]}: {why(name, tests)}")
    same = number > 0 and not comparison.regressions
    print("kubespawner-suite: " + ("the same as stock" if same else "NOT the same as stock"))
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
