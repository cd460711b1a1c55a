"""A Hub that is killed at any moment leaves no lease, no process and no promise behind.

Each round starts a real Hub on what the last one left, lets it reconcile, checks the books
against the servers, then sends starts and stops and kills it with SIGKILL at a random moment.
``KILLS=1000`` asks for more rounds than CI makes; ``SEED`` repeats a run.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import requests

from aliquot.allocator import Allocator
from aliquot.discovery.marked_processes import ATTEMPT, DEPLOYMENT, deployment_mark
from aliquot.domain.currency import ONE_GPU, UNITS_PER_GPU, Cost, cost_of_blocks
from aliquot.domain.quota import Quota, ResourceGroup
from aliquot.service.hub_servers import HubApi, live_servers
from aliquot.service.reconciling import Reconciler
from aliquot.settings import Settings
from tests.fixtures.hub import free_port

KILLS = int(os.environ.get("KILLS", "12"))
SEED = int(os.environ.get("SEED", str(random.randrange(10**6))))
TOKEN = "a-token-for-tests-with-all-rights-0001"
USERS = [f"user{number}" for number in range(8)]
SHARES = ["cpu", "10 blocks", "25 blocks", "60 blocks", "100 blocks", "110 blocks", "1g.10gb",
          "3g.40gb", "20 GB"]  # fmt: skip
FIXTURES = Path(__file__).parents[1] / "fixtures"

CONFIG = """
from jupyterhub.proxy import Proxy
from traitlets import Dict

class RoutesInMemory(Proxy):
    "The Hub reaches notebook servers directly; nobody browses here."
    should_start = False
    routes = Dict()
    async def add_route(self, routespec, target, data):
        self.routes[routespec] = dict(routespec=routespec, target=target, data=data)
    async def delete_route(self, routespec):
        self.routes.pop(routespec, None)
    async def get_all_routes(self):
        return self.routes

c = get_config()
c.JupyterHub.proxy_class = RoutesInMemory
c.JupyterHub.bind_url = "http://127.0.0.1:{public_port}"
c.JupyterHub.hub_ip = "127.0.0.1"
c.JupyterHub.hub_port = {hub_port}
c.JupyterHub.db_url = "sqlite:///{folder}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/cookie_secret"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "aliquot-simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{folder}/home/{{username}}"
c.JupyterHub.load_groups = {{"vision": {{"users": {users!r}}}}}
c.JupyterHub.services = [{{"name": "tests", "api_token": {token!r}}}]
c.JupyterHub.load_roles = [{{"name": "tests", "services": ["tests"], "scopes": [
    "admin:users", "admin:servers", "admin:server_state", "list:users"]}}]
c.Spawner.cmd = {cmd!r}
c.Aliquot.database_url = "{database_url}"
c.Aliquot.gpu_source = "simulated"
"""


class KilledHub:
    """One deployment whose Hub is started and killed again and again."""

    def __init__(self, folder: Path, nursery: subprocess.Popen[str]) -> None:
        self.nursery = nursery
        self.pid = 0
        hub_port = free_port()
        self.api_url = f"http://127.0.0.1:{hub_port}/hub/api"
        self.settings = Settings(
            database_url=f"sqlite:///{folder}/books.sqlite", gpu_source="simulated"
        )
        self.allocator = Allocator.from_settings(self.settings)
        half = Quota(cost_of_blocks(200))
        groups = [ResourceGroup("lab", Quota(ONE_GPU * 4)), ResourceGroup("vision", half, "lab")]
        self.allocator.store.save_groups(groups, {}, "tests", "the case")
        self.config = folder / "jupyterhub_config.py"
        self.log = folder / "hub.log"
        self.config.write_text(
            CONFIG.format(
                folder=folder,
                hub_port=hub_port,
                public_port=free_port(),
                users=USERS,
                token=TOKEN,
                cmd=[sys.executable, str(FIXTURES / "_tiny_server.py")],
                database_url=self.settings.database_url,
            )
        )

    def call(self, method: str, path: str, **more) -> requests.Response | None:
        """None when the Hub was killed under the request."""
        headers = {"Authorization": f"token {TOKEN}"}
        try:
            return requests.request(
                method, f"{self.api_url}/{path}", headers=headers, timeout=30, **more
            )
        except requests.RequestException:
            return None

    def start(self) -> None:
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        self.nursery.stdin.write(f"{self.config}\n")
        self.nursery.stdin.flush()
        self.pid = int(self.nursery.stdout.readline())
        deadline = time.monotonic() + 60
        while (answer := self.call("GET", "")) is None or not answer.ok:
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.02)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.nursery.stdout is not None
        assert self.nursery.stdout.readline() == f"ended {self.pid}\n"

    def settle(self) -> None:
        """Wait until the Hub has looked at all servers that it found, then reconcile."""
        deadline = time.monotonic() + 60
        while True:
            pending = [s for u in self._users() for s in u["servers"].values() if s["pending"]]
            if not pending:
                break
            assert time.monotonic() < deadline, f"still pending: {pending}"
            time.sleep(0.05)
        hub = HubApi(self.api_url, TOKEN)

        async def two_passes() -> None:
            reconciler = Reconciler(self.allocator, lambda: live_servers(hub))
            await reconciler.one_pass()
            await reconciler.one_pass()
            assert reconciler.standing.trouble is None

        asyncio.run(two_passes())

    def seconds_of_a_trip(self) -> float:
        """How long a start takes here and now: kills are spread over all of it."""
        self.start()
        began = time.monotonic()
        self.call("POST", f"users/{USERS[0]}/server", json={"user_options": {"share": "10 blocks"}})
        while not any(user["servers"] and user["servers"][""]["ready"] for user in self._users()):
            assert time.monotonic() - began < 60
            time.sleep(0.02)
        seconds = time.monotonic() - began
        self.kill()
        return seconds

    def _users(self) -> list[dict]:
        users = self.call("GET", "users")
        assert users is not None
        return users.json()

    def running(self) -> dict[str, str]:
        """User and share of each server that the Hub says is running."""
        return {u["name"]: u["servers"][""]["state"] for u in self._users() if u["servers"]}

    def processes(self) -> set[str]:
        """The attempts that have a process on this machine."""
        mark = deployment_mark(self.settings.database_url)
        attempts = set()
        for process in psutil.process_iter(["environ"]):
            environ = process.info["environ"] or {}
            if environ.get(DEPLOYMENT) == mark:
                attempts.add(environ[ATTEMPT])
        return attempts

    def assert_not_oversold(self) -> None:
        """May be asked at any moment, also while no Hub runs."""
        by_gpu: dict[str, Cost] = {}
        slices: list[str] = []
        leases = self.allocator.store.open_leases()
        for lease in leases:
            for piece in lease.placement.pieces:
                held = by_gpu.get(piece.gpu_uuid, Cost(0, 0))
                by_gpu[piece.gpu_uuid] = held + piece.cost
                slices += [piece.mig_uuid] if piece.mig_uuid else []
        assert all(max(c.compute, c.memory) <= UNITS_PER_GPU for c in by_gpu.values()), by_gpu
        assert len(slices) == len(set(slices))
        assert sum(lease.charge.blocks for lease in leases) <= 200 + len(slices)
        assert sum(lease.charge.memory for lease in leases) <= 200 * 14
        assert len({lease.server.spawner_id for lease in leases}) == len(leases)

    def assert_in_step(self) -> None:
        """After reconciling: one lease for each server with a GPU, one process for each server."""
        leases = {lease.id for lease in self.allocator.store.open_leases()}
        states = self.running()
        carried = {s["aliquot"]["lease"]["id"] for s in states.values() if "lease" in s["aliquot"]}
        assert leases == carried
        processes = self.processes()
        assert leases <= processes
        assert len(processes) == len(states), (processes, states)


@pytest.fixture
def killed_hub(tmp_path: Path):
    nursery = subprocess.Popen(
        [sys.executable, str(FIXTURES / "_hub_nursery.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    hub = KilledHub(tmp_path, nursery)
    try:
        yield hub
    finally:
        if nursery.poll() is None:
            for child in psutil.Process(nursery.pid).children(recursive=True):
                child.kill()
            nursery.kill()
        nursery.communicate()
        mark = deployment_mark(hub.settings.database_url)
        for process in psutil.process_iter(["environ"]):
            if (process.info["environ"] or {}).get(DEPLOYMENT) == mark:
                process.kill()


@pytest.mark.timeout(120 + 20 * KILLS)
def test_a_hub_killed_at_random_moments_leaks_nothing_and_oversells_nothing(
    killed_hub: KilledHub, capsys
):
    chance = random.Random(SEED)
    refused = recovered = 0
    # On a busy machine a start can take half a minute; waiting that long each time would
    # test patience. Kills then fall on its first seconds, where the books are written.
    span = min(3.0, killed_hub.seconds_of_a_trip())
    began = time.monotonic()
    for number in range(KILLS):
        killed_hub.start()
        killed_hub.settle()
        killed_hub.assert_not_oversold()
        killed_hub.assert_in_step()
        running = killed_hub.running()
        recovered += len(running)
        answers: list[requests.Response | None] = []

        def act(user: str, share: str, stops: bool, into: list) -> None:
            if stops:
                into.append(killed_hub.call("DELETE", f"users/{user}/server"))
            else:
                body = {"user_options": {"share": share}}
                into.append(killed_hub.call("POST", f"users/{user}/server", json=body))

        acts = [
            threading.Thread(
                target=act, args=(user, chance.choice(SHARES), user in running, answers)
            )
            for user in chance.sample(USERS, chance.choice([1, 2, 3]))
        ]
        for thread in acts:
            thread.start()
        time.sleep(chance.uniform(0, span))
        killed_hub.kill()
        for thread in acts:
            thread.join()
        killed_hub.assert_not_oversold()
        refused += sum(a is not None and a.status_code == 409 for a in answers)
        if (number + 1) % 50 == 0:
            with capsys.disabled():
                print(f"  {number + 1} kills, {time.monotonic() - began:.0f} s", flush=True)
    killed_hub.start()
    killed_hub.settle()
    killed_hub.assert_in_step()
    for user in killed_hub.running():
        killed_hub.call("DELETE", f"users/{user}/server")
    killed_hub.settle()
    assert killed_hub.allocator.store.open_leases() == []
    assert killed_hub.processes() == set()
    kinds = Counter((e.kind, e.why) for e in killed_hub.allocator.store.events(limit=10**6))
    granted = sum(n for (kind, _), n in kinds.items() if kind == "lease.reserved")
    with capsys.disabled():
        print(
            f"\n  {KILLS} kills (seed {SEED}) in {time.monotonic() - began:.0f} s: 0 leaked, "
            f"0 oversold, 0 orphans; {granted} leases granted, {refused} starts refused, "
            f"{recovered} servers found again; "
            + ", ".join(f"{n} {why}" for (kind, why), n in kinds.items() if "released" in kind)
        )
    assert granted > 0
