"""What HAMi's scheduler writes on a pod."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.domain.hami_annotations import HamiDevice, HamiInstance, devices_of, instances_of


def test_each_card_is_told_with_its_memory_and_its_cores():
    written = "GPU-1,NVIDIA,20480,30:GPU-2,NVIDIA,4096,0:;GPU-3,NVIDIA,512,100:;"

    assert devices_of(written) == (
        HamiDevice("GPU-1", 20480, 30),
        HamiDevice("GPU-2", 4096, 0),
        HamiDevice("GPU-3", 512, 100),
    )


@pytest.mark.parametrize("written", ["", ";", ":;:;"])
def test_containers_without_a_card_hold_none(written):
    assert devices_of(written) == ()


@pytest.mark.parametrize(
    ("entry", "read"),
    [
        ("GPU-1,NVIDIA,x,30", HamiDevice("GPU-1", None, 30)),
        ("GPU-1,NVIDIA,512,-1", HamiDevice("GPU-1", 512, None)),
        ("GPU-1,NVIDIA,512", HamiDevice("GPU-1", None, None)),
        ("GPU-1[0-1],NVIDIA,512,30", HamiDevice("GPU-1", 512, 30)),
        ("nonsense", HamiDevice("nonsense", None, None)),
    ],
)
def test_a_part_that_cannot_be_read_is_none_and_not_nothing(entry, read):
    assert devices_of(entry + ":;") == (read,)


def test_each_instance_is_told_with_its_place():
    written = json.dumps([
        {"gpuUUID": "GPU-1", "profile": "3g.40gb", "placement": {"start": 4, "size": 4}},
        {"gpuUUID": "GPU-1", "profile": "1g.10gb", "placement": {"start": "0"}},
        7,
    ])  # fmt: skip

    assert instances_of(written) == (
        HamiInstance("GPU-1", "3g.40gb", 4),
        HamiInstance("GPU-1", "1g.10gb", None),
        HamiInstance("", "", None),
    )


@pytest.mark.parametrize("written", ["", "{}", "[", "null"])
def test_what_is_no_list_holds_no_instances_that_can_be_read(written):
    assert instances_of(written) is None


@given(st.text())
def test_no_text_raises(written):
    assert all(isinstance(device.gpu_uuid, str) for device in devices_of(written))
    instances_of(written)
