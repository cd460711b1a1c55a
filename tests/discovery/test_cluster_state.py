"""The state of a cluster: built in steps it is the same as built at once, and whatever stands
in an object, it never raises."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aliquot.discovery.kubernetes.state import Kind
from aliquot.domain.inventory import Inventory
from tests.cluster.dra_devices import NVIDIA, device_classes
from tests.cluster.gpu_models import gpu_uuid
from tests.cluster.node_shapes import SHAPES
from tests.discovery.cluster_objects import (
    READ_AT,
    claim,
    cluster_of,
    inventory_of,
    marks,
    new_state,
    piece,
    pod,
    put,
    shaped,
    told,
)

NODES = ["n1", "n2", "n3"]
USED = [
    "plugin-a100-80", "plugin-mig-a100-80", "plugin-time-sliced-a30", "hami-a100-40",
    "hami-mig-a100-80", "dra-nvidia-h100", "dra-nvidia-shares-a100-80", "dra-hami-a100-40", "cpu",
]  # fmt: skip
RESOURCES = ["nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.10gb"]

names = st.sampled_from(["x/a", "x/b", "x/c", "hub/d", "hub/e"])
nodes = st.sampled_from(NODES)


@st.composite
def some_node(draw: st.DrawFn) -> tuple[Kind, dict[str, Any]]:
    spec = draw(st.sampled_from([{}, {"unschedulable": True}]))
    return Kind.NODES, shaped(draw(st.sampled_from(USED)), draw(nodes), **spec)


@st.composite
def some_slice(draw: st.DrawFn) -> tuple[Kind, dict[str, Any]]:
    shape = draw(st.sampled_from([name for name in USED if name.startswith("dra")]))
    found = SHAPES[shape].slices(draw(nodes))[0]
    found["spec"]["pool"]["generation"] = draw(st.integers(1, 2))
    found["spec"]["pool"]["name"] = draw(st.sampled_from([*NODES, "pool"]))
    return Kind.SLICES, found


@st.composite
def some_pod(draw: st.DrawFn) -> tuple[Kind, dict[str, Any]]:
    node = draw(nodes)
    more: dict[str, Any] = {"annotations": {}, "labels": {}}
    if draw(st.booleans()):
        lease = draw(st.sampled_from(["l1", "l2"]))
        index = draw(st.integers(0, 5))
        held = draw(
            st.sampled_from([
                piece(f"{node}/gpu/{index}"),
                piece(f"{node}/gpu/{index}", 30),
                piece(f"{node}/gpu/0", 15, f"{node}/1g.10gb/{index}"),
                piece(gpu_uuid(node, index), 40),
            ])
        )  # fmt: skip
        more = marks(lease, held)
    if draw(st.booleans()):
        uuid = gpu_uuid(node, draw(st.integers(0, 1)))
        more["annotations"]["hami.io/vgpu-devices-allocated"] = f"{uuid},NVIDIA,4096,20:;"
    if draw(st.booleans()):
        more["annotations"]["gpu-fraction"] = "0.25"
        more["labels"]["runai-gpu-group"] = draw(st.sampled_from(["g1", "g2"]))
    asks = draw(st.dictionaries(st.sampled_from(RESOURCES), st.integers(0, 3), max_size=2))
    bound = draw(st.sampled_from([node, node, ""]))
    phase = draw(st.sampled_from(["Running", "Running", "Failed"]))
    return pod(draw(names), bound, asks=asks, phase=phase, **more)


@st.composite
def some_claim(draw: st.DrawFn) -> tuple[Kind, dict[str, Any]]:
    device = draw(st.sampled_from(["gpu-0", "gpu-1", "gpu-0-mig-1g10gb-19-3"]))
    kind, obj = claim(draw(st.sampled_from("pqr")), NVIDIA, device, pod_name="d", namespace="hub")
    result = obj["status"]["allocation"]["devices"]["results"][0]
    result["pool"] = draw(st.sampled_from([*NODES, "pool"]))
    if draw(st.booleans()):
        obj["status"] = {}
    return kind, obj


some_class = st.sampled_from([(Kind.CLASSES, found) for found in device_classes()])
some_object = st.one_of(some_node(), some_pod(), some_pod(), some_slice(), some_claim(), some_class)
# Put an object, or take it away; look at the inventory in between, or not.
steps = st.lists(st.tuples(some_object, st.booleans(), st.booleans()), max_size=30)


def same(one: Inventory, other: Inventory) -> bool:
    return (one.gpus, one.held, one.notes) == (other.gpus, other.held, other.notes)


@settings(max_examples=300, deadline=None)
@given(steps=steps, kai=st.booleans())
def test_built_in_steps_it_is_the_same_as_built_at_once(steps, kai):
    state = new_state()
    final: dict[tuple[Kind, str], Any] = {}
    for (kind, obj), is_gone, look in steps:
        name, facts = state.facts(kind, obj)
        state.put(kind, name, None if is_gone else facts)
        final[kind, name] = None if is_gone else obj
        if look:
            state.inventory(READ_AT)
    state.put_kai(kai)

    objects = [(kind, obj) for (kind, _), obj in reversed(final.items()) if obj is not None]
    assert same(state.inventory(READ_AT), inventory_of(objects, kai=kai))


@settings(max_examples=60, deadline=None)
@given(before=st.lists(some_object, max_size=12), after=st.lists(some_object, max_size=12))
def test_a_new_list_leaves_nothing_of_the_old_behind(before, after):
    state = new_state()
    put(state, before)
    state.inventory(READ_AT)
    for kind in Kind:
        listed = dict(state.facts(kind, obj) for found, obj in after if found is kind)
        state.replace_all(kind, {name: facts for name, facts in listed.items() if facts})

    assert same(state.inventory(READ_AT), inventory_of(after))


def test_a_change_of_one_pod_is_looked_at_on_its_node_alone():
    state = new_state()
    put(state, [*cluster_of("plugin-a100-80", "n1"), *cluster_of("plugin-a100-80", "n2")])
    put(state, [pod("x/a", "n1", asks={"nvidia.com/gpu": 1})])
    before = state.inventory(READ_AT)
    put(state, [pod("x/b", "n2", asks={"nvidia.com/gpu": 1})])
    after = state.inventory(READ_AT)

    assert after.gpus is before.gpus
    assert after.held[0] is before.held[0]
    assert told(after.held)[1] == ("n2/gpu/3", "x/b", 100, None)


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def paths(value: Any, path: tuple = ()) -> list[tuple]:
    """Where something stands in a JSON value."""
    found = [path] if path else []
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in entries:
        where = (*path, key)
        found += paths(inner, where) if isinstance(inner, dict | list) else [where]
    return found


def set_at(value: Any, path: tuple, new: Any) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


OBJECTS: dict[str, Callable[[], list[tuple[Kind, dict[str, Any]]]]] = {
    **{name: (lambda name=name: cluster_of(name)) for name in USED},
    "kai-pod": lambda: [
        *cluster_of("kai-a100-80"),
        pod("x/a", annotations={"gpu-fraction": "0.5"}, labels={"runai-gpu-group": "g"}),
    ],
    "own": lambda: [
        *cluster_of("plugin-a100-80"),
        pod("hub/a", asks={"nvidia.com/gpu": 1}, **marks("l", piece("n1/gpu/0"))),
    ],
    "claim": lambda: [
        *cluster_of("dra-hami-a100-40"),
        claim("c", "hami-core-gpu.project-hami.io", "hami-gpu-0", consumed={"cores": "4"}),
    ],
    "hami-pod": lambda: [
        *cluster_of("hami-mig-a100-80"),
        pod(
            "x/a",
            asks={"nvidia.com/gpu": 1},
            annotations={
                "hami.io/vgpu-devices-allocated": f"{gpu_uuid('n1', 0)},NVIDIA,9856,0:;",
                "hami.io/vgpu-mig-allocations": json.dumps([
                    {"gpuUUID": gpu_uuid("n1", 0), "profile": "1g.10gb", "placement": {"start": 1}}
                ]),
            },
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", OBJECTS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_an_object_never_raises(name, data):
    objects = deepcopy(OBJECTS[name]())
    for _ in range(data.draw(st.integers(1, 3))):
        _, obj = data.draw(st.sampled_from(objects))
        where = data.draw(st.sampled_from(paths(obj)))
        texts = st.sampled_from(
            ["", "-1", "1e99", "9" * 30, "NaN", "0.5", "[]", "[[[", "null", "a/b/c", "[{}]", "7"]
        )
        set_at(obj, where, data.draw(anything | texts))

    inventory = inventory_of(objects, kai=True)

    assert len(inventory.gpus) <= 64
    assert all(isinstance(note, str) for note in inventory.notes)
    assert all(piece.gpu_uuid in inventory.by_uuid for piece in inventory.held)
    assert all(0 <= piece.blocks <= 100 for piece in inventory.held)


@settings(max_examples=200, deadline=None)
@given(objects=st.lists(st.tuples(st.sampled_from(Kind), anything), max_size=4))
def test_objects_that_are_none_are_no_objects(objects):
    state = new_state()
    for kind, obj in objects:
        state.put(kind, *state.facts(kind, obj))  # type: ignore[arg-type]

    assert state.inventory(READ_AT).gpus == ()
