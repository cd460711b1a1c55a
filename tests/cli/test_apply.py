"""``aliquot apply``: groups and sizes from a file, shown before they are in force."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aliquot.domain.currency import cost_of_blocks
from aliquot.domain.shares import Blocks, Memory
from aliquot.storage import Store

GROUPS = """
groups:
  lab: {nominal: 4 gpus}
  vision: {parent: lab, nominal: 150 blocks, per_person: 1 gpus, kinds: [slice, blocks]}
weights: {H100-80GB: 2}
sizes: [10 blocks, 20 GB]
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/books.sqlite"
    Store.open(url).close()
    return url


def apply(folder: Path, url: str, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "groups.yaml").write_text(text)
    command = [sys.executable, "-m", "aliquot.cli.main", "apply", "-f", "groups.yaml"]
    return subprocess.run(
        [*command, "--database", url, *words],
        cwd=folder,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_file_is_put_in_force_and_the_change_is_shown(tmp_path, url):
    done = apply(tmp_path, url, GROUPS, "--why", "the new semester")

    assert done.returncode == 0, done.stderr
    assert "+    nominal: 150 blocks" in done.stdout
    assert done.stdout.endswith("In force.\n")
    store = Store.open(url)
    ledger = store.ledger()
    assert ledger.tree.path("vision") == ("vision", "lab")
    assert ledger.tree.groups["vision"].quota.per_person == cost_of_blocks(100)
    assert ledger.weights == {"H100-80GB": 2}
    assert ledger.presets == (Blocks(10), Memory(20_000))
    assert {event.why for event in store.events()} >= {"the new semester"}


def test_the_same_file_again_changes_nothing(tmp_path, url):
    apply(tmp_path, url, GROUPS)
    events = len(Store.open(url).events())

    done = apply(tmp_path, url, GROUPS)

    assert done.stdout == "Nothing changes.\n"
    assert len(Store.open(url).events()) == events


def test_a_dry_run_shows_the_change_and_makes_none(tmp_path, url):
    done = apply(tmp_path, url, GROUPS, "--dry-run")

    assert done.returncode == 0
    assert "+    nominal: 150 blocks" in done.stdout
    assert Store.open(url).ledger().tree.groups == {}


@pytest.mark.parametrize(
    "text, words",
    [
        ("groups: {vision: {nominal: some}}", "is no amount"),
        ("groups: {vision: {nominal: 1 gpus, parent: nowhere}}", "which does not exist"),
        ("groups: {a: {nominal: 1, parent: b}, b: {nominal: 1, parent: a}}", "above itself"),
        ("groups: {vision: {nominal: 1 gpus, colour: red}}", "colour"),
        ("groups: {vision: {nominal: 1 gpus}}\nweights: {H100: 0}", "weights.H100"),
        ("groups: {vision: {nominal: 1 gpus}}\nsizes: [huge]", "is no size"),
        ("{{{", "not YAML"),
        ("[1]", "the file"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_a_sentence(tmp_path, url, text, words):
    done = apply(tmp_path, url, text)

    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert Store.open(url).ledger().tree.groups == {}
