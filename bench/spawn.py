"""From POST to ready: our spawner against the Hub's SimpleLocalProcessSpawner.

Two real Hubs side by side, real JupyterLab servers, started in turn (ours, theirs, ours, …),
so that a machine that drifts drifts for both. The median of the pairs' ratios counts.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.rows import Row
from tests.fixtures.hub import RunningHub, hub_factory
from tests.fixtures.sharing_hub import LAB, sharing_hub_starter

PAIRS = int(os.environ.get("BENCH_PAIRS", "12"))


def run() -> Sequence[Row]:
    with ExitStack() as stack, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        factory = hub_factory(folder)
        start_hub = next(factory)
        stack.callback(factory.close)
        ours = sharing_hub_starter(start_hub, folder)(LAB).hub
        theirs = start_hub(LAB)
        theirs.api("POST", "users/ada")
        for hub, options in ((ours, {"share": "10 blocks"}), (theirs, {})):
            _post_to_ready(hub, options)
        pairs = [
            (_post_to_ready(ours, {"share": "10 blocks"}), _post_to_ready(theirs, {}))
            for _ in range(PAIRS)
        ]
    return [
        Row(
            "POST to ready, against SimpleLocalProcessSpawner",
            statistics.median(mine / other for mine, other in pairs),
            "x",
            "at most",
            1.03,
            f"{statistics.median(mine for mine, _ in pairs):.2f} s",
            f"{statistics.median(other for _, other in pairs):.2f} s, median of {PAIRS} pairs",
        )
    ]


def _post_to_ready(hub: RunningHub, options: dict[str, str]) -> float:
    began = time.perf_counter()
    answer = hub.api("POST", "users/ada/server", json=options)
    answer.raise_for_status()
    while not (server := hub.server("ada")) or not server["ready"]:
        time.sleep(0.005)
    seconds = time.perf_counter() - began
    hub.stop_server("ada")
    return seconds
