"""The shapes are possible machines: what they carry could come from real cards."""

from __future__ import annotations

import json

import pytest

from tests.cluster.node_shapes import SHAPES, Kind

CUT = [shape for shape in SHAPES.values() if shape.layouts]


@pytest.mark.parametrize("shape", CUT, ids=lambda shape: shape.name)
def test_instances_begin_where_the_card_allows_and_do_not_overlap(shape):
    for layout in shape.layouts:
        taken: list[int] = []
        for profile, start in layout:
            cut = shape.model.profiles[profile]
            assert start in cut.starts
            taken += range(start, start + cut.slots)
        assert len(taken) == len(set(taken))
        assert sum(shape.model.profiles[profile].compute_slices for profile, _ in layout) <= 7


def test_every_engine_has_a_shape():
    assert {shape.kind for shape in SHAPES.values()} == set(Kind)


def test_two_nodes_of_a_shape_share_no_card():
    shape = SHAPES["hami-a100-40"]
    cards = [
        json.loads(shape.node(name)["metadata"]["annotations"]["hami.io/node-nvidia-register"])
        for name in ("gpu-1", "gpu-2")
    ]
    assert len({card["id"] for node in cards for card in node}) == 4
    # Go leaves out a zero: the first card says no index and no NUMA node.
    assert [card.get("index") for card in cards[0]] == [None, 1]


def test_suffixes_of_profiles_are_separate_resources():
    assert SHAPES["plugin-mig-rtx-pro-6000"].resources() == {
        "nvidia.com/gpu": 1,
        "nvidia.com/mig-1g.24gb": 1,
        "nvidia.com/mig-1g.24gb.gfx": 2,
        "nvidia.com/mig-1g.24gb.me": 1,
        "nvidia.com/mig-1g.24gb.me.all": 1,
        "nvidia.com/mig-1g.24gb-me": 3,
        "nvidia.com/mig-2g.48gb": 2,
    }
