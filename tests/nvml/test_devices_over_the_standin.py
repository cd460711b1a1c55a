"""The real pynvml, over the stand-in: devices, MIG, forced answers, changes under way."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.nvml_standin import library

CALL = """
import pynvml

def answer(call, *arguments, **options):
    try:
        return call(*arguments, **options)
    except pynvml.NVMLError as error:
        return type(error).__name__

pynvml.nvmlInit()
gpu = lambda index=0: pynvml.nvmlDeviceGetHandleByIndex(index)
mig = lambda index=0: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu(), index)
"""


@pytest.fixture
def machine(nvml_scenario):
    """``machine(name).ask(code)``: a child with pynvml initialised and helpers at hand."""

    def start(name):
        scenario = nvml_scenario(name)
        session = scenario.session()
        session.ask(CALL)
        return scenario, session

    return start


def test_structures_have_the_size_that_pynvml_declares(machine):
    _, child = machine("h200")

    assert (
        child.ask("result = answer(pynvml.nvmlDeviceGetPciInfo, gpu()).busId") == "00000000:1A:00.0"
    )
    memory = child.ask(
        """
        m1 = pynvml.nvmlDeviceGetMemoryInfo(gpu(0))
        m2 = pynvml.nvmlDeviceGetMemoryInfo(gpu(0), version=pynvml.nvmlMemory_v2)
        rest = m2.total - m2.free - m2.used
        result = [n >> 20 for n in (m1.total, m2.total, m2.reserved, rest)]
        """
    )
    assert memory == [143771, 143771, 610, 610]


def test_memory_version_1_counts_the_reserve_as_used_and_version_2_apart(machine):
    scenario, child = machine("h200")
    scenario.edit("used_mib 40960-61440/40", "used_mib 1000")

    used = child.ask(
        """
        result = [pynvml.nvmlDeviceGetMemoryInfo(gpu()).used >> 20,
                  pynvml.nvmlDeviceGetMemoryInfo(gpu(), version=pynvml.nvmlMemory_v2).used >> 20]
        """
    )
    assert used == [1610, 1000]


def test_an_unknown_structure_version_is_refused(machine):
    _, child = machine("h200")

    code = "result = answer(pynvml.nvmlDeviceGetMemoryInfo, gpu(), version=0x03000028)"
    assert child.ask(code) == "NVMLError_ArgumentVersionMismatch"


def test_mig_devices_are_found_on_their_gpu_with_ids_and_sizes(machine):
    _, child = machine("a100-mig-mixed")

    found = child.ask(
        """
        result = []
        for index in range(4):
            handle = mig(index)
            size = pynvml.nvmlDeviceGetAttributes(handle)
            parent = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
            result.append([
                pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetGpuInstanceId(handle),
                size.gpuInstanceSliceCount, size.memorySizeMB, size.multiprocessorCount,
                pynvml.nvmlDeviceGetIndex(parent),
            ])
        """
    )
    assert found == [
        ["NVIDIA A100-SXM4-80GB MIG 3g.40gb", 1, 3, 40192, 42, 0],
        ["NVIDIA A100-SXM4-80GB MIG 2g.20gb", 5, 2, 19968, 28, 0],
        ["NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9, 1, 9856, 14, 0],
        ["NVIDIA A100-SXM4-80GB MIG 1g.10gb", 10, 1, 9856, 14, 0],
    ]
    assert child.ask("result = answer(mig, 4)") == "NVMLError_NotFound"
    assert child.ask("result = answer(mig, 7)") == "NVMLError_InvalidArgument"


def test_a_mig_device_is_found_by_its_uuid(machine):
    _, child = machine("a30")

    name = child.ask(
        """
        handle = pynvml.nvmlDeviceGetHandleByUUID("MIG-a3000000-0001-5000-8000-000000000000")
        result = pynvml.nvmlDeviceGetName(handle)
        """
    )
    assert name == "NVIDIA A30 MIG 2g.12gb"


@pytest.mark.parametrize("call", ["nvmlDeviceGetUtilizationRates", "nvmlDeviceGetPowerUsage"])
def test_a_mig_device_refuses_what_is_measured_on_the_card(machine, call):
    _, child = machine("a100-mig-mixed")

    assert child.ask(f"result = answer(pynvml.{call}, mig())") == "NVMLError_NotSupported"


def test_the_parent_of_mig_devices_tells_no_utilisation_but_power_and_temperature(machine):
    _, child = machine("a100-mig-mixed")

    assert child.ask(
        """
        result = [answer(pynvml.nvmlDeviceGetUtilizationRates, gpu()),
                  answer(pynvml.nvmlDeviceGetProcessUtilization, gpu(), 0),
                  pynvml.nvmlDeviceGetPowerUsage(gpu()),
                  pynvml.nvmlDeviceGetTemperature(gpu(), 0),
                  pynvml.nvmlDeviceGetTemperatureV(gpu(), 0)]
        """
    ) == ["NVMLError_NotSupported", "NVMLError_NotSupported", 148200, 41, 41]


@pytest.mark.parametrize(
    "privileged, expected", [("no", "NVMLError_NoPermission"), ("yes", [9, 4])]
)
def test_where_an_instance_lies_is_told_to_the_privileged_only(machine, privileged, expected):
    scenario, child = machine("a100-mig-mixed")
    scenario.edit("privileged no", f"privileged {privileged}")

    told = child.ask(
        """
        result = answer(pynvml.nvmlDeviceGetGpuInstanceById, gpu(), 1)
        if not isinstance(result, str):
            info = pynvml.nvmlGpuInstanceGetInfo(result)
            result = [info.profileId, info.placement.start]
        """
    )
    assert told == expected


def test_processes_carry_their_instance_and_mps_clients_are_listed_apart(machine):
    _, child = machine("a100-mig-mixed")
    ask_for = "[[p.pid, p.usedGpuMemory >> 20, p.gpuInstanceId] for p in pynvml.{call}({on})]"
    code = "result = " + ask_for.format(call="nvmlDeviceGetComputeRunningProcesses", on="mig(2)")
    assert child.ask(code) == [[4103, 475, 9]]

    _, child = machine("h100-mps-blocks")
    code = ask_for.format(call="nvmlDeviceGetMPSComputeRunningProcesses_v3", on="gpu()")
    none = 2**32 - 1
    assert child.ask("result = " + code) == [[5201, 6348, none], [5202, 14800, none]]


def test_process_utilisation_is_told_and_the_drivers_empty_success_is_replayed(machine):
    scenario, child = machine("h100-mps-blocks")
    code = "[[s.pid, s.smUtil] for s in pynvml.nvmlDeviceGetProcessUtilization(gpu(), 0)]"
    assert child.ask(f"result = {code}") == [[5200, 0], [5201, 24], [5202, 30]]

    scenario.add("fail nvmlDeviceGetProcessUtilization SUCCESS")
    code = "result = answer(pynvml.nvmlDeviceGetProcessUtilization, gpu(), 0)"
    assert child.ask(code) == "NVMLError"


def test_a_failure_can_be_forced_for_one_device_alone(machine):
    scenario, child = machine("h100-mps-blocks")
    scenario.add(
        "fail nvmlDeviceGetMemoryInfo NO_PERMISSION GPU-b1000000-1000-4000-8000-000000000000"
    )

    read = "answer(pynvml.nvmlDeviceGetMemoryInfo, gpu({index}), version={version})"
    for version in ("None", "pynvml.nvmlMemory_v2"):
        first = read.format(index=0, version=version)
        assert child.ask(f"result = {first}.total >> 20") == 81559
        second = read.format(index=1, version=version)
        assert child.ask(f"result = {second}") == "NVMLError_NoPermission"


def test_a_change_of_the_file_is_seen_at_the_next_call(machine):
    scenario, child = machine("h200")
    child.ask("handle = gpu()")
    assert child.ask("result = pynvml.nvmlDeviceGetPowerUsage(handle)") == 540_000

    scenario.edit("power_watts 540", "power_watts 95")
    assert child.ask("result = pynvml.nvmlDeviceGetPowerUsage(handle)") == 95_000

    scenario.become("no-device")
    assert (
        child.ask("result = answer(pynvml.nvmlDeviceGetPowerUsage, handle)")
        == "NVMLError_GpuIsLost"
    )


def test_a_delayed_call_keeps_other_threads_going(machine):
    scenario, child = machine("h100-mps-blocks")
    scenario.add("delay nvmlDeviceGetMemoryInfo 2s")

    slow, quick = child.ask(
        """
        import threading, time
        began = time.monotonic()
        thread = threading.Thread(target=pynvml.nvmlDeviceGetMemoryInfo, args=(gpu(),))
        thread.start()
        time.sleep(0.05)
        pynvml.nvmlDeviceGetPowerUsage(gpu())
        quick = time.monotonic() - began
        thread.join()
        result = [time.monotonic() - began, quick]
        """
    )
    assert slow >= 2.0
    assert quick < 1.8


def test_nothing_answers_before_init_or_after_shutdown(nvml_scenario):
    told = nvml_scenario("h200").python(
        CALL + "pynvml.nvmlShutdown()\nresult = answer(pynvml.nvmlDeviceGetCount)"
    )
    assert told == "NVMLError_Uninitialized"


@pytest.mark.parametrize(
    "scenario, error",
    [("no-gpu", "NVMLError_DriverNotLoaded"), ("nvml-denied", "NVMLError_NoPermission")],
)
def test_init_itself_can_be_refused(nvml_scenario, scenario, error):
    told = nvml_scenario(scenario).python(
        """
        import pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            result = type(error).__name__
        """
    )
    assert told == error


def test_ten_gpus_of_several_models_keep_their_order_and_gaps(machine):
    _, child = machine("ten-gpus-mixed-models")

    names = child.ask("result = [pynvml.nvmlDeviceGetName(gpu(i)) for i in range(10)]")
    assert names[2] == "NVIDIA H100 NVL"
    assert names[9] == "Quadro P4000"
    found = child.ask(
        """
        answers = [answer(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, gpu(3), i) for i in range(5)]
        result = [told if isinstance(told, str) else "a handle" for told in answers]
        """
    )
    assert found == ["a handle", *["NVMLError_NotFound"] * 3, "a handle"]


def test_a_slip_in_a_scenario_ends_the_process_with_its_line(nvml_scenario):
    scenario = nvml_scenario("h200")
    scenario.add("  memory_mb 5")

    ended = subprocess.run(
        [sys.executable, "-c", "import pynvml; pynvml.nvmlInit()"],
        env=scenario.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 97
    assert "not understood:   memory_mb 5" in ended.stderr


def test_a_second_build_costs_nothing(nvml_library):
    began = time.monotonic()

    assert library.build() == nvml_library
    assert time.monotonic() - began < 2


SEEN = """
import pynvml
pynvml.nvmlInit()
result = []
for number in range(pynvml.nvmlDeviceGetCount()):
    gpu = pynvml.nvmlDeviceGetHandleByIndex(number)
    seen = [pynvml.nvmlDeviceGetUUID(gpu)]
    for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            mig = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, place)
        except pynvml.NVMLError_NotFound:
            continue
        seen.append(f"{place} {pynvml.nvmlDeviceGetUUID(mig)}")
    result.append(seen)
"""
FIRST_A100 = "GPU-a1000000-0000-4000-8000-000000000000"
SECOND_A100 = "GPU-a1000000-1000-4000-8000-000000000000"


@pytest.mark.parametrize(("let_in", "seen"), [
    (  # the third of the first card's four instances is the only one, so its number is 0
        "MIG-a1000000-0003-5000-8000-000000000000",
        [[FIRST_A100, "0 MIG-a1000000-0003-5000-8000-000000000000"]],
    ),
    (
        "MIG-a1000000-1002-5000-8000-000000000000,MIG-a1000000-0002-5000-8000-000000000000",
        [
            [FIRST_A100, "0 MIG-a1000000-0002-5000-8000-000000000000"],
            [SECOND_A100, "0 MIG-a1000000-1002-5000-8000-000000000000"],
        ],
    ),
    (
        SECOND_A100,
        [[
            SECOND_A100,
            "0 MIG-a1000000-1001-5000-8000-000000000000",
            "1 MIG-a1000000-1002-5000-8000-000000000000",
        ]],
    ),
    ("MIG-a1000000-0003", []),  # half a name is no name
    ("", []),
])  # fmt: skip
def test_a_container_sees_the_devices_that_were_let_in_and_no_others(nvml_scenario, let_in, seen):
    machine = nvml_scenario("a100-mig-mixed")

    assert machine.python(SEEN, ALIQUOT_NVML_VISIBLE=let_in) == seen


def test_a_device_that_was_not_let_in_cannot_be_asked_for_by_its_name(nvml_scenario):
    code = f"""
    try:
        pynvml.nvmlDeviceGetHandleByUUID("{SECOND_A100}")
        result = "found"
    except pynvml.NVMLError_NotFound:
        result = "not found"
    """
    machine = nvml_scenario("a100-mig-mixed")
    start = "import pynvml; pynvml.nvmlInit()\n"

    assert machine.python(code, after=start) == "found"
    only = "MIG-a1000000-0003-5000-8000-000000000000"
    assert machine.python(code, after=start, ALIQUOT_NVML_VISIBLE=only) == "not found"
