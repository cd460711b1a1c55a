"""MIG geometry: which instances can stand side by side on a GPU of each model.

Pure, over the table ``mig_models.json``. Two instances are legal together when their memory
slots do not overlap, their compute slices fit the GPU, and no profile exceeds its own count.

The table gives defaults for planning and for naming. Instances that exist are charged by
what discovery reads of them, since names and memory sizes drift with the driver.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from aliquot.domain.currency import Cost, cost_of_slice


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of MIG instance on one model. ``starts`` are the legal first memory slots,
    ``memory_mib`` is None where nobody has published it."""

    name: str
    compute_slices: int
    memory_slices: int
    starts: tuple[int, ...]
    max_instances: int
    memory_mib: int | None

    @property
    def has_media_engines(self) -> bool:
        """The ``+me`` variants: one pool of media engines, so one such instance a GPU."""
        return "+me" in self.name


@dataclass(frozen=True, slots=True)
class Placed:
    """An instance at a place: profile name and first memory slot."""

    profile: str
    start: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """What one GPU model can be cut into."""

    model: str
    names: tuple[str, ...]
    pci_device_ids: tuple[str, ...]
    compute_slots: int
    memory_slots: int
    confidence: str
    profiles: Mapping[str, Profile]

    def cost_of(self, profile: str) -> Cost:
        """Raises KeyError for a profile that the model does not have."""
        found = self.profiles[profile]
        return cost_of_slice(
            found.compute_slices, self.compute_slots, found.memory_slices, self.memory_slots
        )

    def why_illegal(self, layout: Iterable[Placed]) -> str | None:
        """The first rule that a layout breaks, as a sentence; None when it is legal."""
        taken: set[int] = set()
        compute = 0
        counts: Counter[str] = Counter()
        for placed in layout:
            profile = self.profiles.get(placed.profile)
            if profile is None:
                return f"{self.model} has no profile {placed.profile}"
            if placed.start not in profile.starts:
                return f"{profile.name} cannot start at slot {placed.start} of {self.model}"
            slots = set(range(placed.start, placed.start + profile.memory_slices))
            if slots & taken:
                return f"{profile.name} at slot {placed.start} overlaps another instance"
            taken |= slots
            compute += profile.compute_slices
            counts[profile.name] += 1
            if profile.has_media_engines:
                counts["+me"] += 1
            if counts[profile.name] > profile.max_instances:
                return f"{self.model} holds at most {profile.max_instances} x {profile.name}"
        if compute > self.compute_slots:
            return f"{compute} compute slices asked, {self.model} has {self.compute_slots}"
        if counts["+me"] > 1:
            return f"{self.model} has one set of media engines, {counts['+me']} asked"
        return None

    def layouts(self) -> Iterator[tuple[Placed, ...]]:
        """Every legal layout, the empty one included, each once and ordered by start."""
        choices = sorted(
            (Placed(p.name, start) for p in self.profiles.values() for start in p.starts),
            key=lambda placed: (placed.start, placed.profile),
        )

        def extend(layout: tuple[Placed, ...], next_slot: int) -> Iterator[tuple[Placed, ...]]:
            yield layout
            for choice in choices:
                if choice.start >= next_slot:
                    longer = (*layout, choice)
                    if self.why_illegal(longer) is None:
                        end = choice.start + self.profiles[choice.profile].memory_slices
                        yield from extend(longer, end)

        return extend((), 0)


@cache
def geometries() -> Mapping[str, Geometry]:
    """The table, by short model name."""
    table = json.loads(files("aliquot.domain").joinpath("mig_models.json").read_text("utf-8"))
    return {
        model: Geometry(
            model=model,
            names=tuple(row["names"]),
            pci_device_ids=tuple(row["pci_device_ids"]),
            compute_slots=row["compute_slots"],
            memory_slots=row["memory_slots"],
            confidence=row["confidence"],
            profiles={
                p["profile"]: Profile(
                    p["profile"],
                    p["compute"],
                    p["memory"],
                    tuple(p["starts"]),
                    p["max"],
                    p["memory_mib"],
                )
                for p in row["profiles"]
            },
        )
        for model, row in table["models"].items()
    }


def geometry_for(product: str, pci_device_id: str | None = None) -> Geometry | None:
    """The geometry of a product, by PCI id (``0x20B210DE``) when known, else by its name.

    Names are compared without the vendor and case, the longest match first, so that
    ``NVIDIA H100 NVL`` is not taken for an H100 of 80 GB. None when the model has no MIG or
    is not in the table.
    """
    if pci_device_id is not None:
        wanted = pci_device_id.lower()
        for geometry in geometries().values():
            if wanted in (known.lower() for known in geometry.pci_device_ids):
                return geometry
    bare = product.lower().removeprefix("nvidia ").strip()
    by_length = sorted(
        ((name.lower(), g) for g in geometries().values() for name in g.names),
        key=lambda pair: -len(pair[0]),
    )
    for name, geometry in by_length:
        if bare == name or bare.startswith((name + " ", name + "-mig")):
            return geometry
    return None
