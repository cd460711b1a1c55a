"""NVIDIA's device plugin: the GPUs of a node from its resources and labels.

Pure. The plugin gives resources by number; which card or instance a container got is known to
the kubelet alone. So GPUs are called ``<node>/gpu/<i>`` and instances ``<node>/<profile>/<i>``.

What a product is comes from GPU feature discovery's labels. They describe a node by one
product: a node with two models is described wrongly, by them and so here.

Sources: NVIDIA k8s-device-plugin 1b826ac, internal/lm (labels), internal/rm (resources).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aliquot.discovery.kubernetes.mig_spread import fewest_gpus, spread
from aliquot.discovery.kubernetes.node_facts import GPU, MIG, SHARED_GPU, NodeFacts
from aliquot.discovery.kubernetes.offer import MOST_GPUS, Offer, known_geometry, nothing
from aliquot.discovery.nvml_reading import profile_of
from aliquot.discovery.products import product_of_label, short_model
from aliquot.domain.currency import BLOCKS_PER_GPU
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import BlocksBy, Gpu, MigDevice
from aliquot.domain.kubernetes_values import decimal
from aliquot.domain.mig_geometry import Geometry, Profile

_SINGLE = re.compile(r"(?P<product>.+)-MIG-(?P<profile>\d+g\.\d+gb.*)")
_PROFILE = re.compile(r"(?P<compute>\d)g\.(?P<gigabytes>\d{1,4})gb")
# A driver's name of a profile may be off by a few GB (3g.39gb for 3g.40gb), not by more.
_NAME_DRIFT = 0.15


class _LeftOut(Exception):
    """A sentence why the node's GPUs are not offered."""


@dataclass(frozen=True, slots=True)
class _Sharing:
    """``blocks_by`` is None where each GPU is given whole."""

    resource: str
    replicas: int = 1
    blocks_by: BlocksBy | None = None


def counts_gpus(node: NodeFacts) -> bool:
    """Whether some plugin offers GPUs of the node by number."""
    return bool(node.capacity)


def plugin_offer(node: NodeFacts, *, kai: bool) -> Offer:
    """What NVIDIA's plugin offers on a node; its GPUs in fractions where KAI schedules."""
    try:
        return _offer(node, kai)
    except _LeftOut as reason:
        return nothing(f"Node {node.name} is left out: {reason}")


def _offer(node: NodeFacts, kai: bool) -> Offer:
    label = node.labels.get("nvidia.com/gpu.product", "")
    if not label:
        raise _LeftOut(
            "it offers GPUs and has no label nvidia.com/gpu.product, so their model is not known. "
            "Install NVIDIA's GPU feature discovery."
        )
    if label.endswith("-MIG-INVALID"):
        raise _LeftOut(
            "the plugin's MIG strategy 'single' needs the same instances on all its GPUs, and "
            "they differ. Make them alike, or set the plugin's migStrategy to 'mixed'."
        )
    sharing = _sharing(node)
    shared_label = label.removesuffix("-SHARED")
    single = _SINGLE.fullmatch(shared_label)
    if single:
        if sharing.blocks_by is not None:
            raise _LeftOut(
                "its MIG instances are time-sliced, so that none is anybody's own. Take MIG out "
                "of the plugin's sharing."
            )
        product = product_of_label(single["product"])
        return _single(node, product, single["profile"])
    return _mixed(node, product_of_label(shared_label), sharing, kai)


def _sharing(node: NodeFacts) -> _Sharing:
    if node.capacity.get(GPU) and node.capacity.get(SHARED_GPU):
        raise _LeftOut(
            f"it offers {GPU} and {SHARED_GPU} at once, as if two plugins ran. Keep one."
        )
    resource = SHARED_GPU if node.capacity.get(SHARED_GPU) else GPU
    replicas = decimal(node.labels.get("nvidia.com/gpu.replicas")) or 0
    strategy = node.labels.get("nvidia.com/gpu.sharing-strategy", "")
    if resource == GPU and (replicas <= 1 or strategy not in ("time-slicing", "mps")):
        return _Sharing(GPU)
    if not 1 <= replicas <= BLOCKS_PER_GPU:
        raise _LeftOut(
            f"it has {replicas or 'no known number of'} replicas of each GPU by label "
            f"nvidia.com/gpu.replicas; 1 to {BLOCKS_PER_GPU} can be given out. Correct the "
            "plugin's sharing."
        )
    if strategy == "mps":
        raise _LeftOut(
            "the plugin shares its GPUs by MPS, which no binding here can ask for. Let the plugin "
            "share by timeSlicing or give its GPUs whole, or use HAMi for blocks."
        )
    return _Sharing(resource, replicas, BlocksBy.TIME_SLICING)


def _mixed(node: NodeFacts, product: str, sharing: _Sharing, kai: bool) -> Offer:
    """Whole GPUs, and GPUs in MIG mode where there are instances by profile."""
    counted = node.capacity.get(sharing.resource, 0)
    wholes, rest = divmod(counted, sharing.replicas)
    by_label = decimal(node.labels.get("nvidia.com/gpu.count")) or 0
    if rest or wholes > MOST_GPUS or (by_label and wholes > by_label):
        raise _LeftOut(
            f"it offers {counted} {sharing.resource}, which does not go with {by_label or 'any'} "
            f"GPUs of {sharing.replicas} replicas by its labels. Another plugin may count here; "
            "keep one."
        )
    memory_mib = decimal(node.labels.get("nvidia.com/gpu.memory")) or 0
    if not memory_mib:
        raise _LeftOut(
            "it has no label nvidia.com/gpu.memory. Install NVIDIA's GPU feature discovery."
        )
    geometry = known_geometry(product)
    instances, notes = _instances(node, geometry, memory_mib)
    in_mig_mode = bool(instances)
    # KAI gives no fractions on nodes with MIG instances (README of v0.17.0).
    by_kai = kai and not in_mig_mode and sharing.blocks_by is None
    if by_kai:
        sharing = _Sharing(GPU, 1, BlocksBy.KAI)
    gpus = [
        Gpu(
            uuid=f"{node.name}/gpu/{index}",
            index=index,
            product=product,
            model=short_model(product, geometry),
            memory_mib=memory_mib,
            node=node.name,
            compute_slots=geometry.compute_slots if geometry else 7,
            memory_slots=geometry.memory_slots if geometry else 8,
            blocks_by=sharing.blocks_by,
            max_sharers=sharing.replicas if sharing.replicas > 1 else None,
            engine=Engine.KAI if by_kai else Engine.NVIDIA_PLUGIN,
            offered_as=sharing.resource,
            replica_blocks=BLOCKS_PER_GPU // sharing.replicas if sharing.replicas > 1 else None,
        )
        for index in range(wholes)
    ]
    if in_mig_mode and geometry is not None:
        in_mode = max(0, by_label - wholes)
        cut, why_not = _mig_gpus(node, product, geometry, memory_mib, instances, wholes, in_mode)
        gpus += cut
        notes += why_not
    return Offer(tuple(gpus), notes=tuple(notes), unhealthy=_unhealthy(node))


def _single(node: NodeFacts, product: str, name: str) -> Offer:
    """All GPUs cut alike, their instances called like GPUs. How many GPUs there are is not
    told; the fewest that can hold the instances are assumed."""
    geometry = known_geometry(product)
    instance_mib = decimal(node.labels.get("nvidia.com/gpu.memory")) or None
    profile = _profile(geometry, name, instance_mib)
    if geometry is None or profile is None:
        raise _LeftOut(_unknown_profile(product, name))
    memory_mib = max(
        [p.memory_mib for p in geometry.profiles.values() if p.memory_mib]
        or [(instance_mib or 0) * geometry.memory_slots // profile.memory_slices]
    )
    instances = {
        GPU: _Instances(profile, name, node.capacity.get(GPU, 0), _memory(profile, instance_mib))
    }
    gpus, notes = _mig_gpus(node, product, geometry, memory_mib, instances, 0, 0)
    return Offer(tuple(gpus), notes=tuple(notes), unhealthy=_unhealthy(node))


@dataclass(frozen=True, slots=True)
class _Instances:
    """``name`` is the driver's of today, ``profile`` the one of the table that it means."""

    profile: Profile
    name: str
    count: int
    memory_mib: int


def _instances(
    node: NodeFacts, geometry: Geometry | None, gpu_memory_mib: int
) -> tuple[dict[str, _Instances], list[str]]:
    """The instances of a node by resource, as far as they can be given out."""
    found: dict[str, _Instances] = {}
    notes: list[str] = []
    for resource, count in sorted(node.capacity.items()):
        if not resource.startswith(MIG):
            continue
        name = resource.removeprefix(MIG)
        replicas = decimal(node.labels.get(f"{resource}.replicas")) or 0
        if name.endswith(".shared") or replicas > 1:
            notes.append(
                f"{resource} of node {node.name} is left out: the instances are time-sliced, so "
                "that none is anybody's own. Take MIG out of the plugin's sharing."
            )
            continue
        instance_mib = decimal(node.labels.get(f"{resource}.memory")) or None
        profile = _profile(geometry, name, instance_mib)
        if profile is None or geometry is None:
            product = node.labels["nvidia.com/gpu.product"]
            notes.append(
                f"{resource} of node {node.name} is left out: {_unknown_profile(product, name)}"
            )
            continue
        fallback = gpu_memory_mib * profile.memory_slices // geometry.memory_slots
        shown = profile.name if _resource_name(profile.name) == name else name
        memory_mib = _memory(profile, instance_mib) or fallback
        found[resource] = _Instances(profile, shown, count, memory_mib)
    return found, notes


def _unknown_profile(product: str, name: str) -> str:
    return (
        f"the MIG geometry of {product} has no profile {name}, as far as it is known here. "
        "Report it with 'nvidia-smi mig -lgip'."
    )


def _memory(profile: Profile, told_mib: int | None) -> int:
    return told_mib or profile.memory_mib or 0


def _resource_name(profile: str) -> str:
    """Resource names and labels have no ``+`` (internal/rm)."""
    return profile.replace("+", ".")


def _profile(geometry: Geometry | None, name: str, memory_mib: int | None) -> Profile | None:
    """The profile that a resource's or a label's name means."""
    if geometry is None:
        return None
    for profile in geometry.profiles.values():
        if _resource_name(profile.name) == name:
            return profile
    written = _PROFILE.fullmatch(name)
    if written is None:
        return None
    wanted_mib = memory_mib or int(written["gigabytes"]) * 1024
    found = profile_of(geometry, None, int(written["compute"]), wanted_mib, wanted_mib)
    if found is None or found.memory_mib is None:
        return None
    is_near = abs(found.memory_mib - wanted_mib) <= _NAME_DRIFT * found.memory_mib
    return found if is_near else None


def _mig_gpus(
    node: NodeFacts,
    product: str,
    geometry: Geometry,
    memory_mib: int,
    instances: Mapping[str, _Instances],
    first_index: int,
    gpus_in_mode: int,
) -> tuple[list[Gpu], list[str]]:
    """The GPUs in MIG mode; ``gpus_in_mode`` is how many, 0 when nobody tells."""
    per_profile: dict[str, int] = {}
    for made in instances.values():
        per_profile[made.profile.name] = per_profile.get(made.profile.name, 0) + made.count
    counts = tuple(sorted(per_profile.items()))
    total = sum(per_profile.values())
    needed = None
    if total <= MOST_GPUS * geometry.compute_slots:
        known = gpus_in_mode <= MOST_GPUS and gpus_in_mode > 0
        if known and spread(geometry.model, counts, gpus_in_mode) is not None:
            needed = gpus_in_mode
        elif not known:
            needed = fewest_gpus(geometry.model, counts, min(MOST_GPUS, total))
    if needed is None:
        listed = ", ".join(f"{count} x {name}" for name, count in counts)
        return [], [
            f"The MIG instances of node {node.name} are left out: {listed} cannot lie on "
            f"{gpus_in_mode or MOST_GPUS} {geometry.model} by the geometry known here. Compare "
            "the node's resources with 'nvidia-smi mig -lgi'."
        ]
    on_each = spread(geometry.model, counts, needed)
    assert on_each is not None
    numbers = {made.name: iter(range(made.count)) for made in instances.values()}
    gpus, empty = [], 0
    for place, held in enumerate(on_each):
        here = dict(held)
        devices = []
        for resource, made in instances.items():
            for _ in range(here.get(made.profile.name, 0)):
                number = next(numbers[made.name], None)
                if number is None:
                    break
                # Two names of one profile share its count: what one leaves goes to the next.
                here[made.profile.name] -= 1
                devices.append(
                    MigDevice(
                        uuid=f"{node.name}/{made.name}/{number}",
                        profile=made.name,
                        compute_slices=made.profile.compute_slices,
                        memory_slices=made.profile.memory_slices,
                        memory_mib=made.memory_mib,
                        offered_as=resource,
                    )
                )
        empty += not devices
        gpus.append(
            Gpu(
                uuid=f"{node.name}/gpu/{first_index + place}",
                index=first_index + place,
                product=product,
                model=geometry.model,
                memory_mib=memory_mib,
                node=node.name,
                mig_enabled=True,
                mig_devices=tuple(devices),
                compute_slots=geometry.compute_slots,
                memory_slots=geometry.memory_slots,
                engine=Engine.NVIDIA_PLUGIN,
                offered_as=GPU,
            )
        )
    return gpus, [
        f"{empty} of the GPUs of node {node.name} are in MIG mode and have no instances. Make "
        "some, or turn MIG mode off there."
    ] * bool(empty)


def _unhealthy(node: NodeFacts) -> dict[str, int]:
    missing = {name: n - node.allocatable.get(name, 0) for name, n in node.capacity.items()}
    return {name: count for name, count in missing.items() if count > 0}
