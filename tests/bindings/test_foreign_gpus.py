"""A pod may hold its piece and no other GPU, whoever put one there and however."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aliquot.bindings.kubernetes import bind_pod
from aliquot.bindings.local_devices import bind_nothing
from aliquot.bindings.pod_manifest import apply, foreign_gpu, foreign_refusal
from aliquot.bindings.pods import bind_no_gpu
from aliquot.domain.engines import Engine
from aliquot.domain.leases import Placement
from aliquot.domain.refusals import Reason
from aliquot.domain.shares import Blocks, Slice
from aliquot.domain.wording import say_refusal
from tests.bindings.foreign_things import FOREIGN, HARMLESS
from tests.bindings.spawned_pods import (
    IN_BLOCKS,
    IN_TURNS,
    POLICY,
    WHOLE_ONLY,
    lease_on,
    marks_on,
    placed,
    sliced,
    spawned_pod,
)

ASKED = {
    "hami": (IN_BLOCKS["hami"], Blocks(30)),
    "hami-200": (IN_BLOCKS["hami"], Blocks(200)),
    "kai": (IN_BLOCKS["kai"], Blocks(30)),
    "shares-310": (IN_BLOCKS["shares"], Blocks(310)),
    "dra-hami": (IN_BLOCKS["dra-hami"], Blocks(30)),
    "plugin-200": (WHOLE_ONLY["plugin"], Blocks(200)),
    "turns": (IN_TURNS["turns-4"], Blocks(20)),
    "mixed": (sliced("mixed", "A100-80GB", "1g.10gb"), Slice("1g.10gb")),
    "hami-mig": (sliced("hami-mig", "A100-80GB", "3g.40gb"), Slice("3g.40gb")),
}


def base() -> dict[str, Any]:
    pod = spawned_pod()
    pod["spec"]["initContainers"] = []
    return pod


def finished() -> dict[str, tuple[dict[str, Any], Any]]:
    pods = {}
    for name, (inventory, share) in ASKED.items():
        lease = lease_on(placed(share, inventory))
        patch = bind_pod(lease, inventory, POLICY)
        pods[name] = apply(base(), patch, marks_on(lease)), patch
    for name, patch in (("none", bind_no_gpu()), ("local none", bind_nothing(Placement(())))):
        pods[name] = apply(base(), patch, None), patch
    return pods


FINISHED = finished()


@pytest.mark.parametrize("name", FINISHED)
@pytest.mark.parametrize("thing", FOREIGN)
def test_each_thing_that_reaches_for_a_gpu_is_found_in_a_finished_pod(name, thing):
    pod, patch = FINISHED[name]
    pod = copy.deepcopy(pod)
    assert foreign_gpu(pod, patch) is None

    FOREIGN[thing](pod)

    found = foreign_gpu(pod, patch)
    assert found is not None
    assert found.found == f"{found.what} in {found.where}"


@pytest.mark.parametrize("thing", FOREIGN)
def test_each_thing_is_found_before_the_patch_as_well(thing):
    pod = base()
    assert foreign_gpu(pod) is None

    FOREIGN[thing](pod)

    assert foreign_gpu(pod) is not None


@pytest.mark.parametrize("name", FINISHED)
@pytest.mark.parametrize("thing", HARMLESS)
def test_what_only_looks_alike_is_let_through(name, thing):
    pod, patch = FINISHED[name]
    pod = copy.deepcopy(pod)

    HARMLESS[thing](pod)

    assert foreign_gpu(pod, patch) is None


def test_the_sentence_names_the_place_and_what_stands_there():
    pod = base()
    FOREIGN["sidecar nvidia.com/gpu"](pod)

    assert foreign_gpu(pod).found == "nvidia.com/gpu: 1 in containers[sidecar].resources.limits"


@pytest.mark.parametrize(
    ("engines", "told"),
    [
        ({Engine.NVIDIA_PLUGIN, Engine.DRA_HAMI}, True),
        ({Engine.NVIDIA_PLUGIN, Engine.HAMI_MIG}, False),
        (None, False),
    ],
)
def test_a_pod_in_hami_s_shape_is_told_where_no_node_has_hami(engines, told):
    pod = base()
    notebook = pod["spec"]["containers"][0]
    notebook["resources"] = {"limits": {"nvidia.com/gpu": "1", "nvidia.com/gpucores": "30"}}
    found = foreign_gpu(pod)
    assert found is not None

    refusal = foreign_refusal(found, pod, engines)

    assert refusal.reason is Reason.FOREIGN_GPU
    assert ("there is no HAMi node here" in say_refusal(refusal).why) is told
    assert ("HAMi 노드가 없습니다" in say_refusal(refusal, "ko").why) is told


def test_a_long_value_is_shown_shortened_and_compared_whole():
    pod = base()
    pod["metadata"]["annotations"]["hami.io/x"] = "y" * 500

    assert len(foreign_gpu(pod).found) < 160
    assert len(foreign_gpu(pod).what) > 500


@pytest.mark.parametrize("name", ["mixed", "hami", "kai", "plugin-200", "turns", "dra-hami"])
def test_a_map_that_nobody_looked_into_could_win_over_the_engine_s_variables(name):
    pod, patch = FINISHED[name]
    pod = copy.deepcopy(pod)
    pod["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "lab"}}]

    assert foreign_gpu(pod, patch).found == "lab in containers[notebook].envFrom"
    for prefix in ("NVIDIA_", "N", "CUDA_DEVICE_MEMORY_LIMIT_"):
        pod["spec"]["containers"][0]["envFrom"] = [{"prefix": prefix, "secretRef": {"name": "s"}}]
        assert foreign_gpu(pod, patch).where == "containers[notebook].envFrom"


@pytest.mark.parametrize("name", ["none", "shares-310"])
def test_a_map_is_harmless_where_every_variable_that_gives_devices_is_written_out(name):
    pod, patch = FINISHED[name]
    pod = copy.deepcopy(pod)
    pod["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "lab"}}]

    assert foreign_gpu(pod, patch) is None


def test_a_variable_that_asks_for_nothing_is_taken_away_without_a_word():
    pod = base()
    for container in pod["spec"]["containers"]:
        container.setdefault("env", []).extend(
            [
                {"name": "CUDA_VISIBLE_DEVICES", "value": "0"},
                {"name": "NVIDIA_VISIBLE_DEVICES", "value": "none"},
                {"name": "CUDA_DISABLE_CONTROL", "value": "false"},
            ]
        )

    assert foreign_gpu(pod) is None
    # Twice is as once: what was put there is replaced.
    again = apply(apply(pod, bind_no_gpu(), None), bind_no_gpu(), None)
    assert foreign_gpu(again, bind_no_gpu()) is None


def test_a_patch_that_lost_a_part_is_found_with_what_is_missing():
    pod, patch = FINISHED["hami"]
    for take, found in (
        (
            lambda p: p["spec"]["containers"][0]["resources"]["limits"].pop("nvidia.com/gpucores"),
            "nvidia.com/gpucores: 30 (missing) in containers[notebook].resources.limits",
        ),
        (
            lambda p: p["metadata"]["annotations"].pop("nvidia.com/use-gpuuuid"),
            "nvidia.com/use-gpuuuid: GPU-0000 (missing) in metadata.annotations",
        ),
        (lambda p: p["spec"].pop("affinity"), "node gpu-1 (missing) in spec.affinity"),
        (lambda p: p["spec"].update(schedulerName="default"), "default in spec.schedulerName"),
    ):
        changed = copy.deepcopy(pod)
        take(changed)
        assert foreign_gpu(changed, patch).found == found


def test_an_alternative_to_the_ledger_s_node_is_found():
    pod, patch = FINISHED["mixed"]
    pod = copy.deepcopy(pod)
    terms = pod["spec"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    assert len(terms) == 2
    terms.append({"matchExpressions": [{"key": "gpu", "operator": "Exists"}]})

    assert foreign_gpu(pod, patch).found == "node gpu-1 (missing) in spec.affinity"


def test_an_empty_term_that_matches_no_node_is_not_made_to_match_one():
    inventory, share = ASKED["mixed"]
    lease = lease_on(placed(share, inventory))
    patch = bind_pod(lease, inventory, POLICY)
    pod = base()
    required = pod["spec"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    required["nodeSelectorTerms"] = [{}]

    pod = apply(pod, patch, marks_on(lease))

    required = pod["spec"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert required["nodeSelectorTerms"] == [{}]
    assert foreign_gpu(pod, patch) is None


def test_the_notebook_is_found_by_its_name_and_told_to_kai_where_it_is_not_the_first():
    inventory, share = ASKED["kai"]
    lease = lease_on(placed(share, inventory))
    patch = bind_pod(lease, inventory, POLICY)
    pod = base()
    pod["spec"]["containers"].reverse()

    pod = apply(pod, patch, marks_on(lease))

    assert pod["metadata"]["annotations"]["gpu-fraction-container-name"] == "notebook"
    assert foreign_gpu(pod, patch) is None
    env = {entry["name"]: entry["value"] for entry in pod["spec"]["containers"][0]["env"]}
    assert env["NVIDIA_VISIBLE_DEVICES"] == "void"


_NAMES = st.text(st.characters(categories=("Ll", "Nd")), min_size=1, max_size=12)


@settings(max_examples=300)
@given(
    name=st.sampled_from(sorted(FINISHED)),
    harmless=st.lists(st.sampled_from(sorted(HARMLESS)), max_size=4, unique=True),
    thing=st.sampled_from(sorted(FOREIGN)),
    labels=st.dictionaries(_NAMES.map("lab.example/".__add__), _NAMES, max_size=3),
)
def test_a_foreign_thing_is_found_among_everything_else(name, harmless, thing, labels):
    pod, patch = FINISHED[name]
    pod = copy.deepcopy(pod)
    pod["metadata"]["labels"].update(labels)
    for change in harmless:
        HARMLESS[change](pod)
    assert foreign_gpu(pod, patch) is None

    FOREIGN[thing](pod)

    assert foreign_gpu(pod, patch) is not None


@settings(max_examples=300)
@given(
    vendor=st.sampled_from(["nvidia.com", "sub.nvidia.com", "amd.com", "x.run.ai"]),
    bare=_NAMES,
    quantity=st.integers(0, 9) | st.sampled_from(["1", "1k", "0", None]),
    kind=st.sampled_from(["limits", "requests"]),
    where=st.sampled_from(["containers", "initContainers", "ephemeralContainers"]),
)
def test_any_resource_of_a_vendor_is_found_in_any_container(vendor, bare, quantity, kind, where):
    pod, patch = FINISHED["mixed"]
    pod = copy.deepcopy(pod)
    resources = {kind: {f"{vendor}/{bare}": quantity}}
    pod["spec"].setdefault(where, []).append({"name": "c", "resources": resources})

    assert foreign_gpu(pod, patch).what == f"{vendor}/{bare}: {quantity}"


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["containers", "initContainers", "volumes", "resourceClaims", "affinity", "overhead"]
        ),
        _JUNK,
    ),
    _JUNK,
)
def test_a_pod_of_any_form_is_judged_without_a_fault(spec, metadata):
    foreign_gpu({"spec": spec, "metadata": metadata}, bind_no_gpu())
    foreign_gpu({"spec": metadata, "metadata": spec})
