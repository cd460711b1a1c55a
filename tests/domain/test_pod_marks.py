"""What a pod says of itself is read back as it was written, and never believed blindly."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.domain import pod_marks
from aliquot.domain.leases import Placement
from aliquot.domain.placement import place
from aliquot.domain.pod_marks import PodMarks, marks_of, read_marks
from aliquot.domain.shares import Blocks, Slice
from tests.domain.machines import (
    SEVEN_SMALL,
    blocks_gpu,
    lease_of,
    machine,
    mig_gpu,
    situation,
    someone,
)

MARK = "0123456789abcdef"


def leased(share, *gpus):
    inventory = machine(*gpus)
    placement = place(share, inventory, situation(inventory).books)
    assert isinstance(placement, Placement)
    return lease_of(placement, someone("ada"), "vision", 7)


LEASES = {
    "slice": leased(Slice("1g.10gb"), mig_gpu(0, *SEVEN_SMALL, node="gpu-1")),
    "30": leased(Blocks(30), blocks_gpu(0, node="gpu-1")),
    "310": leased(Blocks(310), *(blocks_gpu(n, node="gpu-1") for n in range(4))),
}


def metadata_of(lease) -> dict:
    marks = marks_of(MARK, lease)
    return {"labels": dict(marks.labels), "annotations": dict(marks.annotations)}


@pytest.mark.parametrize("lease", LEASES.values(), ids=LEASES.keys())
def test_a_pod_s_marks_are_read_back_as_they_were_written(lease):
    metadata = metadata_of(lease)

    assert read_marks(metadata) == PodMarks(MARK, lease.id, 1007, lease.placement.pieces)
    assert metadata["labels"] == {
        "aliquot.io/ledger": MARK,
        "aliquot.io/lease": lease.id,
        "aliquot.io/spawner": "1007",
    }


def test_a_pod_without_a_ledger_or_without_a_lease_is_not_marked():
    metadata = metadata_of(LEASES["30"])
    for name in (pod_marks.LEDGER, pod_marks.LEASE):
        labels = {k: v for k, v in metadata["labels"].items() if k != name}
        assert read_marks({**metadata, "labels": labels}) is None
    assert read_marks({}) is None


@pytest.mark.parametrize(
    "written",
    [
        "",
        "{}",
        "null",
        "[null]",
        '["x"]',
        "[" * 100_000,
        "9" * 5000,
        json.dumps([{**LEASES["30"].placement.pieces[0].to_json(), "blocks": 101}]),
        json.dumps([{**LEASES["30"].placement.pieces[0].to_json(), "blocks": True}]),
        json.dumps([{**LEASES["30"].placement.pieces[0].to_json(), "cost": [1]}]),
        json.dumps([{**LEASES["30"].placement.pieces[0].to_json(), "cost": [-1, 5]}]),
    ],
)
def test_pieces_that_cannot_be_read_leave_the_pod_to_its_lease(written):
    metadata = metadata_of(LEASES["30"])
    metadata["annotations"][pod_marks.PIECES] = written

    assert read_marks(metadata) == PodMarks(MARK, LEASES["30"].id, 1007, None)


def test_a_spawner_that_is_no_number_is_unknown():
    for spawner in ("", "x", "-1", "0", "1" * 400, "٣"):
        metadata = metadata_of(LEASES["30"])
        metadata["labels"][pod_marks.SPAWNER] = spawner
        assert read_marks(metadata).spawner_id is None


def test_a_mark_that_kubernetes_would_not_take_is_a_fault_before_the_pod_is_made():
    for mark in ("", "a b", "x" * 64, "-x"):
        with pytest.raises(ValueError, match="the value of label aliquot"):
            marks_of(mark, LEASES["30"])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["labels", "annotations", pod_marks.LEDGER, pod_marks.LEASE, pod_marks.PIECES]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_metadata_of_any_form_is_read_without_a_fault(metadata):
    marks = read_marks(metadata)
    assert marks is None or (marks.ledger and marks.lease_id)
