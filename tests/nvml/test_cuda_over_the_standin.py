"""The CUDA stand-in, by ctypes: what a process bound to a share sees."""

from __future__ import annotations

import pytest

PROBE = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")

def probe():
    code = cuda.cuInit(0)
    count = ctypes.c_int()
    if code:
        return code
    cuda.cuDeviceGetCount(ctypes.byref(count))
    return [look(ordinal) for ordinal in range(count.value)]

def look(ordinal):
    name, uuid = ctypes.create_string_buffer(128), (ctypes.c_ubyte * 16)()
    context, processors = ctypes.c_void_p(), ctypes.c_int()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    codes = [
        cuda.cuDeviceGetName(name, 128, ordinal),
        cuda.cuDeviceGetUuid_v2(uuid, ordinal),
        cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), ordinal),
        cuda.cuCtxSetCurrent(context),
        cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)),
        cuda.cuDeviceGetAttribute(ctypes.byref(processors), 16, ordinal),
        cuda.cuDevicePrimaryCtxRelease(ordinal),
    ]
    assert codes == [0] * 7, codes
    return [name.value.decode(), bytes(uuid).hex()[:12], free.value >> 20, total.value >> 20,
            processors.value]

result = probe()
"""

H100 = "NVIDIA H100 80GB HBM3"
FIRST, SECOND = (
    "GPU-b1000000-0000-4000-8000-000000000000",
    "GPU-b1000000-1000-4000-8000-000000000000",
)
NO_DEVICE = 100


@pytest.fixture
def h100(nvml_scenario):
    scenario = nvml_scenario("h100-mps-blocks")
    scenario.edit("used_mib 21000-24000/30", "used_mib 1008")
    return scenario


def test_without_a_binding_every_gpu_is_seen(h100):
    assert h100.python(PROBE) == [
        [H100, "b10000000000", 80000, 81559, 132],
        [H100, "b10000001000", 81008, 81559, 132],
    ]


def test_a_gpu_is_seen_by_its_uuid_and_in_the_order_asked(h100):
    assert [row[1] for row in h100.python(PROBE, CUDA_VISIBLE_DEVICES=f"{SECOND},{FIRST}")] == [
        "b10000001000",
        "b10000000000",
    ]


def test_the_pinned_limit_less_the_context_shows_as_free_and_the_card_as_total(h100):
    seen = h100.python(
        PROBE,
        CUDA_VISIBLE_DEVICES=FIRST,
        CUDA_MPS_PINNED_DEVICE_MEM_LIMIT="0=24467M",
        CUDA_MPS_ACTIVE_THREAD_PERCENTAGE="30",
    )
    assert seen == [[H100, "b10000000000", 24467 - 23, 81559, 40]]


def test_limits_are_counted_by_the_devices_that_are_visible(h100):
    seen = h100.python(
        PROBE,
        CUDA_VISIBLE_DEVICES=f"{SECOND},{FIRST}",
        CUDA_MPS_PINNED_DEVICE_MEM_LIMIT="1=8G",
    )
    assert [(row[1], row[2]) for row in seen] == [
        ("b10000001000", 81008),
        ("b10000000000", 8192 - 23),
    ]


def test_without_mps_its_limits_mean_nothing(h100):
    h100.edit("mps on", "mps off")

    seen = h100.python(
        PROBE, CUDA_VISIBLE_DEVICES=FIRST, CUDA_MPS_PINNED_DEVICE_MEM_LIMIT="0=24467M"
    )
    assert seen == [[H100, "b10000000000", 80000, 81559, 132]]


def test_of_several_mig_devices_cuda_sees_the_first_alone(nvml_scenario):
    slices = "MIG-a1000000-0004-5000-8000-000000000000,MIG-a1000000-0003-5000-8000-000000000000"

    assert nvml_scenario("a100-mig-mixed").python(PROBE, CUDA_VISIBLE_DEVICES=slices) == [
        ["NVIDIA A100-SXM4-80GB MIG 1g.10gb", "a10000000004", 9831, 9856, 14]
    ]


def test_a_gpu_in_mig_mode_means_its_first_instance(nvml_scenario):
    seen = nvml_scenario("a100-mig-mixed").python(PROBE, CUDA_VISIBLE_DEVICES="1")

    assert [row[0] for row in seen] == ["NVIDIA A100-SXM4-80GB MIG 4g.40gb"]


@pytest.mark.parametrize("visible", ["", "GPU-ffffffff", "-1", f"{FIRST},{FIRST}"])
def test_nothing_is_seen_of_an_empty_unknown_or_doubled_device(h100, visible):
    assert h100.python(PROBE, CUDA_VISIBLE_DEVICES=visible) == NO_DEVICE


def test_an_unknown_device_hides_those_after_it(h100):
    seen = h100.python(PROBE, CUDA_VISIBLE_DEVICES=f"{SECOND},GPU-ffffffff,{FIRST}")

    assert [row[1] for row in seen] == ["b10000001000"]


def test_a_machine_without_gpus_has_no_device(nvml_scenario):
    assert nvml_scenario("no-device").python(PROBE) == NO_DEVICE
