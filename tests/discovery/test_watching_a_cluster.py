"""The source against a real API server, by the shipped Role, and with every kind of trouble.

A proxy stands in between where the trouble is on the way; see ``tests/cluster/api_proxy.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aliquot.discovery import GpuStateUnreadable
from aliquot.discovery.kubernetes.source import KubernetesSource
from aliquot.domain.inventory import Inventory
from tests.cluster.api_client import ApiError
from tests.cluster.api_proxy import ApiProxy, Instead
from tests.cluster.pods import claim_template, make_pod, pod_path
from tests.discovery.cluster_objects import LEDGER, marks, piece

pytestmark = pytest.mark.cluster

RIGHTS = Path("hub_config/kubernetes/chart/templates/rights.yaml")
PODS = "/api/v1/pods"


def grant_the_shipped_role(api, account: str) -> None:
    """The ClusterRole of hub_config's chart, bound to a service account."""
    namespace, name = account.split("/")
    text = RIGHTS.read_text().replace("{{ .Release.Namespace }}", namespace)
    text = text.replace("{{ .Values.hubServiceAccount }}", name)
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    for found in yaml.safe_load_all(text):
        kind = found["kind"]
        if kind.startswith("Cluster"):
            try:
                api.post(f"{rbac}/{kind.lower()}s", found)
            except ApiError as error:
                if error.code != 409:
                    raise


@pytest.fixture
def hub_account(control_plane, namespace) -> str:
    account = f"{namespace}/hub"
    control_plane.token_for(account)
    grant_the_shipped_role(control_plane.api, account)
    return account


@pytest.fixture
def new_source(monkeypatch) -> Iterator[Callable[..., KubernetesSource]]:
    made: list[KubernetesSource] = []

    def begin(kubeconfig: Path, **options: Any) -> KubernetesSource:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        made.append(KubernetesSource(ledger_mark=LEDGER, **options))
        return made[-1]

    yield begin
    for source in made:
        source.close()


@pytest.fixture
def source(control_plane, hub_account, new_source) -> KubernetesSource:
    return new_source(control_plane.kubeconfig_for(hub_account))


@pytest.fixture
def proxy(control_plane) -> Iterator[ApiProxy]:
    between = ApiProxy(control_plane.url, control_plane.ca_file)
    yield between
    between.close()


@pytest.fixture
def through_proxy(control_plane, hub_account, proxy, new_source, tmp_path):
    """A function that starts a source behind the proxy."""

    def begin(**options: Any) -> KubernetesSource:
        token = control_plane.token_for(hub_account)
        return new_source(proxy.kubeconfig(tmp_path / "kubeconfig", token), **options)

    return begin


def read_until(
    source: KubernetesSource, holds: Callable[[Inventory], Any], seconds: float = 20
) -> Inventory:
    give_up_at = time.monotonic() + seconds
    while True:
        inventory = source.read()
        if holds(inventory):
            return inventory
        assert time.monotonic() < give_up_at, (inventory.gpus, inventory.held, inventory.notes)
        time.sleep(0.02)


def wait_until(holds: Callable[[], Any], seconds: float = 20) -> None:
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def is_unreadable(source: KubernetesSource) -> str:
    try:
        source.read()
    except GpuStateUnreadable as error:
        return str(error)
    return ""


def has_gpus(count: int) -> Callable[[Inventory], bool]:
    return lambda inventory: len(inventory.gpus) == count


def holders(inventory: Inventory) -> list[str]:
    return [piece.holder for piece in inventory.held]


def test_nodes_and_pods_arrive_with_the_shipped_role(
    control_plane, namespace, object_nodes, source
):
    assert source.read().gpus == ()
    node = object_nodes.add("plugin-a100-80")
    read_until(source, has_gpus(4))

    make_pod(control_plane.api, namespace, "other", limits={"nvidia.com/gpu": "2"})
    inventory = read_until(source, lambda inventory: inventory.held)
    assert holders(inventory) == [f"{namespace}/other"] * 2
    assert {p.gpu_uuid for p in inventory.held} == {f"{node}/gpu/2", f"{node}/gpu/3"}
    assert (inventory.source, inventory.notes) == ("kubernetes", ())

    control_plane.api.delete(pod_path(namespace, "other"), grace_seconds=0)
    read_until(source, lambda inventory: not inventory.held)
    object_nodes.cordon(node)
    assert holders(read_until(source, lambda i: i.held)) == [f"Node {node} is cordoned."] * 4
    object_nodes.remove(node)
    read_until(source, has_gpus(0))


def test_a_pod_of_ours_holds_its_piece_from_its_making(
    control_plane, namespace, object_nodes, source
):
    node = object_nodes.add("plugin-a100-80")
    own = marks("lease-1", piece(f"{node}/gpu/1"))
    body = {
        "metadata": {"name": "own", **own},
        "spec": {
            "containers": [
                {"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
            ],
            "schedulerName": "nobody",
        },
    }
    control_plane.api.post(f"/api/v1/namespaces/{namespace}/pods", body)

    (held,) = read_until(source, lambda inventory: inventory.held).held
    assert (held.gpu_uuid, held.lease_id) == (f"{node}/gpu/1", "lease-1")


def test_real_allocations_of_dra_arrive(control_plane, namespace, object_nodes, source):
    node = object_nodes.add("dra-hami-a100-40")
    read_until(source, has_gpus(2))
    driver = "hami-core-gpu.project-hami.io"
    capacity = {"cores": "40", "memory": "8Gi"}
    claim_template(control_plane.api, namespace, "forty", driver, capacity=capacity)
    make_pod(control_plane.api, namespace, "claimer", template="forty")

    inventory = read_until(source, lambda inventory: inventory.held)
    (held,) = inventory.held
    assert (held.blocks, held.holder) == (40, f"{namespace}/claimer")
    assert inventory.by_uuid[held.gpu_uuid].node == node


def test_kai_is_found_by_its_queues(control_plane, hub_account, object_nodes, new_source):
    object_nodes.add("kai-a100-80")
    source = new_source(control_plane.kubeconfig_for(hub_account))

    assert {gpu.engine.value for gpu in read_until(source, has_gpus(4)).gpus} == {"kai"}


def test_a_missing_right_is_named_at_once(control_plane, namespace, new_source):
    source = new_source(control_plane.kubeconfig_for(f"{namespace}/nobody"))
    began = time.monotonic()

    with pytest.raises(GpuStateUnreadable, match=r"list and watch \w+ \(403\)\. Give its service"):
        source.read()
    assert time.monotonic() - began < 10


def test_a_server_that_is_not_there_is_said_in_bounded_time_and_asked_seldom(proxy, through_proxy):
    source = through_proxy(first_list_seconds=3)
    proxy.close_door()
    began = time.monotonic()

    with pytest.raises(GpuStateUnreadable, match="the API server cannot be reached"):
        source.read()
    assert 2.5 < time.monotonic() - began < 6
    assert "cannot be reached" in is_unreadable(source)
    assert source.requests.total() <= 6 * 5
    proxy.open_door()
    wait_until(lambda: not is_unreadable(source))


def test_without_a_cluster_the_source_says_what_it_looked_for(new_source, tmp_path):
    source = new_source(tmp_path / "none", first_list_seconds=1)

    with pytest.raises(GpuStateUnreadable, match=f"runs in no cluster, and {tmp_path}/none cannot"):
        source.read()


def test_streams_that_are_cut_go_on_where_they_ended(
    control_plane, namespace, object_nodes, proxy, through_proxy
):
    source = through_proxy()
    object_nodes.add("plugin-a100-80")
    read_until(source, has_gpus(4))
    began = time.monotonic()
    for number in range(4):
        proxy.cut()
        make_pod(control_plane.api, namespace, f"pod-{number}", limits={"nvidia.com/gpu": "1"})

    inventory = read_until(source, lambda inventory: len(inventory.held) == 4)
    assert sorted(holders(inventory)) == [f"{namespace}/pod-{number}" for number in range(4)]
    asked = [seen for seen in proxy.since(began) if seen.path != "/apis/scheduling.run.ai/v2"]
    assert all(seen.is_watch for seen in asked)
    assert len(asked) <= 5 * 5


@pytest.fixture
def short_streams(monkeypatch) -> None:
    """Freshness in seconds instead of half minutes."""
    for name, seconds in (("STREAM_SECONDS", 2), ("STEADY_SECONDS", 1), ("SETTLED_SECONDS", 0.2)):
        monkeypatch.setattr(f"aliquot.discovery.kubernetes.watch.{name}", seconds)


def test_a_server_that_is_away_for_a_while_makes_the_inventory_old_and_then_unreadable(
    control_plane, namespace, object_nodes, short_streams, proxy, through_proxy
):
    source = through_proxy(stale_seconds=4)
    object_nodes.add("plugin-a100-80")
    read_until(source, has_gpus(4))
    began = time.monotonic()
    proxy.close_door()
    make_pod(control_plane.api, namespace, "meanwhile", limits={"nvidia.com/gpu": "1"})
    control_plane.api.wait_until(
        pod_path(namespace, "meanwhile"), lambda pod: pod["spec"].get("nodeName")
    )

    wait_until(lambda: "cannot be reached" in is_unreadable(source), seconds=8)
    unreadable_after = time.monotonic() - began
    # Refused connections never arrive at the proxy: the source's own count tells.
    before = source.requests.total()
    while time.monotonic() - began < 8:
        assert is_unreadable(source)
        time.sleep(0.1)
    assert 1.5 < unreadable_after < 5
    assert source.requests.total() - before <= 5 * 4
    proxy.open_door()
    wait_until(lambda: not is_unreadable(source))
    assert holders(read_until(source, lambda inventory: inventory.held)) == [
        f"{namespace}/meanwhile"
    ]


GONE = {"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410, "message": "old"}


def on_watch_of_pods(seen) -> bool:
    return seen.path == PODS and seen.is_watch


@pytest.mark.parametrize("way", ["status", "event"])
def test_what_the_server_has_forgotten_is_listed_anew(
    control_plane, namespace, object_nodes, proxy, through_proxy, way
):
    source = through_proxy()
    object_nodes.add("plugin-a100-80")
    read_until(source, has_gpus(4))
    body = yaml.safe_dump(GONE, default_flow_style=True, width=9999).encode()
    if way == "status":
        proxy.instead.append(Instead(on_watch_of_pods, 410, body))
    else:
        event = b'{"type":"ERROR","object":{"kind":"Status","code":410,"message":"old"}}\n'
        proxy.instead.append(Instead(on_watch_of_pods, 200, event))
    began = time.monotonic()
    proxy.cut()
    make_pod(control_plane.api, namespace, "pod", limits={"nvidia.com/gpu": "1"})

    assert holders(read_until(source, lambda i: i.held)) == [f"{namespace}/pod"]
    wait_until(lambda: [s for s in proxy.since(began) if s.path == PODS and not s.is_watch])
    assert len([s for s in proxy.since(began) if s.path == PODS]) <= 6


@pytest.mark.parametrize(
    "status, body", [(500, b"{}"), (503, b""), (200, b"no event\n"), (200, b"")]
)
def test_a_server_that_goes_on_failing_is_not_asked_in_a_loop(
    control_plane, namespace, object_nodes, proxy, through_proxy, status, body
):
    source = through_proxy()
    object_nodes.add("plugin-a100-80")
    read_until(source, has_gpus(4))
    proxy.instead.append(Instead(on_watch_of_pods, status, body, times=1000))
    proxy.cut()
    began = time.monotonic()
    while time.monotonic() - began < 5:
        source.read()
        time.sleep(0.05)

    asked = [seen for seen in proxy.since(began) if seen.path == PODS]
    # At 0.25 s, 0.5 s, 1 s and so on at the soonest, each with a list beside the watch.
    assert len(asked) <= 10
    proxy.instead.clear()
    make_pod(control_plane.api, namespace, "pod", limits={"nvidia.com/gpu": "1"})
    read_until(source, lambda inventory: inventory.held, seconds=30)


def test_a_server_that_asks_for_patience_gets_it(proxy, through_proxy):
    busy = Instead(lambda seen: seen.path == PODS, 429, b"", {"Retry-After": "3"})
    proxy.instead.append(busy)
    source = through_proxy(first_list_seconds=15)

    source.read()
    lists = [seen for seen in proxy.seen if seen.path == PODS and not seen.is_watch]
    assert len(lists) == 2
    assert lists[1].at - lists[0].at >= 3


def test_a_token_that_was_renewed_is_read_again(
    control_plane, hub_account, object_nodes, proxy, new_source, tmp_path
):
    place = tmp_path / "kubeconfig"
    source = new_source(proxy.kubeconfig(place, "no-such-token"), first_list_seconds=2)
    assert "does not accept the hub's credentials (401)" in is_unreadable(source)
    object_nodes.add("plugin-a30")
    proxy.kubeconfig(place, control_plane.token_for(hub_account))

    wait_until(lambda: not is_unreadable(source))
    assert len(read_until(source, has_gpus(2)).gpus) == 2


def test_a_list_comes_in_pages(control_plane, namespace, proxy, through_proxy, monkeypatch):
    monkeypatch.setattr("aliquot.discovery.kubernetes.watch.PAGE_OBJECTS", 2)
    for number in range(5):
        make_pod(control_plane.api, namespace, f"pod-{number}", schedulerName="nobody")
    through_proxy().read()

    pages = [seen for seen in proxy.seen if seen.path == PODS and not seen.is_watch]
    assert len(pages) >= 3
    assert all(page.query["limit"] == "2" for page in pages)
    assert all(page.query["continue"] for page in pages[1:])


def test_an_api_server_that_is_restarted_is_found_again(new_control_plane, new_source):
    cluster = new_control_plane()
    source = new_source(cluster.kubeconfig)
    source.read()
    cluster.stop("kube-apiserver", kill=True)
    cluster.start_program("kube-apiserver")
    body = {
        "metadata": {
            "name": "late",
            "labels": {"nvidia.com/gpu.product": "NVIDIA-A30-MIG-INVALID"},
        },
        "status": {"capacity": {"nvidia.com/gpu": "1"}},
    }
    cluster.api.post("/api/v1/nodes", body)

    wait_until(lambda: not is_unreadable(source) and source.read().notes)
    assert source.read().notes[0].startswith("Node late is left out")


@pytest.mark.slow
def test_a_quiet_cluster_proves_that_it_is_quiet(proxy, through_proxy):
    source = through_proxy(stale_seconds=40)
    source.read()
    began = time.monotonic()
    while time.monotonic() - began < 65:
        source.read()
        time.sleep(0.2)

    # Two rounds of five streams, and two looks for KAI; no list.
    asked = proxy.since(began)
    assert len(asked) <= 5 * 3 + 3
    assert all(seen.is_watch for seen in asked if "scheduling.run.ai" not in seen.path)


FORKING = """
import os, sys, threading
from aliquot.discovery.kubernetes.source import KubernetesSource
source = KubernetesSource()
print(len(source.read().gpus), flush=True)
child = os.fork()
if child == 0:
    print(len(source.read().gpus), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
names = [thread.name for thread in threading.enumerate()]
print(len(source.read().gpus), names.count("aliquot-kubernetes"), flush=True)
"""


def test_a_fork_starts_its_own_watch_and_the_thread_keeps_no_process_alive(
    control_plane, hub_account
):
    environ = {**os.environ, "KUBECONFIG": str(control_plane.kubeconfig_for(hub_account))}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", FORKING], env=environ, capture_output=True, text=True, timeout=60
    )

    assert (done.stdout.split(), done.stderr, done.returncode) == (["0", "0", "0", "1"], "", 0)
    assert time.monotonic() - began < 30


def test_close_ends_the_thread_and_a_later_read_starts_anew(source):
    source.read()
    source.close()
    assert source.requests.total() == 0
    source.read()
    assert source.requests.total() > 0
