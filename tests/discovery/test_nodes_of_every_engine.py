"""What each kind of node offers, and what is said about those that offer nothing."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from aliquot.discovery.kubernetes.mig_spread import spread
from aliquot.discovery.kubernetes.state import Kind
from aliquot.discovery.products import product_of_label
from aliquot.domain.books import Books
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import BlocksBy
from aliquot.domain.leases import Placement
from aliquot.domain.mig_geometry import geometries
from aliquot.domain.placement import place
from aliquot.domain.quota import GroupTree
from aliquot.domain.shares import Slice
from tests.cluster.dra_devices import device_classes
from tests.cluster.gpu_models import A100_80, H100_80, RTX_PRO_6000, gpu_uuid, mig_uuid
from tests.cluster.node_shapes import SHAPES
from tests.cluster.node_shapes import Kind as ShapeKind
from tests.discovery.cluster_objects import cluster_of, inventory_of, shaped

ENGINES = {
    ShapeKind.PLUGIN: (Engine.NVIDIA_PLUGIN, None, "nvidia.com/gpu"),
    ShapeKind.PLUGIN_MIG_MIXED: (Engine.NVIDIA_PLUGIN, None, "nvidia.com/gpu"),
    ShapeKind.PLUGIN_MIG_SINGLE: (Engine.NVIDIA_PLUGIN, None, "nvidia.com/gpu"),
    ShapeKind.PLUGIN_TIME_SLICED: (
        Engine.NVIDIA_PLUGIN, BlocksBy.TIME_SLICING, "nvidia.com/gpu.shared",
    ),
    ShapeKind.HAMI: (Engine.HAMI, BlocksBy.HAMI, "nvidia.com/gpu"),
    ShapeKind.HAMI_MIG: (Engine.HAMI_MIG, None, "nvidia.com/gpu"),
    ShapeKind.KAI: (Engine.KAI, BlocksBy.KAI, "nvidia.com/gpu"),
    ShapeKind.DRA_NVIDIA: (Engine.DRA_NVIDIA, None, "gpu.nvidia.com"),
    ShapeKind.DRA_NVIDIA_SHARES: (Engine.DRA_NVIDIA, BlocksBy.SHARES, "gpu.nvidia.com"),
    ShapeKind.DRA_HAMI: (Engine.DRA_HAMI, BlocksBy.HAMI, "hami-core-gpu.project-hami.io"),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_node_offers_what_its_engine_gives(shape):
    inventory = inventory_of(cluster_of(shape.name), kai=shape.kind is ShapeKind.KAI)

    assert inventory.notes == ()
    assert inventory.held == ()
    assert len(inventory.gpus) == shape.gpus
    assert [gpu.index for gpu in inventory.gpus] == list(range(shape.gpus))
    for gpu in inventory.gpus:
        assert (gpu.engine, gpu.blocks_by, gpu.offered_as) == ENGINES[shape.kind]
        assert gpu.product == shape.model.product
        assert gpu.node == "n1"
        assert gpu.model in geometries()
    made = Counter(d.profile for gpu in inventory.gpus for d in gpu.mig_devices)
    if shape.kind is not ShapeKind.HAMI_MIG:
        assert made == shape.instances()
        in_mode = [gpu for gpu in inventory.gpus if gpu.mig_enabled]
        assert len(in_mode) == len(shape.layouts)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_all_instances_of_a_node_can_be_placed_once_each(shape):
    """Each GPU's part is legal and priced: all of it fits, and costs no more than the GPU."""
    inventory = inventory_of(cluster_of(shape.name))
    for gpu in inventory.gpus:
        if gpu.makes_instances:
            continue
        costs = [gpu.cost_of(device) for device in gpu.mig_devices]
        assert sum(cost.memory for cost in costs) <= 1400
        assert sum(cost.compute for cost in costs) <= 1400
    for profile in inventory.profiles:
        placed = place(Slice(profile), inventory, Books((), GroupTree(())))
        assert isinstance(placed, Placement)
        assert placed.pieces[0].profile == profile


def test_a_card_that_hami_cuts_on_demand_offers_every_place_it_registers():
    gpu = inventory_of(cluster_of("hami-mig-a100-80")).gpus[0]

    assert gpu.makes_instances
    assert Counter(d.profile for d in gpu.mig_devices) == {
        "1g.10gb": 7, "2g.20gb": 3, "3g.40gb": 2, "7g.80gb": 1,
    }  # fmt: skip
    assert {d.start for d in gpu.mig_devices if d.profile == "3g.40gb"} == {0, 4}
    assert len({d.uuid for d in gpu.mig_devices}) == 13


def test_engines_that_tell_uuids_are_believed():
    hami = inventory_of(cluster_of("hami-a100-40"))
    dra = inventory_of(cluster_of("dra-nvidia-h100"))

    assert [gpu.uuid for gpu in hami.gpus] == [gpu_uuid("n1", 0), gpu_uuid("n1", 1)]
    assert [gpu.max_sharers for gpu in hami.gpus] == [100, 100]
    assert dra.gpus[0].mig_devices[3].uuid == mig_uuid("n1", 0, 3)
    assert [d.start for d in dra.gpus[0].mig_devices] == [0, 1, 2, 3, 4, 5, 6]


def test_a_time_sliced_gpu_is_given_in_equal_replicas():
    gpu = inventory_of(cluster_of("plugin-time-sliced-a30")).gpus[0]

    assert (gpu.replica_blocks, gpu.max_sharers, gpu.memory_mib) == (25, 4, 24576)


def time_sliced_without_renaming(strategy: str):
    """As with ``renameByDefault: false``: more nvidia.com/gpu than there are."""
    node = shaped("plugin-a30")
    node["metadata"]["labels"] |= {
        "nvidia.com/gpu.sharing-strategy": strategy,
        "nvidia.com/gpu.replicas": "48",
        "nvidia.com/gpu.product": "NVIDIA-A30-SHARED",
    }
    for counted in ("capacity", "allocatable"):
        node["status"][counted]["nvidia.com/gpu"] = "96"
    return Kind.NODES, node


def test_replicas_that_are_not_renamed_are_not_taken_for_gpus():
    gpus = inventory_of(time_sliced_without_renaming("time-slicing")).gpus

    assert [
        (g.model, g.blocks_by, g.offered_as, g.replica_blocks, g.max_sharers) for g in gpus
    ] == [("A30-24GB", BlocksBy.TIME_SLICING, "nvidia.com/gpu", 2, 48)] * 2


def test_replicas_by_the_plugins_mps_are_left_out():
    inventory = inventory_of(time_sliced_without_renaming("mps"))

    assert inventory.gpus == ()
    assert "shares its GPUs by MPS" in inventory.notes[0]


def test_with_kai_in_the_cluster_whole_gpus_can_be_had_in_fractions_and_mig_nodes_cannot():
    both = [*cluster_of("plugin-a100-80", "a"), *cluster_of("plugin-mig-a100-80", "b")]

    assert [g.engine for g in inventory_of(both, kai=True).gpus] == [
        *[Engine.KAI] * 4, Engine.NVIDIA_PLUGIN,
    ]  # fmt: skip
    assert {g.engine for g in inventory_of(both).gpus} == {Engine.NVIDIA_PLUGIN}


def test_binding_takes_one_engine_and_leaves_the_rest_alone():
    every = [entry for name in SHAPES for entry in cluster_of(name, name)]

    for engine in Engine:
        if engine is not Engine.LOCAL:
            inventory = inventory_of(every, binding=engine.value, kai=True)
            assert {gpu.engine for gpu in inventory.gpus} == {engine}
    assert len(inventory_of(every).gpus) == sum(s.gpus for s in SHAPES.values())


def test_binding_that_no_node_has_is_said():
    inventory = inventory_of(cluster_of("plugin-a30"), binding="hami")

    assert inventory.gpus == ()
    assert inventory.notes == (
        "No node offers GPUs by 'hami'. Set 'c.Aliquot.binding' to 'auto' to use what the nodes "
        "offer.",
    )
    assert "Queues" in inventory_of(cluster_of("plugin-a30"), binding="kai").notes[0]


def with_labels(shape: str, **labels: str):
    node = shaped(shape)
    for name, value in labels.items():
        key = "nvidia.com/" + name.replace("_", ".")
        node["metadata"]["labels"][key] = value
    return Kind.NODES, node


def with_resource(shape: str, resource: str, count: str):
    node = shaped(shape)
    node["status"]["capacity"][resource] = count
    node["status"]["allocatable"][resource] = count
    return Kind.NODES, node


@pytest.mark.parametrize(
    "node, what_to_do",
    [
        (with_labels("plugin-a30", gpu_product=""), "Install NVIDIA's GPU feature discovery."),
        (with_labels("plugin-a30", gpu_memory="x"), "Install NVIDIA's GPU feature discovery."),
        (
            with_labels("plugin-mig-single-a100-40", gpu_product="NVIDIA-A100-MIG-INVALID"),
            "set the plugin's migStrategy to 'mixed'.",
        ),
        (with_resource("plugin-a30", "nvidia.com/gpu.shared", "8"), "Keep one."),
        (with_resource("plugin-a30", "nvidia.com/gpu", "200"), "keep one."),
        (with_labels("plugin-time-sliced-a30", gpu_replicas="200"), "the plugin's sharing."),
        (with_resource("hami-a100-40", "nvidia.com/mig-1g.5gb", "7"), "Keep one of them"),
        (
            with_labels("plugin-mig-single-a100-40", gpu_product="NVIDIA-A30-MIG-9g.5gb"),
            "nvidia-smi mig -lgip",
        ),
    ],
)  # fmt: skip
def test_a_node_that_cannot_be_understood_is_left_out_with_what_to_do(node, what_to_do):
    inventory = inventory_of(node)

    assert inventory.gpus == ()
    assert len(inventory.notes) == 1
    assert inventory.notes[0].startswith("Node n1 is left out: ")
    assert what_to_do in inventory.notes[0]


def test_two_engines_on_a_node_would_sell_it_twice():
    slices = [(Kind.SLICES, found) for found in SHAPES["dra-nvidia-h100"].slices("n1")]
    inventory = inventory_of(cluster_of("plugin-h100-80"), slices)

    assert inventory.gpus == ()
    assert "the DRA driver gpu.nvidia.com and NVIDIA's plugin both offer" in inventory.notes[0]


def test_an_unknown_profile_is_left_out_and_the_others_stay():
    inventory = inventory_of(with_resource("plugin-mig-a100-40", "nvidia.com/mig-5g.99gb", "2"))

    assert len(inventory.gpus) == 3
    assert "nvidia.com/mig-5g.99gb of node n1 is left out" in inventory.notes[0]


def test_a_profile_that_the_driver_calls_by_another_size_is_known_by_its_memory():
    node = shaped("plugin-mig-a100-80")
    for counted in ("capacity", "allocatable"):
        del node["status"][counted]["nvidia.com/mig-1g.10gb"]
        node["status"][counted]["nvidia.com/mig-3g.39gb"] = "2"
    node["metadata"]["labels"]["nvidia.com/mig-3g.39gb.memory"] = "40192"
    (gpu,) = inventory_of((Kind.NODES, node)).gpus

    assert [(d.profile, d.memory_slices, d.offered_as) for d in gpu.mig_devices] == [
        ("3g.39gb", 4, "nvidia.com/mig-3g.39gb")
    ] * 2


def test_more_instances_than_the_cards_can_hold_are_not_believed():
    inventory = inventory_of(with_resource("plugin-mig-a100-80", "nvidia.com/mig-1g.10gb", "8"))

    assert inventory.gpus == ()
    assert "8 x 1g.10gb cannot lie on 1 A100-80GB" in inventory.notes[0]


@pytest.mark.parametrize("model", geometries())
def test_the_instances_of_any_two_legal_cards_are_spread_over_two(model):
    """Every pair of full layouts of a model, among those that cannot be longer."""
    layouts = {
        tuple(sorted(Counter(p.profile for p in layout).items()))
        for layout in geometries()[model].layouts()
        if sum(geometries()[model].profiles[p.profile].memory_slices for p in layout)
        >= geometries()[model].memory_slots - 1
    }
    sample = sorted(layouts)[:: max(1, len(layouts) // 12)]
    for one in sample:
        for other in sample:
            counts = tuple(sorted((Counter(dict(one)) + Counter(dict(other))).items()))
            on_each = spread(model, counts, 2)
            assert on_each is not None, (one, other)
            assert sum((Counter(dict(held)) for held in on_each), Counter()) == Counter(
                dict(counts)
            )


@pytest.mark.parametrize("model", [A100_80, H100_80, RTX_PRO_6000])
def test_a_product_is_found_again_behind_its_label(model):
    assert product_of_label(model.label) == model.product


def test_a_dra_driver_that_makes_instances_offers_the_card_whole_and_in_parts():
    """DynamicMIG: the card and every partition, with counters and without UUIDs."""
    card = SHAPES["dra-nvidia-h100"].slices("n1")[0]["spec"]["devices"][-1]
    uuid = card["attributes"]["uuid"]["string"]

    def partition(profile: str, start: int, size: int) -> dict:
        slots = {f"memory-slice-{s}": {"value": "1"} for s in range(start, start + size)}
        return {
            "name": f"gpu-2-mig-{profile.replace('.', '')}-19-{start}",
            "attributes": {
                "type": {"string": "mig"},
                "parentUUID": {"string": uuid},
                "profile": {"string": profile},
                "productName": card["attributes"]["productName"],
            },
            "capacity": {"memory": {"value": "9984Mi" if size == 1 else "40448Mi"}},
            "consumesCounters": [{"counterSet": "gpu-2-counter-set", "counters": slots}],
        }

    parts = [partition("1g.10gb", start, 1) for start in range(7)]
    parts += [partition("3g.40gb", start, 4) for start in (0, 4)]
    pool = {"name": "n1", "generation": 2, "resourceSliceCount": 1}
    published = {
        "metadata": {"name": "n1-gpu"},
        "spec": {
            "driver": "gpu.nvidia.com", "nodeName": "n1", "pool": pool, "devices": [card, *parts],
        },
    }  # fmt: skip
    classes = [(Kind.CLASSES, found) for found in device_classes()]
    (gpu,) = inventory_of((Kind.NODES, shaped("cpu")), (Kind.SLICES, published), classes).gpus

    assert gpu.makes_instances
    assert not gpu.mig_enabled
    assert len(gpu.mig_devices) == 9
    assert {(d.profile, d.start, d.offered_as) for d in gpu.mig_devices} >= {
        ("3g.40gb", 4, "mig.nvidia.com"), ("1g.10gb", 6, "mig.nvidia.com"),
    }  # fmt: skip


def test_a_pool_that_is_not_whole_and_a_class_that_is_missing_are_said():
    halves = SHAPES["dra-hami-a100-40"].slices("n1")
    halves[0]["spec"]["pool"]["resourceSliceCount"] = 2
    node = (Kind.NODES, shaped("dra-hami-a100-40"))
    half = inventory_of(node, *[(Kind.SLICES, found) for found in halves])
    unclassed = inventory_of(
        node, *[(Kind.SLICES, found) for found in SHAPES["dra-hami-a100-40"].slices("n1")]
    )

    assert half.gpus == ()
    assert "1 of its 2 ResourceSlices" in half.notes[0]
    assert unclassed.gpus == ()
    assert "there is no DeviceClass hami-core-gpu.project-hami.io" in unclassed.notes[0]


def test_a_driver_that_shares_in_another_number_of_parts_is_not_taken_for_blocks():
    slices = SHAPES["dra-nvidia-shares-a100-80"].slices("n1")
    for device in slices[0]["spec"]["devices"]:
        device["capacity"]["shares"]["value"] = "10"
    inventory = inventory_of(
        (Kind.NODES, shaped("dra-nvidia-shares-a100-80")),
        *[(Kind.SLICES, found) for found in slices],
        *[(Kind.CLASSES, found) for found in device_classes()],
    )

    assert inventory.gpus == ()
    assert "--consumable-shares=100" in inventory.notes[0]


def test_hami_that_has_left_a_node_is_not_asked_there_any_more():
    node = shaped("hami-a100-40")
    node["metadata"]["annotations"]["hami.io/node-handshake"] = "Deleted_2026-11-23 22:51:00"
    for counted in ("capacity", "allocatable"):
        node["status"][counted]["nvidia.com/gpu"] = "0"

    assert inventory_of((Kind.NODES, node)).gpus == ()


def test_hamis_stale_way_of_registering_is_named():
    node = shaped("hami-a100-40")
    node["metadata"]["annotations"]["hami.io/node-nvidia-register"] = "GPU-1,100,40960,100,A100:"

    assert "cannot be read as a list" in inventory_of((Kind.NODES, node)).notes[0]


def test_a_gpu_that_two_nodes_name_is_given_out_once_by_the_one_that_is_open():
    """A node that came back under a new name leaves its old object behind."""
    old = shaped("hami-a100-40", "n1")
    new = shaped("hami-a100-40", "n2")
    new["metadata"]["annotations"] = json.loads(json.dumps(old["metadata"]["annotations"]))
    old["status"]["conditions"] = []
    inventory = inventory_of((Kind.NODES, old), (Kind.NODES, new))

    assert {gpu.node for gpu in inventory.gpus} == {"n2"}
    assert inventory.held == ()
    assert "2 GPUs of node n1 are left out" in inventory.notes[0]
