"""A real Hub on this machine whose notebooks are pods on real nodes.

It stands outside the cluster and talks to it with a service account's rights, those that are
shipped. It listens at a node's address, where the pods of every real node of this machine
reach it; people come in through its proxy on loopback.

No pytest here: the demo starts such a Hub too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aliquot.domain.currency import ONE_GPU
from aliquot.domain.quota import Quota, ResourceGroup
from aliquot.storage import Store
from tests.cluster import images
from tests.cluster.api_client import Json
from tests.cluster.control_plane import ControlPlane, free_port
from tests.cluster.hub_manifests import give_rights
from tests.cluster.real_node import RealNode
from tests.fixtures.hub import RunningHub, StartHub

# As long as somebody may look at a demo.
TOKEN_SECONDS = 7 * 24 * 3600

CONFIG = """
from aliquot.setup import setup_aliquot
c.JupyterHub.spawner_class = "aliquot-kubernetes"
c.JupyterHub.hub_ip = {address!r}
c.KubeSpawner.namespace = {namespace!r}
for name, value in {notebook!r}.items():
    setattr(c.KubeSpawner, name, value)
c.KubeSpawner.storage_pvc_ensure = False
c.Spawner.args = []
c.Spawner.default_url = "/lab"
# Eight JupyterLabs may start at once on two busy cores.
c.Spawner.start_timeout = 240
c.Spawner.http_timeout = 240
c.Aliquot.database_url = {database_url!r}
{more}
setup_aliquot(c, spawner="aliquot-kubernetes", service_port={service_port})
"""


@dataclass(frozen=True, slots=True)
class PodHub:
    """A running Hub, its books, and where its pods are."""

    hub: RunningHub
    store: Store
    cluster: ControlPlane
    namespace: str

    def left(self) -> dict[str, int]:
        """How many there are of what a notebook may leave behind, by kind."""
        api = self.cluster.api
        claims = f"/apis/resource.k8s.io/v1/namespaces/{self.namespace}"
        return {
            "leases": len(self.store.open_leases()),
            "pods": len(self.pods()),
            "claims": len(api.list(f"{claims}/resourceclaims")),
            "templates": len(api.list(f"{claims}/resourceclaimtemplates")),
        }

    def pods(self) -> list[Json]:
        return self.cluster.api.list(f"/api/v1/namespaces/{self.namespace}/pods")


def start_pod_hub(
    start_hub: StartHub,
    node: RealNode,
    groups: Mapping[str, Sequence[str]],
    folder: Path,
    more: str = "",
) -> PodHub:
    """A Hub in a new namespace of the node's cluster, with its books in ``folder``.

    Each group may hold two GPUs. ``more`` is configuration, before ``setup_aliquot``.
    """
    cluster = node.cluster
    namespace = cluster.namespace("hub")
    give_rights(cluster.api, namespace)
    database_url = f"sqlite:///{folder}/aliquot.sqlite"
    store = Store.open(database_url)
    quotas = [ResourceGroup(name, Quota(ONE_GPU * 2)) for name in groups]
    store.save_groups(quotas, {}, actor="demo", why="first run")
    config = CONFIG.format(
        address=node.address,
        namespace=namespace,
        notebook=images.notebook_pod(),
        database_url=database_url,
        service_port=free_port(),
        more=more,
    )
    kubeconfig = cluster.kubeconfig_for(f"{namespace}/hub", seconds=TOKEN_SECONDS)
    hub = start_hub(config, groups=groups, environment={"KUBECONFIG": str(kubeconfig)})
    return PodHub(hub, store, cluster, namespace)
