"""A lease survives its trip through a server's saved state; anything else is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aliquot.domain.currency import Cost
from aliquot.domain.lease_json import lease_from_json, lease_to_json, utc_from_text, utc_text
from aliquot.domain.leases import Lease, LeaseState, Piece, Placement, Server
from tests.domain.machines import NOON, lease_of, someone

texts = st.text(max_size=20)
moments = st.datetimes(
    datetime(2000, 1, 1),
    datetime(2100, 1, 1),
    timezones=st.sampled_from(
        [UTC, timezone(timedelta(hours=9)), timezone(-timedelta(hours=3, minutes=30))]
    ),
)
costs = st.builds(Cost, st.integers(0, 10**9), st.integers(0, 10**9))
pieces = st.builds(
    Piece,
    texts,
    texts,
    st.integers(1, 100),
    st.integers(1, 10**6),
    costs,
    mig_uuid=st.none() | texts,
    profile=st.none() | texts,
)
leases = st.builds(
    Lease,
    id=texts,
    user_id=st.integers(1),
    user_name=texts,
    server=st.builds(Server, st.integers(1), texts),
    group=texts,
    charge=costs,
    placement=st.builds(Placement, st.lists(pieces, min_size=1, max_size=4).map(tuple)),
    state=st.sampled_from(LeaseState),
    reserved_at=moments,
    active_at=st.none() | moments,
    until=st.none() | moments,
    options=st.none() | st.dictionaries(texts, texts, max_size=3),
)
ROW = lease_to_json(
    lease_of(
        Placement((Piece("GPU-1", "H100-80GB", 30, 24467, Cost(420, 420)),)),
        someone("ada"),
        "vision",
        1,
        until=NOON,
    )
)


@given(leases)
def test_a_lease_reads_back_from_its_json(lease):
    assert lease_from_json(json.loads(json.dumps(lease_to_json(lease)))) == lease


@given(moments)
def test_a_time_is_written_in_utc_and_reads_back_as_the_same_moment(moment):
    text = utc_text(moment)

    assert text is not None
    assert text.endswith("Z")
    assert utc_from_text(text) == moment


def test_no_time_is_no_text():
    assert utc_text(None) is None
    assert utc_from_text(None) is None
    assert utc_text(datetime(2026, 11, 23, 14, 0, tzinfo=timezone(timedelta(hours=9)))) == (
        "2026-11-23T05:00:00Z"
    )


@pytest.mark.parametrize("key", list(ROW))
def test_a_lease_that_lacks_a_field_is_refused(key):
    with pytest.raises((ValueError, KeyError, TypeError)):
        lease_from_json({k: v for k, v in ROW.items() if k != key})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 2),
        ("version", "1"),
        ("id", 5),
        ("id", None),
        ("user_id", "1"),
        ("user_id", True),
        ("user_name", None),
        ("spawner_id", 1.0),
        ("server_name", ["x"]),
        ("group", {}),
        ("charge", [1]),
        ("charge", [1, 2, 3]),
        ("charge", [-1, 2]),
        ("charge", ["1", "2"]),
        ("charge", 5),
        ("pieces", None),
        ("pieces", {}),
        ("pieces", []),
        ("pieces", [{}]),
        ("pieces", [dict(ROW["pieces"][0], blocks=-5)]),
        ("pieces", [dict(ROW["pieces"][0], blocks="30")]),
        ("pieces", [dict(ROW["pieces"][0], memory_mib=1.5)]),
        ("pieces", [dict(ROW["pieces"][0], gpu_uuid=None)]),
        ("pieces", [dict(ROW["pieces"][0], cost=[1])]),
        ("pieces", [dict(ROW["pieces"][0], mig_uuid=7)]),
        ("state", "lost"),
        ("state", None),
        ("reserved_at", None),
        ("reserved_at", "yesterday"),
        ("reserved_at", "2026-11-23T12:00:00"),
        ("until", 5),
        ("until", "2026-11-23T12:00:00"),
        ("options", "30 blocks"),
        ("options", ["share"]),
        ("options", {"share": 30}),
    ],
)
def test_foreign_json_is_refused_and_never_becomes_a_lease(key, value):
    with pytest.raises((ValueError, KeyError, TypeError)):
        lease_from_json({**ROW, key: value})


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=300)
@given(st.sampled_from(sorted(ROW)), json_like)
def test_any_json_in_a_field_is_refused_or_is_exactly_what_would_be_written(key, value):
    row = {**ROW, key: value}
    try:
        lease = lease_from_json(row)
    except (ValueError, KeyError, TypeError):
        return
    assert lease_to_json(lease) == row


@given(json_like)
def test_what_is_no_object_at_all_is_refused(value):
    with pytest.raises((ValueError, KeyError, TypeError)):
        lease_from_json(value)
