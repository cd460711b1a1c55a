"""What each binding of one machine says in particular; what all owe is in tests/contract."""

from __future__ import annotations

import pytest

from aliquot.bindings.local import bind_local
from aliquot.bindings.patches import NotBindable, Strength
from aliquot.domain.inventory import BlocksBy, Inventory
from aliquot.domain.leases import Placement
from aliquot.domain.placement import place
from aliquot.domain.shares import Blocks, Share, Slice
from tests.domain.machines import MIXED_SLICES, blocks_gpu, machine, mig_gpu, situation

PIPE = "/run/nvidia-mps"


def placed(share: Share, inventory: Inventory) -> Placement:
    found = place(share, inventory, situation(inventory).books)
    assert isinstance(found, Placement)
    return found


def mps_machine(count: int = 4) -> Inventory:
    return machine(*(blocks_gpu(n) for n in range(count)))


def test_30_blocks_by_mps_are_30_percent_of_the_threads_and_30_percent_of_the_memory():
    inventory = mps_machine(1)
    patch = bind_local(placed(Blocks(30), inventory), inventory, PIPE)

    assert patch.env == {
        "CUDA_VISIBLE_DEVICES": "GPU-0000",
        "NVIDIA_VISIBLE_DEVICES": "GPU-0000",
        "CUDA_MPS_PIPE_DIRECTORY": PIPE,
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=24467M",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "30",
    }
    assert patch.thread_percentage == 30
    assert (patch.enforcement.memory, patch.enforcement.compute) == (Strength.SOFT, Strength.SOFT)


def test_310_blocks_cap_the_memory_of_the_fourth_gpu_and_throttle_nothing():
    inventory = mps_machine()
    patch = bind_local(placed(Blocks(310), inventory), inventory, PIPE)

    assert patch.env["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "3=8155M"
    assert "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE" in patch.unset
    assert patch.thread_percentage is None
    assert patch.enforcement.compute is Strength.NONE
    assert patch.notes[0] == "note.mixed_compute_uncapped"


def test_a_slice_is_named_by_its_uuid_and_kept_away_from_an_mps_daemon():
    inventory = machine(mig_gpu(0, *MIXED_SLICES))
    patch = bind_local(placed(Slice("2g.20gb"), inventory), inventory, PIPE)

    assert patch.env == {
        "CUDA_VISIBLE_DEVICES": "MIG-0000-4",
        "NVIDIA_VISIBLE_DEVICES": "MIG-0000-4",
        "CUDA_MPS_PIPE_DIRECTORY": "/dev/null",
    }
    assert patch.enforcement.by == "mig"


def test_a_server_without_a_gpu_sees_none_also_on_a_machine_full_of_them():
    patch = bind_local(Placement(()), mps_machine(), PIPE)

    assert patch.env == {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
    assert patch.enforcement.by == "none"
    assert patch.notes == ()


def test_a_simulated_machine_reaches_no_device_whatever_is_asked():
    inventory = machine(*(blocks_gpu(n) for n in range(2)), simulated=True)
    patch = bind_local(placed(Blocks(110), inventory), inventory, PIPE)

    assert patch.env == {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
    assert patch.enforcement.by == "simulated"


def test_advisory_blocks_are_called_not_enforced():
    inventory = machine(blocks_gpu(0, blocks_by=BlocksBy.ADVISORY))
    patch = bind_local(placed(Blocks(30), inventory), inventory, PIPE)

    assert patch.enforcement.by == "advisory"
    assert (patch.enforcement.memory, patch.enforcement.compute) == (Strength.NONE, Strength.NONE)
    assert patch.notes[0] == "note.advisory"


# --- the machine changed between the decision and the binding --------------------------------


@pytest.mark.parametrize("simulated", [False, True])
def test_a_gpu_that_is_gone_cannot_be_bound(simulated):
    placement = placed(Blocks(30), mps_machine(1))
    without = machine(blocks_gpu(1), simulated=simulated)

    with pytest.raises(NotBindable, match=r"GPU GPU-0000 was there and is gone\."):
        bind_local(placement, without, PIPE)


@pytest.mark.parametrize("blocks_by", [None, BlocksBy.SIMULATED])
def test_blocks_cannot_be_bound_where_mps_has_stopped(blocks_by):
    placement = placed(Blocks(110), mps_machine(2))
    stopped = machine(*(blocks_gpu(n, blocks_by=blocks_by) for n in range(2)))

    with pytest.raises(NotBindable, match=r"no longer serves blocks\. Start the MPS"):
        bind_local(placement, stopped, PIPE)


def test_a_mig_instance_that_was_removed_cannot_be_bound():
    placement = placed(Slice("2g.20gb"), machine(mig_gpu(0, *MIXED_SLICES)))

    with pytest.raises(NotBindable, match="MIG instance MIG-0000-4 was there and is gone"):
        bind_local(placement, machine(mig_gpu(0, ("3g.40gb", 0))), PIPE)


@pytest.mark.parametrize("blocks", [30, 100])
def test_a_gpu_that_went_into_mig_mode_cannot_be_bound_as_a_whole_or_in_blocks(blocks):
    placement = placed(Blocks(blocks), mps_machine(1))

    with pytest.raises(NotBindable, match="GPU GPU-0000 is in MIG mode now"):
        bind_local(placement, machine(mig_gpu(0, *MIXED_SLICES)), PIPE)


def test_a_whole_gpu_needs_no_mps_daemon():
    inventory = machine(blocks_gpu(0, blocks_by=None))
    patch = bind_local(placed(Blocks(100), inventory), inventory, PIPE)

    assert patch.enforcement.by == "driver"
    assert "CUDA_MPS_PIPE_DIRECTORY" in patch.unset
