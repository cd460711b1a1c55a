"""What the packages import, setup.cfg declares."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"aliquot": ROOT / "spawner" / "aliquot", "aliquot_lab": ROOT / "extension/aliquot_lab"}


# Loaded only where notebooks are pods, by what looks at the setting first.
NEEDS_KUBERNETES = {
    "discovery/cluster_access.py",
    "discovery/kubernetes/api.py",
    "discovery/leftover_pods.py",
    "spawners/kubernetes.py",
    "spawners/lasting_watches.py",
    "spawners/pod_options.py",
    "spawners/pod_requests.py",
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(section: str, keys: list[str] | None = None) -> set[str]:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.read(ROOT / "setup.cfg")
    lines = "\n".join(parser[section][key] for key in keys or parser[section]).splitlines()
    return {
        normal(Requirement(line).name) for line in lines if line.strip() and line[0] != "#"
    }


def imported(folder: Path, *, always: bool) -> dict[str, str]:
    """Top-level names of other people's modules, each with one file that imports it.

    ``always`` takes only imports that run whenever the module is imported: those outside of
    functions, of `try` and of `if TYPE_CHECKING`.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*.py")):
        if always and str(path.relative_to(folder)) in NEEDS_KUBERNETES:
            continue
        tree = ast.parse(path.read_text())
        nodes = tree.body if always else ast.walk(tree)
        for node in nodes:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                if top not in sys.stdlib_module_names and top not in PACKAGES:
                    found[top] = str(path.relative_to(ROOT))
    return found


def undeclared(modules: dict[str, str], allowed: set[str]) -> dict[str, str]:
    distributions = packages_distributions()
    return {
        module: where
        for module, where in modules.items()
        if not allowed & {normal(name) for name in distributions.get(module, [module])}
    }


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_every_import_that_always_runs_is_a_declared_requirement(package):
    # The notebook's side runs inside a Jupyter server, and its widget inside a kernel with
    # the extra: both are imported by whoever has them.
    extras = ["widget", "lab"] if package == "aliquot_lab" else []
    allowed = declared("options", ["install_requires"])
    if extras:
        allowed |= declared("options.extras_require", extras) | {"jupyter-server", "ipython"}

    assert undeclared(imported(PACKAGES[package], always=True), allowed) == {}


def test_a_hub_on_one_machine_loads_nothing_of_kubernetes():
    program = (
        "import sys; import aliquot.allocator, aliquot.service.app, aliquot.cli.check, "
        "aliquot.spawners.local; sys.exit('kubernetes_asyncio' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_every_other_import_is_a_requirement_or_an_extra(package):
    allowed = declared("options", ["install_requires"]) | declared("options.extras_require")
    allowed |= {"jupyter-server", "ipython"} if package == "aliquot_lab" else set()

    assert undeclared(imported(PACKAGES[package], always=False), allowed) == {}
