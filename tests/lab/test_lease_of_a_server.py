"""The lease in the environment: read once, and never a reason not to start."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot_lab.lease import Lease, LeaseFault, parse_lease, read_lease, short_model
from tests.lab.lab_server import block_piece, lease_text, slice_piece

H100 = "NVIDIA H100 80GB HBM3"
GOOD = lease_text(
    block_piece("GPU-1", 30, 24467, H100),
    kind="blocks",
    by="mps",
    memory="soft",
    compute="soft",
    thread_percentage=30,
)


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(GOOD), **fields})


def test_a_server_without_the_variable_holds_no_lease():
    assert read_lease({}) is None
    assert read_lease({"ALIQUOT_LEASE": " "}) is None


def test_a_lease_says_its_pieces():
    lease = read_lease({"ALIQUOT_LEASE": GOOD})

    assert isinstance(lease, Lease)
    assert (lease.kind, lease.memory_mib, lease.thread_percentage) == ("blocks", 24467, 30)
    (piece,) = lease.pieces
    assert (piece.name, piece.label.text("en"), piece.scope) == ("H100 80GB", "30 blocks", "share")
    assert piece.label.text("ko") == "30 블록"


def test_a_slice_is_known_by_its_own_uuid_and_profile():
    text = lease_text(
        slice_piece("GPU-1", "MIG-7", "1g.10gb", 9728, "NVIDIA A100-SXM4-80GB"),
        kind="slice",
        by="mig",
        memory="hardware",
        compute="hardware",
    )
    lease = parse_lease(text)

    assert isinstance(lease, Lease)
    (piece,) = lease.pieces
    assert (piece.uuid, piece.scope, piece.label.text("en")) == ("MIG-7", "slice", "1g.10gb")


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("{", "not JSON"),
        ("[]", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (changed(version=2), "version 2"),
        (changed(version="1"), "version '1'"),
        (changed(pieces=[]), "'pieces' is empty"),
        (changed(pieces=["GPU-1"]), "a piece is not an object"),
        (changed(memory_mib=True), "'memory_mib' is not a whole number"),
        (changed(memory_mib=1.5), "'memory_mib' is not a whole number"),
        (changed(kind="lots"), "'kind' is not one of slice, blocks, whole, mixed"),
        (changed(enforcement=None), "'enforcement' is not an object"),
        (changed(thread_percentage="30"), "'thread_percentage' is not a whole number"),
    ],
)
def test_a_lease_that_cannot_be_read_is_a_sentence(written, says):
    fault = parse_lease(written)

    assert isinstance(fault, LeaseFault)
    assert says in fault.reason.text("en")
    assert fault.reason.text("ko") != fault.reason.text("en")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(list(json.loads(GOOD))), inner)
        ),
    )
)
def test_no_json_at_all_makes_the_reader_fail(document):
    for text in (json.dumps(document), changed(pieces=document), changed(enforcement=document)):
        assert isinstance(parse_lease(text), LeaseFault)


@pytest.mark.parametrize(
    ("model", "short"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 80GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 40GB"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000 Blackwell Server Edition"),
        ("", ""),
    ],
)
def test_a_model_is_named_as_people_say_it(model, short):
    assert short_model(model) == short
