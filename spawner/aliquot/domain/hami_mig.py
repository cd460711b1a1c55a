"""HAMi's dynamic MIG: which profile HAMi cuts for an amount of memory.

Pure. A profile cannot be named to HAMi. It sorts the profiles that its admin allows by memory,
then by compute slices, and takes the first that is large enough and has a free place. So a
profile is had by asking for exactly its memory, and only if no other of the same memory comes
first: ``3g.40gb`` comes before ``4g.40gb``.

Where HAMi has no place left for the profile it takes a larger one; what it gave tells then.

Source: HAMi 4707fb0, pkg/device/nvidia/device.go (selectMigCandidate, AddResourceUsage).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aliquot.domain.inventory import MigDevice


class Cut(NamedTuple):
    """A profile as HAMi registers it."""

    profile: str
    compute_slices: int
    memory_mib: int


def taken_for(memory_mib: int, cuts: Iterable[Cut | MigDevice]) -> str | None:
    """The profile that HAMi takes for so much memory; None where none is large enough.

    ``cuts`` are all that HAMi registers of the GPU, in its order: of two alike it takes the
    first.
    """
    enough = (cut for cut in cuts if cut.memory_mib >= memory_mib)
    first = min(enough, key=lambda cut: (cut.memory_mib, cut.compute_slices), default=None)
    return None if first is None else first.profile
