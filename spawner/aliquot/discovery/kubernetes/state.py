"""Cluster state: the facts of all objects, and the inventory that follows from them.

Pure, and built up in steps: a change of one object marks the nodes that it is about, and the
next inventory looks at those alone. It is the same inventory as one built anew from all
objects, whatever the order in which they came.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Any

from aliquot.discovery.kubernetes.dra import held_by_claims
from aliquot.discovery.kubernetes.dra_facts import (
    ClaimFacts,
    SliceFacts,
    claim_facts,
    slice_facts,
)
from aliquot.discovery.kubernetes.hami import held_by_hami
from aliquot.discovery.kubernetes.holding import held_by_requests
from aliquot.discovery.kubernetes.node_engines import ClusterFacts, offer_of
from aliquot.discovery.kubernetes.node_facts import GPU, NodeFacts, node_facts
from aliquot.discovery.kubernetes.offer import HeldBy, Offer
from aliquot.discovery.kubernetes.pod_facts import PodFacts, pod_facts
from aliquot.domain.currency import BLOCKS_PER_GPU
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import KUBERNETES, Gpu, HeldPiece, Inventory
from aliquot.domain.kubernetes_values import full_name

# NVIDIA's and the cloud providers' way to keep other pods off GPU nodes.
TOLERATED = frozenset({GPU})


class Kind(StrEnum):
    NODES = "nodes"
    PODS = "pods"
    SLICES = "resourceslices"
    CLAIMS = "resourceclaims"
    CLASSES = "deviceclasses"


Facts = NodeFacts | PodFacts | SliceFacts | ClaimFacts | str


@dataclass(slots=True)
class _NodeView:
    """``offer`` depends on the node alone, ``held`` and ``notes`` on its pods and claims too."""

    offer: Offer
    held: tuple[HeldPiece, ...] = ()
    notes: tuple[str, ...] = ()


class ClusterState:
    """Not safe for several threads: its owner holds a lock."""

    def __init__(
        self,
        *,
        binding: Engine | None = None,
        ledger_mark: str = "",
        tolerated: Collection[str] = TOLERATED,
    ) -> None:
        self._facts_of: dict[Kind, Callable[[Mapping[str, Any]], Facts | None]] = {
            Kind.NODES: lambda obj: node_facts(obj, tolerated),
            Kind.PODS: lambda obj: pod_facts(obj, ledger_mark),
            Kind.SLICES: slice_facts,
            Kind.CLAIMS: lambda obj: claim_facts(obj, ledger_mark),
            Kind.CLASSES: full_name,
        }
        self._known: dict[Kind, dict[str, Any]] = {kind: {} for kind in Kind}
        self._cluster = ClusterFacts(binding)
        self._views: dict[str, _NodeView] = {}
        # What lies on a node, belongs to a pool, and is a pod's: sets of names.
        self._pods_on = _Index()
        self._slices_on = _Index()
        self._slices_of_pool = _Index()
        self._claims_of_pool = _Index()
        self._claims_of_pod = _Index()
        self._offers_stale: set[str] = set()
        self._held_stale: set[str] = set()
        self._gpus: tuple[Gpu, ...] | None = None
        # GPUs that a node names and does not have, by the node's name.
        self._not_there: dict[str, set[str]] = {}

    def facts(self, kind: Kind, obj: Mapping[str, Any]) -> tuple[str, Facts | None]:
        """An object's name and what matters of it; None when nothing does."""
        return full_name(obj), self._facts_of[kind](obj)

    def put(self, kind: Kind, name: str, facts: Facts | None) -> None:
        """An object as it is now; None when it is gone or does not matter."""
        known = self._known[kind]
        before = known.get(name)
        if before == facts:
            return
        if before is not None:
            self._mark(kind, name, before, present=False)
        if facts is None:
            del known[name]
        else:
            known[name] = facts
            self._mark(kind, name, facts, present=True)
        if kind is Kind.CLASSES:
            self._cluster = replace(self._cluster, device_classes=frozenset(known))
            self._offers_stale.update(self._slices_on.keys())

    def replace_all(self, kind: Kind, listed: Mapping[str, Facts]) -> None:
        """All objects of a kind, from a list: what is not in it is gone."""
        for name in [name for name in self._known[kind] if name not in listed]:
            self.put(kind, name, None)
        for name, facts in listed.items():
            self.put(kind, name, facts)

    def put_kai(self, installed: bool) -> None:
        """Whether KAI's Queue CRD is in the cluster."""
        if installed != self._cluster.kai_installed:
            self._cluster = replace(self._cluster, kai_installed=installed)
            self._offers_stale.update(self._known[Kind.NODES])

    def _mark(self, kind: Kind, name: str, facts: Any, *, present: bool) -> None:
        """Keep the indexes, and note which nodes are not as they were."""
        if kind is Kind.NODES:
            self._offers_stale.add(name)
        elif kind is Kind.SLICES:
            self._slices_on.put(facts.node, name, present)
            self._slices_of_pool.put(f"{facts.driver} {facts.pool}", name, present)
            self._offers_stale.add(facts.node)
        elif kind is Kind.PODS:
            for node in _nodes_of(facts):
                self._pods_on.put(node, name, present)
                self._held_stale.add(node)
            for claim in self._claims_of_pod.get(name):
                self._held_stale.update(self._nodes_of_claim(self._known[Kind.CLAIMS][claim]))
        elif kind is Kind.CLAIMS:
            for use in facts.uses:
                self._claims_of_pool.put(f"{use.driver} {use.pool}", name, present)
            for pod in facts.pods:
                self._claims_of_pod.put(pod, name, present)
            self._held_stale.update(self._nodes_of_claim(facts))

    def _nodes_of_claim(self, claim: ClaimFacts) -> set[str]:
        slices = self._known[Kind.SLICES]
        pools = {f"{use.driver} {use.pool}" for use in claim.uses}
        return {slices[name].node for pool in pools for name in self._slices_of_pool.get(pool)}

    def inventory(self, read_at: datetime) -> Inventory:
        """What follows from all that is known."""
        self._refresh()
        if self._gpus is None:
            self._gpus = self._all_gpus()
        names = sorted(self._views)
        views = [self._views[name] for name in names]
        return Inventory(
            self._gpus,
            KUBERNETES,
            read_at,
            notes=(
                *self._notes_of_cluster(),
                *self._notes_of_twice(),
                *chain.from_iterable((*view.offer.notes, *view.notes) for view in views),
            ),
            held=tuple(chain.from_iterable(self._held_by(name) for name in names)),
        )

    def _refresh(self) -> None:
        nodes: dict[str, NodeFacts] = self._known[Kind.NODES]
        for name in self._offers_stale:
            self._gpus = None
            if name not in nodes:
                self._views.pop(name, None)
                continue
            slices = [self._known[Kind.SLICES][key] for key in self._slices_on.get(name)]
            self._views[name] = _NodeView(offer_of(nodes[name], slices, self._cluster))
            self._held_stale.add(name)
        for name in self._held_stale:
            view = self._views.get(name)
            if view is not None:
                held, view.notes = self._held_on(nodes[name], view.offer)
                view.held = tuple(held)
        self._offers_stale.clear()
        self._held_stale.clear()

    def _held_on(
        self, node: NodeFacts, offer: Offer
    ) -> tuple[Iterable[HeldPiece], tuple[str, ...]]:
        if not offer.gpus:
            return (), ()
        known = self._known[Kind.PODS]
        pods = [known[name] for name in self._pods_on.get(node.name)]
        notes: list[str] = []
        if offer.held_by is HeldBy.CLAIMS:
            slices = [self._known[Kind.SLICES][key] for key in self._slices_on.get(node.name)]
            held = held_by_claims(offer, slices, self._claims_on(slices), self._lease_of)
        elif offer.held_by is HeldBy.HAMI:
            held, notes = held_by_hami(node.name, offer, pods)
        else:
            held, notes = held_by_requests(node.name, offer, pods)
        closed = [HeldPiece(g.uuid, node.closed, BLOCKS_PER_GPU) for g in offer.gpus if node.closed]
        return (*closed, *offer.standing, *held), tuple(notes)

    def _claims_on(self, slices: Iterable[SliceFacts]) -> list[ClaimFacts]:
        pools = {f"{facts.driver} {facts.pool}" for facts in slices}
        names = {name for pool in pools for name in self._claims_of_pool.get(pool)}
        return [self._known[Kind.CLAIMS][name] for name in sorted(names)]

    def _lease_of(self, claim: ClaimFacts) -> str | None:
        if claim.lease_id is not None:
            return claim.lease_id
        pods = (self._known[Kind.PODS].get(name) for name in claim.pods)
        return next((pod.own.lease_id for pod in pods if pod and pod.own), None)

    def _all_gpus(self) -> tuple[Gpu, ...]:
        """In the order of nodes. Of two nodes that name one GPU, the open one has it, then the
        first: a node that came back under a new name leaves its old object behind."""
        nodes: dict[str, NodeFacts] = self._known[Kind.NODES]
        seen: set[str] = set()
        self._not_there = {}
        for name in sorted(self._views, key=lambda name: (bool(nodes[name].closed), name)):
            uuids = {gpu.uuid for gpu in self._views[name].offer.gpus}
            if uuids & seen:
                self._not_there[name] = uuids & seen
            seen |= uuids
        return tuple(
            gpu
            for name in sorted(self._views)
            for gpu in self._views[name].offer.gpus
            if gpu.uuid not in self._not_there.get(name, ())
        )

    def _held_by(self, name: str) -> Iterable[HeldPiece]:
        not_there = self._not_there.get(name)
        held = self._views[name].held
        return held if not_there is None else (p for p in held if p.gpu_uuid not in not_there)

    def _notes_of_twice(self) -> Iterable[str]:
        for name, uuids in sorted(self._not_there.items()):
            yield (
                f"{len(uuids)} GPUs of node {name} are left out, since another node names them as "
                f"well: {min(uuids)} first. Delete the Node that is no longer there."
            )

    def _notes_of_cluster(self) -> Iterable[str]:
        binding = self._cluster.binding
        if binding is Engine.KAI and not self._cluster.kai_installed:
            yield (
                "KAI is not installed here: the cluster has no Queues of scheduling.run.ai. "
                "Install KAI Scheduler, or set 'c.Aliquot.binding' to 'auto'."
            )
        elif binding is not None and not self._gpus:
            yield (
                f"No node offers GPUs by '{binding.value}'. Set 'c.Aliquot.binding' to 'auto' to "
                "use what the nodes offer."
            )


def _nodes_of(pod: PodFacts) -> set[str]:
    """The node that a pod is on; for one of ours that is on its way, the nodes of its pieces."""
    if pod.node:
        return {pod.node}
    pieces = (pod.own.pieces if pod.own else None) or ()
    # Names that we made begin with the node; a driver's UUID has no slash.
    return {p.gpu_uuid.partition("/")[0] for p in pieces if "/" in p.gpu_uuid}


class _Index:
    """Names by a key, sorted when asked."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def put(self, key: str, name: str, present: bool) -> None:
        if present:
            self._names.setdefault(key, set()).add(name)
        elif key in self._names:
            self._names[key].discard(name)
            if not self._names[key]:
                del self._names[key]

    def get(self, key: str) -> list[str]:
        return sorted(self._names.get(key, ()))

    def keys(self) -> Iterable[str]:
        return self._names.keys()
