"""Figures over the NVML stand-in: a real server, the real pynvml, one machine a test."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pynvml
import pytest

from aliquot_lab.own_processes import driver_pids_are_ours
from tests.lab.lab_server import (
    LabServer,
    block_piece,
    lease_text,
    slice_piece,
    wait_for,
    whole_piece,
)

A100 = "NVIDIA A100-SXM4-80GB"
A100_UUID = "GPU-a1000000-0000-4000-8000-000000000000"
A100_3G = slice_piece(A100_UUID, "MIG-a1000000-0001-5000-8000-000000000000", "3g.40gb", 40192, A100)
A100_1G = slice_piece(A100_UUID, "MIG-a1000000-0003-5000-8000-000000000000", "1g.10gb", 9856, A100)

H100 = "NVIDIA H100 80GB HBM3"
H100_UUID = "GPU-b1000000-0000-4000-8000-000000000000"
H100_SECOND_UUID = "GPU-b1000000-1000-4000-8000-000000000000"
H100_30_BLOCKS = block_piece(H100_UUID, 30, 24467, H100)

H200 = "NVIDIA H200"
H200_UUID = "GPU-20000000-1000-4000-8000-000000000000"
H200_3G = slice_piece(H200_UUID, "MIG-20000000-1001-5000-8000-000000000000", "3g.71gb", 71168, H200)
H200_1G = slice_piece(H200_UUID, "MIG-20000000-1002-5000-8000-000000000000", "1g.18gb", 16384, H200)


def slices(*pieces: dict[str, Any]) -> str:
    return lease_text(*pieces, kind="slice", by="mig", memory="hardware", compute="hardware")


def blocks(*pieces: dict[str, Any]) -> str:
    return lease_text(*pieces, kind="blocks", by="mps", memory="soft", compute="soft")


def whole(*pieces: dict[str, Any]) -> str:
    return lease_text(*pieces, kind="whole", by="driver", memory="hardware", compute="hardware")


def live(server: LabServer) -> list[dict[str, Any]]:
    """The devices once load has been measured between two readings."""
    return server.usage_when(lambda usage: usage["state"] == "live" and usage["sequence"] >= 2)[
        "devices"
    ]


def test_in_a_pod_a_slice_that_only_the_hub_has_a_name_for_is_found_by_its_profile(
    nvml_scenario, start_server
):
    """NVIDIA's device plugin tells no UUID; the container shows the pod's devices alone."""
    piece = slice_piece("gpu-1/gpu/0", "gpu-1/1g.10gb/3", "1g.10gb", 9856, "A100-80GB")
    other = slice_piece("gpu-1/gpu/0", "gpu-1/7g.80gb/0", "7g.80gb", 80000, "A100-80GB")
    server = start_server(slices(piece, other), nvml_scenario("a100-mig-mixed").env)

    found, missing = live(server)

    assert found["memory_limit_mib"] == 9856
    assert found["memory_used_mib"] == 512
    assert missing["memory_used_mib"] is None
    assert "gpu-1/7g.80gb/0" in missing["memory_reason"]


def test_in_a_pod_whole_cards_are_found_in_their_order(nvml_scenario, start_server):
    pieces = [whole_piece(f"gpu-1/gpu/{number}", 81559, "H100-80GB") for number in range(2)]
    server = start_server(whole(*pieces), nvml_scenario("h100-mps-blocks").env)

    devices = live(server)

    assert [device["memory_limit_mib"] for device in devices] == [81559, 81559]
    # Two different cards: the first has processes of others, the second none.
    assert devices[0]["memory_used_mib"] != devices[1]["memory_used_mib"]


def test_an_ampere_slice_shows_its_memory_and_says_why_its_load_is_unknown(
    nvml_scenario, start_server
):
    machine = nvml_scenario("a100-mig-mixed")
    machine.edit("used_mib 6144-9216/20", "used_mib 7000")
    server = start_server(slices(A100_1G, A100_3G), machine.env)

    small, large = live(server)

    assert (small["name"], small["piece"], small["scope"]) == ("A100 80GB", "1g.10gb", "slice")
    assert (small["memory_used_mib"], small["memory_limit_mib"]) == (512, 9856)
    assert (small["memory_scope"], small["memory_reason"]) == ("slice", None)
    assert (large["memory_used_mib"], large["memory_limit_mib"]) == (7000, 40192)
    for device in (small, large):
        assert (device["busy_percent"], device["busy_source"]) == (None, None)
        assert device["busy_reason"] == (
            "Not measurable on this slice: GPUs before Hopper do not tell a MIG slice's load. "
            "Memory is measured."
        )
        assert (device["power_watts"], device["temperature_celsius"]) == (148, 41)
    assert small["processes"] == [{"pid": 4103, "memory_mib": 475}]
    assert small["shared_with"] is None


def test_a_hopper_slice_shows_its_own_load(nvml_scenario, start_server):
    machine = nvml_scenario("h200-mig")
    machine.edit("metric 2 30-90/20", "metric 2 63.4")
    server = start_server(slices(H200_3G, H200_1G), machine.env)

    measured, unknown = live(server)

    assert (measured["busy_percent"], measured["busy_source"]) == (63, "gpm")
    assert measured["busy_scope"] == "slice"
    assert measured["memory_used_mib"] == 8192
    # NaN is a value that the driver did not have, never a zero.
    assert unknown["busy_percent"] is None
    assert unknown["busy_reason"] == "The driver gave no value for this moment."
    assert unknown["memory_used_mib"] == 30


def test_a_whole_gpu_shows_everything_as_its_own(nvml_scenario, start_server):
    machine = nvml_scenario("h200")
    machine.edit("used_mib 40960-61440/40", "used_mib 50000")
    machine.edit("metric 2 20-80/20", "metric 2 71")
    server = start_server(
        whole(whole_piece("GPU-20000000-0000-4000-8000-000000000000", 143771, H200)), machine.env
    )

    (device,) = live(server)

    assert (device["piece"], device["scope"]) == ("whole GPU", "card")
    assert (device["memory_used_mib"], device["memory_limit_mib"]) == (50000, 143771)
    assert (device["busy_percent"], device["busy_source"], device["busy_scope"]) == (
        71, "gpm", "card",
    )  # fmt: skip
    assert (device["power_watts"], device["temperature_celsius"]) == (540, 61)
    assert device["processes"] == [{"pid": 6100, "memory_mib": 40870}]


def test_a_share_is_shown_the_card_s_figures_as_the_card_s(nvml_scenario, start_server):
    machine = nvml_scenario("h100-mps-blocks")
    machine.edit("used_mib 21000-24000/30", "used_mib 22000")
    # Processes that do not exist here, as the host's do not in a container.
    unseen = machine.path.read_text().replace("  process 52", "  process 99000")
    machine.rewrite(unseen.replace("metric 2 20-60/20", "metric 2 44"))
    server = start_server(blocks(H100_30_BLOCKS), machine.env)

    (device,) = live(server)

    assert (device["piece"], device["scope"]) == ("30 blocks", "share")
    assert (device["memory_used_mib"], device["memory_limit_mib"]) == (22000, 81559)
    assert device["memory_scope"] == "card"
    assert device["memory_reason"].startswith("Memory of the whole card")
    assert (device["busy_percent"], device["busy_scope"]) == (44, "card")
    assert device["processes"] is None
    assert device["processes_reason"].startswith("Processes on a shared card")
    assert device["shared_with"] is None


@pytest.mark.skipif(
    not driver_pids_are_ours([]), reason="needs the host's PID namespace, as on one machine"
)
def test_on_one_machine_a_share_s_own_processes_are_told_from_the_others(
    nvml_scenario, start_server, kernel_of
):
    machine = nvml_scenario("h100-mps-blocks")
    server = start_server(blocks(H100_30_BLOCKS), machine.env)
    kernel = kernel_of(server)
    kernel_pid = server_child(server)
    machine.edit("process 5200 28 0", "process 1 28 0")
    machine.edit("process 5201 6348 24 mps", f"process {kernel_pid} 6348 24 mps")
    machine.edit("process 5202 14800 30 mps", f"process {os.getpid()} 14800 30 mps")

    usage = server.usage_when(
        lambda usage: usage["devices"] and usage["devices"][0]["memory_used_mib"] == 6348
    )

    (device,) = usage["devices"]
    assert (device["memory_scope"], device["memory_limit_mib"]) == ("share", 24467)
    assert device["memory_reason"] is None
    assert device["processes"] == [{"pid": kernel_pid, "memory_mib": 6348}]
    assert device["shared_with"] == 2
    assert kernel is not None


def server_child(server: LabServer) -> int:
    import psutil

    (child,) = psutil.Process(server.process.pid).children()
    return child.pid


@pytest.mark.skipif(
    not hasattr(pynvml, "nvmlDeviceGetMemoryLimits_v1"), reason="needs nvidia-ml-py 13.615"
)
def test_where_the_driver_keeps_the_share_s_limit_its_own_memory_is_shown(
    nvml_scenario, start_server
):
    machine = nvml_scenario("h100-mps-blocks")
    machine.edit("  process 5200 28 0", f"  memory_limit {own_cgroup()} 20000 24467 6100")
    server = start_server(blocks(H100_30_BLOCKS), machine.env)

    (device,) = live(server)

    assert (device["memory_used_mib"], device["memory_limit_mib"]) == (6100, 24467)
    assert (device["memory_scope"], device["memory_reason"]) == ("share", None)


@pytest.mark.parametrize(
    ("total_mib", "scope"), [(24467, "share"), (81559, "card")], ids=["at work", "not at work"]
)
def test_the_memory_that_hami_shows_is_the_share_s_own(
    total_mib, scope, nvml_scenario, start_server
):
    machine = nvml_scenario("h100-mps-blocks")
    # HAMi-core shows its limit as the card's memory. Here the scenario does.
    machine.edit("used_mib 21000-24000/30", "used_mib 6100")
    unseen = machine.path.read_text().replace("  process 52", "  process 99000")
    machine.rewrite(unseen.replace("memory_mib 81559", f"memory_mib {total_mib}"))
    lease = lease_text(H100_30_BLOCKS, kind="blocks", by="hami", memory="soft", compute="soft")
    server = start_server(lease, machine.env)

    (device,) = live(server)

    assert (device["memory_used_mib"], device["memory_limit_mib"]) == (6100, total_mib)
    assert device["memory_scope"] == scope
    assert (device["memory_reason"] is None) is (scope == "share")


def own_cgroup() -> str:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return "/sys/fs/cgroup" + line[3:].rstrip("/")
    pytest.skip("needs cgroup version 2")


def test_an_old_driver_without_gpm_still_tells_memory_and_the_card_s_load(
    nvml_scenario, start_server
):
    machine = nvml_scenario("old-driver-without-gpm")
    uuid = "GPU-70000000-0000-4000-8000-000000000000"
    server = start_server(whole(whole_piece(uuid, 32510, "Tesla V100-SXM2-32GB")), machine.env)

    (device,) = live(server)

    assert (device["memory_used_mib"], device["memory_limit_mib"]) == (1200, 32510)
    assert (device["busy_percent"], device["busy_source"]) == (37, "nvml")
    assert "GPU figures stopped" not in server.log()


def test_what_the_driver_forbids_is_missing_with_the_reason(nvml_scenario, start_server):
    machine = nvml_scenario("permission-denied")
    server = start_server(slices(A100_1G), machine.env)

    (device,) = live(server)

    assert device["memory_used_mib"] == 512
    assert device["processes"] is None
    assert device["processes_reason"] == "The driver does not permit this reading here."
    assert (device["power_watts"], device["temperature_celsius"]) == (None, 41)
    assert device["card_reason"] == "The driver does not permit this reading here."


def test_a_permission_withdrawn_later_takes_only_the_load(nvml_scenario, start_server):
    machine = nvml_scenario("h200-mig")
    machine.edit("metric 2 30-90/20", "metric 2 63.4")
    server = start_server(slices(H200_3G), machine.env)
    assert live(server)[0]["busy_percent"] == 63

    machine.add("fail nvmlGpmMigSampleGet NO_PERMISSION")
    usage = server.usage_when(
        lambda usage: usage["devices"] and usage["devices"][0]["busy_percent"] is None
    )

    assert usage["state"] == "live"
    assert usage["devices"][0]["memory_used_mib"] == 8192
    assert usage["devices"][0]["busy_reason"] == (
        "The driver does not permit reading this slice's load here. Memory is measured."
    )

    machine.edit("fail nvmlGpmMigSampleGet NO_PERMISSION", "")
    back = server.usage_when(
        lambda usage: usage["devices"] and usage["devices"][0]["busy_percent"] == 63
    )
    assert back["state"] == "live"


def test_a_lost_driver_leaves_the_last_figures_as_stale_and_comes_back(nvml_scenario, start_server):
    machine = nvml_scenario("h100-mps-blocks")
    machine.edit("used_mib 21000-24000/30", "used_mib 22000")
    healthy = machine.path.read_text()
    server = start_server(blocks(H100_30_BLOCKS), machine.env)
    live(server)

    machine.become("driver-lost")
    stale = server.usage_when(lambda usage: usage["state"] == "stale" and usage["age_seconds"] >= 4)
    assert stale["devices"][0]["memory_used_mib"] == 22000
    assert stale["state_reason"] == (
        "This GPU fell off the bus. An administrator must look at the machine."
    )

    machine.rewrite(healthy.replace("used_mib 22000", "used_mib 23000"))
    back = server.usage_when(lambda usage: usage["state"] == "live")

    assert back["devices"][0]["memory_used_mib"] == 23000
    assert back["sequence"] > stale["sequence"]
    log = server.log()
    assert (log.count("GPU figures stopped"), log.count("GPU figures are back")) == (1, 1)


def test_one_lost_gpu_of_two_leaves_the_other_s_figures(nvml_scenario, start_server):
    machine = nvml_scenario("h100-mps-blocks")
    second = whole_piece(H100_SECOND_UUID, 81559, H100)
    server = start_server(
        lease_text(H100_30_BLOCKS, second, kind="mixed", by="mps", memory="soft", compute="soft"),
        machine.env,
    )
    live(server)

    machine.add(f"fail nvmlDeviceGetMemoryInfo GPU_IS_LOST {H100_SECOND_UUID}")
    usage = server.usage_when(lambda usage: usage["devices"][1]["memory_used_mib"] is None)

    assert usage["state"] == "live"
    assert usage["devices"][0]["memory_used_mib"] >= 21000
    assert usage["devices"][1]["memory_reason"].startswith("This GPU fell off the bus.")


FIND_AGAIN = """
from aliquot_lab.lease import parse_lease
from aliquot_lab.nvml_source import NvmlSource
from aliquot_lab.own_processes import session_of_server
source = NvmlSource(parse_lease({lease!r}), session_of_server(), find_again_seconds=0)
source.open()
def read():
    return [figures.memory.used_mib for figures in source.read(slow=True)]
result = read()
"""


def test_a_slice_that_was_made_anew_is_found_again(nvml_scenario):
    machine = nvml_scenario("a100-mig-mixed")
    machine.edit("used_mib 6144-9216/20", "used_mib 7000")
    whole_machine = machine.path.read_text()
    session = machine.session()
    assert session.ask(FIND_AGAIN.format(lease=slices(A100_1G, A100_3G))) == [512, 7000]

    machine.edit(f"mig_device {A100_1G['mig_uuid']}", "mig_device MIG-other")
    assert session.ask("result = read()") == [None, 7000]

    machine.rewrite(whole_machine)
    session.ask("result = read()")
    assert session.ask("result = read()") == [512, 7000]


def test_an_unknown_error_of_a_slow_value_costs_that_value_only(nvml_scenario, start_server):
    machine = nvml_scenario("h200-mig")
    machine.add("fail nvmlDeviceGetPowerUsage UNKNOWN")
    server = start_server(slices(H200_3G), machine.env)

    (device,) = live(server)

    assert device["memory_used_mib"] == 8192
    assert (device["power_watts"], device["temperature_celsius"]) == (None, 44)
    assert device["card_reason"] == "The driver answered with an error (UNKNOWN)."


def test_gpu_prints_in_the_kernel_what_the_server_measures(nvml_scenario, start_server, kernel_of):
    machine = nvml_scenario("h200-mig")
    machine.edit("metric 2 30-90/20", "metric 2 63.4")
    server = start_server(slices(H200_3G, H200_1G), machine.env)

    printed = kernel_of(server).run("%load_ext aliquot_lab\n%gpu")["text"]

    assert printed.splitlines() == [
        "H200 · 3g.71gb",
        "  memory 8.0 of 69.5 GiB (this slice) · 63 % busy (this slice)"
        " · 240 W, 44 °C (whole card)",
        "H200 · 1g.18gb",
        "  memory 0.1 of 16.0 GiB (this slice) · busy – · 240 W, 44 °C (whole card)",
        "  The driver gave no value for this moment.",
        "Memory and compute held by MIG (hardware).",
    ]


def test_a_driver_that_hangs_delays_no_answer(nvml_scenario, start_server):
    machine = nvml_scenario("h200-mig")
    server = start_server(slices(H200_3G), machine.env)
    live(server)

    machine.add("delay nvmlDeviceGetMemoryInfo 30s")
    stale = server.usage_when(lambda usage: usage["state"] == "stale")
    asked_at = time.monotonic()
    server.usage()

    assert time.monotonic() - asked_at < 0.5
    assert stale["state_reason"] == "The driver has not answered for 5 s."
    assert stale["devices"][0]["memory_used_mib"] == 8192


@pytest.mark.parametrize(
    ("machine_name", "says"),
    [
        ("no-gpu", "The NVIDIA driver is not loaded on this machine."),
        ("nvml-denied", "The driver does not permit this reading here."),
    ],
)
def test_a_lease_without_a_driver_is_unavailable_and_says_why(
    nvml_scenario, start_server, machine_name, says
):
    server = start_server(blocks(H100_30_BLOCKS), nvml_scenario(machine_name).env)

    usage = server.usage_when(lambda usage: usage["state_reason"] == says)

    assert (usage["state"], usage["devices"]) == ("unavailable", [])
    assert server.log().count("GPU figures stopped") == 1


def test_a_leased_gpu_that_the_driver_does_not_show_is_named(nvml_scenario, start_server):
    machine = nvml_scenario("h200-mig")
    server = start_server(blocks(H100_30_BLOCKS), machine.env)

    (device,) = live(server)

    assert device["memory_used_mib"] is None
    assert device["memory_reason"] == (
        f"The lease names {H100_UUID}, and the driver does not show it here."
    )


def test_a_server_without_a_lease_sees_no_gpu_on_a_machine_that_has_some(
    nvml_scenario, start_server
):
    server = start_server(None, nvml_scenario("ten-gpus-mixed-models").env)

    usage = wait_for(server.usage, lambda usage: True, 5)

    assert (usage["state"], usage["devices"]) == ("no_gpu", [])
