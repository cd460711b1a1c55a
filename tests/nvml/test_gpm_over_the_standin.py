"""The real pynvml, over the stand-in: GPM, as whole GPU and as MIG instance."""

from __future__ import annotations

import pytest

GPM = """
import ctypes, math, time
import pynvml

pynvml.nvmlInit()
gpu = pynvml.nvmlDeviceGetHandleByIndex(0)

def measure(take, *metrics, apart_seconds=0.12):
    first, second = pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()
    take(first)
    time.sleep(apart_seconds)
    take(second)
    wanted = pynvml.c_nvmlGpmMetricsGet_t()
    wanted.version = pynvml.NVML_GPM_METRICS_GET_VERSION
    wanted.numMetrics = len(metrics)
    wanted.sample1, wanted.sample2 = first, second
    for place, metric in enumerate(metrics):
        wanted.metrics[place].metricId = metric
    pynvml.nvmlGpmMetricsGet(wanted)
    pynvml.nvmlGpmSampleFree(first)
    pynvml.nvmlGpmSampleFree(second)
    return [
        [m.nvmlReturn, "nan" if math.isnan(m.value) else m.value]
        for m in wanted.metrics[: len(metrics)]
    ]

def answer(call, *arguments):
    try:
        return call(*arguments)
    except pynvml.NVMLError as error:
        return type(error).__name__
"""


def test_each_metric_has_its_own_code_and_may_be_nan(nvml_scenario):
    told = nvml_scenario("h200").python(
        "result = measure(lambda s: pynvml.nvmlGpmSampleGet(gpu, s), 1, 3, 5, 10, 20)", after=GPM
    )
    success, not_supported = 0, 3
    assert told == [
        [success, 98.5],
        [success, 33.25],
        [success, "nan"],
        [not_supported, 0],
        [not_supported, 0],
    ]


def test_an_instance_is_measured_through_its_gpu(nvml_scenario):
    told = nvml_scenario("h200-mig").python(
        """
        result = [
            pynvml.nvmlGpmQueryDeviceSupport(gpu).isSupportedDevice,
            measure(lambda s: pynvml.nvmlGpmSampleGet(gpu, s), 2),
            measure(lambda s: pynvml.nvmlGpmMigSampleGet(gpu, 1, s), 3),
            measure(lambda s: pynvml.nvmlGpmMigSampleGet(gpu, 9, s), 2),
            answer(pynvml.nvmlGpmMigSampleGet, gpu, 5, pynvml.nvmlGpmSampleAlloc()),
        ]
        """,
        after=GPM,
    )
    assert told == [1, [[0, 41.0]], [[0, 40.0]], [[0, "nan"]], "NVMLError_NotFound"]


def test_samples_too_close_together_count_nothing(nvml_scenario):
    told = nvml_scenario("h200").python(
        "result = measure(lambda s: pynvml.nvmlGpmSampleGet(gpu, s), 1, apart_seconds=0)", after=GPM
    )
    assert told == [[0, "nan"]]


def test_samples_of_two_devices_cannot_be_compared(nvml_scenario):
    told = nvml_scenario("h100-mps-blocks").python(
        """
        other = pynvml.nvmlDeviceGetHandleByIndex(1)
        handles = iter([gpu, other])
        result = answer(measure, lambda s: pynvml.nvmlGpmSampleGet(next(handles), s), 2)
        """,
        after=GPM,
    )
    assert told == "NVMLError_InvalidArgument"


def test_ampere_has_no_gpm(nvml_scenario):
    told = nvml_scenario("a100-mig-mixed").python(
        """
        result = [
            pynvml.nvmlGpmQueryDeviceSupport(gpu).isSupportedDevice,
            answer(pynvml.nvmlGpmSampleGet, gpu, pynvml.nvmlGpmSampleAlloc()),
        ]
        """,
        after=GPM,
    )
    assert told == [0, "NVMLError_NotSupported"]


@pytest.mark.parametrize(
    "call",
    [
        "pynvml.nvmlGpmQueryDeviceSupport, gpu",
        "pynvml.nvmlGpmSampleAlloc",
        "pynvml.nvmlDeviceGetMemoryInfo, gpu, pynvml.nvmlMemory_v2",
    ],
)
def test_an_old_driver_lacks_the_symbols(nvml_scenario, call):
    told = nvml_scenario("old-driver-without-gpm").python(f"result = answer({call})", after=GPM)

    assert told == "NVMLError_FunctionNotFound"


def test_mps_v3_memory_limits_are_told_by_cgroup(nvml_scenario):
    scenario = nvml_scenario("h200")
    scenario.edit("  gpm yes", "  gpm yes\n  memory_limit /sys/fs/cgroup/ada 1024 2048 512")
    told = scenario.python(
        """
        result = []
        for cgroup in (b"/sys/fs/cgroup/ada", b"/sys/fs/cgroup/lin"):
            limits = pynvml.c_nvmlGetMemoryLimits_v1_t()
            limits.nameSpace = cgroup
            pynvml.nvmlDeviceGetMemoryLimits_v1(gpu, limits)
            unlimited = limits.hardLimit == pynvml.NVML_DEVICE_MEMORY_LIMIT_MAX
            result.append([unlimited, limits.softLimit >> 20, limits.currentUsed >> 20])
        """,
        after=GPM,
    )
    assert told == [[False, 1024, 512], [True, 0, 0]]
