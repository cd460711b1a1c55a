"""GPU state that cannot be read: one sentence, in bounded time, and back when it is well."""

from __future__ import annotations

import re

import pytest

from tests.discovery.reading import READ


@pytest.mark.parametrize(
    "scenario, sentence",
    [
        (
            "no-gpu",
            "NoDriver: No GPUs here: the NVIDIA driver is not loaded. Install or load the driver "
            "if this machine has NVIDIA GPUs.",
        ),
        (
            "nvml-denied",
            "GpuStateUnreadable: The GPUs cannot be read: this process may not use the NVIDIA "
            "driver. Let the hub's user read and write /dev/nvidiactl and /dev/nvidia*.",
        ),
        (
            "driver-lost",
            "GpuStateUnreadable: The GPUs cannot be read: a GPU has fallen off the bus. Look for "
            "'Xid' in the kernel log; the machine needs a reboot.",
        ),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(nvml_scenario, scenario, sentence):
    result = nvml_scenario(scenario).python("result = told(source_for('nvml'))", after=READ)

    assert result == sentence


@pytest.mark.parametrize(
    "code, why",
    [
        ("LIB_RM_VERSION_MISMATCH", "the NVIDIA library and the loaded driver are of different"),
        ("RESET_REQUIRED", "a GPU needs a reset"),
        ("TIMEOUT", "the NVIDIA driver answered 'Timeout'. Look at 'nvidia-smi'"),
    ],
)
@pytest.mark.parametrize("call", ["nvmlInitWithFlags", "nvmlDeviceGetCount"])
def test_every_failure_of_the_driver_ends_in_a_sentence(nvml_scenario, call, code, why):
    scenario = nvml_scenario("h200")
    scenario.add(f"fail {call} {code}")

    result = scenario.python("result = told(source_for('nvml'))", after=READ)
    assert result.startswith(f"GpuStateUnreadable: The GPUs cannot be read: {why}")


def test_a_driver_lost_midway_is_unreadable_until_it_is_back(nvml_scenario):
    scenario = nvml_scenario("h100-mps-blocks")
    hub = scenario.session()
    hub.ask(READ + "source = source_for('nvml')")

    assert hub.ask("result = told(source)") == 2
    scenario.become("driver-lost")
    assert "fallen off the bus" in hub.ask("result = told(source)")
    scenario.become("h100-mps-blocks")
    assert hub.ask("result = told(source)") == 2


def test_a_driver_that_fails_in_the_middle_of_a_reading_gives_no_half_inventory(nvml_scenario):
    scenario = nvml_scenario("ten-gpus-mixed-models")
    seventh = "GPU-70000000-aaaa-4000-8000-000000000000"
    scenario.add(f"fail nvmlDeviceGetMemoryInfo TIMEOUT {seventh}")

    assert "answered 'Timeout'" in scenario.python("result = told(source_for('nvml'))", after=READ)


@pytest.mark.parametrize(
    "code, words", [("GPU_IS_LOST", "GPU is lost"), ("UNKNOWN", "Unknown Error")]
)
def test_one_lost_gpu_is_left_out_and_the_nine_others_stay(nvml_scenario, code, words):
    scenario = nvml_scenario("ten-gpus-mixed-models")
    scenario.add(f"fail nvmlDeviceGetHandleByIndex {code} GPU-20000000-aaaa-4000-8000-000000000000")

    inventory = scenario.python("result = read()", after=READ)
    assert [gpu["index"] for gpu in inventory["gpus"]] == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert inventory["notes"][0] == (
        f"GPU 2 is left out: it answered '{words}'. Look at 'nvidia-smi -i 2 -q' and the "
        "kernel log."
    )


def test_when_no_gpu_answers_the_state_is_unreadable_not_empty(nvml_scenario):
    scenario = nvml_scenario("h100-mps-blocks")
    scenario.add("fail nvmlDeviceGetHandleByIndex NO_PERMISSION")

    result = scenario.python("result = told(source_for('nvml'))", after=READ)
    assert result.startswith("GpuStateUnreadable: The GPUs cannot be read: this process may not")


def test_a_driver_that_hangs_is_left_alone_after_a_while(nvml_scenario):
    scenario = nvml_scenario("h200")
    hub = scenario.session()
    hub.ask(
        READ
        + """
source = NvmlSource(mps_pipe_directory="/nowhere", answer_within_seconds=1.4)

def timed():
    began = time.monotonic()
    return told(source), time.monotonic() - began
"""
    )
    scenario.add("delay nvmlDeviceGetName 5s")

    sentence, first_seconds = hub.ask("result = timed()")
    assert re.fullmatch(
        r"GpuStateUnreadable: The GPUs cannot be read: the NVIDIA driver has not answered for "
        r"\d+ s\. Look at 'nvidia-smi' and the kernel log on this machine; a driver that hangs "
        r"needs a reboot\.",
        sentence,
    )
    assert first_seconds >= 1.4
    sentence, second_seconds = hub.ask("result = timed()")
    assert "has not answered" in sentence
    assert second_seconds < 1

    scenario.become("h200")
    back = """
        for _ in range(100):
            result = told(source)
            if result == 1:
                break
            time.sleep(0.2)
        """
    assert hub.ask(back) == 1


def test_many_threads_read_at_once_and_all_get_their_answer(nvml_scenario):
    counts = nvml_scenario("ten-gpus-mixed-models").python(
        """
        from concurrent.futures import ThreadPoolExecutor
        source = source_for("nvml")
        with ThreadPoolExecutor(8) as pool:
            result = list(pool.map(lambda _: told(source), range(24)))
        """,
        after=READ,
    )
    assert counts == [10] * 24


def test_reading_leaves_nvml_as_it_found_it(nvml_scenario):
    """Somebody else in the process may use NVML too; init and shutdown are counted."""
    result = nvml_scenario("h200").python(
        """
        import pynvml
        pynvml.nvmlInit()
        told(source_for("nvml"))
        result = [pynvml.nvmlDeviceGetCount()]
        pynvml.nvmlShutdown()
        try:
            pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            result.append(type(error).__name__)
        """,
        after=READ,
    )
    assert result == [1, "NVMLError_Uninitialized"]
