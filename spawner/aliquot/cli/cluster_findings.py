"""Cluster findings: what ``aliquot check`` looks at where notebooks are pods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from aliquot.cli.findings import Finding, counted, file_system, sentence, sqlite_path
from aliquot.discovery import GpuStateUnreadable, source_for
from aliquot.discovery.marked_processes import deployment_mark
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import Gpu, Inventory
from aliquot.settings import Settings

_CHART = "Install hub_config/kubernetes/chart beside the hub"
# What a container writes outside of its volumes is on one of these, and goes with it.
_OF_THE_CONTAINER = ("overlay", "aufs", "tmpfs", "ramfs")
_ENGINES = {
    Engine.NVIDIA_PLUGIN: "NVIDIA's device plugin",
    Engine.HAMI: "HAMi",
    Engine.HAMI_MIG: "HAMi in MIG mode",
    Engine.KAI: "KAI Scheduler",
    Engine.DRA_NVIDIA: "NVIDIA's DRA driver",
    Engine.DRA_HAMI: "HAMi's DRA driver",
    Engine.LOCAL: "this machine",
}


def cluster(settings: Settings) -> Iterator[Finding]:
    """API server, rights, the engines of the nodes, and where the ledger is."""
    found = list(access())
    yield from found
    # Without an API server, the nodes would only be waited for.
    if found[0].level == "ok":
        yield from _nodes(settings)
    yield from volume(settings)


def access() -> Iterator[Finding]:
    """The API server first."""
    from aliquot.discovery.cluster_access import ApiFailure, look  # an extra of its own

    try:
        found = look()
    except ApiFailure as error:
        yield Finding(
            "cluster",
            "problem",
            sentence(f"the API server {error}"),
            "Run this in the hub's pod, or let KUBECONFIG name the cluster.",
        )
        return
    yield Finding("cluster", "ok", f"the API server answers, Kubernetes {found.version}")
    for right in found.denied:
        resource = f"{right.resource}.{right.group}" if right.group else right.resource
        where = "in all namespaces" if right.everywhere else f"in namespace {found.namespace}"
        kind = "ClusterRole" if right.everywhere else "Role"
        yield Finding(
            "rights",
            "problem",
            f"the hub's service account may not {', '.join(right.verbs)} {resource} {where}, "
            f"which is for {right.is_for}",
            f"{_CHART}, or add it to a {kind} of the account.",
        )
    if not found.denied:
        yield Finding("rights", "ok", "the hub's service account has the rights that it needs")


def _nodes(settings: Settings) -> Iterator[Finding]:
    try:
        inventory = source_for(
            settings.gpu_source,
            binding=settings.binding,
            ledger_mark=deployment_mark(settings.database_url),
        ).read()
    except GpuStateUnreadable as error:
        remedy = "GPU starts pause until it can be read."
        yield Finding("gpus", "problem", sentence(str(error)), remedy)
        return
    yield from nodes(inventory)


def nodes(inventory: Inventory) -> Iterator[Finding]:
    """A line a node and engine, then what was seen and cannot be used."""
    by_node: dict[tuple[str, Engine], list[Gpu]] = {}
    for gpu in inventory.gpus:
        by_node.setdefault((gpu.node, gpu.engine), []).append(gpu)
    for (node, engine), gpus in by_node.items():
        yield Finding("gpus", "ok", f"node {node}: {_ENGINES[engine]}, {_offer(gpus)}")
    if not by_node and not inventory.notes:
        remedy = "Install an engine on the GPU nodes, see docs/how-to; notebooks start without."
        yield Finding("gpus", "warn", "no node offers a GPU", remedy)
    for note in inventory.notes:
        yield Finding("gpus", "warn", sentence(note))
    foreign = {piece.holder for piece in inventory.held if piece.lease_id is None}
    if foreign:
        some = ", ".join(sorted(foreign)[:3]) + (", …" if len(foreign) > 3 else "")
        yield Finding("gpus", "ok", f"held by others: {counted(len(foreign), 'holder')} ({some})")


def _offer(gpus: list[Gpu]) -> str:
    models = Counter(gpu.model for gpu in gpus)
    named = ", ".join(f"{count} x {model}" for model, count in models.items())
    slices = Counter(device.profile for gpu in gpus for device in gpu.mig_devices)
    if slices:
        if any(gpu.makes_instances for gpu in gpus):
            return f"{named}, cuts {', '.join(slices)} on demand"
        return f"{named}, slices {', '.join(f'{n} x {p}' for p, n in slices.items())}"
    how = {gpu.blocks_by for gpu in gpus}
    if how == {None}:
        return f"{named}, given out whole"
    replicas = {gpu.replica_blocks for gpu in gpus if gpu.replica_blocks is not None}
    if replicas:
        return f"{named}, in equal parts of {min(replicas)} blocks (nothing enforces them)"
    return f"{named}, in blocks and whole"


def volume(settings: Settings) -> Iterator[Finding]:
    """A ledger in the container's own files is lost when the hub's pod is made anew."""
    path = sqlite_path(settings.database_url)
    if path is None:
        return
    kind = file_system(Path(path))
    if kind in _OF_THE_CONTAINER:
        yield Finding(
            "database",
            "problem",
            f"{path} is in the container's own files ({kind}), which go with the hub's pod",
            "Put it on the hub's volume (/srv/jupyterhub), or set c.Aliquot.database_url to "
            "PostgreSQL.",
        )
    else:
        yield Finding("database", "ok", f"{path} is on a volume ({kind or 'unknown'})")
