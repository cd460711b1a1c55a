"""Spawning: a picked size becomes a pod that holds exactly its piece, at a real API server."""

from __future__ import annotations

from pathlib import Path

import pytest

from aliquot.domain.leases import LeaseState
from aliquot.domain.pod_marks import read_marks
from tests.cluster.fake_kubelet import always, never
from tests.cluster.object_nodes import ObjectNodes
from tests.cluster.spawning import notebook_of
from tests.fixtures.spawning import StartSpawningHub

pytestmark = pytest.mark.cluster

TAKE_ALL = Path(__file__).with_name("_take_all_slices.py")


def test_a_mig_slice_is_a_pod_with_that_slice_alone_and_nothing_is_left_of_it(
    spawning_hub: StartSpawningHub, object_nodes: ObjectNodes
):
    node = object_nodes.add("plugin-mig-a100-80")
    here = spawning_hub()

    here.hub.start_server("ada", options={"share": "1g.10gb"})

    (pod,) = here.pods()
    (lease,) = here.store.open_leases()
    assert notebook_of(pod)["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == "1"
    assert pod["spec"]["nodeName"] == node
    marks = read_marks(pod["metadata"])
    assert marks is not None
    assert (marks.lease_id, marks.pieces) == (lease.id, lease.placement.pieces)
    here.wait_until(lambda: here.store.lease(lease.id).state is LeaseState.ACTIVE)

    here.hub.stop_server("ada")

    here.wait_until(here.is_empty)


def test_blocks_by_dra_are_a_claim_that_the_pod_owns_and_what_was_given_is_read_back(
    spawning_hub: StartSpawningHub, object_nodes: ObjectNodes
):
    object_nodes.add("dra-hami-a100-40")
    here = spawning_hub()

    here.hub.start_server("ada", options={"share": "30 blocks"})

    (pod,), (template,) = here.pods(), here.templates()
    (lease,) = here.store.open_leases()
    owner = template["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"]) == ("Pod", pod["metadata"]["uid"])
    assert lease.id in template["metadata"]["name"]
    assert here.held_blocks() == 30

    here.hub.stop_server("ada")

    here.wait_until(here.is_empty)


def test_a_start_without_a_gpu_asks_kubernetes_as_often_as_kubespawner_does(
    spawning_hub: StartSpawningHub, object_nodes: ObjectNodes
):
    object_nodes.add("cpu")
    here = spawning_hub()

    here.hub.start_server("ada")

    (pod,) = here.pods()
    env = {entry["name"]: entry.get("value") for entry in notebook_of(pod)["env"]}
    assert env["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "ALIQUOT_LEASE" not in env
    assert [(r.verb, r.resource) for r in here.requests() if r.verb not in ("watch", "list")] == [
        ("create", "pods")
    ]
    assert not here.store.open_leases()

    here.hub.stop_server("ada")

    here.wait_until(here.is_empty)


@pytest.mark.parametrize(
    ("hook", "found"),
    [
        ('pod.spec.containers[0].resources.limits = {"nvidia.com/gpu": "1"}', "nvidia.com/gpu"),
        ('pod.metadata.annotations["gpu-fraction"] = "0.5"', "gpu-fraction"),
        ('pod.spec.resource_claims = [{"name": "mine", "resourceClaimName": "x"}]', "mine"),
        (
            'pod.spec.containers[0].env.append({"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"})',
            "NVIDIA_VISIBLE_DEVICES",
        ),
    ],
)
def test_a_hook_that_adds_a_gpu_refuses_the_start_and_names_it(
    spawning_hub: StartSpawningHub, object_nodes: ObjectNodes, hook: str, found: str
):
    object_nodes.add("plugin-mig-a100-80")
    here = spawning_hub(
        f"def add_gpu(spawner, pod):\n    {hook}\n    return pod\n"
        "c.KubeSpawner.modify_pod_hook = add_gpu\n"
    )

    answer = here.hub.start_server("ada", options={"share": "1g.10gb"}, wait=False)

    assert answer.status_code == 409
    assert found in answer.json()["message"]
    here.wait_until(here.is_empty)


def test_named_servers_hold_a_piece_each_and_a_hook_s_label_stays(
    spawning_hub: StartSpawningHub, object_nodes: ObjectNodes
):
    object_nodes.add("plugin-mig-a100-80")
    here = spawning_hub(
        "def label(spawner, pod):\n    pod.metadata.labels['kept'] = 'yes'\n    return pod\n"
        "c.KubeSpawner.modify_pod_hook = label\n"
    )

    here.hub.start_server("ada", options={"share": "1g.10gb"})
    here.hub.start_server("ada", "second", options={"share": "1g.10gb"})

    leases = here.store.open_leases()
    devices = {lease.placement.pieces[0].mig_uuid for lease in leases}
    assert len(devices) == 2
    assert {pod["metadata"]["labels"]["kept"] for pod in here.pods()} == {"yes"}
    here.hub.stop_server("ada", "second")
    here.wait_until(lambda: len(here.pods()) == 1)
    assert len(here.store.open_leases()) == 1


def test_a_pod_that_waits_is_told_in_words_and_a_cancel_leaves_nothing(
    spawning_hub: StartSpawningHub, object_nodes: ObjectNodes
):
    node = object_nodes.add("plugin-mig-a100-80")
    here = spawning_hub("c.JupyterHub.tornado_settings = {'slow_spawn_timeout': 0.1}\n")
    object_nodes.kubelet.starts = never

    here.hub.start_server("ada", options={"share": "1g.10gb"}, wait=False)
    told = here.progress("ada", seconds=4)

    assert "Holding 1g.10gb for you; group 'vision' pays." in told
    assert f"Placed on node {node}." in told
    assert "raw_event" not in told
    assert "Successfully assigned" not in told
    here.hub.stop_server("ada")
    here.wait_until(here.is_empty)


def test_a_hub_killed_during_a_start_finds_the_pod_again_and_its_lease(
    spawning_hub: StartSpawningHub, object_nodes: ObjectNodes
):
    object_nodes.add("plugin-mig-a100-80")
    here = spawning_hub("c.JupyterHub.tornado_settings = {'slow_spawn_timeout': 0.1}\n")
    object_nodes.kubelet.starts = never
    here.hub.start_server("ada", options={"share": "1g.10gb"}, wait=False)
    here.wait_until(here.pods)
    here.hub.kill()
    object_nodes.kubelet.starts = always
    object_nodes.kubelet.look_again()
    here.wait_until(lambda: here.pods()[0]["status"]["phase"] == "Running")

    here.hub.start()

    here.hub.wait_for_server("ada")
    (lease,) = here.store.open_leases()
    here.wait_until(lambda: here.store.lease(lease.id).state is LeaseState.ACTIVE)
    here.hub.stop_server("ada")
    here.wait_until(here.is_empty)


def test_an_event_without_a_time_fails_no_start(
    spawning_hub: StartSpawningHub, object_nodes: ObjectNodes
):
    object_nodes.add("plugin-mig-a100-80")
    here = spawning_hub()
    here.hub.start_server("ada", options={"share": "1g.10gb"})
    here.hub.stop_server("ada")
    events = f"/api/v1/namespaces/{here.namespace}/events"
    about = {"kind": "Pod", "name": "jupyter-ada", "namespace": here.namespace}
    object_nodes.api.post(
        events,
        {
            "metadata": {"name": "timeless"},
            "involvedObject": about,
            "reason": "Odd",
            "message": "no time",
            "type": "Normal",
        },
    )

    here.hub.start_server("ada", options={"share": "1g.10gb"})

    assert len(here.store.open_leases()) == 1


def test_a_start_that_kubernetes_cannot_place_says_why_when_its_time_is_over(
    spawning_hub: StartSpawningHub, object_nodes: ObjectNodes
):
    node = object_nodes.add("plugin-mig-a100-80")
    here = spawning_hub("c.KubeSpawner.start_timeout = 6\nc.KubeSpawner.cpu_guarantee = 1000\n")

    answer = here.hub.start_server("ada", options={"share": "1g.10gb"}, wait=False)
    told = here.progress("ada")

    said = "Waiting for cpu: the node with your GPU has not enough cpu left."
    assert said in told + answer.text
    assert f"Server not started within 6 seconds. Last known: {said}" in told + answer.text
    assert "nodes are available" not in told + answer.text
    assert node not in told
    here.wait_until(here.is_empty)


def test_a_slice_that_somebody_took_past_the_books_is_waited_for_with_its_numbers(
    spawning_hub: StartSpawningHub, object_nodes: ObjectNodes, namespace: str
):
    node = object_nodes.add("plugin-mig-a100-80")
    authorization = object_nodes.api.session.headers["Authorization"]
    # Between the ledger's decision and the pod, all seven slices go to other people.
    take_all = (
        "import json, os, subprocess, sys\n"
        "def take_all(spawner, pod):\n"
        f"    subprocess.run([sys.executable, {str(TAKE_ALL)!r}, {node!r}, {namespace!r},\n"
        f"        {object_nodes.api.url!r}, {authorization!r},\n"
        f"        {object_nodes.api.session.verify!r}], check=True)\n"
        "    return pod\n"
        "c.KubeSpawner.modify_pod_hook = take_all\n"
        "c.KubeSpawner.start_timeout = 12\n"
    )
    here = spawning_hub(take_all)

    here.hub.start_server("ada", options={"share": "1g.10gb"}, wait=False)
    told = here.progress("ada")

    assert f"Waiting for a free 1g.10gb slice: 7 of 7 on {node} are used." in told


@pytest.mark.parametrize(
    ("waiting", "said"),
    [
        ("InvalidImageName", "The notebook's image has a name that cannot be read."),
        ("ErrImageNeverPull", "The notebook's image is not on the node"),
    ],
)
def test_an_image_that_cannot_be_had_ends_the_start_at_once(
    spawning_hub: StartSpawningHub, object_nodes: ObjectNodes, waiting: str, said: str
):
    object_nodes.add("plugin-mig-a100-80")
    object_nodes.kubelet.starts = never
    here = spawning_hub()
    here.hub.start_server("ada", options={"share": "1g.10gb"}, wait=False)
    (pod,) = here.wait_until(here.pods)
    state = {"waiting": {"reason": waiting, "message": "raw text of the kubelet"}}
    status = {"name": "notebook", "image": "none", "imageID": "", "ready": False,
              "restartCount": 0, "state": state}  # fmt: skip
    path = f"/api/v1/namespaces/{here.namespace}/pods/{pod['metadata']['name']}/status"
    here.cluster.api.patch(path, {"status": {"containerStatuses": [status]}}, kind="strategic")

    told = here.progress("ada")

    assert said in told
    assert "raw text" not in told
    here.wait_until(here.is_empty)


def test_a_pod_that_is_deleted_while_it_starts_is_told_and_its_piece_is_free_again(
    spawning_hub: StartSpawningHub, object_nodes: ObjectNodes
):
    object_nodes.add("plugin-mig-a100-80")
    object_nodes.kubelet.starts = never
    here = spawning_hub()
    here.hub.start_server("ada", options={"share": "1g.10gb"}, wait=False)
    (pod,) = here.wait_until(here.pods)
    path = f"/api/v1/namespaces/{here.namespace}/pods/{pod['metadata']['name']}"
    here.cluster.api.delete(path, grace_seconds=0)

    told = here.progress("ada")

    assert "its pod was deleted while it started" in told
    here.wait_until(here.is_empty)


def test_a_hub_killed_during_a_start_whose_pod_never_runs_leaves_nothing(
    spawning_hub: StartSpawningHub, object_nodes: ObjectNodes
):
    object_nodes.add("plugin-mig-a100-80")
    here = spawning_hub("c.Spawner.http_timeout = 3\n")
    object_nodes.kubelet.starts = never
    here.hub.start_server("ada", options={"share": "1g.10gb"}, wait=False)
    here.wait_until(here.pods)
    here.hub.kill()

    here.hub.start()

    here.wait_until(here.is_empty)


def test_a_pod_stuck_terminating_gives_its_lease_back_and_counts_as_held_in_the_world(
    spawning_hub: StartSpawningHub, object_nodes: ObjectNodes
):
    object_nodes.add("plugin-mig-a100-80")
    here = spawning_hub("c.KubeSpawner.start_timeout = 4\n")
    here.hub.start_server("ada", options={"share": "1g.10gb"})
    object_nodes.kubelet.ends = never

    here.hub.stop_server("ada")

    here.wait_until(lambda: not here.store.open_leases())
    assert len(here.pods()) == 1
    here.wait_until(lambda: "counts as held" in here.hub.log)
    # The eighth slice is not there: of seven, one is held by the pod that does not end.
    for number in range(6):
        assert here.hub.start_server(f"user{number}", options={"share": "1g.10gb"}).ok
    answer = here.hub.start_server("lin", options={"share": "1g.10gb"}, wait=False)
    assert answer.status_code == 409
    object_nodes.kubelet.ends = always
    object_nodes.kubelet.look_again()
    here.wait_until(lambda: here.hub.start_server("lin", options={"share": "1g.10gb"}).ok)
