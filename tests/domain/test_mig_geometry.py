"""MIG geometry: the table against an independent brute force, and against known facts."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest

from aliquot.domain.mig_geometry import Geometry, Placed, geometries, geometry_for

MODELS = tuple(geometries())


def every_instance(geometry: Geometry) -> list[Placed]:
    return [Placed(p.name, start) for p in geometry.profiles.values() for start in p.starts]


def slots_of(geometry: Geometry, placed: Placed) -> range:
    return range(placed.start, placed.start + geometry.profiles[placed.profile].memory_slices)


def is_legal_by_slot_map(geometry: Geometry, layout: tuple[Placed, ...]) -> bool:
    """The rules once more, told from the slots' side: who covers each slot?"""
    cover = Counter(slot for placed in layout for slot in slots_of(geometry, placed))
    names = Counter(placed.profile for placed in layout)
    profiles = geometry.profiles
    return (
        max(cover.values(), default=1) == 1
        and all(slot < geometry.memory_slots for slot in cover)
        and sum(profiles[p.profile].compute_slices for p in layout) <= geometry.compute_slots
        and all(count <= profiles[name].max_instances for name, count in names.items())
        and sum("+me" in placed.profile for placed in layout) <= 1
    )


def legal_by_inclusion(geometry: Geometry) -> set[frozenset[Placed]]:
    """Every legal layout, by deciding for one instance after the other whether it is in."""
    layouts: list[tuple[Placed, ...]] = [()]
    for instance in every_instance(geometry):
        layouts += [
            (*layout, instance)
            for layout in layouts
            if is_legal_by_slot_map(geometry, (*layout, instance))
        ]
    return {frozenset(layout) for layout in layouts}


@pytest.mark.parametrize("model", MODELS)
def test_the_layouts_of_a_model_are_exactly_those_of_a_second_formulation(model):
    geometry = geometries()[model]
    listed = [frozenset(layout) for layout in geometry.layouts()]

    assert len(listed) == len(set(listed))
    assert set(listed) == legal_by_inclusion(geometry)


@pytest.mark.parametrize(("model", "most"), [("A30-24GB", 4), ("RTX-PRO-6000-96GB", 4)])
def test_every_set_of_instances_of_the_small_parts_is_judged_as_by_brute_force(model, most):
    geometry = geometries()[model]
    instances = every_instance(geometry)
    legal = set(map(frozenset, geometry.layouts()))
    for size in range(most + 1):
        for layout in combinations(instances, size):
            by_hand = is_legal_by_slot_map(geometry, layout)
            assert (geometry.why_illegal(layout) is None) == by_hand, layout
            assert (frozenset(layout) in legal) == by_hand, layout


@pytest.mark.parametrize(
    ("model", "count"),
    [("A30-24GB", 76), ("RTX-PRO-6000-96GB", 1009)]
    + [(m, 2319) for m in MODELS if m not in ("A30-24GB", "RTX-PRO-6000-96GB")],
)
def test_the_number_of_layouts_of_a_model_stays_what_it_was_when_it_was_checked(model, count):
    assert sum(1 for _ in geometries()[model].layouts()) == count


@pytest.mark.parametrize("model", [m for m in MODELS if geometries()[m].compute_slots == 7])
def test_a_seven_slice_gpu_has_19_full_layouts_of_the_plain_profiles(model):
    """Left half (slots 0-3): 4g, 3g, or 2g and 1g in 4 orders: 6. Right half (slots 4-7, three
    compute slices): 3g, 2g + 1g, or three 1g: 3. With 7g: 6 x 3 + 1 = 19, the number that
    NVIDIA's MIG User Guide draws for the A100."""
    geometry = geometries()[model]
    plain = {
        name
        for name, p in geometry.profiles.items()
        if "+" not in name and not (p.compute_slices == 1 and p.memory_slices == 2)
    }
    instances = [placed for placed in every_instance(geometry) if placed.profile in plain]
    full = [
        layout
        for layout in geometry.layouts()
        if all(placed.profile in plain for placed in layout)
        and all(geometry.why_illegal((*layout, more)) is not None for more in instances)
    ]

    assert len(full) == 19


def test_an_a30_has_5_full_layouts_of_the_plain_profiles():
    """4g; 2g or two 1g in either half: 1 + 2 x 2."""
    geometry = geometries()["A30-24GB"]
    instances = [placed for placed in every_instance(geometry) if "+" not in placed.profile]
    full = [
        layout
        for layout in geometry.layouts()
        if all("+" not in placed.profile for placed in layout)
        and all(geometry.why_illegal((*layout, more)) is not None for more in instances)
    ]

    assert len(full) == 5


@pytest.mark.parametrize(
    ("model", "layout", "why"),
    [
        ("A100-80GB", [("9g.80gb", 0)], "A100-80GB has no profile 9g.80gb"),
        ("A100-80GB", [("3g.40gb", 2)], "3g.40gb cannot start at slot 2 of A100-80GB"),
        ("A100-80GB", [("1g.10gb", 7)], "1g.10gb cannot start at slot 7 of A100-80GB"),
        ("A100-80GB", [("1g.10gb", -1)], "1g.10gb cannot start at slot -1 of A100-80GB"),
        (
            "A100-80GB",
            [("3g.40gb", 0), ("1g.10gb", 3)],
            "1g.10gb at slot 3 overlaps another instance",
        ),
        (
            "A100-80GB",
            [("1g.10gb+me", 0), ("1g.10gb+me", 1)],
            "A100-80GB holds at most 1 x 1g.10gb+me",
        ),
        (
            "RTX-PRO-6000-96GB",
            [("1g.24gb+me", 0), ("1g.24gb+me.all", 3)],
            "RTX-PRO-6000-96GB has one set of media engines, 2 asked",
        ),
        (
            "A30-24GB",
            [("1g.6gb+me", 0), ("2g.12gb+me", 2)],
            "A30-24GB has one set of media engines, 2 asked",
        ),
    ],
)
def test_an_illegal_layout_is_refused_with_its_rule(model, layout, why):
    assert geometries()[model].why_illegal([Placed(*placed) for placed in layout]) == why


def test_compute_slices_alone_can_make_a_layout_illegal():
    """4g at 0 and four slots more of 1g would be 8 compute slices of 7; starts end at 6, so
    only a part with more starts can show it."""
    a100 = geometries()["A100-80GB"]
    one = a100.profiles["1g.10gb"]
    wider = Geometry(
        a100.model,
        a100.names,
        a100.pci_device_ids,
        7,
        8,
        a100.confidence,
        dict(a100.profiles)
        | {one.name: type(one)(one.name, 1, 1, tuple(range(8)), 8, one.memory_mib)},
    )
    layout = [Placed("4g.40gb", 0), *(Placed("1g.10gb", start) for start in range(4, 8))]

    assert wider.why_illegal(layout) == "8 compute slices asked, A100-80GB has 7"
    assert wider.why_illegal(layout[:-1]) is None


@pytest.mark.parametrize(
    ("model", "profile", "row"),
    [
        # compute slices, memory slots, starts, most, MiB. Printed by hardware
        # (nvidia-smi mig -lgip and -lgipp), but for B200: one public listing.
        ("A100-80GB", "1g.20gb", (1, 2, (0, 2, 4, 6), 4, 19968)),
        ("A100-80GB", "3g.40gb", (3, 4, (0, 4), 2, 40192)),
        ("A100-40GB", "2g.10gb", (2, 2, (0, 2, 4), 3, 9856)),
        ("A30-24GB", "2g.12gb", (2, 2, (0, 2), 2, 11672)),
        ("H100-80GB", "7g.80gb", (7, 8, (0,), 1, 81152)),
        ("H100-80GB", "3g.40gb", (3, 4, (0, 4), 2, 40448)),
        ("H100-94GB", "1g.24gb", (1, 2, (0, 2, 4, 6), 4, 22144)),
        ("RTX-PRO-6000-96GB", "1g.24gb", (1, 3, (0, 3, 6, 9), 4, 24192)),
        ("RTX-PRO-6000-96GB", "2g.48gb", (2, 6, (0, 6), 2, 48512)),
    ],
)
def test_the_table_holds_what_hardware_printed(model, profile, row):
    p = geometries()[model].profiles[profile]

    assert (p.compute_slices, p.memory_slices, p.starts, p.max_instances, p.memory_mib) == row


@pytest.mark.parametrize("model", MODELS)
def test_every_row_of_the_table_is_possible_by_itself(model):
    geometry = geometries()[model]
    assert geometry.confidence in ("measured", "captured-example", "same-die", "inferred")
    for instance in every_instance(geometry):
        assert geometry.why_illegal([instance]) is None
        assert slots_of(geometry, instance).stop <= geometry.memory_slots
    for profile in geometry.profiles.values():
        step = [s for s in profile.starts if s % profile.memory_slices == 0]
        assert len(step) == len(profile.starts)
        assert 1 <= profile.max_instances <= len(profile.starts)


@pytest.mark.parametrize(
    ("product", "model"),
    [
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB"),
        ("A100-SXM4-80GB-MIG-1g.10gb", "A100-80GB"),
        ("NVIDIA A30", "A30-24GB"),
        ("NVIDIA H100 80GB HBM3", "H100-80GB"),
        ("NVIDIA H100 NVL", "H100-94GB"),
        ("nvidia h200", "H200-141GB"),
        ("NVIDIA B200", "B200-180GB"),
        ("NVIDIA GeForce RTX 4090", None),
        ("NVIDIA A300", None),
        ("NVIDIA L40S", None),
        ("", None),
    ],
)
def test_a_product_finds_its_model_by_name(product, model):
    found = geometry_for(product)

    assert (found.model if found else None) == model


def test_the_pci_id_decides_before_the_name():
    found = geometry_for("some relabelled card", "0x20b210de")

    assert found is not None
    assert found.model == "A100-80GB"


def test_no_two_models_claim_one_pci_id_or_one_name():
    ids = [pci.lower() for g in geometries().values() for pci in g.pci_device_ids]
    names = [name.lower() for g in geometries().values() for name in g.names]

    assert len(ids) == len(set(ids))
    assert len(names) == len(set(names))
