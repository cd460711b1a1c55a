"""What only a real GPU can show. Run with `make gpu-check`; no setting of a GPU is changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aliquot.bindings.local import bind_local
from aliquot.bindings.told import told
from aliquot.discovery import GpuStateUnreadable, source_for
from aliquot.domain.books import Books
from aliquot.domain.currency import ONE_GPU
from aliquot.domain.inventory import Inventory
from aliquot.domain.judging import Grant, Situation, judge
from aliquot.domain.leases import Lease, LeaseState, Person, Server
from aliquot.domain.quota import GroupTree, Quota, ResourceGroup
from aliquot.domain.refusals import Ask
from aliquot.domain.shares import Blocks, Slice

pytestmark = pytest.mark.gpu
BURN = Path(__file__).with_name("_hold_memory.py")


@pytest.fixture(scope="module")
def machine() -> Inventory:
    try:
        found = source_for("nvml").read()
    except GpuStateUnreadable as error:
        pytest.skip(f"no NVIDIA GPU here: {error}")
    if not found.gpus:
        pytest.skip("no NVIDIA GPU here")
    return found


def smi(fields: str) -> list[list[str]]:
    if shutil.which("nvidia-smi") is None:
        pytest.skip("nvidia-smi is not installed beside the driver")
    printed = subprocess.run(
        ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [[cell.strip() for cell in line.split(",")] for line in printed.splitlines()]


def test_discovery_sees_what_nvidia_smi_sees(machine: Inventory):
    rows = smi("uuid,name,memory.total,mig.mode.current")

    assert [gpu.uuid for gpu in machine.gpus] == [row[0] for row in rows]
    assert [gpu.product for gpu in machine.gpus] == [row[1] for row in rows]
    for gpu, row in zip(machine.gpus, rows, strict=True):
        assert abs(gpu.memory_mib - int(row[2])) <= 0.02 * gpu.memory_mib
        assert gpu.mig_enabled == (row[3] == "Enabled")


def granted(machine: Inventory) -> Lease:
    """The smallest piece that this machine gives: a slice, or a whole GPU."""
    tree = GroupTree.of([ResourceGroup("lab", Quota(ONE_GPU * len(machine.gpus)))])
    situation = Situation(tree, Books([], tree), machine)
    share = Slice(machine.profiles[0]) if machine.profiles else Blocks(100)
    person = Person(1, "ada", frozenset({"lab"}))
    decision = judge(Ask(share), person, situation)
    assert isinstance(decision, Grant)
    return Lease(
        "0" * 32, 1, "ada", Server(1), "lab", decision.charge, decision.placement,
        LeaseState.ACTIVE, machine.read_at,
    )  # fmt: skip


def test_the_receipt_of_a_real_binding_is_verified(machine: Inventory, tmp_path: Path):
    from tests.lab.lab_server import start_lab_server

    lease = granted(machine)
    patch = bind_local(lease.placement, machine, "/nonexistent/mps")
    server = start_lab_server(tmp_path, told(lease, patch, simulated=False), dict(patch.env))
    try:
        receipt = server.receipt_when_made()
    finally:
        server.stop()

    assert receipt["verdict"] == "verified", receipt


def test_figures_equal_nvidia_smi_s_within_two_percent(machine: Inventory, tmp_path: Path):
    from tests.lab.lab_server import start_lab_server

    if machine.profiles:
        pytest.skip("nvidia-smi tells the card's figures, not a slice's")
    lease = granted(machine)
    uuid = lease.placement.pieces[0].gpu_uuid
    patch = bind_local(lease.placement, machine, "/nonexistent/mps")
    environment = {**os.environ, **patch.env}
    holder = subprocess.Popen([sys.executable, BURN], env=environment, stdout=subprocess.PIPE)
    server = start_lab_server(tmp_path, told(lease, patch, simulated=False), dict(patch.env))
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"holding\n"
        time.sleep(2.5)
        (device,) = server.usage()["devices"]
        row = next(row for row in smi("uuid,memory.used,temperature.gpu") if row[0] == uuid)
    finally:
        holder.kill()
        holder.wait()
        server.stop()

    assert device["memory_used_mib"] > 1024
    assert abs(device["memory_used_mib"] - int(row[1])) <= 0.02 * int(row[1]) + 16
    assert abs(device["temperature_celsius"] - int(row[2])) <= 3
