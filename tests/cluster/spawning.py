"""A real Hub that starts pods at the tests' control plane, with the rights that are shipped.

The nodes are objects, and a fake kubelet says of their pods that they run. Each pod has an
address of its own on loopback, where one small server answers for all: so the Hub finds every
notebook ready, without an image.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aliquot.domain.currency import ONE_GPU
from aliquot.domain.quota import Quota, ResourceGroup
from aliquot.storage import Store
from tests.cluster.api_client import Json
from tests.cluster.control_plane import AuditedRequest, ControlPlane
from tests.cluster.hub_manifests import give_rights
from tests.fixtures._tiny_server import Answer
from tests.fixtures.hub import RunningHub, StartHub

GROUPS = {"vision": ["ada", "lin", "grace", *(f"user{n}" for n in range(8))]}
CONFIG = """
c.JupyterHub.spawner_class = {spawner_class!r}
c.JupyterHub.allow_named_servers = True
c.KubeSpawner.namespace = {namespace!r}
c.KubeSpawner.image = "none"
c.KubeSpawner.cmd = ["jupyterhub-singleuser"]
c.KubeSpawner.port = {port}
c.KubeSpawner.storage_pvc_ensure = False
c.KubeSpawner.start_timeout = 60
c.KubeSpawner.k8s_api_request_retry_timeout = 10
c.Spawner.http_timeout = 20
c.Spawner.poll_interval = 2
c.Spawner.environment = {{}}
c.Aliquot.database_url = {database_url!r}
c.Aliquot.gpu_source = "kubernetes"
{more}
"""
OURS = "aliquot.spawners.kubernetes.KubeShareSpawner"
STOCK = "kubespawner.KubeSpawner"


def notebook_of(pod: Json) -> Json:
    return next(c for c in pod["spec"]["containers"] if c["name"] == "notebook")


@contextmanager
def notebooks() -> Iterator[int]:
    """The port at which every pod's address answers as a notebook does."""
    server = ThreadingHTTPServer(("0.0.0.0", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True, slots=True)
class SpawningHub:
    """A running Hub, its books and its namespace."""

    hub: RunningHub
    store: Store
    cluster: ControlPlane
    namespace: str

    @property
    def account(self) -> str:
        return f"{self.namespace}/hub"

    def pods(self) -> list[Json]:
        return self.cluster.api.list(f"/api/v1/namespaces/{self.namespace}/pods")

    def templates(self) -> list[Json]:
        path = f"/apis/resource.k8s.io/v1/namespaces/{self.namespace}/resourceclaimtemplates"
        return self.cluster.api.list(path)

    def requests(self) -> list[AuditedRequest]:
        return self.cluster.requests_of(self.account)

    def held_blocks(self) -> int:
        return sum(lease.charge.blocks for lease in self.store.open_leases())

    def wait_until(self, what: Callable[[], Any], seconds: float = 30) -> Any:
        """Until something is true; gives it. Fails with the Hub's log."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := what():
                return found
            time.sleep(0.1)
        raise AssertionError(f"not so after {seconds} s\n{self.hub.log[-5000:]}")

    def progress(self, user: str, name: str = "", seconds: float = 20) -> str:
        """The stream of the pending page, until the server is ready, has failed or time is up."""
        path = f"users/{user}/servers/{name}/progress" if name else f"users/{user}/server/progress"
        text = ""
        deadline = time.monotonic() + seconds
        with self.hub.api("GET", path, stream=True, timeout=(5, 20)) as answer:
            try:
                for line in answer.iter_lines(decode_unicode=True):
                    text += line + "\n"
                    if time.monotonic() > deadline:
                        break
            except OSError:
                pass
        return text

    def is_empty(self) -> bool:
        """Nothing is left of any start: no pod, no lease, no template."""
        return not self.pods() and not self.store.open_leases() and not self.templates()


def start_spawning_hub(
    start_hub: StartHub,
    cluster: ControlPlane,
    namespace: str,
    folder: Path,
    port: int,
    more: str = "",
    spawner_class: str = OURS,
) -> SpawningHub:
    """``more`` is configuration, seen last."""
    give_rights(cluster.api, namespace)
    database_url = f"sqlite:///{folder}/books.sqlite"
    store = Store.open(database_url)
    vision = ResourceGroup("vision", Quota(ONE_GPU * 40))
    store.save_groups([vision], {}, actor="tests", why="the case")
    config = CONFIG.format(
        spawner_class=spawner_class,
        namespace=namespace,
        port=port,
        database_url=database_url,
        more=more,
    )
    kubeconfig = cluster.kubeconfig_for(f"{namespace}/hub")
    hub = start_hub(config, groups=GROUPS, environment={"KUBECONFIG": str(kubeconfig)})
    for user in GROUPS["vision"]:
        hub.api("POST", f"users/{user}")
    return SpawningHub(hub, store, cluster, namespace)
