"""What ``aliquot check`` says of nodes and of the ledger's place; no cluster is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aliquot.cli.cluster_findings import nodes, volume
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import KUBERNETES, BlocksBy, HeldPiece, Inventory
from aliquot.settings import Settings
from tests.domain.machines import NOON, blocks_gpu, mig_gpu


def told(*gpus, held=(), notes=()) -> list[tuple[str, str]]:
    found = nodes(Inventory(gpus, KUBERNETES, NOON, held=held, notes=notes))
    return [(finding.level, finding.message) for finding in found]


def on(engine: Engine, *gpus, **more):
    return tuple(replace(gpu, engine=engine, node="gpu-1", **more) for gpu in gpus)


def test_each_engine_is_told_with_what_it_gives_out():
    hami = on(Engine.HAMI, blocks_gpu(0), blocks_gpu(1), blocks_by=BlocksBy.HAMI)
    slices = on(Engine.NVIDIA_PLUGIN, mig_gpu(2, ("1g.10gb", 0), ("1g.10gb", 1), ("2g.20gb", 2)))
    whole = on(Engine.DRA_NVIDIA, blocks_gpu(3, blocks_by=None))
    turns = on(Engine.NVIDIA_PLUGIN, blocks_gpu(4), replica_blocks=25)
    cut = on(Engine.HAMI_MIG, mig_gpu(5, ("1g.10gb", 0)), makes_instances=True)

    assert told(*hami) == [("ok", "node gpu-1: HAMi, 2 x H100-80GB, in blocks and whole")]
    assert told(*slices) == [(
        "ok",
        "node gpu-1: NVIDIA's device plugin, 1 x A100-80GB, slices 2 x 1g.10gb, 1 x 2g.20gb",
    )]  # fmt: skip
    assert told(*whole) == [
        ("ok", "node gpu-1: NVIDIA's DRA driver, 1 x H100-80GB, given out whole")
    ]
    assert "equal parts of 25 blocks (nothing enforces them)" in told(*turns)[0][1]
    assert "cuts 1g.10gb on demand" in told(*cut)[0][1]


def test_a_cluster_without_gpus_is_a_warning_and_a_note_is_told_as_it_is():
    assert told() == [("warn", "no node offers a GPU")]
    assert told(notes=("Node gpu-9 has two engines. Take one away.",)) == [
        ("warn", "Node gpu-9 has two engines. Take one away")
    ]


def test_who_else_holds_gpus_is_named_and_our_own_pods_are_not():
    gpus = on(Engine.KAI, blocks_gpu(0))
    held = tuple(HeldPiece("GPU-0000", f"pod other/job-{n}", blocks=1) for n in range(4))
    own = HeldPiece("GPU-0000", "pod hub/jupyter-ada", blocks=1, lease_id="a" * 32)

    assert told(*gpus, held=(*held, own))[-1] == (
        "ok",
        "held by others: 4 holders (pod other/job-0, pod other/job-1, pod other/job-2, …)",
    )


@pytest.mark.parametrize(
    "url, levels",
    [
        # /dev/shm is memory on every Linux, as a container's own files can be.
        ("sqlite:////dev/shm/aliquot-no-such/books.sqlite", ["problem"]),
        ("sqlite:////proc/books.sqlite", ["ok"]),
        ("postgresql+psycopg://aliquot@db/aliquot", []),
    ],
    ids=["not on a volume", "on another file system", "PostgreSQL"],
)
def test_a_ledger_that_would_go_with_the_pod_is_a_problem(url, levels):
    assert [finding.level for finding in volume(Settings(database_url=url))] == levels
