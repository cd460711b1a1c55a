"""setup.cfg says what is on disk."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = {"aliquot": ROOT / "spawner", "aliquot_lab": ROOT / "extension"}


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.read(ROOT / "setup.cfg")
    return parser


def packages_on_disk() -> set[str]:
    """Every folder with an __init__.py below the two packages, by its import name."""
    return {
        ".".join(init.parent.relative_to(root).parts)
        for name, root in SOURCE_ROOTS.items()
        for init in (root / name).rglob("__init__.py")
    }


def test_the_package_list_names_every_folder_with_code(setup_cfg):
    listed = setup_cfg["options"]["packages"].split()

    assert set(listed) == packages_on_disk()
    assert listed == sorted(listed), "the list is kept in order, so that a change reads well"


def test_every_folder_with_modules_is_a_package_or_ships_as_files(setup_cfg):
    shipped_as_files = {"migrations", "versions"}
    loose = {
        str(module.parent.relative_to(ROOT))
        for name, root in SOURCE_ROOTS.items()
        for module in (root / name).rglob("*.py")
        if not (module.parent / "__init__.py").exists()
        and not shipped_as_files & set(module.relative_to(root).parts)
    }

    assert loose == set()


def test_the_source_roots_are_no_import_names():
    assert not (ROOT / "spawner" / "__init__.py").exists()
    assert not (ROOT / "extension" / "__init__.py").exists()
