"""Faults of nodes and pods: lost, stuck, without an image, without a claim, or not wanted."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.cluster.api_client import Json
from tests.cluster.fake_kubelet import never
from tests.cluster.node_shapes import SHAPES
from tests.cluster.object_nodes import SLICES
from tests.cluster.pods import pod_path
from tests.fixtures.faulty_hub import START_SECONDS, FaultyHub

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

NOTEBOOKS = 30


def test_a_node_that_vanishes_with_thirty_notebooks_leaves_no_lease_and_few_requests(
    faulty: FaultyHub,
):
    shape = SHAPES["plugin-mig-a100-80"]
    big = replace(shape, gpus=5, layouts=shape.layouts * 5)
    faulty.nodes.remove(faulty.slices)
    node = faulty.nodes.add_manifest(big.node("vanishing"))
    names = [f"n{number}" for number in range(NOTEBOOKS)]
    with ThreadPoolExecutor(10) as threads:
        list(threads.map(lambda name: faulty.run("ada", name=name), names))
    assert len(faulty.pods()) == len(faulty.here.store.open_leases()) == NOTEBOOKS
    at = time.monotonic()

    faulty.nodes.remove(node)
    if "FAULT_SECONDS" not in os.environ:
        # What Kubernetes' collector of pods does 40 to 60 s after their node has gone.
        for pod in faulty.pods():
            path = pod_path(faulty.here.namespace, pod["metadata"]["name"])
            faulty.here.cluster.api.delete(path, grace_seconds=0)
    try:
        faulty.here.wait_until(faulty.here.is_empty, seconds=120)

        asked = [seen for seen in faulty.proxy.since(at) if not seen.is_watch]
        # At most one request for each notebook, beside what the watches list.
        assert len(asked) <= NOTEBOOKS + 10 + (time.monotonic() - at)
        assert faulty.failure_of("ada") == (
            "MIG slice 1g.10gb refused: none of the GPUs asked for has such a slice; the slices"
            " here are –. Start without a GPU."
        )
    finally:
        faulty.slices = faulty.nodes.add("plugin-mig-a100-80")
        faulty.here.wait_until(lambda: faulty.is_let_start("ada", "1g.10gb"))


def test_a_pod_that_stays_terminating_keeps_its_slice_until_it_is_gone(faulty: FaultyHub):
    for user in ("lin", "grace", *(f"user{number}" for number in range(4))):
        faulty.run(user)
    faulty.nodes.kubelet.ends = never
    faulty.run("ada")

    faulty.hub.stop_server("ada", seconds=START_SECONDS + 15)

    (stuck,) = [pod for pod in faulty.here.pods() if "deletionTimestamp" in pod["metadata"]]
    asked_at = time.monotonic()
    said = faulty.failure_of("user5")
    assert said.startswith("No free 1g.10gb: 0 of 7 slices that would do are free.")
    assert len(faulty.here.pods()) == 7
    assert len([s for s in faulty.proxy.since(asked_at) if s.method == "DELETE"]) <= 2
    faulty.calm()
    faulty.here.wait_until(lambda: stuck["metadata"]["uid"] not in uids(faulty))
    faulty.here.wait_until(lambda: faulty.has_run("user5"))


def uids(faulty: FaultyHub) -> set[str]:
    return {pod["metadata"]["uid"] for pod in faulty.here.pods()}


def test_an_image_that_does_not_exist_ends_the_start_in_one_sentence(faulty: FaultyHub):
    kubelet = faulty.nodes.kubelet

    def cannot_pull(pod: Json) -> bool:
        cannot_pull_image(faulty, pod)
        return False

    kubelet.starts = cannot_pull
    at = time.monotonic()

    said = faulty.failure_of("ada")

    assert said == (
        "Server not started: The notebook's image could not be fetched in 4 tries. Ask the"
        " administrator of this Hub."
    )
    assert time.monotonic() - at < START_SECONDS
    faulty.here.wait_until(faulty.here.is_empty)


def cannot_pull_image(faulty: FaultyHub, pod: Json) -> None:
    """What a kubelet writes at the fourth failure."""
    api, meta = faulty.nodes.kubelet.api, pod["metadata"]
    container = {
        "name": "notebook", "image": "none", "imageID": "", "ready": False, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}},
    }  # fmt: skip
    path = pod_path(meta["namespace"], meta["name"])
    if pod["status"].get("containerStatuses"):
        return
    api.patch(f"{path}/status", {"status": {"containerStatuses": [container]}}, kind="strategic")
    about = {"kind": "Pod", "apiVersion": "v1", "namespace": meta["namespace"]}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "metadata": {"generateName": "pull-"},
        "involvedObject": about | {"name": meta["name"], "uid": meta["uid"]},
        "type": "Warning", "reason": "Failed", "count": 4,
        "firstTimestamp": now, "lastTimestamp": now,
        "message": 'Failed to pull image "none": rpc error: code = NotFound',
    }  # fmt: skip
    api.post(f"/api/v1/namespaces/{meta['namespace']}/events", event)


def test_a_claim_that_never_allocates_ends_with_the_start_s_patience(faulty: FaultyHub):
    # Discovery does not learn that the driver has gone, so that the ledger places a pod.
    faulty.instead(503, lambda seen: seen.path.endswith("/resourceslices"))
    faulty.proxy.cut()
    api = faulty.nodes.api
    for made in api.list(SLICES):
        if made["metadata"]["name"].startswith(faulty.claims):
            api.delete(f"{SLICES}/{made['metadata']['name']}")

    try:
        said = faulty.failure_of("ada", "30 blocks")

        assert said == (
            f"Server not started within {START_SECONDS} seconds. Last known: Waiting for 30 blocks:"
            f" not free on {faulty.claims} now."
        )
        faulty.here.wait_until(faulty.here.is_empty)
    finally:
        for made in SHAPES["dra-hami-a100-40"].slices(faulty.claims):
            api.post(SLICES, made)
        faulty.calm()
        faulty.here.wait_until(lambda: faulty.is_let_start("ada", "30 blocks"))


@pytest.mark.parametrize("stage", ["before the pod", "pending", "running, not ready"])
@pytest.mark.parametrize("share", ["1g.10gb", "30 blocks"])
def test_a_cancel_leaves_nothing(faulty: FaultyHub, stage: str, share: str):
    user = "user7" if stage == "running, not ready" else "ada"
    if stage == "before the pod":
        faulty.instead(500, lambda seen: seen.method == "POST" and seen.path.endswith("/pods"))
    elif stage == "pending":
        faulty.nodes.kubelet.starts = never
    faulty.begin(user, share)
    if stage == "before the pod":
        faulty.here.wait_until(faulty.here.store.open_leases)
    elif stage == "pending":
        faulty.here.wait_until(faulty.pods)
    else:
        faulty.here.wait_until(
            lambda: [p for p in faulty.pods() if p["status"]["phase"] == "Running"]
        )
    assert not (faulty.hub.server(user) or {}).get("ready")
    at = time.monotonic()

    faulty.hub.stop_server(user)

    faulty.here.wait_until(faulty.here.is_empty)
    assert len([seen for seen in faulty.proxy.since(at) if not seen.is_watch]) <= 12
