"""What the notebook's figures cost: the sampler's thread, and the answer under a busy kernel.

Eight H200 on the NVML stand-in, with GPM, processes and the slow values all looked at. The
stand-in answers at once, so this is our own cost; the driver's comes on top and is measured
with `make gpu-check`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.rows import Row
from tests.lab.lab_server import lease_text, start_lab_server, whole_piece
from tests.nvml_standin import library

GPUS = 8
SECONDS = float(os.environ.get("BENCH_SECONDS", "40"))
REQUESTS = 300

# Counts the thread's own processor time between its first tick and its last.
_COUNT = """
import json, sys, time
from aliquot_lab.lease import read_lease
from aliquot_lab.own_processes import session_of_server
from aliquot_lab.sampler import Sampler
from aliquot_lab.sources import LazySource
ticks = []
lease = read_lease(dict(ALIQUOT_LEASE=sys.argv[1]))
sampler = Sampler(LazySource(lease, session_of_server()),
                  on_tick=lambda: ticks.append((time.monotonic(), time.thread_time())))
sampler.watch()
sampler.start()
time.sleep(float(sys.argv[2]))
(began, used), (ended, spent) = ticks[1], ticks[-1]
snapshot = sampler.snapshot()
print(json.dumps([spent - used, ended - began, len(snapshot.devices), snapshot.state]))
"""


def run() -> Sequence[Row]:
    library.build()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenario, lease = _eight_gpus(folder)
        environment = library.environment(scenario)
        return [_sampler(lease, environment), _answers(folder / "lab", lease, environment)]


def _eight_gpus(folder: Path) -> tuple[Path, str]:
    head, _, gpu = (library.SCENARIOS / "h200.txt").read_text().partition("gpu ")
    uuids = [f"GPU-2000000{n}-0000-4000-8000-000000000000" for n in range(GPUS)]
    body = gpu.split("\n", 1)[1].replace("00000000:1A:", "00000000:{:02X}:")
    text = head + "".join(
        f"gpu {uuid}\n" + body.replace("{:02X}", f"{32 + number:02X}")
        for number, uuid in enumerate(uuids)
    )
    scenario = folder / "eight.txt"
    scenario.write_text(text)
    pieces = [whole_piece(uuid, 143771, "NVIDIA H200") for uuid in uuids]
    return scenario, lease_text(
        *pieces, kind="whole", by="driver", memory="hardware", compute="hardware"
    )


def _sampler(lease: str, environment: dict[str, str]) -> Row:
    done = subprocess.run(
        [sys.executable, "-c", _COUNT, lease, str(SECONDS)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    spent, lasted, devices, state = json.loads(done.stdout)
    if (devices, state) != (GPUS, "live"):
        raise RuntimeError(f"the sampler showed {devices} GPUs, {state}: {done.stderr[-2000:]}")
    return Row(
        f"sampler's thread, {GPUS} GPUs at 1 Hz, slow values watched",
        100 * spent / lasted,
        "% of a core",
        "at most",
        0.3,
        f"{1000 * spent:.0f} ms of processor in {lasted:.0f} s",
    )


def _answers(folder: Path, lease: str, environment: dict[str, str]) -> Row:
    server = start_lab_server(folder, lease, environment)
    try:
        kernel = server.start_kernel()
        server.usage_when(lambda usage: usage["state"] == "live")
        kernel.run_on("sum(range(10**12))")  # one C loop that never lets go of the GIL
        time.sleep(1)
        seconds = []
        for _ in range(REQUESTS):
            began = time.perf_counter()
            server.usage()
            seconds.append(time.perf_counter() - began)
            time.sleep(0.02)
        kernel.end()
    finally:
        server.stop()
    return Row(
        "usage API, p95 while a kernel holds the GIL",
        1000 * statistics.quantiles(seconds, n=20)[18],
        "ms",
        "at most",
        10,
        f"median {1000 * statistics.median(seconds):.1f} ms of {REQUESTS} requests",
    )
