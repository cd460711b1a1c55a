"""Node engines: who hands out the GPUs of a node, found out and never assumed.

Pure. Each engine leaves its own traces: HAMi a registration, DRA drivers ResourceSlices,
NVIDIA's plugin resources and labels. KAI leaves none on nodes: where its Queue CRD exists, it
schedules what NVIDIA's plugin offers.

A node with the traces of two engines would be given out twice, so it is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aliquot.discovery.kubernetes.dra import dra_offer
from aliquot.discovery.kubernetes.dra_facts import DRIVERS, SliceFacts
from aliquot.discovery.kubernetes.hami import hami_offer
from aliquot.discovery.kubernetes.node_facts import GPU, NodeFacts
from aliquot.discovery.kubernetes.offer import Offer, nothing
from aliquot.discovery.kubernetes.plugin import plugin_offer
from aliquot.domain.engines import Engine


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What holds for all nodes. ``binding`` is an engine to the exclusion of others, None for
    all; ``device_classes`` are the names of those that exist."""

    binding: Engine | None = None
    kai_installed: bool = False
    device_classes: frozenset[str] = frozenset()


def offer_of(node: NodeFacts, slices: Sequence[SliceFacts], cluster: ClusterFacts) -> Offer:
    """What a node gives out. Its notes say what it has and does not give."""
    found = _traces(node, slices)
    if not found:
        return Offer()
    if len(found) > 1:
        return nothing(
            f"Node {node.name} is left out: {' and '.join(found)} both offer GPUs there, which "
            "would give them out twice. Keep one of them on the node."
        )
    if slices:
        offer = dra_offer(node.name, slices, cluster.device_classes)
    elif node.hami_register is not None:
        offer = hami_offer(node)
    else:
        # An admin who names the plugin wants whole GPUs from it, also beside KAI.
        kai = cluster.kai_installed and cluster.binding in (None, Engine.KAI)
        offer = plugin_offer(node, kai=kai)
    return offer.only(cluster.binding)


def _traces(node: NodeFacts, slices: Sequence[SliceFacts]) -> list[str]:
    drivers = {facts.driver for facts in slices}
    found = [f"the DRA driver {driver}" for driver in DRIVERS if driver in drivers]
    counted = set(node.capacity)
    if node.hami_register is not None:
        found.append("HAMi's plugin")
        # HAMi's plugin calls its own GPUs so as well.
        counted.discard(GPU)
    if counted:
        found.append("NVIDIA's plugin")
    return found
