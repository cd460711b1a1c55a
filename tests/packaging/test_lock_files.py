"""The lock files pin what setup.cfg allows, and tie no checkout to one host."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
NODE_LOCKS = [
    path
    for path in (ROOT / "tools/node/package-lock.json", ROOT / "extension/ui/package-lock.json")
    if path.exists()
]


def pins(lock: Path) -> dict[str, str]:
    """Each pinned distribution, by its normal name. With several, by markers, the last."""
    found = re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^ ;\\]+)", lock.read_text(), re.M)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def requirements() -> list[str]:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.read(ROOT / "setup.cfg")
    lines = parser["options"]["install_requires"].split("\n")
    for extra in parser["options.extras_require"].values():
        lines += extra.split("\n")
    return sorted({line.strip() for line in lines if line.strip() and line.strip()[0] != "#"})


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_file_has_a_hash_for_every_pin_and_names_no_host(lock):
    text = lock.read_text()

    assert lock.with_suffix(".in").exists()
    assert "://" not in text
    assert "--index-url" not in text
    for entry in re.split(r"\n(?=[A-Za-z0-9])", text):
        if "==" in entry.split("\n")[0]:
            assert "--hash=sha256:" in entry, entry.split("\n")[0]


@pytest.mark.parametrize("lock", NODE_LOCKS, ids=lambda path: path.parent.name)
def test_a_node_lock_file_pins_by_content_and_names_no_host(lock):
    packages = json.loads(lock.read_text())["packages"]

    for name, package in packages.items():
        if name and not package.get("link"):
            assert "integrity" in package, name
            assert "resolved" not in package, name


@pytest.mark.parametrize("requirement", requirements())
def test_the_development_versions_lie_in_the_declared_ranges(requirement):
    wanted = Requirement(requirement)
    name = re.sub(r"[-_.]+", "-", wanted.name).lower()

    assert wanted.specifier.contains(pins(ROOT / "requirements/dev.lock")[name])


def test_the_declared_range_takes_in_both_hub_lines_that_are_tested():
    hub = next(Requirement(line) for line in requirements() if line.startswith("jupyterhub>"))

    for line in ("5", "6"):
        version = pins(ROOT / f"requirements/hub_suite_{line}.lock")["jupyterhub"]
        assert version.startswith(f"{line}.")
        assert hub.specifier.contains(version)


def test_the_image_runs_the_versions_that_the_tests_run():
    tested = pins(ROOT / "requirements/dev.lock")

    different = {
        name: (version, tested.get(name))
        for name, version in pins(ROOT / "requirements/hub.lock").items()
        if tested.get(name) != version
    }

    assert different == {}
