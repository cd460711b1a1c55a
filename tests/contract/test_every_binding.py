"""What every binding of one machine owes, over every piece that can be given.

Exactly the devices of the placement are named, in its order; what is charged is what is
granted; the enforcement is never overstated; no variable that could widen a piece is left
as somebody else set it; and the notebook is told all of it.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from aliquot.bindings.local import bind_local
from aliquot.bindings.patches import GOVERNED, ProcessPatch, Strength
from aliquot.bindings.told import told
from aliquot.domain.currency import cost_of_blocks
from aliquot.domain.inventory import BlocksBy, Inventory
from aliquot.domain.leases import Lease, Placement
from aliquot.domain.mig_geometry import geometries
from aliquot.domain.placement import place
from aliquot.domain.shares import Blocks, Kind, Share, Slice
from aliquot.domain.wording import LANGUAGES, say
from aliquot_lab import lease as lab_lease
from aliquot_lab.wording import words_of
from tests.domain.machines import NOON, blocks_gpu, lease_of, machine, mig_gpu, situation, someone

PIPE = "/run/nvidia-mps"
BLOCK_COUNTS = [*range(1, 101), 101, 199, 200, 310, 399, 400]


def block_machine(blocks_by: BlocksBy | None, *, simulated: bool = False) -> Inventory:
    return machine(*(blocks_gpu(n, blocks_by=blocks_by) for n in range(4)), simulated=simulated)


BLOCK_MACHINES = {
    "mps": block_machine(BlocksBy.MPS),
    "advisory": block_machine(BlocksBy.ADVISORY),
    "simulated": block_machine(BlocksBy.SIMULATED, simulated=True),
}
CASES: dict[str, tuple[Inventory, Share]] = {
    f"{engine}-{count}": (inventory, Blocks(count))
    for engine, inventory in BLOCK_MACHINES.items()
    for count in BLOCK_COUNTS
}
CASES |= {f"whole-{count}": (block_machine(None), Blocks(count)) for count in (100, 200, 300, 400)}
CASES |= {
    f"{'simulated-' if simulated else ''}{model}-{name}": (
        machine(mig_gpu(0, (name, profile.starts[-1]), model=model), simulated=simulated),
        Slice(name),
    )
    for model, geometry in geometries().items()
    for name, profile in geometry.profiles.items()
    for simulated in (False, True)
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def bound(request) -> tuple[Inventory, Share, Placement, ProcessPatch]:
    inventory, share = request.param
    placement = place(share, inventory, situation(inventory).books)
    assert isinstance(placement, Placement)
    return inventory, share, placement, bind_local(placement, inventory, PIPE)


def lease_on(placement: Placement) -> Lease:
    return lease_of(placement, someone("ada"), "vision", 7, until=NOON)


def test_a_binding_charges_for_exactly_what_it_grants(bound):
    inventory, share, placement, patch = bound

    if isinstance(share, Blocks):
        assert placement.cost == cost_of_blocks(share.count)
        assert placement.memory_mib == sum(81559 * p.blocks // 100 for p in placement.pieces)
    else:
        (gpu,) = inventory.gpus
        assert placement.cost == gpu.cost_of(gpu.mig_devices[0])
        assert placement.memory_mib == gpu.mig_devices[0].memory_mib
    if patch.thread_percentage is not None:
        assert patch.thread_percentage == placement.cost.blocks


def test_a_binding_names_exactly_the_devices_of_its_placement_in_order(bound):
    inventory, _, placement, patch = bound

    named = [piece.mig_uuid or piece.gpu_uuid for piece in placement.pieces]
    if inventory.simulated:
        named = []
    assert patch.env["CUDA_VISIBLE_DEVICES"] == ",".join(named)
    assert patch.env["NVIDIA_VISIBLE_DEVICES"] == (",".join(named) or "void")


def test_a_binding_sets_or_takes_away_every_variable_that_could_widen_it(bound):
    *_, patch = bound

    assert patch.env.keys() <= GOVERNED
    assert patch.unset == GOVERNED - patch.env.keys()
    assert all(isinstance(value, str) for value in patch.env.values())


def test_a_binding_never_overstates_what_is_enforced(bound):
    inventory, _, placement, patch = bound
    enforced = patch.enforcement
    weakest = min(
        (enforced.memory, enforced.compute),
        key=[Strength.NONE, Strength.SOFT, Strength.HARDWARE].index,
    )

    if inventory.simulated or enforced.by == "advisory":
        assert (enforced.memory, enforced.compute) == (Strength.NONE, Strength.NONE)
    elif Kind.BLOCKS in placement.kinds:
        # A user can unset the limits of MPS, so they are never more than soft.
        assert enforced.by == "mps"
        assert enforced.memory is Strength.SOFT
        assert "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT" in patch.env
        capped = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE" in patch.env
        assert enforced.compute is (Strength.SOFT if capped else Strength.NONE)
    else:
        assert weakest is Strength.HARDWARE
        assert enforced.by == ("mig" if placement.kinds == {Kind.SLICE} else "driver")
    assert (Strength.HARDWARE in (enforced.memory, enforced.compute)) == (
        enforced.by in ("mig", "driver")
    )


def test_a_memory_limit_has_the_form_of_nvidia_s_manual_and_names_the_part_alone(bound):
    _, _, placement, patch = bound
    limit = patch.env.get("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT")
    if limit is None:
        return

    found = re.fullmatch(r"([0-9]+)=([0-9]+)M", limit)
    assert found is not None
    piece = placement.pieces[int(found[1])]
    assert piece.kind is Kind.BLOCKS
    assert int(found[2]) == piece.memory_mib


def test_a_mixed_share_has_no_thread_percentage_and_says_that_its_last_gpu_is_not_capped(bound):
    _, _, placement, patch = bound
    mixed = len(placement.kinds) > 1
    if patch.enforcement.by != "mps":
        assert patch.thread_percentage is None
        return

    assert ("note.mixed_compute_uncapped" in patch.notes) == mixed
    assert (patch.thread_percentage is None) == mixed
    percentage = patch.env.get("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE")
    assert percentage == (None if mixed else str(placement.pieces[0].blocks))


def test_every_note_of_a_binding_is_said_alike_by_the_hub_and_in_the_notebook(bound):
    *_, patch = bound
    assert len(set(patch.notes)) == len(patch.notes)
    for note in patch.notes:
        for language in LANGUAGES:
            assert words_of(note, language) == say(note, language) != note


def test_the_notebook_is_told_the_lease_in_the_form_that_it_reads(bound):
    inventory, _, placement, patch = bound
    lease = lease_on(placement)
    written = told(lease, patch, simulated=inventory.simulated)
    message = json.loads(written)

    assert message == {
        "version": 1,
        "lease_id": f"{7:032x}",
        "group": "vision",
        "kind": "mixed" if len(placement.kinds) > 1 else next(iter(placement.kinds)).value,
        "blocks": placement.cost.blocks,
        "memory_mib": placement.memory_mib,
        "pieces": [
            {
                "gpu_uuid": piece.gpu_uuid,
                "gpu_model": piece.gpu_model,
                "mig_uuid": piece.mig_uuid,
                "profile": piece.profile,
                "blocks": piece.blocks,
                "memory_mib": piece.memory_mib,
                "whole": piece.mig_uuid is None and piece.blocks == 100,
            }
            for piece in placement.pieces
        ],
        "enforcement": {
            "memory": patch.enforcement.memory.value,
            "compute": patch.enforcement.compute.value,
            "by": patch.enforcement.by,
        },
        "thread_percentage": patch.thread_percentage,
        "since": "2026-11-23T12:07:00Z",
        "until": "2026-11-23T12:00:00Z",
        "simulated": inventory.simulated,
        "notes": list(patch.notes),
    }
    assert len(written) < 4096
    assert "\n" not in written
    read = lab_lease.parse_lease(written)
    assert isinstance(read, lab_lease.Lease)
    assert (read.kind, read.memory_mib) == (message["kind"], placement.memory_mib)
    assert [p.uuid for p in read.pieces] == [p.mig_uuid or p.gpu_uuid for p in placement.pieces]


def test_a_lease_without_an_end_is_told_so_and_a_korean_group_by_its_name():
    inventory = BLOCK_MACHINES["mps"]
    placement = place(Blocks(30), inventory, situation(inventory).books)
    assert isinstance(placement, Placement)
    lease = replace(lease_on(placement), until=None, group="연구실")
    message = json.loads(told(lease, bind_local(placement, inventory, PIPE), simulated=False))

    assert (message["until"], message["group"]) == (None, "연구실")
