"""A Hub with its service at the tests' control plane, where books, pods and servers are compared.

Everything is read from the outside: the books from the database, pods from the API server,
servers from the Hub's API, and what is uncertain from the service.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aliquot.domain.leases import Lease
from aliquot.domain.pod_marks import LEASE
from aliquot.storage import Store
from tests.cluster.api_client import Json
from tests.cluster.control_plane import ControlPlane, free_port
from tests.cluster.object_nodes import ObjectNodes
from tests.cluster.spawning import SpawningHub, start_spawning_hub
from tests.fixtures.hub import StartHub

READER = "a-token-for-tests-that-may-read-findings-01"
_OVER = ("Succeeded", "Failed")
_CONFIG = f"""
c.JupyterHub.tornado_settings = {{'slow_spawn_timeout': 0.1, 'slow_stop_timeout': 0.1}}
# As Zero to JupyterHub has it: notebooks outlive their Hub.
c.JupyterHub.cleanup_servers = False
c.JupyterHub.services += [{{"name": "reader", "api_token": {READER!r}}}]
c.JupyterHub.load_roles += [
    {{"name": "reader", "services": ["reader"], "scopes": ["custom:aliquot:read",
      "access:services"]}},
]
c.Aliquot.reconcile_seconds = 0.5
c.Spawner.poll_interval = 1
c.Spawner.http_timeout = 3

def polled_seldom(spawner):
    if spawner.user.name == "grace":
        spawner.poll_interval = 3600

c.Spawner.pre_spawn_hook = polled_seldom
from aliquot.setup import setup_aliquot
setup_aliquot(c, spawner="aliquot-kubernetes", service_port="""


@dataclass(slots=True)
class ThreeWay:
    """``here`` is the Hub, its books and its pods; ``slices`` a node of seven 1g.10gb, ``cards``
    one of two A100 for HAMi, whose scheduler the tests play."""

    here: SpawningHub
    nodes: ObjectNodes
    folder: Path
    slices: str
    cards: str

    @classmethod
    def start(
        cls, start_hub: StartHub, cluster: ControlPlane, nodes: ObjectNodes, folder: Path, port: int
    ) -> ThreeWay:
        more = f"{_CONFIG}{free_port()})\n"
        namespace = cluster.namespace("three-way")
        here = start_spawning_hub(start_hub, cluster, namespace, folder, port, more)
        here.hub.wait_for_service()
        return cls(here, nodes, folder, "", "")

    # -- what is there -------------------------------------------------------------------------

    def pods(self) -> list[Json]:
        """Those that hold something: a pod that is over holds nothing."""
        return [pod for pod in self.here.pods() if pod["status"].get("phase") not in _OVER]

    def servers(self) -> dict[str, str | None]:
        """By user and name: the lease that each carries."""
        found = {}
        for user in self.here.hub.api("GET", "users").json():
            for name, server in (user.get("servers") or {}).items():
                ours = (server["state"] or {}).get("aliquot") or {}
                found[f"{user['name']}/{name}"] = ours.get("lease", {}).get("id")
        return found

    def sides(self) -> tuple[list[str], list[str | None], list[str | None]]:
        books = [lease.id for lease in self.here.store.open_leases()]
        pods = [pod["metadata"]["labels"].get(LEASE) for pod in self.pods()]
        return sorted(books), sorted(pods, key=str), sorted(self.servers().values(), key=str)

    def in_step(self, count: int, seconds: float = 30) -> list[Lease]:
        """Wait until books, pods and servers have the same leases, so many, and no doubt is
        left; the leases."""

        def same() -> bool:
            books, pods, servers = self.sides()
            return books == pods == servers and len(books) == count and not self.findings()

        try:
            self.here.wait_until(same, seconds)
        except AssertionError as error:
            raise AssertionError(f"{self.sides()} {self.findings()}\n{error}") from error
        return self.here.store.open_leases()

    def findings(self) -> list[Json]:
        answer = self.here.hub.service("GET", "api/findings", token=READER)
        return answer.json()["items"] if answer.status_code == 200 else [{"kind": answer.text}]

    def finding(self, kind: str) -> Json:
        """Wait until the service tells it to the admin; its entry."""
        return self.here.wait_until(
            lambda: next((one for one in self.findings() if one["kind"] == kind), None)
        )

    def passes(self, count: int) -> None:
        """Wait until the reconciler has ended so many passes from now on."""
        for _ in range(count):
            before = self._checked_at()
            self.here.wait_until(lambda b=before: self._checked_at() != b)

    def _checked_at(self) -> Any:
        return self.here.hub.service("GET", "health").json()["reconciliation"]["checked_at"]

    # -- what is done --------------------------------------------------------------------------

    def run(self, user: str, share: str = "1g.10gb") -> Lease:
        answer = self.here.hub.start_server(user, options={"share": share})
        assert answer.ok, answer.text
        return self.lease_of(user)

    def begin(self, user: str, share: str = "1g.10gb") -> Json:
        """POST, and wait for the pod, which need not run."""
        answer = self.here.hub.start_server(user, options={"share": share}, wait=False)
        assert answer.ok, answer.text
        return self.here.wait_until(lambda: next(iter(self.pods()), None))

    def is_refused(self, user: str, share: str = "1g.10gb") -> bool:
        """Ask, and wait for the answer: it may come after the POST's."""
        answer = self.here.hub.start_server(user, options={"share": share}, wait=False)
        if answer.status_code in (201, 202):
            return not self.settled(user)
        assert answer.status_code == 409, answer.text
        return True

    def settled(self, user: str) -> bool:
        """Wait until a server is on its way no more; whether it is ready."""

        def found() -> str:
            server = self.here.hub.server(user)
            return "gone" if server is None else "ready" if server["ready"] else ""

        return self.here.wait_until(found) == "ready"

    def lease_of(self, user: str) -> Lease:
        (lease,) = [one for one in self.here.store.open_leases() if one.user_name == user]
        return lease

    def path(self, pod: Json) -> str:
        return f"/api/v1/namespaces/{self.here.namespace}/pods/{pod['metadata']['name']}"

    def annotate(self, pod: Json, name: str, value: str) -> None:
        self.here.cluster.api.patch(self.path(pod), {"metadata": {"annotations": {name: value}}})

    def bind(self, pod: Json, node: str) -> None:
        """As a scheduler does."""
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        body = {"metadata": {"name": pod["metadata"]["name"]}, "target": target}
        self.here.cluster.api.post(f"{self.path(pod)}/binding", body)

    def back_up(self) -> Path:
        copy = self.folder / "backup.sqlite"
        with (
            closing(sqlite3.connect(self.folder / "books.sqlite")) as books,
            closing(sqlite3.connect(copy)) as there,
        ):
            books.backup(there)
        return copy

    def restore(self, backup: Path) -> None:
        """Put a backup in the place of the books, as an admin does while no hub runs."""
        self.here.store.close()
        books = self.folder / "books.sqlite"
        for suffix in ("-wal", "-shm"):
            books.with_name(books.name + suffix).unlink(missing_ok=True)
        backup.replace(books)
        self.here = replace(self.here, store=Store.open(f"sqlite:///{books}"))

    def kill(self) -> None:
        """The Hub, and with it its service."""
        self.here.hub.kill()
        deadline = time.monotonic() + 10
        while any("aliquot.service" in p.cmdline() for p in self.here.hub.processes()):
            assert time.monotonic() < deadline, "the service outlives its Hub"
            time.sleep(0.1)

    def empty(self) -> None:
        """Stop what runs, and wait until books, pods and servers are empty."""
        for server in self.servers():
            user, _, name = server.partition("/")
            self.here.hub.stop_server(user, name)
        self.in_step(0)
        for pod in self.here.pods():
            self.here.cluster.api.delete(self.path(pod), grace_seconds=0)
