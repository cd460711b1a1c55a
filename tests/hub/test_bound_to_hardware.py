"""From the form to a verified receipt, on the stand-ins for NVML, CUDA and MPS.

Hub, service, spawner, notebook server and pynvml are real; only the hardware is not.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.sharing_hub import SharingHub, StartSharingHub
from tests.hub.test_start_and_stop import environments

# A notebook server with our extension and without JupyterLab, which takes a second more.
SERVER = """
c.Aliquot.gpu_source = "nvml"
c.Spawner.cmd = ["jupyterhub-singleuser"]
c.Spawner.environment = {{**c.Spawner.environment, **{given!r}}}
"""


@pytest.fixture
def start_on_hardware(start_sharing_hub: StartSharingHub, nvml_scenario):
    """A sharing Hub on the machine of a scenario."""

    def start(scenario: str, more: str = "", **environment: str) -> SharingHub:
        machine = nvml_scenario(scenario)
        config = SERVER.format(given=machine.env) + more
        return start_sharing_hub(config, environment={**machine.env, **environment})

    start.scenario = nvml_scenario
    return start


def receipt_of(shared: SharingHub, seconds: float = 60) -> Mapping[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        (lease,) = shared.store.open_leases()
        receipt = shared.store.receipt(lease.id)
        if receipt is not None:
            return receipt
        assert time.monotonic() < deadline, shared.hub.log[-3000:]
        time.sleep(0.1)


def test_a_slice_is_named_to_the_notebook_and_verified_inside_it(start_on_hardware):
    shared = start_on_hardware("a100-mig-mixed")

    shared.hub.start_server("ada", options={"share": "1g.10gb"})

    (lease,) = shared.store.open_leases()
    (piece,) = lease.placement.pieces
    environ = environments(shared)[0]
    assert piece.mig_uuid is not None
    assert environ["CUDA_VISIBLE_DEVICES"] == environ["NVIDIA_VISIBLE_DEVICES"] == piece.mig_uuid
    assert receipt_of(shared)["verdict"] == "verified"


def test_blocks_are_capped_by_mps_and_the_cap_is_seen_inside(start_on_hardware, mps_daemon):
    shared = start_on_hardware(
        "h100-mps-blocks",
        f'c.Aliquot.mps_pipe_directory = "{mps_daemon.pipe_directory}"',
        PATH=f"{Path(sys.executable).parent}:{mps_daemon.path}",
    )

    shared.hub.start_server("ada", options={"share": "30 blocks"})

    (lease,) = shared.store.open_leases()
    (piece,) = lease.placement.pieces
    environ = environments(shared)[0]
    receipt = receipt_of(shared)
    assert environ["CUDA_VISIBLE_DEVICES"] == piece.gpu_uuid
    assert environ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "30"
    assert environ["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == f"0={piece.memory_mib}M"
    assert receipt["verdict"] == "verified"
    assert {check["enforced_by"] for check in receipt["checks"]} >= {"mps"}


def test_without_the_mps_daemon_blocks_are_refused_and_whole_gpus_are_not(start_on_hardware):
    shared = start_on_hardware(
        "h100-mps-blocks", 'c.Aliquot.mps_pipe_directory = "/nonexistent/mps"'
    )

    refused = shared.hub.start_server("ada", options={"share": "30 blocks"}, wait=False)
    shared.hub.start_server("ada", options={"share": "100 blocks"})

    assert refused.status_code == 409
    assert "need CUDA MPS" in refused.json()["message"]
    assert shared.held_blocks() == 100


def test_when_the_driver_is_lost_gpu_starts_pause_and_cpu_starts_go_on(
    start_sharing_hub: StartSharingHub, nvml_scenario
):
    machine = nvml_scenario("a100-mig-mixed")
    shared = start_sharing_hub('c.Aliquot.gpu_source = "nvml"', environment=machine.env)
    shared.hub.start_server("ada", options={"share": "1g.10gb"})

    machine.become("driver-lost")
    refused = shared.hub.start_server("lin", options={"share": "1g.10gb"}, wait=False)
    shared.hub.start_server("eve", options={"share": "cpu"})
    shared.hub.stop_server("ada")
    machine.become("a100-mig-mixed")
    shared.hub.start_server("lin", options={"share": "1g.10gb"})

    assert refused.status_code == 409
    assert refused.json()["message"].startswith("GPU launches are paused: ")
    assert [lease.user_name for lease in shared.store.open_leases()] == ["lin"]
