"""Shares: one text form each, read back exactly; anything else is None."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.domain.mig_geometry import geometries
from aliquot.domain.shares import (
    MAX_BLOCKS,
    MAX_MEGABYTES,
    MAX_TEXT,
    Blocks,
    CpuOnly,
    Memory,
    Share,
    Slice,
    read_share,
)

EVERY_PROFILE = sorted({name for g in geometries().values() for name in g.profiles})


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("cpu", CpuOnly()),
        ("none", CpuOnly()),
        ("0 blocks", CpuOnly()),
        ("1 block", Blocks(1)),
        ("30", Blocks(30)),
        ("30 blocks", Blocks(30)),
        ("30blocks", Blocks(30)),
        (" 30 Blocks ", Blocks(30)),
        ("310 blocks", Blocks(310)),
        ("3.1 gpus", Blocks(310)),
        ("3.10 GPUs", Blocks(310)),
        ("0.3 gpus", Blocks(30)),
        ("1 gpu", Blocks(100)),
        ("30.000 blocks", Blocks(30)),
        ("20 GB", Memory(20_000)),
        ("20gb", Memory(20_000)),
        ("0.5 GB", Memory(500)),
        ("0.001 gb", Memory(1)),
        ("1g.10gb", Slice("1g.10gb")),
        ("1G.10GB+ME", Slice("1g.10gb+me")),
        ("1g.24gb+me.all", Slice("1g.24gb+me.all")),
        ("1g.24gb-me", Slice("1g.24gb-me")),
    ],
)
def test_a_share_is_read_in_every_form_that_people_write(text, share):
    assert read_share(text) == share


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "0",
        "0 GB",
        "0.0 gpus",
        "-1",
        "-30 blocks",
        "+30",
        "1e3",
        "nan",
        "inf",
        "0x10",
        "1_000",
        "1,5 gpus",
        "30.5 blocks",
        "0.305 gpus",
        "0.0001 GB",
        ".5 gpus",
        "5. gpus",
        "30 MB",
        "30 GiB",
        "30 TB",
        "٣٠",
        "３０",
        "30 blocks; drop",
        "2x1g.10gb",
        "1g.10gb,1g.10gb",
        "0g.10gb",
        "1g.0gb",
        "1g",
        "1g.10gb+",
        "9" * 63,
        "999999999",
        "999999999 gb",
        "1" + " " * 70,
    ],
)
def test_what_is_not_exactly_a_share_is_unreadable_and_never_rounded(text):
    assert read_share(text) is None


@pytest.mark.parametrize("blocks", [*range(1, 401), 999_999, MAX_BLOCKS])
def test_blocks_read_back_from_their_text_and_as_gpus(blocks):
    assert read_share(str(Blocks(blocks))) == Blocks(blocks)
    assert read_share(f"{blocks // 100}.{blocks % 100:02d} gpus") == Blocks(blocks)


@pytest.mark.parametrize("profile", EVERY_PROFILE)
def test_every_profile_of_every_model_reads_back_from_its_name(profile):
    assert read_share(str(Slice(profile))) == Slice(profile)


@given(st.integers(1, MAX_MEGABYTES))
def test_memory_reads_back_from_its_text_to_the_megabyte(megabytes):
    assert read_share(str(Memory(megabytes))) == Memory(megabytes)


def test_3_1_gpus_are_three_whole_ones_and_ten_blocks():
    share = read_share("3.1 gpus")

    assert isinstance(share, Blocks)
    assert (share.whole_gpus, share.rest) == (3, 10)


def test_20_gb_are_19074_mib_so_that_a_2g_20gb_slice_of_19968_mib_meets_them():
    assert Memory(20_000).mib == 19_074
    assert str(Memory(20_000)) == "20 GB"
    assert str(Memory(20_500)) == "20.5 GB"
    # 1024 x 1024 bytes are just over a megabyte: rounding down would cheat by 48,576 bytes.
    assert Memory(1).mib == 1
    assert Memory(2).mib == 2


@given(st.text(max_size=80) | st.from_regex(r"[0-9]{0,4}\.?[0-9]{0,4} ?(gb|gpus|blocks|g)?"))
def test_any_text_is_a_share_or_none_and_a_share_reads_back(text):
    share = read_share(text)

    assert share is None or isinstance(share, Share)
    if share is not None:
        assert read_share(str(share)) == share
        assert len(str(share)) <= MAX_TEXT


@pytest.mark.parametrize("blocks", [0, -1, MAX_BLOCKS + 1])
def test_no_share_of_an_impossible_number_of_blocks_can_exist(blocks):
    with pytest.raises(ValueError, match="a share has 1 to 1000000 blocks"):
        Blocks(blocks)


@pytest.mark.parametrize("megabytes", [0, -1, MAX_MEGABYTES + 1])
def test_no_share_of_an_impossible_amount_of_memory_can_exist(megabytes):
    with pytest.raises(ValueError, match="a share has 1 to 1000000000 MB"):
        Memory(megabytes)


@pytest.mark.parametrize("profile", ["", "1g", "1g.10gb ", "1G.10GB", "x" * 1000, "1g.10gb\n"])
def test_no_slice_of_something_that_is_no_profile_can_exist(profile):
    with pytest.raises(ValueError, match="not a MIG profile name") as raised:
        Slice(profile)
    assert len(str(raised.value)) < 120
