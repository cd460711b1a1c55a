"""What every binding of a cluster owes, over every piece that can be given.

Each piece is bound, put on a pod as KubeSpawner makes it, and handed to a stand-in for its
engine that sees the finished manifest alone. What the engine counts as taken must be what the
ledger charges, the answer must be read back as the lease, and nothing but the patch may be in
the pod: no more, and no less.
"""

from __future__ import annotations

import copy
import re
from dataclasses import replace

import pytest

from aliquot.bindings.granted import Told, granted
from aliquot.bindings.kubernetes import bind_pod
from aliquot.bindings.patches import NotBindable, Strength
from aliquot.bindings.pod_env import GOVERNED_IN_PODS, is_governed
from aliquot.bindings.pod_manifest import apply, claim_template, foreign_gpu
from aliquot.bindings.pods import bind_no_gpu
from aliquot.domain.currency import UNITS_PER_BLOCK, Cost
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import BlocksBy, Inventory
from aliquot.domain.mig_geometry import geometries
from aliquot.domain.shares import Blocks, Kind, Share, Slice
from aliquot.domain.wording import LANGUAGES, say
from aliquot_lab.wording import words_of
from tests.bindings.engine_answers import answer
from tests.bindings.spawned_pods import (
    IN_BLOCKS,
    IN_TURNS,
    NODE,
    POLICY,
    WHOLE_ONLY,
    lease_on,
    marks_on,
    placed,
    sliced,
    spawned_pod,
)

BLOCK_COUNTS = [*range(1, 101), 200, 310, 400]
SLICED_BY = ("mixed", "single", "kai", "dra", "dra-made", "hami-mig")


def _can_have(inventory: Inventory, blocks: int) -> bool:
    return blocks % 100 == 0 or blocks < 100 or inventory.gpus[0].engine.combines


CASES: dict[str, tuple[Inventory, Share]] = {
    f"{engine}-{count}": (inventory, Blocks(count))
    for engine, inventory in IN_BLOCKS.items()
    for count in BLOCK_COUNTS
    if _can_have(inventory, count)
}
CASES |= {
    f"{engine}-{count}": (inventory, Blocks(count))
    for engine, inventory in WHOLE_ONLY.items()
    for count in (100, 200, 300, 400)
}
CASES |= {
    f"{engine}-{count}": (inventory, Blocks(count))
    for engine, inventory in IN_TURNS.items()
    for count in range(1, (inventory.gpus[0].replica_blocks or 0) + 1)
}
SLICES: dict[str, tuple[Inventory, Share]] = {
    f"{engine}-{model}-{name}": (sliced(engine, model, name), Slice(name))
    for engine in SLICED_BY
    for model, geometry in geometries().items()
    for name in geometry.profiles
}


def _is_reachable(inventory: Inventory, share: Share) -> bool:
    """Whether HAMi can be brought to the profile: no other has its memory and comes first."""
    (gpu,) = inventory.gpus
    if gpu.engine is not Engine.HAMI_MIG:
        return True
    (memory,) = {d.memory_mib for d in gpu.mig_devices if d.profile == str(share)}
    rivals = [(d.compute_slices, d.profile) for d in gpu.mig_devices if d.memory_mib == memory]
    fewest = min(slices for slices, _ in rivals)
    return next(name for slices, name in rivals if slices == fewest) == str(share)


UNREACHABLE = {name: case for name, case in SLICES.items() if not _is_reachable(*case)}
CASES |= {name: case for name, case in SLICES.items() if name not in UNREACHABLE}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    inventory, share = request.param
    lease = lease_on(placed(share, inventory))
    return inventory, lease, bind_pod(lease, inventory, POLICY)


def finished(lease, patch):
    marks = marks_on(lease)
    return apply(spawned_pod(), patch, marks), claim_template(patch, marks)


def test_the_cases_are_all_engines_all_counts_and_all_profiles():
    profiles = sum(len(geometry.profiles) for geometry in geometries().values())

    assert {inventory.gpus[0].engine for inventory, _ in CASES.values()} == {*Engine} - {
        Engine.LOCAL
    }
    assert len(SLICES) == len(SLICED_BY) * profiles
    assert len(UNREACHABLE) < profiles
    for engine in IN_BLOCKS:
        assert all(f"{engine}-{count}" in CASES for count in range(1, 101))
    assert {name for name in CASES if name.endswith("-310")} == {"shares-310", "shares-unnamed-310"}


def test_a_binding_charges_for_exactly_what_the_engine_grants(case):
    inventory, lease, patch = case
    given = answer(*finished(lease, patch), inventory).given

    if Kind.SLICE in lease.placement.kinds:
        (piece,), (one,) = lease.placement.pieces, given
        (gpu,) = inventory.gpus
        device = next(d for d in gpu.mig_devices if d.uuid == piece.mig_uuid)
        memory = 1400 * device.memory_slices // gpu.memory_slots
        assert piece.cost == Cost(one.cores, memory)
        assert piece.memory_mib == one.memory_mib
        return
    cores = sum(one.cores for one in given)
    assert lease.placement.cost == Cost(UNITS_PER_BLOCK * cores, UNITS_PER_BLOCK * cores)
    assert [p.blocks for p in lease.placement.pieces] == [one.cores for one in given]
    assert [p.memory_mib for p in lease.placement.pieces] == [one.memory_mib for one in given]


def test_an_engine_gives_the_cards_that_the_ledger_chose_where_they_have_names(case):
    inventory, lease, patch = case
    given = answer(*finished(lease, patch), inventory).given

    named = [one.device for one in given if one.device.startswith("GPU-")]
    if named:
        assert named == [piece.gpu_uuid for piece in lease.placement.pieces]
    assert patch.node == NODE


def test_what_the_engine_says_is_read_back_as_the_lease(case):
    inventory, lease, patch = case
    engine = inventory.gpus[0].engine
    given = answer(*finished(lease, patch), inventory)

    back = granted(given.pod, given.claims, lease, inventory)

    assert back.agrees, back
    if engine in (Engine.NVIDIA_PLUGIN, Engine.KAI):
        assert (back.told, back.placement) == (Told.NODE, None)
        return
    assert back.told is Told.DEVICES
    if inventory.gpus[0].uuid.startswith("GPU-"):
        assert back.placement == lease.placement
    else:
        # Cards that the driver does not name cannot be asked for: as much, perhaps elsewhere.
        assert sorted(p.gpu_uuid for p in back.placement.pieces) == sorted(
            f"{NODE}/{NODE}/{result['device']}"
            for result in given.claims[0]["status"]["allocation"]["devices"]["results"]
        )
        assert [(p.blocks, p.memory_mib) for p in back.placement.pieces] == [
            (p.blocks, p.memory_mib) for p in lease.placement.pieces
        ]


def test_before_the_engine_has_answered_nothing_is_said_to_be_granted(case):
    inventory, lease, patch = case
    pod, _ = finished(lease, patch)

    back = granted(pod, [], lease, inventory)

    assert (back.told, back.placement, back.differences) == (Told.NOTHING, None, ())
    assert not back.agrees


def test_a_binding_never_overstates_what_is_enforced(case):
    inventory, lease, patch = case
    enforced = patch.enforcement
    both = (enforced.memory, enforced.compute)
    by = inventory.gpus[0].blocks_by

    if Kind.SLICE in lease.placement.kinds:
        assert (both, enforced.by) == ((Strength.HARDWARE, Strength.HARDWARE), "mig")
    elif lease.placement.kinds == {Kind.WHOLE}:
        assert (both, enforced.by) == ((Strength.HARDWARE, Strength.HARDWARE), "driver")
    elif by is BlocksBy.HAMI:
        # In the notebook's own processes, so never more than soft; and said to be so.
        assert (both, enforced.by) == ((Strength.SOFT, Strength.SOFT), "hami")
        assert "note.hami_soft" in patch.notes
    else:
        assert both == (Strength.NONE, Strength.NONE)
        assert enforced.by == by.value
        assert len(patch.notes) == 1


def test_a_patch_sets_or_takes_away_every_variable_that_could_widen_it(case):
    _, lease, patch = case
    pod, _ = finished(lease, patch)

    assert patch.env.keys() <= GOVERNED_IN_PODS
    assert patch.unset == GOVERNED_IN_PODS - patch.env.keys()
    notebook, sidecar = pod["spec"]["containers"]
    assert {e["name"]: e["value"] for e in notebook["env"] if is_governed(e["name"])} == patch.env
    # The device plugin's value would lose against one in the pod, so there is none.
    assert patch.env.get("NVIDIA_VISIBLE_DEVICES", "void") == "void"
    assert "CUDA_VISIBLE_DEVICES" not in patch.env
    for other in (sidecar, *pod["spec"]["initContainers"]):
        assert {e["name"]: e["value"] for e in other["env"]} == {
            "CUDA_VISIBLE_DEVICES": "",
            "NVIDIA_VISIBLE_DEVICES": "void",
        }


def test_every_note_of_a_binding_is_said_alike_by_the_hub_and_in_the_notebook(case):
    *_, patch = case
    assert len(set(patch.notes)) == len(patch.notes)
    for note in patch.notes:
        for language in LANGUAGES:
            assert words_of(note, language) == say(note, language) != note


def test_a_finished_pod_is_the_patch_and_nothing_else(case):
    _, lease, patch = case
    if "nvidia.com/use-gpuuuid" in patch.annotations:
        # HAMi's webhook refuses privileged containers, this one of Zero to JupyterHub too.
        found = foreign_gpu(finished(lease, patch)[0], patch)
        assert found.where == "initContainers[block-cloud-metadata].securityContext"
    before = spawned_pod()
    before["spec"]["initContainers"] = []
    original = copy.deepcopy(before)

    assert foreign_gpu(before) is None
    pod = apply(before, patch, marks_on(lease))
    assert foreign_gpu(pod, patch) is None
    assert before == original
    # The same pod, seen as somebody else's.
    assert (foreign_gpu(pod) is None) == (not (patch.limits or patch.claims or patch.annotations))
    # And what is missing is found.
    assert foreign_gpu(before, patch) is not None
    other = replace(patch, node="gpu-2")
    assert foreign_gpu(pod, other).found == "node gpu-2 (missing) in spec.affinity"


@pytest.mark.parametrize(("inventory", "share"), UNREACHABLE.values(), ids=UNREACHABLE.keys())
def test_a_profile_that_hami_would_not_choose_is_refused_before_it_is_charged(inventory, share):
    lease = lease_on(placed(share, inventory))

    with pytest.raises(NotBindable, match=f"asked for {re.escape(str(share))} .* by memory"):
        bind_pod(lease, inventory, POLICY)


def test_a_pod_without_a_lease_is_given_no_device_whatever_its_image_asks_for():
    patch = bind_no_gpu()
    pod = apply(spawned_pod(), patch, None)

    assert foreign_gpu(pod, patch) is None
    for container in (*pod["spec"]["containers"], *pod["spec"]["initContainers"]):
        env = {entry["name"]: entry["value"] for entry in container["env"]}
        assert (env["NVIDIA_VISIBLE_DEVICES"], env["CUDA_VISIBLE_DEVICES"]) == ("void", "")
    assert "aliquot.io/lease" not in pod["metadata"]["labels"]
