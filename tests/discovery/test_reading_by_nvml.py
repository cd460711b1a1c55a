"""What the NVML source makes of each machine: GPUs, instances, blocks, notes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.discovery.reading import READ


@pytest.fixture
def read(nvml_scenario):
    """``read("a30")`` is the inventory of that machine, as a dict; or the error's name and
    text. ``change(scenario)`` edits the machine before it is read."""

    def start(name, change=None, **options):
        scenario = nvml_scenario(name)
        if change is not None:
            change(scenario)
        return scenario.python(f"result = read(**{options!r})", after=READ)

    return start


def layout(gpu):
    return [(device["profile"], device["memory_slices"]) for device in gpu["mig_devices"]]


def test_mig_instances_are_read_with_what_they_cost(read):
    first, second = read("a100-mig-mixed")["gpus"]

    assert layout(first) == [("3g.40gb", 4), ("2g.20gb", 2), ("1g.10gb", 1), ("1g.10gb", 1)]
    assert layout(second) == [("4g.40gb", 4), ("3g.40gb", 4)]
    assert (first["model"], first["memory_mib"], first["mig_enabled"]) == ("A100-80GB", 81920, True)
    assert first["blocks_by"] is None
    assert first["mig_devices"][3] == {
        "uuid": "MIG-a1000000-0004-5000-8000-000000000000",
        "profile": "1g.10gb",
        "compute_slices": 1,
        "memory_slices": 1,
        "memory_mib": 9856,
        "start": None,
        "offered_as": "",
    }


def test_where_an_instance_begins_is_known_to_a_privileged_hub_only(read):
    a30 = read("a30")
    unprivileged = read("a30", lambda scenario: scenario.edit("privileged yes", "privileged no"))

    assert [d["start"] for d in a30["gpus"][0]["mig_devices"]] == [0, 2, 3]
    assert [d["start"] for d in unprivileged["gpus"][0]["mig_devices"]] == [None] * 3


def test_an_a30_has_four_slots(read):
    (gpu,) = read("a30")["gpus"]

    assert (gpu["model"], gpu["compute_slots"], gpu["memory_slots"]) == ("A30-24GB", 4, 4)
    assert layout(gpu) == [("2g.12gb", 2), ("1g.6gb", 1), ("1g.6gb", 1)]


def test_an_inventory_tells_when_and_by_whom_it_was_read(read):
    inventory = read("h200")

    age = datetime.now(UTC) - datetime.fromisoformat(inventory["read_at"])
    assert timedelta(0) < age < timedelta(seconds=30)
    assert inventory["source"] == "nvml"
    assert inventory["driver_version"] == "575.57.08"
    assert inventory["simulated"] is False


def test_blocks_are_offered_where_mps_serves(read, mps_daemon):
    inventory = read("h100-mps-blocks", mps=str(mps_daemon.pipe_directory))

    assert [(g["blocks_by"], g["max_sharers"]) for g in inventory["gpus"]] == [("mps", 48)] * 2
    assert inventory["notes"] == []


def test_a_stopped_mps_daemon_ends_blocks_and_is_named(read, mps_daemon):
    mps_daemon.stop()

    inventory = read("h200", mps=str(mps_daemon.pipe_directory))
    assert inventory["gpus"][0]["blocks_by"] is None
    assert inventory["notes"] == [
        f"Blocks are not offered. MPS control daemon not reachable at {mps_daemon.pipe_directory}: "
        "it was stopped, its socket is left behind. Start it on this machine "
        "('nvidia-cuda-mps-control -d'), or set 'c.Aliquot.mps_pipe_directory' to where it listens."
    ]


def test_advisory_blocks_are_offered_only_where_the_admin_allows_them(read):
    allowed = read("h200", allow_advisory_blocks=True)

    assert allowed["gpus"][0]["blocks_by"] == "advisory"
    assert allowed["notes"][0].startswith("Blocks are not enforced. MPS control daemon not ")
    assert read("h200")["gpus"][0]["blocks_by"] is None


def test_a_gpu_for_one_process_at_a_time_offers_no_advisory_blocks(read):
    inventory = read("h100-mps-blocks", allow_advisory_blocks=True)

    assert [gpu["blocks_by"] for gpu in inventory["gpus"]] == [None, None]
    assert inventory["notes"][0] == (
        "GPU 0 (NVIDIA H100 80GB HBM3) serves one process at a time: its compute mode is "
        "Exclusive Process and no MPS daemon runs. Start MPS, or run 'nvidia-smi -i 0 -c DEFAULT'."
    )


def test_a_gpu_closed_to_computing_is_left_out(read):
    inventory = read("h200", lambda scenario: scenario.edit("  gpm yes", "  compute_mode 2"))

    assert inventory["gpus"] == []
    assert inventory["notes"] == [
        "GPU 0 (NVIDIA H200) is left out: its compute mode is Prohibited. Allow computing with "
        "'nvidia-smi -i 0 -c DEFAULT'."
    ]


def test_ten_gpus_of_mixed_models_are_each_what_they_are(read, mps_daemon):
    inventory = read("ten-gpus-mixed-models", mps=str(mps_daemon.pipe_directory))

    assert [
        (g["index"], g["model"], g["blocks_by"], g["max_sharers"]) for g in inventory["gpus"]
    ] == [
        (0, "H100-80GB", "mps", 60),
        (1, "H100-80GB", "mps", 60),
        (2, "H100-94GB", "mps", 60),
        (3, "A100-80GB", None, None),
        (4, "A100-80GB", None, None),
        (5, "A100-40GB", "mps", 60),
        (6, "A30-24GB", None, None),
        (7, "L40S", "mps", 60),
        (8, "T4", "mps", 60),
        (9, "P4000", None, None),
    ]
    assert layout(inventory["gpus"][3]) == [("2g.20gb", 2), ("1g.10gb", 1)]
    assert layout(inventory["gpus"][6]) == [("1g.6gb", 1)] * 4
    assert inventory["notes"] == [
        "GPU 4 (NVIDIA A100-SXM4-80GB) is in MIG mode and has no instances, so nobody can use "
        "it. Make some ('nvidia-smi mig -cgi … -C'), or turn MIG mode off.",
        "GPU 9 (Quadro P4000) is older than Volta, so MPS cannot limit anybody's part of it. It "
        "is given out whole.",
    ]


def test_an_old_driver_is_read_without_what_it_lacks(read, mps_daemon):
    (gpu,) = read("old-driver-without-gpm", mps=str(mps_daemon.pipe_directory))["gpus"]

    assert (gpu["model"], gpu["memory_mib"]) == ("V100-SXM2-32GB", 32510)
    assert (gpu["blocks_by"], gpu["max_sharers"]) == ("mps", 48)


def test_a_card_in_mig_mode_that_hides_its_memory_is_taken_by_its_largest_instance(read):
    first, second = read("permission-denied")["gpus"]

    assert first["memory_mib"] == second["memory_mib"] == 80384
    assert layout(second) == [("4g.40gb", 4), ("3g.40gb", 4)]


def test_a_pending_mig_mode_is_told(read):
    inventory = read("h200", lambda scenario: scenario.edit("mig off 7", "mig pending 7"))

    assert inventory["gpus"][0]["mig_enabled"] is False
    assert inventory["notes"][0].startswith(
        "GPU 0 (NVIDIA H200) has MIG mode off until its next reset, then on."
    )


def test_an_instance_renamed_by_the_driver_is_charged_by_what_it_has(read):
    """A100-80GB was seen with 3g.39gb for 3g.40gb (NVIDIA/mig-parted#31)."""

    def rename(scenario):
        scenario.edit("name 4g.40gb\n", "name 4g.39gb\n")

    device = read("a100-mig-mixed", rename)["gpus"][1]["mig_devices"][0]
    assert (device["profile"], device["compute_slices"], device["memory_slices"]) == (
        "4g.39gb",
        4,
        4,
    )


def test_a_wide_instance_is_not_taken_for_a_narrow_one(read):
    """1g.20gb has the compute of 1g.10gb and twice its memory slots."""

    def widen(scenario):
        text = scenario.path.read_text("utf-8")
        scenario.rewrite(
            text.replace("name 2g.20gb", "name 1g.19gb").replace(
                "compute_slices 2\n  memory_mib 19968", "compute_slices 1\n  memory_mib 19900"
            )
        )

    device = read("a100-mig-mixed", widen)["gpus"][0]["mig_devices"][1]
    assert (device["profile"], device["compute_slices"], device["memory_slices"]) == (
        "1g.19gb",
        1,
        2,
    )


def test_a_part_of_an_instance_is_not_offered(read):
    def split(scenario):
        scenario.edit("name 4g.40gb\n", "name 2c.4g.40gb\n  ci_slices 2\n")

    inventory = read("a100-mig-mixed", split)
    assert layout(inventory["gpus"][1]) == [("3g.40gb", 4)]
    assert inventory["notes"] == [
        "MIG device 0 of GPU 1 (NVIDIA A100-SXM4-80GB) is not offered: it is a part of an "
        "instance's compute and shares its memory with others. Make one compute instance as "
        "wide as its GPU instance."
    ]


def test_instances_of_an_unknown_model_are_not_charged_by_a_guess(read):
    def rebrand(scenario):
        scenario.edit("name NVIDIA A30\n  pci 0x20B710DE", "name NVIDIA X900\n  pci 0x999910DE")

    inventory = read("a30", rebrand)
    assert inventory["gpus"][0]["model"] == "X900"
    assert layout(inventory["gpus"][0]) == []
    assert len(inventory["notes"]) == 3
    assert "the MIG geometry of this product is not known" in inventory["notes"][0]


def test_an_instance_that_goes_while_it_is_read_is_left_out_alone(read):
    gone = "MIG-a1000000-0003-5000-8000-000000000000"

    inventory = read(
        "a100-mig-mixed", lambda scenario: scenario.add(f"fail nvmlDeviceGetUUID NOT_FOUND {gone}")
    )
    assert layout(inventory["gpus"][0]) == [("3g.40gb", 4), ("2g.20gb", 2), ("1g.10gb", 1)]
    assert inventory["notes"] == [
        "MIG device 2 of GPU 0 (NVIDIA A100-SXM4-80GB) is not offered: it answered 'Not Found'. "
        "It may be new, or about to go."
    ]
