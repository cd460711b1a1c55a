"""MIG spread: on which GPUs of a node its instances lie, where only their number is known.

Pure. A device plugin counts instances by profile and tells no more. What can stand together is
a question of geometry, so they are spread over the GPUs such that each GPU's part is legal:
the same on each where the numbers divide, else the first GPU with room. The same numbers
always give the same spread, so that a lease finds its instance again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache

from aliquot.domain.mig_geometry import Geometry, Placed, Profile, geometries

# A node has few instances, and the first attempt nearly always fits.
_MOST_STEPS = 3000

# Profile names with how many of each, sorted by name.
Counts = tuple[tuple[str, int], ...]


@cache
def spread(model: str, counts: Counts, gpus: int) -> tuple[Counts, ...] | None:
    """What each of so many GPUs of a model holds; None when they cannot hold all of it."""
    geometry = geometries()[model]
    if all(count % gpus == 0 for _, count in counts):
        each = tuple((name, count // gpus) for name, count in counts)
        if _fits(model, each):
            return (each,) * gpus
    names = sorted(
        (name for name, count in counts for _ in range(count)),
        key=lambda name: _hardest_first(geometry.profiles[name]),
    )
    found = _Search(model, gpus).place(names)
    return None if found is None else tuple(_counts(names) for names in found)


def fewest_gpus(model: str, counts: Counts, most: int) -> int | None:
    """The fewest GPUs that can hold all of it; None when ``most`` cannot."""
    geometry = geometries()[model]
    slots = sum(geometry.profiles[name].memory_slices * count for name, count in counts)
    least = max(1, -(-slots // geometry.memory_slots))
    return next((n for n in range(least, most + 1) if spread(model, counts, n) is not None), None)


def _counts(names: Iterable[str]) -> Counts:
    return tuple(sorted(Counter(names).items()))


def _hardest_first(profile: Profile) -> tuple[int, int, int, str]:
    return (-profile.memory_slices, profile.max_instances, -profile.compute_slices, profile.name)


class _Search:
    """First fit, going back where it ends; gives up after a bounded number of steps."""

    def __init__(self, model: str, gpus: int) -> None:
        self._model = model
        self._on: list[list[str]] = [[] for _ in range(gpus)]
        self._steps = 0

    def place(self, names: list[str], next_one: int = 0) -> list[list[str]] | None:
        if next_one == len(names):
            return self._on
        tried: set[Counts] = set()
        for held in self._on:
            before = _counts(held)
            # GPUs that hold the same are the same choice.
            if before in tried:
                continue
            tried.add(before)
            self._steps += 1
            if self._steps > _MOST_STEPS:
                return None
            held.append(names[next_one])
            if _fits(self._model, _counts(held)):
                found = self.place(names, next_one + 1)
                if found is not None:
                    return found
            held.pop()
        return None


@cache
def _fits(model: str, counts: Counts) -> bool:
    """Whether some legal layout of one GPU has exactly these instances."""
    geometry = geometries()[model]
    slices = [geometry.profiles[name] for name, count in counts for _ in range(min(count, 99))]
    if sum(profile.memory_slices for profile in slices) > geometry.memory_slots:
        return False
    return _laid_out(geometry, sorted(slices, key=_hardest_first), [])


def _laid_out(geometry: Geometry, wanted: list[Profile], layout: list[Placed]) -> bool:
    if not wanted:
        return True
    for start in wanted[0].starts:
        longer = [*layout, Placed(wanted[0].name, start)]
        if geometry.why_illegal(longer) is None and _laid_out(geometry, wanted[1:], longer):
            return True
    return False
