"""The currency is exact: every piece is a pair of integers, and full layouts add up."""

from __future__ import annotations

import pytest

from aliquot.domain.currency import NOTHING, ONE_GPU, Cost, cost_of_blocks, cost_of_slice
from aliquot.domain.mig_geometry import geometries

EVERY_PROFILE = [
    (model, profile) for model, geometry in geometries().items() for profile in geometry.profiles
]


@pytest.mark.parametrize("blocks", range(1, 101))
def test_n_blocks_cost_14_n_of_each_and_read_back_as_n_blocks(blocks):
    cost = cost_of_blocks(blocks)

    assert (cost.compute, cost.memory) == (14 * blocks, 14 * blocks)
    assert cost.blocks == cost.whole_blocks_within == blocks
    assert cost + cost_of_blocks(100 - blocks) == ONE_GPU


@pytest.mark.parametrize(("model", "profile"), EVERY_PROFILE)
def test_every_profile_of_every_model_costs_whole_units(model, profile):
    geometry = geometries()[model]
    cost = geometry.cost_of(profile)

    assert type(cost.compute) is int
    assert type(cost.memory) is int
    assert cost.compute * geometry.compute_slots == (
        1400 * geometry.profiles[profile].compute_slices
    )
    assert cost.memory * geometry.memory_slots == 1400 * geometry.profiles[profile].memory_slices
    assert cost.fits_in(ONE_GPU)


def test_the_design_s_four_examples_hold():
    assert cost_of_slice(1, 7, 1, 8) == Cost(200, 175)
    assert cost_of_slice(3, 7, 4, 8) == Cost(600, 700)
    assert cost_of_slice(4, 7, 4, 8) == Cost(800, 700)
    assert cost_of_slice(7, 7, 8, 8) == ONE_GPU


def test_seven_small_slices_are_one_gpu_though_their_shown_blocks_make_105():
    small = cost_of_slice(1, 7, 1, 8)

    assert small.blocks == 15
    assert small * 7 == Cost(1400, 1225)
    assert (small * 7).fits_in(ONE_GPU)
    assert not (small * 8).fits_in(ONE_GPU)


def test_the_full_layout_4g_3g_is_exactly_one_gpu_though_its_shown_blocks_make_108():
    four, three = cost_of_slice(4, 7, 4, 8), cost_of_slice(3, 7, 4, 8)

    assert (four.blocks, three.blocks) == (58, 50)
    assert four + three == ONE_GPU


@pytest.mark.parametrize("model", geometries())
def test_no_legal_layout_costs_more_than_its_gpu_in_either_component(model):
    geometry = geometries()[model]
    for layout in geometry.layouts():
        total = sum((geometry.cost_of(placed.profile) for placed in layout), NOTHING)
        assert total.fits_in(ONE_GPU), layout


def test_a_part_that_is_no_whole_number_of_units_is_refused_and_not_rounded():
    with pytest.raises(ValueError, match="1/9 compute and 1/8 memory are no whole number"):
        cost_of_slice(1, 9, 1, 8)


def test_a_cost_is_never_negative():
    with pytest.raises(ValueError, match="never negative"):
        Cost(-1, 0)
    with pytest.raises(ValueError, match="never negative"):
        Cost(0, -1)


def test_blocks_are_the_larger_component_up_and_blocks_within_the_smaller_one_down():
    assert Cost(15, 0).blocks == 2
    assert Cost(0, 15).blocks == 2
    assert Cost(29, 41).whole_blocks_within == 2
    assert NOTHING.blocks == 0


def test_what_is_left_of_a_limit_counts_an_exceeded_component_as_nothing():
    assert Cost(100, 500).left_of(Cost(300, 300)) == Cost(200, 0)
