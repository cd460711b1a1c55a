"""Which profile HAMi cuts for an amount of memory."""

from __future__ import annotations

import pytest

from aliquot.domain.hami_mig import Cut, taken_for

A100_80 = (
    Cut("7g.80gb", 7, 80384),
    Cut("4g.40gb", 4, 40192),
    Cut("3g.40gb", 3, 40192),
    Cut("2g.20gb", 2, 19968),
    Cut("1g.10gb", 1, 9856),
)


@pytest.mark.parametrize(
    ("memory_mib", "profile"),
    [
        (1, "1g.10gb"), (9856, "1g.10gb"), (9857, "2g.20gb"), (19968, "2g.20gb"),
        (40192, "3g.40gb"), (40193, "7g.80gb"), (80384, "7g.80gb"), (80385, None),
    ],
)  # fmt: skip
def test_hami_takes_the_least_memory_that_is_enough_and_then_the_least_compute(memory_mib, profile):
    assert taken_for(memory_mib, A100_80) == profile


def test_of_two_profiles_alike_hami_takes_the_one_that_its_list_names_first():
    plain, media = Cut("1g.10gb", 1, 9856), Cut("1g.10gb+me", 1, 9856)

    assert taken_for(9856, [plain, media]) == "1g.10gb"
    assert taken_for(9856, [media, plain]) == "1g.10gb+me"
