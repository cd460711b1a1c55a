"""The documentation holds: its links lead somewhere, and it names every setting as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aliquot.settings import Aliquot

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
ROW = re.compile(r"^\| `(\w+)` \|(.*?)\|", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_to_a_file_leads_to_one(page):
    targets = [t for t in LINK.findall(page.read_text()) if "://" not in t]

    assert [t for t in targets if not (page.parent / t).exists()] == []


def test_every_setting_is_told_with_its_default():
    rows = ROW.findall((ROOT / "docs" / "reference" / "settings.md").read_text())
    told = {name: default.strip() for name, default in rows}
    traits = Aliquot.class_own_traits(config=True)

    assert set(told) == set(traits)
    for name, trait in traits.items():
        default = trait.default()
        shown = f"`{default}`" if isinstance(default, str | bool) else str(default)
        assert told[name] == ("" if default == "" else shown), name
