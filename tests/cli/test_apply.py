"""Groups and sizes from a file: read, shown as a change, put in force."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from aliquot.cli.apply import apply
from aliquot.cli.groups_file import GroupsFileError, read_groups_file, write_groups
from aliquot.domain.currency import ONE_GPU, cost_of_blocks
from aliquot.domain.shares import Kind
from aliquot.storage import Store

FILE = """
groups:
  lab: {nominal: 4 gpus}
  vision: {parent: lab, nominal: 150 blocks, per_person: 1 gpus, kinds: [slice, blocks]}
weights: {H100-80GB: 3}
sizes: [10 blocks, 20 GB]
"""


def test_a_file_says_groups_in_gpus_and_blocks():
    read = read_groups_file(FILE)

    vision = read.tree.groups["vision"]
    assert read.tree.groups["lab"].quota.nominal == ONE_GPU * 4
    assert (vision.parent, vision.quota.nominal) == ("lab", cost_of_blocks(150))
    assert vision.quota.per_person == ONE_GPU
    assert vision.quota.kinds == {Kind.SLICE, Kind.BLOCKS}
    assert read.weights == {"H100-80GB": 3}
    assert [str(size) for size in read.sizes] == ["10 blocks", "20 GB"]


def test_what_is_written_reads_back_the_same():
    read = read_groups_file(FILE)

    assert read_groups_file(write_groups(read)) == read


def test_the_example_that_ships_can_be_read():
    example = Path(__file__).parents[2] / "hub_config" / "groups.yaml"

    assert set(read_groups_file(example.read_text()).tree.groups) == {"lab", "vision", "nlp"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("groups: [", "The file is not YAML"),
        ("groups: {a: {nominal: lots}}", "groups.a.nominal: 'lots' is no amount like '150 blocks'"),
        ("groups: {a: {nominal: 1.5 blocks}}", "groups.a.nominal: '1.5 blocks' is no amount"),
        ("groups: {a: {}}", "groups.a.nominal: Field required."),
        ("groups: {a: {nominal: 1, colour: red}}", "groups.a.colour: Extra inputs"),
        ("groups: {a: {nominal: 1, parent: b}}", "Group 'a' is under 'b', which does not exist."),
        (
            "groups: {a: {nominal: 1, parent: b}, b: {nominal: 1, parent: a}}",
            "Group 'a' is above itself",
        ),
        ("groups: {a: {nominal: 9, ceiling: 1}}", "A ceiling is at least the nominal quota."),
        ("groups: {}\nweights: {A30-24GB: 0}", "weights.A30-24GB: "),
        ("groups: {}\nsizes: [1g.10gb]", "sizes.0: '1g.10gb' is no size like '25 blocks'"),
        ("- 1", "the file: "),
        ("", "groups: Field required."),
    ],
)
def test_a_file_that_cannot_be_used_is_told_with_its_place(text, sentence):
    with pytest.raises(GroupsFileError) as told:
        read_groups_file(text)

    assert str(told.value).startswith(sentence)
    assert "\n" not in str(told.value)


@pytest.fixture
def run(tmp_path: Path):
    """apply with a file's text, on one ledger; returns what it printed and its exit status."""
    database = f"sqlite:///{tmp_path}/books.sqlite"

    def run(text: str, *more: str) -> tuple[str, int]:
        (tmp_path / "groups.yaml").write_text(text)
        arguments = ["-f", str(tmp_path / "groups.yaml"), "--database", database, *more]
        result = CliRunner().invoke(apply, arguments)
        return result.output, result.exit_code

    run.store = Store.open(database)
    return run


def test_a_dry_run_shows_the_change_and_makes_none(run):
    output, status = run(FILE, "--dry-run")

    assert status == 0
    assert "+  vision:" in output
    assert "Dry run: nothing was changed." in output
    assert not run.store.ledger().tree.groups


def test_applying_puts_groups_in_force_with_the_reason_in_the_audit(run):
    output, status = run(FILE, "--why", "start of term")

    assert (status, output.splitlines()[-1]) == (0, "In force.")
    assert set(run.store.ledger().tree.groups) == {"lab", "vision"}
    assert {event.why for event in run.store.events()} >= {"start of term"}


def test_applying_the_same_again_changes_nothing(run):
    run(FILE)

    assert run(FILE) == ("Nothing changes.\n", 0)


def test_a_file_without_sizes_leaves_the_sizes_as_they_are(run):
    run(FILE)

    assert run(FILE.replace("sizes: [10 blocks, 20 GB]", "")) == ("Nothing changes.\n", 0)


def test_a_wrong_file_is_one_sentence_and_changes_nothing(run):
    output, status = run("groups: {a: {nominal: lots}}")

    assert status == 1
    assert output.startswith("Error: ")
    assert len(output.strip().splitlines()) == 1
