"""From POST to an answering notebook: our spawner against the Hub's SimpleLocalProcessSpawner.

Two real Hubs side by side, real JupyterLab servers, started in turn (ours, theirs, ours, …),
so that a machine that drifts drifts for both. The median of the pairs' ratios counts.

A start counts as done when the notebook answers at its own port. The Hub notices that at the
next of its tries, whose waits double and are drawn at random (``exponential_backoff``): up to
two seconds of chance, the same for both, in which a few hundredths could not be seen.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import requests

from bench.rows import Row
from tests.fixtures.hub import RunningHub, free_port, hub_factory
from tests.fixtures.sharing_hub import LAB, sharing_hub_starter

PAIRS = int(os.environ.get("BENCH_PAIRS", "15"))


class _Starter:
    """One Hub whose only notebook always gets the same port."""

    def __init__(self, hub: RunningHub, port: int, options: dict[str, str]) -> None:
        self.hub, self.port, self.options = hub, port, options

    def seconds(self) -> float:
        """POST, wait until the notebook answers, and stop it again."""
        address = f"http://127.0.0.1:{self.port}/user/ada/api"
        began = time.perf_counter()
        # The Hub answers the POST when it has seen the server itself, so that is not awaited.
        self.hub.api("POST", "users/ada/server", json=self.options).raise_for_status()
        while not _answers(address):
            time.sleep(0.01)
        seconds = time.perf_counter() - began
        self.hub.wait_for_server("ada")
        self.hub.stop_server("ada")
        return seconds


def _answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=10).status_code < 500
    except requests.ConnectionError:
        return False


def run() -> Sequence[Row]:
    with ExitStack() as stack, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        factory = hub_factory(folder)
        start_hub = next(factory)
        stack.callback(factory.close)
        # slow_spawn_timeout 0: the POST is answered at once and not after the Hub's own wait.
        more = (
            LAB
            + "c.JupyterHub.tornado_settings = {{'slow_spawn_timeout': 0}}\nc.Spawner.port = {}\n"
        )
        ports = free_port(), free_port()
        sharing = sharing_hub_starter(start_hub, folder)(more.format(ports[0])).hub
        stock = start_hub(more.format(ports[1]))
        stock.api("POST", "users/ada")
        ours = _Starter(sharing, ports[0], {"share": "10 blocks"})
        theirs = _Starter(stock, ports[1], {})
        ours.seconds(), theirs.seconds()
        pairs = [(ours.seconds(), theirs.seconds()) for _ in range(PAIRS)]
    return [
        Row(
            "POST to answering notebook, against SimpleLocalProcessSpawner",
            statistics.median(mine / other for mine, other in pairs),
            "x",
            "at most",
            1.03,
            f"{statistics.median(mine for mine, _ in pairs):.2f} s",
            f"{statistics.median(other for _, other in pairs):.2f} s, median of {PAIRS} pairs",
        )
    ]
