"""What the spawn page costs: from the books on disk to HTML, with 1,000 open leases.

A machine of 16 GPUs, 14 for blocks and 2 cut into slices, once with room and once full, where
each refused size searches for its remedies among a thousand holders. Before each reading a
lease changes, so that nothing that was read before is current.

Counted is the processor time of the thread that answers, which other work on the machine does
not stretch; the time on the clock stands beside it.
"""

from __future__ import annotations

import gzip
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from aliquot.allocator import Allocator, Reserved
from aliquot.domain.availability import Availability
from aliquot.domain.currency import ONE_GPU
from aliquot.domain.leases import Person, Server
from aliquot.domain.quota import Quota, ResourceGroup
from aliquot.domain.refusals import Ask
from aliquot.domain.shares import Blocks
from aliquot.domain.sizes import State
from aliquot.settings import Settings
from aliquot.spawners.picker import PickerPage, presets_with, render_picker
from bench.rows import Row

LEASES = 1000
ROUNDS = 30
MOST_MS = 50
MOST_KB = 30

_BLOCKS_GPU = '[[gpu]]\nproduct = "NVIDIA H100 80GB HBM3"\nmemory_mib = 81559\n'
_CUT_GPU = (
    '[[gpu]]\nproduct = "NVIDIA A100-SXM4-80GB"\nmemory_mib = 81920\n'
    'mig = ["2g.20gb@0", "2g.20gb@2", "1g.10gb@4", "1g.10gb@5", "1g.10gb@6"]\n'
)
_MACHINE = _BLOCKS_GPU * 14 + _CUT_GPU * 2
_ADA = Person(1, "ada", frozenset({"vision", "nlp"}))


def run() -> Sequence[Row]:
    rows: list[Row] = []
    # 1,000 leases of 1 block leave four GPUs free; 600 of 1 and 400 of 2 take all fourteen.
    for called, of_two in (("with room", 0), ("full", 400)):
        with tempfile.TemporaryDirectory() as folder:
            rows.extend(_page(called, of_two, Path(folder)))
    return rows


def _page(called: str, of_two: int, folder: Path) -> list[Row]:
    page = ""
    allocator = _allocator(folder, of_two)
    leases = allocator.store.open_leases()
    assert len(leases) == LEASES
    times: list[float] = []
    clock: list[float] = []
    states: list[State] = []
    for lease in leases[: ROUNDS + 1]:
        allocator.store.activate(lease.id, datetime.now(UTC))
        began, used = time.perf_counter(), time.thread_time()
        shown = allocator.availability(_ADA, Ask(), presets_with((), {"share": "30 blocks"}))
        page = render_picker(PickerPage(shown, datetime.now(UTC)))
        times.append((time.thread_time() - used) * 1000)
        clock.append((time.perf_counter() - began) * 1000)
        assert isinstance(shown, Availability)
        states = [verdict.state for verdict in shown.verdicts]
    assert (State.NOW in states[:4]) == (not of_two)
    # The first reading also compiles the templates, once in a hub's life.
    warm = times[1:]
    cost = Row(
        f"spawn page, {LEASES:,} leases, {called}",
        statistics.median(warm),
        "ms",
        "at most",
        MOST_MS,
        f"first {times[0]:.0f} ms, slowest of {ROUNDS} {max(warm):.1f} ms; "
        f"by the clock {statistics.median(clock[1:]):.1f} ms",
        f"{len(states)} sizes, {states.count(State.NOW)} start now",
    )
    size = Row(
        f"spawn page, {called}, gzip",
        len(gzip.compress(page.encode())) / 1000,
        "KB",
        "at most",
        MOST_KB,
        f"{len(page.encode()) / 1000:.1f} KB of HTML, script and style",
    )
    return [cost, size]


def _allocator(folder: Path, of_two: int) -> Allocator:
    machine = folder / "machine.toml"
    machine.write_text(_MACHINE)
    allocator = Allocator.from_settings(
        Settings(
            database_url=f"sqlite:///{folder}/aliquot.sqlite",
            gpu_source="simulated",
            simulated_machine=str(machine),
            inventory_max_age_seconds=60,
        )
    )
    plenty = Quota(ONE_GPU * 100)
    groups = [ResourceGroup(name, plenty) for name in ("vision", "nlp", "others")]
    allocator.store.save_groups(groups, {}, actor="bench", why="the case")
    for number in range(LEASES):
        person = Person(1000 + number, f"user{number}", frozenset({"vision", "nlp"}))
        ask = Ask(Blocks(2 if number < of_two else 1), group=("vision", "nlp")[number % 2])
        server = Server(number + 1)
        answer = allocator.reserve(ask, person, server, f"{number:032x}", ask.to_options())
        assert isinstance(answer, Reserved), answer
    return allocator
