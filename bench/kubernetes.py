"""From POST to a running pod: our spawner against plain KubeSpawner, at one control plane.

Two real Hubs side by side, each in its own namespace, whose servers are started in turn. Both
ask for the same slice: ours by its size, the other by ``extra_resource_limits``, as admins do
it without us. Their pods run on the real node, with kubelet and containerd, since only there
a start takes as long as a start does. A machine that cannot have one gets object nodes, whose
pods run as soon as they are bound: there, a few milliseconds of ours are a large part.

A start counts as done when the API server says that the pod is Running. The Hub notices that
at the next of its tries, whose waits are drawn at random: seconds of chance, the same for both.

Requests are counted in the API server's audit log, from the POST to the end of the stop. What
both Hubs do all the time, whether anybody starts or not (their watches, and the lists that
begin them), is not a start's.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import requests

from bench.rows import Row
from tests.cluster import binaries, images, real_node
from tests.cluster.api_client import ApiClient
from tests.cluster.control_plane import AuditedRequest, ControlPlane, start
from tests.cluster.node_shapes import SHAPES
from tests.cluster.object_nodes import ObjectNodes
from tests.cluster.spawning import OURS, STOCK, SpawningHub, notebooks, start_spawning_hub
from tests.fixtures.hub import StartHub, hub_factory

PAIRS = int(os.environ.get("BENCH_PAIRS", "15"))
ROUNDS = max(1, PAIRS // 2)
AT_ONCE = 20
MOST_RATIO = 1.03
MOST_MORE_REQUESTS = 2
_SLICE = "1g.10gb"
# Of seven slices each: room for two rounds, so that none waits for what the last one had.
_GPUS = 6
_TINY_SERVER = images.ROOT / "tests" / "fixtures" / "_tiny_server.py"
_USERS = [f"many{number}" for number in range(AT_ONCE)]
# The POST is answered at once, not after the Hub's own wait; nor is the Hub's limit met.
_ALIKE = "c.JupyterHub.tornado_settings = {'slow_spawn_timeout': 0}\n"
_SLICE_BY_HAND = f"c.KubeSpawner.extra_resource_limits = {{'nvidia.com/mig-{_SLICE}': '1'}}\n"


class _RunningSince:
    """When each pod of a namespace was first seen Running, by the owner's name."""

    def __init__(self, api: ApiClient, namespace: str) -> None:
        self._api, self._path = api, f"/api/v1/namespaces/{namespace}/pods"
        self._seen: dict[str, tuple[str, float]] = {}
        self._changed = threading.Condition()
        self._closed = False

    @contextmanager
    def watching(self) -> Iterator[_RunningSince]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._closed = True
            thread.join()

    def wait_for(self, users: Collection[str]) -> float:
        """When the last of them was Running; each counts once."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._seen.keys() >= set(users), timeout=120):
                raise TimeoutError(f"pods of {sorted(set(users) - self._seen.keys())} do not run")
            return max(self._seen.pop(user)[1] for user in users)

    def _watch(self) -> None:
        version = self._api.get(self._path)["metadata"]["resourceVersion"]
        counted: set[str] = set()
        while not self._closed:
            for event in self._api.watch(self._path, seconds=2, version=version):
                now = time.perf_counter()
                pod = event["object"]
                version, uid = pod["metadata"]["resourceVersion"], pod["metadata"].get("uid")
                if uid in counted or pod.get("status", {}).get("phase") != "Running":
                    continue
                counted.add(uid)
                with self._changed:
                    self._seen[pod["metadata"]["annotations"]["hub.jupyter.org/username"]] = (
                        uid,
                        now,
                    )
                    self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two Hubs."""

    here: SpawningHub
    running: _RunningSince
    options: dict[str, str]

    def seconds(self, users: Sequence[str], threads: ThreadPoolExecutor) -> float:
        """POST for all at once, until the last pod runs; then stop them again."""
        began = time.perf_counter()
        for answer in threads.map(self._post, users):
            answer.raise_for_status()
        seconds = self.running.wait_for(users) - began
        for user in users:
            self._wait_until_ready(user)
        list(threads.map(self.here.hub.stop_server, users))
        self.here.wait_until(self.here.is_empty)
        return seconds

    def requests_of_a_start(self, user: str, options: dict[str, str]) -> list[str]:
        """What one start and its stop asked of the API server, in words."""
        before = len(self.here.requests())
        self.here.hub.start_server(user, options=options, wait=False)
        self._wait_until_ready(user)
        # What is read back is read beside the running server.
        time.sleep(1)
        self.here.hub.stop_server(user)
        self.here.wait_until(self.here.is_empty)
        found = self.here.requests()[before:]
        return [f"{one.verb} {one.resource}" for one in found if not _goes_on_always(one)]

    def _wait_until_ready(self, user: str) -> None:
        # Just after such a POST the Hub may not list the server yet.
        self.here.wait_until(lambda: (self.here.hub.server(user) or {}).get("ready"))

    def _post(self, user: str) -> requests.Response:
        return self.here.hub.api("POST", f"users/{user}/server", json=self.options)


def _goes_on_always(request: AuditedRequest) -> bool:
    """The watches of KubeSpawner and of our discovery, and its look for KAI."""
    by_us = "aliquot.io" in request.uri
    return request.verb == "watch" or (request.verb == "list" and not by_us) or not request.resource


def run() -> Sequence[Row]:
    try:
        binaries.find_etcd()
        binaries.find_binaries()
    except binaries.CannotBuild as failure:
        print(f"kubernetes: skipped. {failure}", file=sys.stderr)
        return []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "cluster").mkdir()
        cluster = start(folder / "cluster")
        stack.callback(cluster.close)
        nodes = ObjectNodes(cluster)
        stack.callback(nodes.close)
        nodes.add("dra-hami-a100-40", "claims")
        where, image = _slices(stack, cluster, nodes, folder)
        port = stack.enter_context(notebooks())
        factory = hub_factory(folder)
        start_hub = next(factory)
        stack.callback(factory.close)
        side = _sides(stack, cluster, start_hub, folder, port, image)
        ours, theirs = side(OURS, {"share": _SLICE}), side(STOCK, {})
        threads = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        one = _pairs(ours, theirs, _USERS[:1], PAIRS, threads)
        many = _pairs(ours, theirs, _USERS, ROUNDS, threads)
        stock = theirs.requests_of_a_start("ada", {})
        plain = ours.requests_of_a_start("ada", {"share": _SLICE})
        claimed = ours.requests_of_a_start("ada", {"share": "30 blocks"})
    return [
        _ratio(f"POST to running pod on {where}, against KubeSpawner", one),
        _ratio(f"POST to running pods, {AT_ONCE} at once, against KubeSpawner", many),
        _more("API requests of a start of a MIG slice, beyond KubeSpawner's", plain, stock),
        _more("API requests of a start of DRA blocks, beyond KubeSpawner's", claimed, stock),
    ]


def _slices(
    stack: ExitStack, cluster: ControlPlane, nodes: ObjectNodes, folder: Path
) -> tuple[str, str]:
    """Make nodes with slices for all; in words what they are, and the Hubs' configuration."""
    (folder / "node").mkdir()
    try:
        node = real_node.start(cluster, folder / "node")
    except real_node.CannotRun as reason:
        print(f"kubernetes: on object nodes. {reason}", file=sys.stderr)
        for number in range(_GPUS):
            nodes.add("plugin-mig-a100-80", f"slices-{number}")
        return "object nodes", ""
    stack.callback(node.close)
    shape = SHAPES["plugin-mig-a100-80"]
    node.become(replace(shape, gpus=_GPUS, layouts=shape.layouts * _GPUS))
    pod = images.notebook_pod() | {"cmd": ["python", str(_TINY_SERVER)]}
    return "a real node", "".join(f"c.KubeSpawner.{key} = {pod[key]!r}\n" for key in pod)


def _sides(
    stack: ExitStack,
    cluster: ControlPlane,
    start_hub: StartHub,
    folder: Path,
    port: int,
    image: str,
) -> Callable[[str, dict[str, str]], _Side]:
    def side(spawner_class: str, options: dict[str, str]) -> _Side:
        more = _ALIKE + image + (_SLICE_BY_HAND if spawner_class == STOCK else "")
        namespace = cluster.namespace("bench")
        (folder / namespace).mkdir()
        here = start_spawning_hub(
            start_hub, cluster, namespace, folder / namespace, port, more, spawner_class
        )
        for user in _USERS:
            here.hub.add_user(user, "vision")
        own = ApiClient(cluster.url, cluster.admin_token, cluster.ca_file)
        running = stack.enter_context(_RunningSince(own, namespace).watching())
        return _Side(here, running, options)

    return side


def _pairs(
    ours: _Side, theirs: _Side, users: Sequence[str], count: int, threads: ThreadPoolExecutor
) -> list[tuple[float, float]]:
    """Seconds of both, in turn; the first of each warms up and does not count."""
    ours.seconds(users, threads), theirs.seconds(users, threads)
    pairs: list[tuple[float, float]] = []
    for number in range(count):
        # Neither is always the one that follows the other's clean-up.
        if number % 2:
            other = theirs.seconds(users, threads)
            pairs.append((ours.seconds(users, threads), other))
        else:
            mine = ours.seconds(users, threads)
            pairs.append((mine, theirs.seconds(users, threads)))
    return pairs


def _ratio(what: str, pairs: Sequence[tuple[float, float]]) -> Row:
    return Row(
        what,
        statistics.median(mine / other for mine, other in pairs),
        "x",
        "at most",
        MOST_RATIO,
        f"{statistics.median(mine for mine, _ in pairs):.3f} s",
        f"{statistics.median(other for _, other in pairs):.3f} s, median of {len(pairs)} pairs",
    )


def _more(what: str, ours: Sequence[str], theirs: Sequence[str]) -> Row:
    return Row(
        what,
        len(ours) - len(theirs),
        "",
        "at most",
        MOST_MORE_REQUESTS,
        ", ".join(ours),
        ", ".join(theirs),
    )
